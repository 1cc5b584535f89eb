"""Figures: images that are not empty, pixels and dates that are found or refused."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.analysis.similarity import similarity
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.plots import availability, embedding_map, pixel_series, similarity_map
from thalweg.earth.positions import LonLat, MapPoint, PixelIndex, Position
from thalweg.errors import ThalwegError, UsageError


@pytest.fixture(scope="module")
def embedded(cube: Cube, model: EarthModel) -> xr.Dataset:
    return embed(cube, model)


def drawn(path: Path) -> np.ndarray:
    """Return the image, which must hold more than one colour; nothing else lies next to it."""
    picture = matplotlib.image.imread(path)[..., :3]
    assert picture.std() > 0.02
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    return picture


def test_the_availability_follows_the_cube(cube: Cube, datasets: dict[str, xr.Dataset], tmp_path: Path) -> None:
    both = drawn(availability(cube, tmp_path / "new" / "both.png"))
    one = drawn(availability(Cube.open(datasets["sentinel-2"]), tmp_path / "one" / "one.png"))
    assert both.shape[0] > one.shape[0]


def test_the_map_shows_the_date_asked_for(embedded: xr.Dataset, tmp_path: Path) -> None:
    dates = [str(date)[:10] for date in embedded.time.values]
    first, second = (
        drawn(embedding_map(embedded, tmp_path / name / "map.png", date))
        for name, date in (("a", dates[1]), ("b", dates[5]))
    )
    assert not np.array_equal(first, second)
    near = (embedded.time.values[1] + np.timedelta64(2, "D")).astype("datetime64[D]")
    np.testing.assert_array_equal(drawn(embedding_map(embedded, tmp_path / "c" / "map.png", str(near))), first)


def test_the_map_takes_the_clearest_date_by_itself(embedded: xr.Dataset, tmp_path: Path) -> None:
    clearest = int((embedded.quality.values <= 1).mean((1, 2)).argmax())
    named = embedding_map(embedded, tmp_path / "a" / "map.png", str(embedded.time.values[clearest])[:10])
    np.testing.assert_array_equal(drawn(embedding_map(embedded, tmp_path / "b" / "map.png")), drawn(named))


def test_a_date_far_from_any_is_refused(embedded: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"within 3 days of 2031-01-01: the nearest is of 2018-\d\d-\d\d"):
        embedding_map(embedded, tmp_path / "map.png", "2031-01-01")
    with pytest.raises(UsageError, match="date 'tomorrow': expected a date such as 2018-06-30"):
        embedding_map(embedded, tmp_path / "map.png", "tomorrow")
    assert list(tmp_path.iterdir()) == []


def test_one_colour_scale_for_all_dates(embedded: xr.Dataset) -> None:
    scale = PrincipalComponents.of(embedded)
    colours = scale.to_rgb(embedded.embeddings.values[3])
    assert colours.shape == (32, 32, 3)
    usable = embedded.quality.values[3] <= 1
    assert (colours[~usable] == 0.85).all()
    assert colours[usable].min() >= 0
    assert colours[usable].max() <= 1
    same = PrincipalComponents.of(embedded).to_rgb(embedded.embeddings.values[3])
    np.testing.assert_array_equal(colours, same)
    later = embedded.embeddings.values[3] + 0.5  # a later date that differs must look different
    assert not np.array_equal(scale.to_rgb(later)[usable], colours[usable])


def test_a_pixels_series(embedded: xr.Dataset, tmp_path: Path) -> None:
    by_index = drawn(pixel_series(embedded, tmp_path / "a" / "pixel.png", PixelIndex(12, 20)))
    x, y = float(embedded.x[20]) + 3, float(embedded.y[12]) - 3
    by_point = drawn(pixel_series(embedded, tmp_path / "b" / "pixel.png", MapPoint(x, y)))
    np.testing.assert_array_equal(by_point, by_index)
    other = drawn(pixel_series(embedded, tmp_path / "c" / "pixel.png", PixelIndex(20, 12)))
    assert not np.array_equal(other, by_index)


@pytest.mark.parametrize(
    "position", [PixelIndex(32, 0), PixelIndex(0, 32), PixelIndex(-1, 5), MapPoint(1e6, 5e6), LonLat(13.4, 52.5)]
)
def test_a_position_outside_is_refused(position: Position, embedded: xr.Dataset, tmp_path: Path) -> None:
    for draw in (pixel_series, similarity_map):
        with pytest.raises(UsageError, match="is outside the grid: expected ") as caught:
            draw(embedded, tmp_path / "pixel.png", position)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_pixel_without_embeddings_is_refused(embedded: xr.Dataset, tmp_path: Path) -> None:
    for draw in (pixel_series, similarity_map):
        with pytest.raises(UsageError, match="pixel row 1, column 1 has no embedding on any date: choose another"):
            draw(embedded, tmp_path / "pixel.png", PixelIndex(1, 1))


def test_a_pixel_is_most_like_itself(embedded: xr.Dataset) -> None:
    similarities = similarity(embedded, PixelIndex(12, 20))
    assert similarities.shape == (32, 32)
    assert similarities[12, 20] == 1
    usable = np.isfinite(similarities)
    assert not usable[:3, :3].any()
    assert (similarities[usable] >= 0).all()
    assert (similarities[usable] <= 1).all()
    assert similarities[usable].std() > 0.01


def test_similarity_is_symmetric_and_falls_with_the_distance(embedded: xr.Dataset) -> None:
    small = embedded.isel(time=slice(0, 2)).copy(deep=True)
    flat = np.zeros((7, 32, 32), np.float32)
    flat[0, :, 16:] = 1.0
    flat[0, :, 24:] = 1.5
    flat[1, 16:] = 5.0  # the scene varies more than the steps below
    small.embeddings.values[:] = flat
    similarities = similarity(small, PixelIndex(5, 2))
    assert (similarities[:16, :16] == 1).all()
    assert (similarities[:16, 16:24] < 1).all()
    assert (similarities[:16, 24:] < similarities[0, 16]).all()
    assert (similarities[16:] < similarities[0, 31]).all()
    assert similarity(small, PixelIndex(5, 20))[5, 2] == similarities[5, 20]


def test_the_similarity_map(embedded: xr.Dataset, tmp_path: Path) -> None:
    one = drawn(similarity_map(embedded, tmp_path / "a" / "one.png", PixelIndex(12, 20)))
    other = drawn(similarity_map(embedded, tmp_path / "b" / "other.png", PixelIndex(28, 8)))
    assert not np.array_equal(one, other)


def test_a_figure_that_cannot_be_written_is_one_line(embedded: xr.Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ThalwegError, match=r"map.png: could not be written") as caught:
        embedding_map(embedded, tmp_path / "file" / "map.png")
    assert "\n" not in str(caught.value)
