"""Fetch of a catalogue over HTTP: the store holds the values of the files; faults of a server or a file are handled."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from stac_server import BANDS, EAST_ZONE, WEST_ZONE, Site, StacServer, ground_range_decibel, serve
from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.decoding.measurements import measurements
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.stac import CATALOGUES, Catalogue, Request, fetch, fetched_request, plan, zarr_writer
from thalweg.earth.stac.search.client import RetryPolicy
from thalweg.earth.store.portable import structured
from thalweg.errors import ThalwegError, UsageError

QUICK = RetryPolicy(attempts=4, delay=0.05, timeout=1.0)
WEST = slice(2, 18)
"""Columns that only the western tile covers."""

Fetched = Callable[..., xr.Dataset]


def fetch_site(
    out: Path, catalogue: str | Catalogue, bbox: Any, time: str, *sensors: str, crs: str | None = None
) -> Path:
    return fetch(plan(Request(bbox, time, sensors or None, crs), catalogue, QUICK), out, retry_policy=QUICK)


def opened(store: Path, sensor: str) -> xr.Dataset:
    return xr.open_zarr(store, group=sensor, mask_and_scale=False).compute()


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
    seen, quality = measurements(series.dataset, sensor, "store")
    truth, expected = measurements(on_grid(site.sentinel2, series.dataset), sensor, "truth")
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
    told: list[str] = []
    with serve(site.folder) as server:
        out = tmp_path_factory.mktemp("fetched") / "may.zarr"
        what = plan(Request(site.box(WEST), "2022-05", ("sentinel-2",)), server.api, QUICK)
        fetch(what, out, on_skipped=told.append, retry_policy=QUICK)
    return opened(out, "sentinel-2"), [*what.notes, *told], xr.open_zarr(out).attrs["thalweg:skipped"]


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
    store, told, _ = may
    date = store.isel(time=days(store)["no_B11"])
    assert (date.B11 == -32768).all() and (date.B12 != -32768).any()
    assert any(line.startswith("no_B11: has no B11") for line in told)


def test_a_band_that_no_item_has_is_not_in_the_store(site: Site, tmp_path: Path) -> None:
    """Otherwise every pixel of the sensor would count as missing."""
    what = plan(Request(site.box(WEST), "2022-05-03", ("sentinel-2",)), str(site.catalogue))
    assert what.notes == ("sentinel-2: no item has B11: the cube is without",)
    series = Cube.open(fetch(what, tmp_path / "out.zarr")).series["sentinel-2"]
    assert "B11" not in series.dataset and series.present_bands.sum() == 9
    _, quality = measurements(series.dataset, series.sensor, "store")
    assert (quality < 2).any()


def test_a_corrupt_file_is_skipped_reported_and_recorded(may: Any) -> None:
    store, told, skipped = may
    assert list(skipped) == ["corrupt"] and "B04 cannot be read" in skipped["corrupt"]
    assert [line for line in told if line.startswith("corrupt: skipped, B04 cannot be read")]
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
    seen, quality = measurements(series.dataset, sensor, "store")
    kept = site.landsat8.isel(time=[index for index in range(site.landsat8.sizes["time"]) if index != 1])
    truth, expected = measurements(on_grid(kept, series.dataset), sensor, "truth")
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


def test_requests_are_repeated_after_two_faults_of_the_server(site: Site, server: StacServer, tmp_path: Path) -> None:
    server.faults = {"S2_31_01/B04.tif": [503, 503], "S2_31_00/SCL.tif": [500, 429], "/api/search": [502, 503]}
    out = fetch_site(tmp_path / "out.zarr", server.api, site.box(WEST), "2018-01", "sentinel-2")
    assert not any(server.faults.values())
    assert xr.open_zarr(out).attrs["thalweg:skipped"] == {}
    plain = fetch_site(tmp_path / "plain.zarr", str(site.catalogue), site.box(WEST), "2018-01", "sentinel-2")
    xr.testing.assert_identical(opened(out, "sentinel-2"), opened(plain, "sentinel-2"))


def test_a_slow_server_is_waited_for_and_a_hanging_request_is_repeated(
    site: Site, server: StacServer, tmp_path: Path
) -> None:
    server.pauses = {"B02.tif": [0.2] * 50, "S2_31_01/B04.tif": [2.0], "/api/search": [2.0]}
    out = fetch_site(tmp_path / "out.zarr", server.api, site.box(WEST), "2018-01", "sentinel-2")
    assert xr.open_zarr(out).attrs["thalweg:skipped"] == {}
    assert opened(out, "sentinel-2").sizes["time"] >= 2


def test_a_fetch_whose_server_stops_answering_is_resumed(site: Site, server: StacServer, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    server.faults = {"S2_31_02/B04.tif": [503] * 50}
    with pytest.raises(ThalwegError, match=r"S2_31_02/B04.tif: no answer after 4 attempts .*same request again"):
        fetch_site(out, server.api, site.box(WEST), "2018-01/2018-02", "sentinel-2")
    assert not out.exists()
    server.faults.clear()
    server.requests.clear()
    fetch_site(out, server.api, site.box(WEST), "2018-01/2018-02", "sentinel-2")
    assert server.requests["/files/S2_31_02/B04.tif"] > 0
    assert not [path for path in server.requests if "S2_31_00" in path or "S2_31_01" in path]
    plain = fetch_site(tmp_path / "plain.zarr", str(site.catalogue), site.box(WEST), "2018-01/2018-02", "sentinel-2")
    xr.testing.assert_identical(opened(out, "sentinel-2"), opened(plain, "sentinel-2"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.zarr", "plain.zarr"]


def test_two_processes_cannot_write_one_store(site: Site, tmp_path: Path) -> None:
    what = plan(Request(site.box(WEST), "2018-01", ("sentinel-2",)), str(site.catalogue))

    def second(done: int, total: int) -> None:
        with pytest.raises(UsageError, match="another process is writing it"):
            fetch(what, tmp_path / "out.zarr")

    assert opened(fetch(what, tmp_path / "out.zarr", second), "sentinel-2").sizes["time"] >= 2


def test_another_request_starts_from_scratch(site: Site, server: StacServer, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    server.faults = {"S2_31_01/B04.tif": [503] * 50}
    with pytest.raises(ThalwegError):
        fetch_site(out, server.api, site.box(WEST), "2018-01", "sentinel-2")
    server.faults.clear()
    fetch_site(out, server.api, site.box(slice(4, 16)), "2018-01", "sentinel-2")
    assert str(opened(out, "sentinel-2").item_id.values[0]) == "S2_31_00"


KILLED = """
import os, signal, sys
from thalweg.earth.stac import Request, fetch, plan
catalogue, out, calls, *bbox = sys.argv[1:]
told = []
def progress(done, total):
    told.append(done)
    if len(told) == int(calls):
        os.kill(os.getpid(), signal.SIGKILL)
fetch(plan(Request(tuple(map(float, bbox)), "2018-01/2018-02", ("sentinel-2", "sentinel-1")), catalogue), out, progress)
"""


def test_a_killed_fetch_is_resumed(site: Site, server: StacServer, tmp_path: Path) -> None:
    box, out = site.box(WEST), tmp_path / "out.zarr"
    arguments = [f"{server.url}/catalog.json", out, 3, *box]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == [".out.zarr.unfinished"]
    server.requests.clear()
    told: list[tuple[int, int]] = []
    what = plan(Request(box, "2018-01/2018-02", ("sentinel-2", "sentinel-1")), f"{server.url}/catalog.json", QUICK)
    fetch(what, out, lambda done, total: told.append((done, total)), retry_policy=QUICK)
    dates = sum(len(dates) for dates in what.dates.values())
    assert len(told) == dates - 2  # the third was read and not yet recorded
    assert not [path for path in server.requests if "files/S2_31_00" in path]
    plain = fetch_site(tmp_path / "plain.zarr", str(site.catalogue), box, "2018-01/2018-02", "sentinel-2", "sentinel-1")
    for sensor in ("sentinel-2", "sentinel-1"):
        xr.testing.assert_identical(opened(out, sensor), opened(plain, sensor))


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


def test_forbidden_files_are_reported_as_such(site: Site, server: StacServer, tmp_path: Path) -> None:
    server.faults = {".tif": [403] * 1000}
    with pytest.raises(ThalwegError, match=r"refuses access .*check the credentials"):
        fetch_site(tmp_path / "out.zarr", server.api, site.box(WEST), "2018-01", "sentinel-2")
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_if_no_item_can_be_read(site: Site, server: StacServer, tmp_path: Path) -> None:
    with pytest.raises(ThalwegError, match=r"no pixel in the box on any date \(1 items skipped\): B04 cannot be read"):
        fetch_site(tmp_path / "out.zarr", server.api, site.box(WEST), "2022-05-04", "sentinel-2")
    assert not list(tmp_path.iterdir())


EMPTY: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "box": ({"bbox": (7.0, 51.0, 7.1, 51.1)}, ("no item of sentinel-2-l2a", "touches the box 7 51 7.1 51.1")),
    "time": ({"time": "2019"}, ("has items in the box, none of 2019-01-01 to 2019-12-31", "check `time`")),
    "bands": ({"time": "2018-01", "sensor": "landsat-8"}, ("landsat-c2-l2 has items in the box, none of",)),
}


@pytest.mark.parametrize("where", ["api", "catalog.json"])
@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_search_names_the_filter_that_removed_everything(
    name: str, where: str, site: Site, server: StacServer
) -> None:
    given, words = EMPTY[name]
    if name == "bands":  # only Landsat 7 flew on that day
        day = str(site.landsat8.time.values[1])[:10]
        given, words = {"time": day, "sensor": "landsat-8"}, ("none of the platforms landsat-8, landsat-9",)
    request = Request(
        given.get("bbox", site.box(WEST)), given.get("time", "2018"), (given.get("sensor", "sentinel-2"),)
    )
    with pytest.raises(UsageError) as error:
        plan(request, f"{server.url}/{where}", QUICK)
    for word in ("nothing found", *words):
        assert word in str(error.value)


def test_a_missing_collection_is_reported_with_those_available(site: Site, server: StacServer) -> None:
    only = CATALOGUES["earth-search"].model_copy(update={"url": server.api})
    products = tuple(p for p in only.products if p.collection == "sentinel-2-c1-l2a")
    only = only.model_copy(update={"products": products})
    with pytest.raises(
        UsageError, match=r"expected sentinel-2-c1-l2a, it has landsat-c2-l2, sentinel-1-grd, sentinel-1-rtc"
    ):
        plan(Request(site.box(WEST), "2018", ("sentinel-2",)), only, QUICK)


@pytest.mark.parametrize("name", ["planetary-computer", "earth-search"])
def test_declared_catalogues_give_the_same_store(name: str, site: Site, server: StacServer, tmp_path: Path) -> None:
    """Declarations with the address of this machine; signing does not change addresses of other servers."""
    if name == "planetary-computer":
        pytest.importorskip("planetary_computer")
    here = CATALOGUES[name].model_copy(update={"url": server.api})
    out = fetch_site(tmp_path / "out.zarr", here, site.box(WEST), "2018-01", "sentinel-2")
    plain = fetch_site(tmp_path / "plain.zarr", str(site.catalogue), site.box(WEST), "2018-01", "sentinel-2")
    xr.testing.assert_identical(opened(out, "sentinel-2"), opened(plain, "sentinel-2"))


def test_credentials_are_checked_before_anything_is_read(
    site: Site, server: StacServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key, raising=False)
    here = CATALOGUES["cdse"].model_copy(update={"url": server.api})
    with pytest.raises(UsageError, match=r"cdse: .*set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        plan(Request(site.box(WEST), "2018", ("sentinel-2",)), here, QUICK)
    assert not [path for path in server.requests if path.endswith(".tif")]


def test_a_default_sensor_may_be_absent(site: Site, server: StacServer) -> None:
    what = plan(Request(site.box(WEST), "2022-05"), server.api, QUICK)
    assert list(what.dates) == ["sentinel-2"]
    assert any(line.startswith("without sentinel-1:") and "none of 2022-05-01" in line for line in what.notes)


NO_STAC: dict[str, tuple[bytes | None, str]] = {
    "page.html": (b"<html>", "no STAC"),
    "some.json": (b'{"type": "Thing"}', "no STAC"),
    "list.json": (b"[1, 2]", "no STAC"),
    "absent.json": (None, "no STAC"),
}


@pytest.mark.parametrize("where", ["file", "address"])
@pytest.mark.parametrize("name", NO_STAC)
def test_invalid_stac_raises_one_line_error(name: str, where: str, tmp_path: Path) -> None:
    content, words = NO_STAC[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif where == "file":
        words = "a path that exists"
    with serve(tmp_path) as server, pytest.raises(UsageError) as error:
        plan(Request((5.9, 51.0, 5.95, 51.05), "2022"), str(path) if where == "file" else f"{server.url}/{name}", QUICK)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_folder_is_not_a_catalogue(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no STAC: expected a catalogue's JSON"):
        plan(Request((5.9, 51.0, 5.95, 51.05), "2022"), str(tmp_path), QUICK)


def test_an_absent_server_raises_one_line_error() -> None:
    with pytest.raises(ThalwegError, match="does not answer") as error:
        plan(Request((5.9, 51.0, 5.95, 51.05), "2022"), "http://127.0.0.1:9/catalog.json", RetryPolicy(2, 0.01, 1.0))
    assert "\n" not in str(error.value)
