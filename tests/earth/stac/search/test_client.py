"""Client of catalogues: empty searches, missing collections, credentials, and answers that are not STAC."""

from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from stac_fetching import QUICK, WEST, fetch_site, opened
from stac_server import StacServer, serve
from stac_site import Site
from thalweg.earth.stac import CATALOGUES, Request, plan
from thalweg.earth.stac.search.client import RetryPolicy
from thalweg.errors import ThalwegError, UsageError

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
    fetch_plan = plan(Request(site.box(WEST), "2022-05"), server.api, QUICK)
    assert list(fetch_plan.dates) == ["sentinel-2"]
    assert any(line.startswith("without sentinel-1:") and "none of 2022-05-01" in line for line in fetch_plan.notes)


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
