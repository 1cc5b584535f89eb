"""A bounded look at a store: all of a small one, so that nothing changes there; spread blocks of a large one."""

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.analysis.similarity import Similarity, similarity
from thalweg.earth.positions import PixelIndex
from thalweg.earth.sensors import Quality
from thalweg.earth.store import subsample
from thalweg.errors import UsageError


def scene(dates: int = 6, rows: int = 40, columns: int = 50, seed: int = 0) -> xr.Dataset:
    """Embeddings that vary over the grid, a third of them missing, date 2 altogether."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(-1, 1, columns)[None, None, None, :] + np.linspace(0, 2, rows)[None, None, :, None]
    vectors = (ramp * random.normal(size=(1, 7, 1, 1)) + random.normal(size=(dates, 7, rows, columns))).astype("f4")
    missing = random.random((dates, rows, columns)) < 0.3
    missing[2] = True
    vectors[np.broadcast_to(missing[:, None], vectors.shape)] = np.nan
    return xr.Dataset(
        {
            "embeddings": (("time", "embedding", "y", "x"), vectors),
            "quality": (("time", "y", "x"), np.where(missing, Quality.CLOUD, Quality.CLEAR).astype("u1")),
        },
        coords={"x": np.arange(columns) * 10.0, "y": np.arange(rows) * -10.0},
        attrs={"geoemb:gsd": 10, "proj:wkt2": "EPSG:32631"},
    )


def test_a_small_grid_is_read_whole() -> None:
    assert subsample.spread_parts(scene(), 6) == [(slice(0, 40), slice(0, 50))]


@pytest.mark.parametrize(("rows", "columns"), [(6_400, 6_400), (100, 60_000), (60_000, 100)])
@pytest.mark.parametrize("dates", [1, 24, 5_000])
def test_parts_of_a_large_grid_are_few_inside_and_spread(rows: int, columns: int, dates: int) -> None:
    grid = xr.Dataset(
        {"embeddings": (("y", "x"), np.broadcast_to(np.float32(0), (rows, columns)))},
    )
    parts = subsample.spread_parts(grid, dates)
    assert 1 <= len(parts) * dates <= max(subsample.CHUNK_READS, dates)
    assert len(set(map(str, parts))) == len(parts)
    for along, size in ((0, rows), (1, columns)):
        starts = sorted({part[along].start for part in parts})
        assert all(start % 64 == 0 and start < size for start in starts)
        middle = (starts[0] + starts[-1]) / 2
        assert abs(middle - size / 2) < 0.15 * size


def test_the_spread_of_a_date_is_the_mean_squared_distance_of_two_pixels() -> None:
    data = scene()
    expected = 2 * np.nan_to_num(np.nanvar(np.delete(data.embeddings.values, 2, 0), axis=(2, 3))).sum(1)
    np.testing.assert_allclose(np.delete(subsample.date_spreads(data), 2), expected, rtol=1e-5)
    assert subsample.date_spreads(data)[2] == 0


def test_clear_fractions_are_those_of_the_flags() -> None:
    data = scene()
    np.testing.assert_allclose(subsample.clear_fractions(data), (data.quality.values <= 1).mean((1, 2)))


def test_a_sample_of_few_vectors_is_all_of_them() -> None:
    data = scene()
    found = subsample.sample_vectors(data, range(6), most=100_000)
    whole = np.moveaxis(data.embeddings.values, 1, -1).reshape(-1, 7)
    np.testing.assert_array_equal(found, whole[np.isfinite(whole).all(1)])


def test_components_of_a_sample_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data = scene(rows=512, columns=512)
    whole = PrincipalComponents.of(data)
    monkeypatch.setattr(subsample, "CHUNK_READS", 96)
    assert len(subsample.spread_parts(data, 6)) == 16
    part = PrincipalComponents.of(data)
    alike = np.abs((whole.axes[0] * part.axes[0]).sum())
    assert alike > 0.99
    np.testing.assert_allclose(part.share, whole.share, atol=0.02)


def by_definition(data: xr.Dataset, row: int, column: int) -> np.ndarray:
    """Similarity over the whole map at once: one minus the mean squared distance over the scene's spread."""
    vectors = data.embeddings.values
    distance = ((vectors - vectors[:, :, row, column][:, :, None, None]) ** 2).sum(1)
    spread = 2 * np.nansum(np.nanvar(vectors, axis=(2, 3)), axis=1)
    return np.clip(1 - np.nanmean(distance / spread[:, None, None], axis=0), 0, 1)


@pytest.mark.filterwarnings("ignore:Degrees of freedom", "ignore:Mean of empty", "ignore:invalid value")
def test_similarity_by_parts_is_that_of_the_whole_map() -> None:
    data = scene()
    row, column = np.argwhere(np.isfinite(data.embeddings.values).all(1).sum(0) == 5)[0]
    expected = by_definition(data, row, column)
    np.testing.assert_allclose(similarity(data, PixelIndex(row, column)), expected, atol=1e-5)
    to_pixel = Similarity.to_pixel(data, PixelIndex(row, column))
    for rows, columns in ((slice(0, 16), slice(0, 50)), (slice(16, 40), slice(3, 50, 4))):
        part = to_pixel.compute(data.isel(y=rows, x=columns))
        np.testing.assert_allclose(part, expected[rows, columns], atol=1e-5)


def test_similarity_over_fewer_dates_takes_them_evenly() -> None:
    data = scene(dates=12)
    row, column = np.argwhere(np.isfinite(data.embeddings.values).all(1).sum(0) == 11)[0]
    to_pixel = Similarity.to_pixel(data, PixelIndex(row, column), max_dates=4)
    assert to_pixel.dates.tolist() == [0, 4, 8, 11]
    assert to_pixel.compute(data)[row, column] == 1


def test_a_pixel_without_embeddings_raises_one_line_error() -> None:
    data = scene()
    data.embeddings.values[:, :, 3, 5] = np.nan
    with pytest.raises(UsageError, match="pixel row 3, column 5 has no embedding on any date"):
        similarity(data, PixelIndex(3, 5))
