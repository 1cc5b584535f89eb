"""AlphaEarth tiles: values of the published rule, georeferencing in both directions, years, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

import thalweg
from foreign_files import unit_integers, write_alphaearth
from mapping_scenes import point_labels, truth
from thalweg.earth.foreign import dequantize_alphaearth
from thalweg.earth.mapping.mapping_config import MappingConfig
from thalweg.earth.positions import LonLat, MapPoint, PixelIndex
from thalweg.errors import ThalwegError, UsageError


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    integers = unit_integers()
    integers[:, 2, 3] = -128
    return write_alphaearth(tmp_path_factory.mktemp("aef"), integers)


def test_values_are_those_of_the_published_rule() -> None:
    # By hand: (127 / 127.5)^2 = 0.992172, (51 / 127.5)^2 = 0.16, with the sign of the integer; -128 is masked.
    found = dequantize_alphaearth(np.array([127, 51, 0, -51, -127, -128], np.int8))
    np.testing.assert_allclose(found[:5], [0.99217224, 0.16, 0, -0.16, -0.99217224], rtol=1e-6)
    assert np.isnan(found[5]) and found.dtype == np.float32


@pytest.mark.parametrize("bottom_up", [False, True])
def test_a_pixel_of_known_values_is_where_it_was_written(bottom_up: bool, tmp_path: Path) -> None:
    integers = np.full((64, 20, 30), -128, np.int8)
    integers[:, 5, 7] = 0
    integers[0, 5, 7], integers[63, 5, 7] = 114, -99  # (114 / 127.5)^2 = 0.799446, (99 / 127.5)^2 = 0.602907
    dataset = thalweg.open(write_alphaearth(tmp_path, integers, 2019, bottom_up))
    assert dataset.sizes == {"time": 1, "embedding": 64, "y": 20, "x": 30}
    assert str(dataset.time.values[0])[:10] == "2019-01-01"
    assert dataset.rio.crs.to_epsg() == 32631
    # Row 5 from the north, column 7: centre x 500000 + 75, y 5600000 - 55.
    assert (float(dataset.x[7]), float(dataset.y[5])) == (500_075, 5_599_945)
    for position in (PixelIndex(5, 7), MapPoint(500_071, 5_599_949)):
        vector = dataset.thalweg.at(position).embeddings.values[0]
        np.testing.assert_allclose(vector[[0, 63]], [0.799446, -0.602907], rtol=1e-5)
        assert not vector[1:63].any()
    assert np.isfinite(dataset.embeddings.values[0, 0]).sum() == 1
    assert dataset.attrs["spatial:bbox"] == [500_000, 5_599_800, 500_300, 5_600_000]


def test_parts_are_read_lazily_and_equal_the_whole(tile: Path) -> None:
    dataset = thalweg.open(tile)
    assert not isinstance(dataset.embeddings.variable._data, np.ndarray)
    whole = dataset.embeddings.values
    for part in (
        {"y": slice(3, 40, 5), "x": 11},
        {"embedding": [60, 2], "y": [1, 47]},
        {"y": slice(None, None, -1), "time": 0},
        {"x": slice(5, 5)},
    ):
        np.testing.assert_array_equal(dataset.embeddings.isel(part).values, dataset.copy().embeddings.isel(part).values)
    np.testing.assert_array_equal(
        dataset.embeddings.isel(y=slice(40, 3, -5), x=[9, 4]).values, whole[:, :, 40:3:-5][..., [9, 4]]
    )


def test_years_of_one_place_are_dates(tmp_path: Path) -> None:
    for year in (2021, 2019):
        write_alphaearth(tmp_path, unit_integers(seed=year), year, bottom_up=year == 2019)
    dataset = thalweg.open(tmp_path)
    assert [str(time)[:4] for time in dataset.time.values] == ["2019", "2021"]
    expected = dequantize_alphaearth(unit_integers(seed=2019))
    np.testing.assert_array_equal(dataset.embeddings.values[0], expected)


def test_similar_components_and_classes(tile: Path) -> None:
    dataset = thalweg.open(tile)
    similar = dataset.thalweg.similar(PixelIndex(20, 20))
    same = truth() == truth()[20, 20]
    assert float(similar.values[20, 20]) == 1 and np.isnan(similar.values[2, 3])
    assert np.nanmean(similar.values[same]) > np.nanmean(similar.values[~same]) + 0.2
    assert dataset.thalweg.pca(2).shape == (1, 2, 48, 48)
    mapped = dataset.thalweg.classify(point_labels(), "crop", config=MappingConfig(learner="logistic"))
    assert mapped.code.values[2, 3] == 0
    assert (mapped.code.values == truth() + 1).mean() > 0.95
    assert mapped.attrs["macro_f1"] > 0.9
    assert "alphaearth" in repr(dataset.thalweg)


def test_several_years_need_a_date_to_classify(tmp_path: Path) -> None:
    for year in (2019, 2020):
        write_alphaearth(tmp_path, unit_integers(seed=year), year)
    accessor = thalweg.open(tmp_path).thalweg
    with pytest.raises(UsageError, match=r"name one of their dates \(2019-01-01, 2020-01-01\) as `date`"):
        accessor.classify(point_labels(), "crop")
    config = MappingConfig(date="2020-01-01", learner="logistic")
    assert accessor.classify(point_labels(), "crop", config=config).attrs["macro_f1"] > 0.9
    for call in (accessor.calendar, lambda: accessor.sample(point_labels()), accessor.explore):
        with pytest.raises(UsageError, match="expected those of a store of `thalweg earth embed`"):
            call()
    with pytest.raises(UsageError, match="embeddings of alphaearth-foundations-v1, model thalweg-earth"):
        accessor.decode("lai")


def refused(path: Path, message: str, **options: int) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        thalweg.open(path, **options)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_what_its_name_says_raises_one_line_error(tmp_path: Path) -> None:
    text = tmp_path / "2020" / "31N" / "tile.tiff"
    text.parent.mkdir(parents=True)
    text.write_text("no raster")
    refused(text, "not a readable GeoTIFF .*: expected an AlphaEarth tile")
    integers = unit_integers()
    refused(write_alphaearth(tmp_path / "three", integers[:3]), r"3 band\(s\) of int8: expected the 64 bands")
    refused(write_alphaearth(tmp_path / "nodata", integers, nodata=0), "no-data value 0.0: expected -128")
    refused(write_alphaearth(tmp_path / "crs", integers, crs=None), "no reference system")
    renamed = write_alphaearth(tmp_path / "renamed", integers)
    with rasterio.open(renamed, "r+") as file:
        file.descriptions = [f"B{number:02d}" for number in range(64)]
    refused(renamed, "bands B00 to B63: expected A00 to A63")


def test_another_quantization_raises_one_line_error(tmp_path: Path) -> None:
    values = dequantize_alphaearth(unit_integers())
    refused(write_alphaearth(tmp_path / "floats", values), r"64 band\(s\) of float32: expected the 64 bands of int8")
    linear = (values * 127).round().astype(np.int8)
    refused(write_alphaearth(tmp_path / "linear", linear), "vectors of length .* quantized by another rule")
    scaled = write_alphaearth(tmp_path / "scaled", unit_integers())
    with rasterio.open(scaled, "r+") as file:
        file.scales = (0.01,) * 64
    refused(scaled, "scale 0.01 and offset 0 of another quantization")


def test_years_and_places_that_contradict_raise_one_line_error(tile: Path, tmp_path: Path) -> None:
    plain = shutil.copy(tile, tmp_path / "tile.tiff")
    refused(Path(plain), "no folder of its path is named by a year: name it as `year`")
    assert str(thalweg.open(plain, year=2022).time.values[0])[:4] == "2022"
    refused(tile, "lies in the folder of 2020, `year` is 2021", year=2021)
    write_alphaearth(tmp_path / "two", unit_integers(), 2019)
    write_alphaearth(tmp_path / "two", unit_integers(24), 2020)
    refused(tmp_path / "two", "expected one tile per year of one place")


def test_a_damaged_file_raises_one_line_error_when_it_is_read(tile: Path, tmp_path: Path) -> None:
    copy = tmp_path / "2020" / "tile.tiff"
    copy.parent.mkdir()
    shutil.copy(tile, copy)
    dataset = thalweg.open(copy)
    copy.write_bytes(copy.read_bytes()[:40_000])
    with pytest.raises(ThalwegError, match=r"tile.tiff: rows 0 to 47, columns 0 to 47 cannot be read") as caught:
        _ = dataset.embeddings.values
    assert "\n" not in str(caught.value)


def test_degrees_find_the_same_pixel_as_map_coordinates(tile: Path) -> None:
    dataset = thalweg.open(tile)
    # 3 degrees east is the central meridian of zone 31: x is 500000 there, the western side of the tile.
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(32631, 4326, always_xy=True).transform(500_105, 5_599_895)
    here = dataset.thalweg.at(LonLat(lon, lat))
    assert (float(here.x), float(here.y)) == (500_105, 5_599_895)
    assert lon == pytest.approx(3.0015, abs=1e-4)
