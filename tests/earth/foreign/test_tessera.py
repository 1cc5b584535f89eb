"""TESSERA tiles and Zarr: values by their scales, the grid of a tile, zones, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

import thalweg
from foreign_files import tessera_arrays, write_tessera_tile, write_tessera_zarr
from mapping_scenes import point_labels, truth
from thalweg.earth.foreign import tile_grid
from thalweg.earth.mapping.mapping_config import MappingConfig
from thalweg.earth.positions import MapPoint, PixelIndex
from thalweg.errors import UsageError

LOGISTIC = MappingConfig(learner="logistic")


def refused(path: Path, message: str, **options: int) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        thalweg.open(path, **options)
    assert "\n" not in str(caught.value)


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    return write_tessera_tile(tmp_path, *tessera_arrays())


@pytest.mark.parametrize("per_dimension", [False, True])
def test_values_are_integers_times_scales_on_the_grid_of_the_landmask(per_dimension: bool, tmp_path: Path) -> None:
    integers = np.zeros((20, 30, 128), np.int8)
    integers[5, 7, :3] = [100, -50, 127]
    scales = np.full((20, 30), 0.02, np.float32)
    scales[5, 7] = 0.04
    scales[0, 0], scales[0, 1], scales[0, 2], scales[0, 3] = np.nan, np.inf, 0, 3e38
    if per_dimension:
        scales = np.repeat(scales[..., None], 128, 2)
    dataset = thalweg.open(write_tessera_tile(tmp_path, integers, scales))
    assert dataset.sizes == {"time": 1, "embedding": 128, "y": 20, "x": 30}
    assert str(dataset.time.values[0])[:10] == "2024-01-01"
    assert (float(dataset.x[7]), float(dataset.y[5])) == (500_075, 5_599_945)
    # 100 * 0.04, -50 * 0.04 and 127 * 0.04
    vector = dataset.thalweg.at(MapPoint(500_071, 5_599_949)).embeddings.values[0]
    np.testing.assert_allclose(vector[:4], [4.0, -2.0, 5.08, 0], rtol=1e-6)
    missing = np.isnan(dataset.embeddings.values[0]).all(0)
    assert missing.sum() == 4 and missing[0, :4].all()


def test_the_grid_of_a_tile_follows_from_its_name() -> None:
    # The tile from 3.0 to 3.1 degrees east and from the equator to 0.1 degrees north. 3 degrees east is the central
    # meridian of zone 31, x 500000; 0.1 degrees are 0.9996 * 6378137 * 0.1 * pi / 180 = 11127.5 m east along the
    # equator and 0.9996 * 11057.4 = 11053.0 m north.
    crs, left, top, rows, columns = tile_grid(3.05, 0.05)
    assert crs.to_epsg() == 32631
    assert (left, top) == (pytest.approx(500_000, abs=0.1), pytest.approx(11_053, abs=0.5))
    assert (rows, columns) == (1105, 1113)
    assert tile_grid(3.05, -0.05)[0].to_epsg() == 32731
    assert tile_grid(-0.05, 52.05)[0].to_epsg() == 32630 and tile_grid(0.05, 52.05)[0].to_epsg() == 32631


def test_without_a_landmask_the_name_gives_the_grid(tmp_path: Path) -> None:
    _, left, top, rows, columns = tile_grid(3.05, 83.95)
    assert columns < 200  # 0.1 degrees are short here
    integers = np.zeros((rows, columns, 128), np.int8)
    integers[10, 20] = 10
    folder = tmp_path / "2023" / "grid_3.05_83.95"
    folder.mkdir(parents=True)
    np.save(folder / "grid_3.05_83.95.npy", integers)
    np.save(folder / "grid_3.05_83.95_scales.npy", np.full((rows, columns), 0.1, np.float32))
    dataset = thalweg.open(folder)
    here = dataset.thalweg.at(MapPoint(left + 205, top - 105))
    np.testing.assert_allclose(here.embeddings.values, 1, rtol=1e-6)
    np.save(folder / "grid_3.05_83.95.npy", integers[:-1])
    np.save(folder / "grid_3.05_83.95_scales.npy", np.full((rows - 1, columns), 0.1, np.float32))
    refused(folder, rf"{rows - 1} x {columns} px, its name gives {rows} x {columns}: expected the whole tile")


def test_similar_components_and_classes_of_a_tile(tile: Path) -> None:
    dataset = thalweg.open(tile)
    similar = dataset.thalweg.similar(PixelIndex(20, 20)).values
    same = truth() == truth()[20, 20]
    assert similar[20, 20] == 1 and similar[same].mean() > similar[~same].mean() + 0.3
    assert dataset.thalweg.pca(3).shape == (1, 3, 48, 48)
    mapped = dataset.thalweg.classify(point_labels(), "crop", config=LOGISTIC)
    assert (mapped.code.values == truth() + 1).mean() > 0.95


def test_years_of_one_tile_are_dates(tile: Path, tmp_path: Path) -> None:
    other = write_tessera_tile(tmp_path / "other", *tessera_arrays(seed=1), year=2020)
    shutil.copytree(other.parent, tile.parents[2] / "2020" / other.stem)
    dataset = thalweg.open(tmp_path / "global_0.1_degree_representation")
    assert [str(time)[:4] for time in dataset.time.values] == ["2020", "2024"]
    integers, scales = tessera_arrays(seed=1)
    np.testing.assert_array_equal(dataset.embeddings.values[0], np.moveaxis(integers * scales[..., None], -1, 0))


def test_missing_scales_raise_one_line_error(tile: Path) -> None:
    tile.with_name(f"{tile.stem}_scales.npy").unlink()
    refused(tile, "no scales: expected grid_3.05_50.55_scales.npy next to it: download it too")


def test_a_tile_of_another_quantization_raises_one_line_error(tile: Path) -> None:
    integers, scales = tessera_arrays()
    beside = tile.with_name(f"{tile.stem}_scales.npy")
    np.save(beside, 100 + scales)
    refused(tile, "scales around 100, TESSERA's lie between 0 and 1: quantized by another rule")
    np.save(beside, scales.astype(np.float64))
    refused(tile, "float64 .*: expected float32 scales")
    np.save(beside, scales[1:])
    refused(tile, r"\(47, 48\): expected float32 scales \(48, 48\)")
    np.save(beside, scales)
    np.save(tile, integers.astype(np.float32))
    refused(tile, "float32 .*: expected int8 .* another type is another quantization")
    np.save(tile, np.moveaxis(integers, -1, 0))
    refused(tile, r"int8 \(128, 48, 48\): expected int8 \(rows, columns, 128\)")


def test_an_array_that_is_not_what_its_name_says_raises_one_line_error(tile: Path, tmp_path: Path) -> None:
    refused(shutil.copy(tile, tmp_path / "array.npy"), "expected a TESSERA tile, grid_LON_LAT.npy")
    np.save(tile, np.array([{"a": 1}], object), allow_pickle=True)
    refused(tile, "not an array of numbers")
    tile.write_bytes(b"text")
    refused(tile, "not an array of numbers")


def test_tiles_of_two_places_and_a_path_without_a_year_raise_one_line_error(tile: Path, tmp_path: Path) -> None:
    write_tessera_tile(tmp_path, *tessera_arrays(), name="grid_3.15_50.55")
    refused(tmp_path, "tiles of 2 places, grid_3.05_50.55 and others")
    loose = tmp_path / "loose"
    loose.mkdir()
    for file in tile.parent.iterdir():
        shutil.copy(file, loose)
    refused(loose, "no folder of its path is named by a year")
    shutil.copytree(tmp_path / "global_0.1_degree_tiff_all", loose / "global_0.1_degree_tiff_all")
    assert str(thalweg.open(loose, year=2021).time.values[0])[:4] == "2021"


@pytest.fixture
def zone(tmp_path: Path) -> Path:
    integers = np.stack([np.moveaxis(tessera_arrays(seed=seed)[0], -1, 0) for seed in (0, 1)])
    scales = np.full((2, 48, 48), 0.05, np.float32)
    scales[1, 2, 3], scales[1, 2, 4] = np.inf, np.nan
    return write_tessera_zarr(tmp_path / "tessera.zarr", integers, scales, [2023, 2024])


def test_a_zone_has_the_values_and_the_grid_of_its_arrays(zone: Path) -> None:
    for path in (zone, zone.parent):
        dataset = thalweg.open(path)
        assert dataset.sizes == {"time": 2, "embedding": 128, "y": 48, "x": 48}
        assert [str(time)[:10] for time in dataset.time.values] == ["2023-01-01", "2024-01-01"]
        integers, _ = tessera_arrays(seed=1)
        here = dataset.thalweg.at(MapPoint(500_071, 5_599_949))
        np.testing.assert_allclose(here.embeddings.values[1], integers[5, 7] * np.float32(0.05), rtol=1e-6)
        missing = np.isnan(dataset.embeddings.values).all(1)
        assert not missing[0].any() and np.argwhere(missing[1]).tolist() == [[2, 3], [2, 4]]
    mapped = dataset.thalweg.classify(
        point_labels(), "crop", config=MappingConfig(date="2024-01-01", learner="logistic")
    )
    assert (mapped.code.values == truth() + 1).mean() > 0.95
    assert dataset.thalweg.similar(PixelIndex(20, 20)).shape == (48, 48)
    assert dataset.thalweg.pca(2).shape == (2, 2, 48, 48)


def test_a_store_of_two_zones_asks_for_one(zone: Path) -> None:
    integers = np.moveaxis(tessera_arrays()[0], -1, 0)[None]
    write_tessera_zarr(zone.parent, integers, np.full((1, 48, 48), 0.05, np.float32), [2023], zone="utm30")
    refused(zone.parent, r"UTM zones utm30, utm31: open one of them, such as .*utm30")


def test_a_zone_without_scales_or_of_another_quantization_raises_one_line_error(zone: Path) -> None:
    refused(zone, "`year` is for embeddings without dates", year=2023)
    root = zarr.open_group(zone.parent, mode="a")
    stated = dict(root.attrs["geoemb:quantization"])
    root.attrs["geoemb:quantization"] = {**stated, "method": "linear"}
    refused(zone, "quantization 'linear' with the scale 'scales': expected TESSERA's 'per_pixel_scale'")
    root.attrs["geoemb:quantization"] = stated
    group = zarr.open_group(zone, mode="a")
    transform = group.attrs["spatial:transform"]
    group.attrs["spatial:transform"] = [10, 0, 0, 0, -10, 0]
    refused(zone, "spatial:transform is not that of x and y")
    group.attrs["spatial:transform"] = transform
    shutil.rmtree(zone / "scales")
    refused(zone, "no array scales: expected a zone of a TESSERA store")
