"""Overviews of stores: their values, their layout by the convention, and their use where a whole map is shown."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr_cm

from embedding_stores import StoreSpec, write_store
from thalweg.earth.store.conventions import multiscales_layout
from thalweg.earth.store.overviews.map_view import whole_map
from thalweg.earth.store.overviews.pyramid import write_overviews
from thalweg.earth.store.overviews.reduction import color_means, lowest_flags, means, renormalized_means
from thalweg.earth.store.quantization import dequantize, quantizations, quantize
from thalweg.earth.store.reader import open_overviews, open_store

SHAPE = (50, 37)


@pytest.fixture(scope="module", params=[None, 8], ids=["float32", "8 bits"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_store(tmp_path_factory.mktemp("stores") / "a.zarr", StoreSpec(shape=SHAPE, quantize=request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiscales_layout, "LEVEL_SIDE", 16)
        write_overviews(path)
        write_overviews(path)  # as a run does that was killed before it renamed the store
    return path


def test_a_level_is_reduced_from_the_one_below(store: Path) -> None:
    full, levels = open_store(store), open_overviews(store)
    assert list(levels) == [2, 4]
    bits = 8 if full.attrs["geoemb:data_type"] == "int8" else None
    for below, above in ((full, levels[2]), (levels[2], levels[4])):
        for index in range(full.sizes["time"]):
            for name, reduce in {"embeddings": renormalized_means, "uncertainty": means}.items():
                expected = reduce(below[name].values[index], 2)
                if bits:
                    encoding = quantizations(bits)[name]
                    expected = dequantize(quantize(expected, encoding), encoding)
                np.testing.assert_array_equal(above[name].values[index], expected)
            np.testing.assert_array_equal(above.quality.values[index], lowest_flags(below.quality.values[index], 2))
            np.testing.assert_array_equal(above.picture.values[index], color_means(below.picture.values[index], 2))


def test_a_mean_of_colours_leaves_black_out() -> None:
    colours = np.zeros((3, 2, 4), np.uint8)
    colours[:, 0, 0], colours[:, 1, 1] = (10, 20, 30), (20, 40, 0)
    np.testing.assert_array_equal(color_means(colours, 2), [[[15, 0]], [[30, 0]], [[15, 0]]])
    assert lowest_flags(np.array([[3, 2, 7]], np.uint8), 2).tolist() == [[2, 7]]


def test_the_layout_follows_its_convention(store: Path) -> None:
    metadata = json.loads((store / "zarr.json").read_text())
    consolidated = metadata.pop("consolidated_metadata")["metadata"]
    zarr_cm.multiscales.validate_group_metadata(metadata)
    layout = metadata["attributes"]["multiscales"]["layout"]
    assert len(layout) == 4 * 3
    for entry in layout:
        assert consolidated[entry["asset"]]["shape"][-2:] == entry["spatial:shape"]
        group = entry["asset"].rpartition("/")[0]
        if group:
            attributes = consolidated[group]["attributes"]
            assert attributes["spatial:transform"] == entry["spatial:transform"]
            zarr_cm.spatial.validate_group_metadata(consolidated[group])
            zarr_cm.proj.validate_group_metadata(consolidated[group])


def test_xarray_opens_a_level_at_its_place(store: Path) -> None:
    full, level = xr.open_zarr(store), xr.open_zarr(store, group="overviews/4")
    assert level.rio.crs == full.rio.crs
    left, _, _, top = full.attrs["spatial:bbox"]
    assert list(level.rio.transform())[:6] == [40.0, 0.0, left, 0.0, -40.0, top]
    np.testing.assert_allclose(level.embeddings.values, open_overviews(store)[4].embeddings.values, atol=1e-6)


def test_a_part_of_a_store_states_no_overviews(store: Path) -> None:
    dataset = open_store(store)
    assert "multiscales" not in dataset.attrs and "multiscales" not in dataset.attrs["zarr_conventions"]


def test_a_whole_map_is_read_from_an_overview(store: Path) -> None:
    dataset, levels = open_store(store), open_overviews(store)
    xr.testing.assert_equal(whole_map(dataset, 1, 30), levels[2].isel(time=1))
    xr.testing.assert_equal(whole_map(dataset.isel(time=[1, 3]), 1, 13), levels[4].isel(time=3))
    assert whole_map(dataset, 0, 50).sizes["y"] == 50
    part = dataset.isel(x=slice(0, 18), y=slice(10, 30))  # no overview is of these pixels alone
    np.testing.assert_array_equal(whole_map(part, 0, 10).embeddings, part.embeddings.values[0, :, ::2, ::2])
    first = dataset.isel(embedding=slice(0, 3))
    np.testing.assert_array_equal(whole_map(first, 0, 25).embeddings, first.embeddings.values[0, :, ::2, ::2])


def test_computed_values_have_no_overview(store: Path) -> None:
    dataset = open_store(store)
    doubled = dataset.assign(embeddings=2 * dataset.embeddings)
    np.testing.assert_array_equal(whole_map(doubled, 0, 25).embeddings, 2 * dataset.embeddings.values[0, :, ::2, ::2])


def test_a_store_of_one_column_has_overviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiscales_layout, "LEVEL_SIDE", 16)
    path = write_store(tmp_path / "column.zarr", StoreSpec(shape=(40, 1)))
    write_overviews(path)
    assert {factor: level.sizes["y"] for factor, level in open_overviews(path).items()} == {2: 20, 4: 10}
    assert open_store(path).sizes["x"] == 1


def test_a_small_store_has_no_overviews(tmp_path: Path) -> None:
    path = write_store(tmp_path / "small.zarr", StoreSpec(shape=(20, 20)))
    write_overviews(path)
    assert open_overviews(path) == {}
    assert "multiscales" not in json.loads((path / "zarr.json").read_text())["attributes"]
