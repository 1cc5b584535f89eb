"""Damaged static catalogues, invalid answers of an API, and credentials in addresses."""

import copy
import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from stac_items import BANDS, BOX, QUICK, found_and_skipped, item, planned, write_catalogue
from stac_server import StacServer, serve
from thalweg.earth.stac import fetch
from thalweg.earth.stac.search import static_catalogue
from thalweg.errors import ThalwegError, UsageError

CHILD = {"rel": "child", "href": "./other.json"}
OTHER = {"type": "Catalog", "id": "other", "stac_version": "1.0.0", "description": "other"}

DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "a child that is not there": ({"root_links": [{"rel": "child", "href": "./gone.json"}]}, "gone.json: skipped, "),
    "a child that is a page": ({"root_links": [CHILD], "other": "<html>"}, "other.json: skipped, not JSON"),
    "a child that is a list": ({"root_links": [CHILD], "other": [1]}, "expected a JSON object, got [1]"),
    "a child that is an item": ({"root_links": [CHILD], "other": item()}, "got type 'Feature'"),
    "a child nested too deep": ({"root_links": [CHILD], "other": "[" * 100_000}, "other.json: skipped, not JSON"),
    "a child whose links are a text": (
        {"root_links": [CHILD], "other": {**OTHER, "links": "x"}},
        "other.json: skipped, links 'x': expected a list",
    ),
    "a link that is a number": ({"root_links": [5]}, "catalog.json, a link: skipped, 5: expected an object"),
    "a link without an address": ({"root_links": [{"rel": "child"}]}, "a link: skipped, {'rel': 'child'}"),
    "a child that is the root": ({"root_links": [{"rel": "child", "href": "catalog.json"}]}, "perhaps in a loop"),
    "a child that is its parent": (
        {"root_links": [CHILD], "other": {**OTHER, "links": [{"rel": "child", "href": "./x/../other.json"}]}},
        "other.json: skipped, linked again from",
    ),
    "a collection that links to the root": (
        {"collection_links": [{"rel": "child", "href": "catalog.json"}, {"rel": "child", "href": "catalog.json"}]},
        "perhaps in a loop",
    ),
    "an item linked twice": ({"collection_links": [{"rel": "item", "href": "items/valid.json"}]}, "more than once"),
    "an item that is not there": ({"collection_links": [{"rel": "item", "href": "items/gone.json"}]}, "gone.json"),
    "a collection without a name": (
        {"root_links": [CHILD], "other": {**OTHER, "type": "Collection", "id": 5}},
        "other.json: skipped, id 5: expected a string",
    ),
    "a server that is not there": (
        {"root_links": [{"rel": "child", "href": "http://127.0.0.1:9/catalog.json"}]},
        "http://127.0.0.1:9/catalog.json: skipped, no answer",
    ),
}


@pytest.mark.parametrize("where", ["path", "address"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_or_looping_catalogue_gives_its_valid_items(name: str, where: str, tmp_path: Path) -> None:
    more, words = DAMAGED[name]
    catalogue = write_catalogue(tmp_path, {"valid": item("valid")}, **copy.deepcopy(more))
    with serve(tmp_path) as server:
        names, reported = found_and_skipped(planned(catalogue if where == "path" else f"{server.url}/catalog.json"))
    assert names == ["valid"]
    assert reported and all("\n" not in line for line in reported)
    assert any(words in line for line in reported), reported


def test_an_endless_catalogue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level links to the next, at a new address."""
    for level in range(40):
        links = [{"rel": "child", "href": f"./level{level + 1}.json"}]
        (tmp_path / f"level{level}.json").write_text(json.dumps({**OTHER, "id": str(level), "links": links}))
    root_links = [{"rel": "child", "href": "./level0.json"}]
    catalogue = write_catalogue(tmp_path, {"valid": item("valid")}, root_links=root_links)
    names, reported = found_and_skipped(planned(catalogue))
    assert names == ["valid"]
    assert reported == [f"{tmp_path}/level16.json: skipped, more than 16 levels below the root"]
    monkeypatch.setattr(static_catalogue, "MAX_CATALOGUES", 10)
    with pytest.raises(UsageError, match="more than 10 catalogues: name a smaller part of it"):
        planned(catalogue)


def test_a_collection_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_catalogue, "MAX_ITEMS", 1)
    catalogue = write_catalogue(tmp_path, {"a": item("a"), "b": item("b")})
    with pytest.raises(UsageError, match="more than 1 items: name a smaller part"):
        planned(catalogue)


@pytest.mark.parametrize("links", ["x", {"a": 1}, 5])
def test_a_root_with_invalid_links_raises_one_line_error(links: Any, tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps({**OTHER, "links": links}))
    with pytest.raises(UsageError, match=r"no STAC: links .* expected a list"):
        planned(path)


COLLECTIONS: dict[str, Any] = {"collections": [{"id": "sentinel-2-l2a"}]}
BROKEN = {"features": "x", "links": "x"}

PAGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "invalid features": (COLLECTIONS, {"features": [5, item("valid"), item("a", bbox=[1])]}, "a: skipped, bbox [1]"),
    "invalid collections": (
        {"collections": [5, {"id": None}, {"id": "sentinel-2-l2a", "extent": "x"}]},
        {"features": [item("valid")]},
        "a collection: skipped, 5: expected an object with an id",
    ),
    "items of another month": (
        COLLECTIONS,
        {"features": [item("valid"), item("july", p_datetime="2022-07-01T10:50:31Z"), item("b", links="x")]},
        "b: skipped, links 'x'",
    ),
}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StacServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(tmp_path) as server:
        server.answers["/api/collections"] = json.dumps(COLLECTIONS).encode()
        yield server


@pytest.mark.parametrize("name", PAGES)
def test_invalid_entries_of_an_api_are_skipped(name: str, api: StacServer) -> None:
    collections, page, words = PAGES[name]
    api.answers["/api/collections"] = json.dumps(collections).encode()
    api.answers["/api/search"] = json.dumps(page).encode()
    names, reported = found_and_skipped(planned(api.api))
    assert names == ["valid"]
    assert any(words in line for line in reported) and all("\n" not in line for line in reported)


def test_endlessly_repeated_pages_are_read_once(api: StacServer) -> None:
    following = {"rel": "next", "href": f"{api.api}/search", "method": "POST", "body": {}}
    api.answers["/api/search"] = json.dumps({"features": [item("valid")], "links": [following]}).encode()
    names, reported = found_and_skipped(planned(api.api))
    assert names == ["valid"] and api.requests["/api/search"] == 2
    assert reported == [f"{api.api}, a page: skipped, repeated: its next link is a loop: read once"]


@pytest.mark.parametrize("answer", [BROKEN, [1], {"features": [item("a")], "links": "x"}, "x", 5])
@pytest.mark.parametrize("path", ["/api/search", "/api/collections"])
def test_an_answer_that_is_not_stac_raises_one_line_error(path: str, answer: Any, api: StacServer) -> None:
    if path == "/api/collections" and isinstance(answer, dict) and "features" in answer:
        answer = {"collections": answer["features"], "links": "x"}
    api.answers[path] = json.dumps(answer).encode()
    with pytest.raises(UsageError, match=r"no valid STAC|nothing found|no collection") as caught:
        planned(api.api)
    assert "\n" not in str(caught.value)


SECRET = "s3cr3t"
SIGNED = ("?sig={}&se=2022", "?token={}", "?X-Amz-Signature={}", "?api_key={}")


@pytest.mark.parametrize("query", SIGNED)
def test_credentials_of_an_address_are_neither_shown_nor_stored(
    query: str, api: StacServer, tmp_path: Path, cli: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """User, password and a signed query, in the address of the catalogue and in those of the files."""
    signed = query.format(SECRET)
    private = api.url.replace("://", f"://user:{SECRET}@")
    valid, damaged = item("valid"), item("damaged", p_datetime="2022-06-11T10:50:31Z")
    for fields, folder in ((valid, ""), (damaged, "damaged/")):
        fields["assets"] = {band: {"href": f"{private}/{folder}{band}.tif{signed}"} for band in BANDS}
    (tmp_path / "damaged").mkdir()
    for band in BANDS:
        (tmp_path / "damaged" / f"{band}.tif").write_bytes(b"no TIFF")
    links = [{"rel": "child", "href": f"gone.json{signed}"}]
    write_catalogue(
        tmp_path, {"valid": valid, "damaged": damaged, "invalid": item("invalid", links=signed)}, root_links=links
    )
    address = f"{private}/catalog.json{signed}"
    arguments = ("earth", "fetch", "--bbox", *BOX, "--time", "2022-06", "--sensor", "sentinel-2", "--catalog", address)
    with caplog.at_level("DEBUG"):
        ran = cli(*arguments, "out.zarr")
    assert ran.code == 0, ran.err
    assert "damaged: skipped, " in ran.err and "gone.json?" in ran.out and "invalid: skipped, links" in ran.out
    assert "***" in ran.out and SECRET not in ran.out + ran.err + caplog.text
    kept = [file.read_bytes() for file in Path("out.zarr").rglob("*.json")]
    assert any(b"***" in content for content in kept) and not any(SECRET.encode() in content for content in kept)


@pytest.mark.parametrize(
    ("path", "status"), [("/catalog.json", 403), ("/catalog.json", 503), (".tif", 403), (".tif", 503), ("nowhere", 0)]
)
def test_credentials_are_not_in_errors(path: str, status: int, api: StacServer, tmp_path: Path) -> None:
    private = api.url.replace("://", f"://user:{SECRET}@")
    fields = item("valid")
    fields["assets"] = {band: {"href": f"{private}/{band}.tif?sig={SECRET}"} for band in BANDS}
    write_catalogue(tmp_path, {"valid": fields})
    api.faults[path] = [status] * 100
    address = f"{private if path != 'nowhere' else f'http://user:{SECRET}@127.0.0.1:9'}/catalog.json?sig={SECRET}"
    with pytest.raises(ThalwegError) as caught:
        fetch(planned(address), tmp_path / "out.zarr", retry_policy=QUICK)
    assert "***" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_fetch_is_resumed_with_another_token(api: StacServer, tmp_path: Path) -> None:
    later = item("later", p_datetime="2022-06-11T10:50:31Z")
    later["assets"] = {band: {"href": f"../later/{band}.tif"} for band in BANDS}
    write_catalogue(tmp_path, {"valid": item("valid"), "later": later})
    (tmp_path / "later").mkdir()
    for band in BANDS:
        (tmp_path / "later" / f"{band}.tif").write_bytes((tmp_path / f"{band}.tif").read_bytes())
    api.faults["later/B04.tif"] = [503] * 100
    out = tmp_path / "out.zarr"
    with pytest.raises(ThalwegError, match="no answer"):
        fetch(planned(f"{api.url}/catalog.json?token=first"), out, retry_policy=QUICK)
    api.faults.clear()
    api.requests.clear()
    fetch(planned(f"{api.url}/catalog.json?token=second"), out, retry_policy=QUICK)
    assert xr.open_zarr(out, group="sentinel-2").sizes["time"] == 2
    assert api.requests["/later/B04.tif"] > 0 and api.requests["/B04.tif"] == 0
