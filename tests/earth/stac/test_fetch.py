"""Fetch of a catalogue over HTTP: the store holds the values of the files; faults of a server or a file are handled."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from stac_fetching import QUICK, WEST, fetch_site, opened
from stac_server import StacServer, serve
from stac_site import BANDS, EAST_ZONE, WEST_ZONE, Site, ground_range_decibel
from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.decoding.measurements import decode_block
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.stac import Request, fetch, fetched_request, plan, zarr_writer
from thalweg.earth.store.portable import structured
from thalweg.errors import ThalwegError


@pytest.fixture(scope="module")
def year(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch the western part of the site in 2018, with both sensors of the shipped model, over HTTP."""
    with serve(site.folder) as server:
        out = tmp_path_factory.mktemp("fetched") / "year.zarr"
        return fetch_site(out, f"{server.url}/catalog.json", site.box(WEST), "2018")


def on_grid(truth: xr.Dataset, store: xr.Dataset) -> xr.Dataset:
    """Select the expected values of a store's pixels."""
    return truth.sel(x=store.x, y=store.y)


def test_reflectance_equals_the_files_for_each_baseline(site: Site, year: Path) -> None:
    store = opened(year, "sentinel-2")
    truth = on_grid(site.sentinel2, store)
    assert store.sizes["time"] == site.sentinel2.sizes["time"]
    assert set(store.processing_baseline.values) == {3.01, 4.0}
    np.testing.assert_array_equal(store.time, truth.time.values.astype("datetime64[us]"))
    for band in BANDS:
        expected = np.where(truth[band] > 0, truth[band].astype(int), -32768)
        np.testing.assert_array_equal(store[band], expected, err_msg=band)
    np.testing.assert_array_equal(store["SCL"], truth["SCL"])


def test_the_offset_is_not_removed_twice(site: Site, year: Path) -> None:
    sensor = sensor_by_name("sentinel-2")
    series = Cube.open(year).series["sentinel-2"]
    seen, quality = decode_block(series.dataset, sensor, "store")
    truth, expected = decode_block(on_grid(site.sentinel2, series.dataset), sensor, "truth")
    np.testing.assert_array_equal(quality, expected)
    np.testing.assert_allclose(seen, truth, atol=1e-7)


def test_backscatter_equals_the_files_in_decibel(site: Site, year: Path) -> None:
    store = opened(year, "sentinel-1")
    truth = on_grid(site.sentinel1, store)
    for band in ("VV", "VH"):
        np.testing.assert_array_equal(store[band], truth[band])
        assert store[band].attrs["units"] == "dB"
    np.testing.assert_array_equal(list(map(str, store.orbit_state.values)), list(truth.orbit.values))
    assert set(store.relative_orbit.values) == {88, 37}


def test_each_date_names_its_items(site: Site, year: Path) -> None:
    items = Cube.open(year).series["sentinel-2"].items
    assert items == [f"S2_31_{index:02d}" for index in range(len(items))]


def test_plain_xarray_and_rioxarray_open_it(year: Path) -> None:
    import rioxarray  # noqa: F401  (gives datasets their .rio)

    store = xr.open_zarr(year, group="sentinel-2", decode_coords="all")
    assert store.rio.crs.to_epsg() == 32631
    assert store.B04.dims == ("time", "y", "x")
    assert 0 < float(store.B04.mean()) < 1
    root = xr.open_zarr(year).attrs
    assert root["thalweg:skipped"] == {} and root["thalweg:request"]["time"] == "2018"
    assert [entry.name for entry in year.parent.iterdir()] == ["year.zarr"]
    assert not [*year.glob("*.jsonl"), *year.glob("dates.json")]


def test_a_fetched_store_records_its_request(site: Site, year: Path, tmp_path: Path) -> None:
    assert fetched_request(year) == Request(site.box(WEST), "2018")
    assert fetched_request(tmp_path) is None


def test_a_fetched_cube_and_the_simulated_one_have_the_same_embeddings(
    site: Site, year: Path, model: EarthModel
) -> None:
    store = opened(year, "sentinel-2")
    direct = {
        "sentinel-2": on_grid(site.sentinel2, store),
        "sentinel-1": on_grid(site.sentinel1, store),
    }
    fetched, expected = embed(year, model), embed(Cube.open(direct), model)
    np.testing.assert_array_equal(fetched.time, expected.time.values.astype("datetime64[us]"))
    np.testing.assert_array_equal(fetched.quality, expected.quality)
    np.testing.assert_allclose(fetched.embeddings, expected.embeddings, atol=1e-5)
    assert np.isfinite(expected.embeddings).any()
    assert structured(fetched.attrs, "thalweg:sources")["sentinel-2"]["items"][0] == "S2_31_00"


def test_a_path_an_address_and_an_api_give_the_same_store(site: Site, server: StacServer, tmp_path: Path) -> None:
    stores = {
        name: fetch_site(tmp_path / f"{name}.zarr", where, site.box(WEST), "2018-01", "sentinel-2", "sentinel-1")
        for name, where in {
            "file": str(site.catalogue),
            "address": f"{server.url}/catalog.json",
            "api": server.api,
        }.items()
    }
    assert server.requests["/api/search"] > 2  # the answers come in pages
    for sensor in ("sentinel-2", "sentinel-1"):
        first = opened(stores["file"], sensor)
        assert first.sizes["time"] >= 2
        for name in ("address", "api"):
            xr.testing.assert_identical(opened(stores[name], sensor), first)


def test_tiles_of_two_zones_become_one_date(site: Site, server: StacServer, tmp_path: Path) -> None:
    """The western tile is copied; east of it the other tile is interpolated from its zone's grid."""
    out = fetch_site(tmp_path / "both.zarr", server.api, site.box(slice(4, 28)), "2018-01", "sentinel-2")
    store = opened(out, "sentinel-2")
    assert xr.open_zarr(out).attrs["thalweg:request"]["crs"] == WEST_ZONE
    assert str(store.item_id.values[0]) == "S2_31_00 S2_32_00"
    truth = on_grid(site.sentinel2, store).isel(time=slice(0, store.sizes["time"]))
    west = store.x.values < site.sentinel2.x.values[20]
    east = store.x.values > site.sentinel2.x.values[20]
    clear = (truth["SCL"] != 0).values
    for band in BANDS:
        expected = truth[band].values.astype(float)
        np.testing.assert_array_equal(store[band].values[..., west], expected[..., west], err_msg=band)
        got, wanted = (values[..., east][clear[..., east]] for values in (store[band].values, expected))
        assert (got != -32768).all()
        # Resampled twice (nearest for the tile, then linear): similar, not equal, and not 1000 too high.
        assert np.median(np.abs(got - wanted)) < 0.06 * np.median(wanted), band
        assert np.corrcoef(got, wanted)[0, 1] > 0.8, band
    assert (store["SCL"].values[..., east] == truth["SCL"].values[..., east]).mean() > 0.9


def test_another_zone_can_be_chosen(site: Site, server: StacServer, tmp_path: Path) -> None:
    box = site.box(slice(8, 28))
    out = fetch_site(tmp_path / "east.zarr", server.api, box, "2018-01", "sentinel-2", crs=EAST_ZONE)
    cube = Cube.open(out)
    assert cube.grid.crs.epsg == 32632
    assert cube.reference.items[0] == "S2_32_00 S2_31_00"
    assert cube.usable_fraction("sentinel-2").max() > 0.5


@pytest.fixture(scope="module")
def may(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.Dataset, list[str], dict[str, str]]:
    """Fetch May 2022, in which each day has an item with its own property; return store, lines and skipped items."""
    reported: list[str] = []
    with serve(site.folder) as server:
        out = tmp_path_factory.mktemp("fetched") / "may.zarr"
        fetch_plan = plan(Request(site.box(WEST), "2022-05", ("sentinel-2",)), server.api, QUICK)
        fetch(fetch_plan, out, on_skipped=reported.append, retry_policy=QUICK)
    return opened(out, "sentinel-2"), [*fetch_plan.notes, *reported], xr.open_zarr(out).attrs["thalweg:skipped"]


def days(store: xr.Dataset) -> dict[str, int]:
    return {str(name): index for index, name in enumerate(store.item_id.values)}


def test_a_removed_a_given_and_an_implied_offset_give_the_same_values(site: Site, may: Any) -> None:
    store, *_ = may
    truth = on_grid(site.sentinel2.isel(time=8), store)
    for band in BANDS:
        expected = np.where(truth[band] > 0, truth[band].astype(int), -32768)
        for name in ("offset_removed", "offset_given", "last"):
            np.testing.assert_array_equal(store[band][days(store)[name]], expected, err_msg=f"{band} of {name}")


def test_a_missing_band_is_reported(may: Any) -> None:
    store, reported, _ = may
    date = store.isel(time=days(store)["no_B11"])
    assert (date.B11 == -32768).all() and (date.B12 != -32768).any()
    assert any(line.startswith("no_B11: has no B11") for line in reported)


def test_a_band_that_no_item_has_is_not_in_the_store(site: Site, tmp_path: Path) -> None:
    """Otherwise every pixel of the sensor would count as missing."""
    fetch_plan = plan(Request(site.box(WEST), "2022-05-03", ("sentinel-2",)), str(site.catalogue))
    assert fetch_plan.notes == ("sentinel-2: no item has B11: the cube is without",)
    series = Cube.open(fetch(fetch_plan, tmp_path / "out.zarr")).series["sentinel-2"]
    assert "B11" not in series.dataset and series.present_bands.sum() == 9
    _, quality = decode_block(series.dataset, series.sensor, "store")
    assert (quality < 2).any()


def test_a_corrupt_file_is_skipped_reported_and_recorded(may: Any) -> None:
    store, reported, skipped = may
    assert list(skipped) == ["corrupt"] and "B04 cannot be read" in skipped["corrupt"]
    assert [line for line in reported if line.startswith("corrupt: skipped, B04 cannot be read")]
    assert "corrupt" not in days(store)


def test_a_date_without_a_pixel_is_left_out(may: Any) -> None:
    store, *_ = may
    assert list(days(store)) == ["offset_removed", "offset_given", "no_B11", "last"]
    assert len(np.unique(store.time)) == store.sizes["time"] == 4


def test_landsat_is_read_by_its_declaration(site: Site, server: StacServer, tmp_path: Path) -> None:
    out = fetch_site(tmp_path / "l8.zarr", server.api, site.box(WEST, slice(2, 28)), "2018", "landsat-8")
    sensor = sensor_by_name("landsat-8")
    series = Cube.open(out).series["landsat-8"]
    assert "L8_00" in series.items and "L8_01" not in series.items  # the latter is Landsat 7's
    seen, quality = decode_block(series.dataset, sensor, "store")
    kept = site.landsat8.isel(time=[index for index in range(site.landsat8.sizes["time"]) if index != 1])
    truth, expected = decode_block(on_grid(kept, series.dataset), sensor, "truth")
    np.testing.assert_array_equal(quality, expected)
    np.testing.assert_allclose(seen, truth, atol=2.75e-5)


def test_ground_range_products_become_sigma_nought(site: Site, server: StacServer, tmp_path: Path) -> None:
    """In that month the catalogue has a GRD product but no terrain-corrected one."""
    out = fetch_site(tmp_path / "grd.zarr", server.api, site.box(slice(6, 26)), "2022-06", "sentinel-1")
    store = opened(out, "sentinel-1")
    assert list(map(str, store.item_id.values)) == ["GRD"] and list(map(str, store.orbit_state.values)) == [
        "descending"
    ]
    east, north = np.meshgrid(store.x - site.sentinel1.x.values[0], store.y - site.sentinel1.y.values[0])
    for band in ("VV", "VH"):
        off = store[band].values[0] * 0.01 - ground_range_decibel(band, east, north)
        assert np.abs(off).max() < 0.15, band  # error of interpolating power between pixels of 10 m
        assert abs(off.mean()) < 0.03, band


def test_a_ground_range_product_without_its_table_is_skipped(site: Site, server: StacServer, tmp_path: Path) -> None:
    server.faults = {"calibration-vh.xml": [404] * 9}
    with pytest.raises(ThalwegError, match=r"1 items skipped\): VH cannot be read"):
        fetch_site(tmp_path / "grd.zarr", server.api, site.box(slice(6, 26)), "2022-06", "sentinel-1")


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_writer, "CHUNK", 8)
    monkeypatch.setattr(zarr_writer, "SHARD", 16)


def test_adjacent_windows_match(site: Site, server: StacServer, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Windows of 16 px: equal on the files' own grid, at most one step different where numbers are interpolated."""
    box = site.box(slice(4, 28))
    whole = opened(fetch_site(tmp_path / "whole.zarr", server.api, box, "2018-01-03", "sentinel-2"), "sentinel-2")
    request.getfixturevalue("small_windows")
    parts = opened(fetch_site(tmp_path / "parts.zarr", server.api, box, "2018-01-03", "sentinel-2"), "sentinel-2")
    own = whole.x.values < site.sentinel2.x.values[20]
    xr.testing.assert_identical(parts.isel(x=own), whole.isel(x=own))
    np.testing.assert_array_equal(parts["SCL"], whole["SCL"])
    for band in BANDS:
        apart = np.abs(parts[band].values.astype(int) - whole[band].values)
        assert apart.max() <= 1 and (apart > 0).mean() < 0.01, band


def test_an_item_lost_between_windows_leaves_no_pixels(
    site: Site, server: StacServer, tmp_path: Path, small_windows: None
) -> None:
    box = site.box(slice(4, 28))
    stores = []
    for name, answers in {"late": [0] * 6 + [404] * 50, "never": [404] * 50}.items():
        server.faults = {"S2_31_00/B04.tif": answers}
        out = fetch_site(tmp_path / f"{name}.zarr", server.api, box, "2018-01-03", "sentinel-2")
        assert list(xr.open_zarr(out).attrs["thalweg:skipped"]) == ["S2_31_00"]
        stores.append(opened(out, "sentinel-2"))
    xr.testing.assert_identical(*stores)
    assert list(map(str, stores[0].item_id.values)) == ["S2_32_00"]
