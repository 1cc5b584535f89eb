"""Invalid items and damaged catalogues: each is skipped with a line that names it; valid items are still found."""

import copy
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from affine import Affine
from rasterio import open as open_raster

from stac_server import StacServer, serve
from thalweg.earth.stac import Request, fetch, plan
from thalweg.earth.stac.plan import FetchPlan
from thalweg.earth.stac.search import static_catalogue
from thalweg.earth.stac.search.client import RetryPolicy
from thalweg.earth.stac.search.items import InvalidItemError, centre_longitude, footprint_of, instant, item_of
from thalweg.errors import ThalwegError, UsageError

QUICK = RetryPolicy(attempts=2, delay=0.01, timeout=2.0)
BOX = (3.0005, 50.8205, 3.0080, 50.8260)
BANDS = ("B02", "B03", "B04", "B8A", "SCL")
OUTLINE = {"type": "Polygon", "coordinates": [[[3.0, 50.82], [3.01, 50.82], [3.01, 50.83], [3.0, 50.83], [3.0, 50.82]]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[3.0, 50.82], [3.01, 50.83], [3.01, 50.82], [3.0, 50.83], [3.0, 50.82]]]}


def item(name: str = "odd", **changes: Any) -> dict[str, Any]:
    """Return the JSON of a Sentinel-2 item; a change to None removes the field, to "null" sets it to null."""
    properties = {
        "datetime": "2022-06-01T10:50:31Z",
        "proj:code": "EPSG:32631",
        "s2:processing_baseline": "03.01",
        "sat:relative_orbit": 94,
        "platform": "sentinel-2a",
    }
    fields: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": OUTLINE,
        "bbox": [3.0, 50.82, 3.01, 50.83],
        "properties": properties,
        "assets": {band: {"href": f"../{band}.tif", "roles": ["data"]} for band in BANDS},
        "links": [],
        "collection": "sentinel-2-l2a",
        "stac_extensions": [],
    }
    fields = copy.deepcopy(fields)
    for key, value in changes.items():
        holder = (
            fields["properties"]
            if key.startswith("p_")
            else fields["assets"]["B02"]
            if key.startswith("a_")
            else fields
        )
        key = key.removeprefix("p_").removeprefix("a_").replace("__", ":")
        if value is None:
            holder.pop(key, None)
        else:
            holder[key] = None if value == "null" else value
    return fields


SPAN = {"p_datetime": "null", "p_start_datetime": "2022-06-01T10:50:31", "p_end_datetime": "2022-06-01T10:50:45"}

INVALID: dict[str, tuple[Any, str]] = {
    "not an object": ([1], "expected an item (type Feature), got [1]"),
    "another type": (item(type="FeatureCollection"), "expected an item (type Feature), got 'FeatureCollection'"),
    "no properties": (item(properties="null"), "properties None: expected an object"),
    "no time": (item(p_datetime="null"), "no datetime and no start_datetime and no end_datetime"),
    "a span without an end": (item(**{**SPAN, "p_end_datetime": None}), "no datetime and no end_datetime"),
    "a span backwards": (item(**{**SPAN, "p_end_datetime": "2022-05-01T00:00:00Z"}), "is after end_datetime"),
    "time in words": (item(p_datetime="yesterday"), "datetime 'yesterday': expected a time such as"),
    "time as a number": (item(p_datetime=1654080631), "datetime 1654080631: expected a time such as"),
    "no such day": (item(p_datetime="2022-02-30T10:00:00Z"), "datetime '2022-02-30T10:00:00Z'"),
    "far-off time": (item(p_datetime="0001-01-01T00:00:00Z"), "expected a time of 1678 to 2262"),
    "no place": (item(geometry="null", bbox=None), "no geometry and no bbox"),
    "geometry in words": (item(geometry="Ghent"), "geometry 'Ghent': expected GeoJSON"),
    "empty geometry": (item(geometry={"type": "Polygon", "coordinates": []}), "expected GeoJSON"),
    "geometry of NaN": (item(geometry={"type": "Point", "coordinates": [float("nan"), 50.8]}), "expected GeoJSON"),
    "geometry in metres": (item(geometry={"type": "Point", "coordinates": [5e5, 5.6e6]}), "expected degrees"),
    "short bbox": (item(bbox=[3.0, 50.8, 3.1]), "bbox [3.0, 50.8, 3.1]: expected 4 or 6 numbers"),
    "bbox of texts": (item(bbox=["3.0", "50.8", "3.1", "50.9"]), "expected 4 or 6 numbers"),
    "bbox of NaN": (item(bbox=[float("nan")] * 4), "expected 4 or 6 numbers"),
    "bbox upside down": (item(bbox=[3.0, 50.9, 3.1, 50.8]), "expected west south east north"),
    "orbit in words": (item(p_sat__relative_orbit="abc"), "sat:relative_orbit 'abc': expected a whole number"),
    "half an orbit": (item(p_sat__relative_orbit=1.5), "sat:relative_orbit 1.5: expected a whole number"),
    "orbit state": (item(p_sat__orbit_state=["up"]), "sat:orbit_state ['up']"),
    "no such code": (item(p_proj__code="EPSG:999999"), "proj:code 'EPSG:999999': unknown reference system"),
    "code in words": (item(p_proj__code=None, p_proj__epsg="zone 31"), "proj:epsg 'zone 31'"),
    "code as a list": (item(p_proj__code=[32631]), "proj:code [32631]: expected a code"),
    "links as a text": (item(links="x"), "links 'x': expected a list"),
    "a link without href": (item(links=[{"rel": "self"}]), "expected a list of objects with rel and href"),
    "assets as a list": (item(assets=[1]), "assets [1]: expected an object"),
    "no assets": (item(assets=None), "assets None: expected an object"),
    "an asset as a text": (item(assets={"B02": "B02.tif"}), "asset B02 'B02.tif': expected an object"),
    "an asset without href": (item(a_href=None), "asset B02 has no href"),
    "roles as a number": (item(a_roles=5), "asset B02: roles 5: expected a list of strings"),
    "eo:bands as a text": (item(a_eo__bands="blue"), "asset B02: eo:bands 'blue': expected a list of objects"),
    "eo:bands of texts": (item(a_eo__bands=["blue"]), "eo:bands ['blue']"),
    "a band's name as an object": (item(a_eo__bands=[{"name": {}}]), "asset B02: eo:bands: name {}"),
    "raster:bands as an object": (item(a_raster__bands={"scale": 1}), "raster:bands {'scale': 1}"),
    "scale in words": (item(a_raster__bands=[{"scale": "small"}]), "scale 'small': expected a number"),
    "scale of zero": (item(a_raster__bands=[{"scale": 0}]), "scale 0: expected a number, not 0"),
    "offset of NaN": (item(a_raster__offset=float("nan")), "raster:offset nan: expected a number"),
    "no data as a list": (item(a_nodata=[0]), "nodata [0]: expected a number"),
    "gsd in words": (item(a_gsd="ten"), "gsd 'ten': expected a number"),
    "transform of texts": (item(a_proj__transform=["10"]), "proj:transform ['10']: expected a list of numbers"),
    "another STAC": (item(stac_version="99.0"), "stac_version '99.0': expected 1.x or earlier"),
}


def read(fields: Any) -> Any:
    return item_of(fields, footprint_of(fields), "/archive/items/odd.json")


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_item_is_refused_with_the_reason(name: str) -> None:
    fields, words = INVALID[name]
    with pytest.raises(InvalidItemError) as caught:
        read(fields)
    assert words in str(caught.value) and "\n" not in str(caught.value)


VALID: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no zone": {"p_datetime": "2022-06-01T10:50:31"},
    "a span without a zone": SPAN,
    "nanoseconds": {"p_datetime": "2022-06-01T10:50:31.000000789Z"},
    "no geometry": {"geometry": "null"},
    "no bbox": {"bbox": None},
    "bbox with heights": {"bbox": [3.0, 50.82, 0, 3.01, 50.83, 100]},
    "a geometry that crosses itself": {"geometry": BOW_TIE, "bbox": None},
    "orbit as a text": {"p_sat__relative_orbit": "94"},
    "code as a number": {"p_proj__code": None, "p_proj__epsg": 32631.0},
    "no links": {"links": None},
    "no data that is NaN": {"a_nodata": "nan"},
    "an older STAC": {"stac_version": "0.9.0"},
    "no collection": {"collection": None},
}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_item_is_used(name: str) -> None:
    fields = item(**VALID[name])
    found = read(fields)
    footprint = footprint_of(fields)
    assert footprint.start.floor("s") == pd.Timestamp("2022-06-01T10:50:31")
    assert footprint.touches(BOX) and not footprint.touches((4.0, 50.8, 4.1, 50.9))
    assert found.assets["B03"].href == "/archive/B03.tif"
    assert centre_longitude(found.bbox) == pytest.approx(3.005)


@pytest.mark.parametrize(
    ("given", "keep_paths", "expected"),
    [
        ("B02.tif", True, "https://example.org/stac/B02.tif"),
        ("/data/B02.tif", True, "/data/B02.tif"),
        ("/data/B02.tif", False, "https://example.org/data/B02.tif"),
        ("s3://bucket/B02.tif", True, "s3://bucket/B02.tif"),
    ],
)
def test_addresses_of_assets_are_absolute(given: str, keep_paths: bool, expected: str) -> None:
    fields = item(a_href=given)
    found = item_of(fields, footprint_of(fields), "https://example.org/stac/item", keep_paths)
    assert found.assets["B02"].href == expected


def test_times_of_other_zones_are_utc() -> None:
    assert instant("datetime", "2022-06-01T12:50:31+02:00") == pd.Timestamp("2022-06-01T10:50:31")
    assert instant("datetime", "2022-06-01T10:50:31") == pd.Timestamp("2022-06-01T10:50:31")


def test_a_box_across_the_antimeridian_lies_on_both_sides() -> None:
    fields = item(geometry="null", bbox=[179.5, -20.0, -179.5, -19.0])
    footprint = footprint_of(fields)
    assert footprint.touches((179.6, -19.9, 179.9, -19.5)) and footprint.touches((-179.9, -19.9, -179.6, -19.5))
    assert not footprint.touches((3.0, -19.9, 3.1, -19.5))
    assert abs(centre_longitude(list(footprint.bbox))) == 180
    halves = [[[179.5, 0], [180, 0], [180, 1], [179.5, 0]]], [[[-180, 0], [-179, 0], [-180, 1], [-180, 0]]]
    split = {"type": "MultiPolygon", "coordinates": halves}
    for bbox in (None, [-180.0, 0.0, 180.0, 1.0]):
        edges = footprint_of(item(geometry=split, bbox=bbox)).bbox
        assert edges == (179.5, 0, -179, 1) and centre_longitude(list(edges)) == -179.75
    beyond = footprint_of(item(geometry={"type": "Point", "coordinates": [181.0, 0.0]}, bbox=None))
    assert beyond.touches((-179.5, -1, -178.5, 1))


def write_scene(folder: Path) -> None:
    """Write the files of the scenes: 80 x 70 pixels of 10 m at the box, one number per band."""
    profile = {"driver": "GTiff", "width": 80, "height": 70, "count": 1, "dtype": "uint16", "crs": "EPSG:32631"}
    for index, band in enumerate(BANDS):
        values = np.full((70, 80), 4 if band == "SCL" else 1000 + index, np.uint16)
        with open_raster(
            folder / f"{band}.tif", "w", **profile, transform=Affine(10, 0, 500000, 0, -10, 5630500)
        ) as file:
            file.write(values, 1)


def write_catalogue(folder: Path, items: Mapping[str, Any], **more: Any) -> Path:
    """Write a static catalogue of one collection; `more` are further documents, `root_links` and `collection_links`."""
    write_scene(folder)
    (folder / "items").mkdir()
    root_links, collection_links = more.pop("root_links", []), more.pop("collection_links", [])
    for name, content in {**{f"items/{name}": fields for name, fields in items.items()}, **more}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    about = {"stac_version": "1.0.0", "description": "made for a test"}
    links = [{"rel": "item", "href": f"./items/{name}.json"} for name in items]
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2015-01-01T00:00:00Z", None]]}}
    collection = {**about, "type": "Collection", "id": "sentinel-2-l2a", "license": "other", "extent": extent}
    (folder / "collection.json").write_text(json.dumps({**collection, "links": [*links, *collection_links]}))
    child = {"rel": "child", "href": "./collection.json"}
    root = {**about, "type": "Catalog", "id": "root", "links": [child, *root_links]}
    (folder / "catalog.json").write_text(json.dumps(root))
    return folder / "catalog.json"


def planned(catalogue: str | Path, box: tuple[float, float, float, float] = BOX) -> FetchPlan:
    return plan(Request(box, "2022-06", ("sentinel-2",)), str(catalogue), QUICK)


def found_and_skipped(what: FetchPlan) -> tuple[list[str], list[str]]:
    """Return the items found, and the lines about skipped entries."""
    items = [name for date in what.dates["sentinel-2"] for name in date.names]
    return items, [note for note in what.notes if ": skipped, " in note]


def test_each_invalid_item_is_reported_once_and_valid_ones_are_fetched(tmp_path: Path) -> None:
    odd = {name: entry for name, entry in INVALID.items() if isinstance(entry[0], dict)}
    items = {f"odd {index}": {**fields, "id": f"odd {index}"} for index, (fields, _) in enumerate(odd.values())}
    sound = item("sound", **SPAN)
    catalogue = write_catalogue(tmp_path, {**items, "sound": sound})
    what = planned(catalogue)
    names, told = found_and_skipped(what)
    assert names == ["sound"] and len(told) == len(odd)
    for (name, (_, words)), line in zip(odd.items(), told, strict=True):
        assert line.startswith("odd ") and words in line, name
    store = xr.open_zarr(fetch(what, tmp_path / "out.zarr"), group="sentinel-2")
    assert store.time.values.astype("datetime64[s]") == [np.datetime64("2022-06-01T10:50:31")]
    assert float(store.B03.max()) == pytest.approx(0.1001)
    store.to_netcdf(tmp_path / "fetched.nc")
    assert float(xr.open_dataset(tmp_path / "fetched.nc").B03.max()) == pytest.approx(0.1001)


def test_invalid_items_outside_the_box_are_not_reported(tmp_path: Path) -> None:
    away = item("away", bbox=[9.0, 50.0, 9.1, 50.1], geometry="null", assets="none")
    names, told = found_and_skipped(planned(write_catalogue(tmp_path, {"away": away, "sound": item("sound")})))
    assert (names, told) == (["sound"], [])


def test_the_error_of_an_empty_search_reports_invalid_items(tmp_path: Path) -> None:
    catalogue = write_catalogue(tmp_path, {"a": item("a", links="x"), "b": item("b", p_datetime="now")})
    with pytest.raises(UsageError) as caught:
        planned(catalogue)
    line = str(caught.value)
    assert "nothing found" in line and "\n" not in line
    assert "(2 invalid entries skipped, the first: a: links 'x': expected a list" in line


def test_a_repeated_identifier_is_used_once(tmp_path: Path) -> None:
    again = item("sound", p_datetime="2022-06-11T10:50:31Z")
    names, told = found_and_skipped(planned(write_catalogue(tmp_path, {"a": item("sound"), "b": again})))
    assert names == ["sound"]
    assert told == ["sound, a second one: skipped, the identifier is repeated: the first item is used"]


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
    "an item linked twice": ({"collection_links": [{"rel": "item", "href": "items/sound.json"}]}, "more than once"),
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
    catalogue = write_catalogue(tmp_path, {"sound": item("sound")}, **copy.deepcopy(more))
    with serve(tmp_path) as server:
        names, told = found_and_skipped(planned(catalogue if where == "path" else f"{server.url}/catalog.json"))
    assert names == ["sound"]
    assert told and all("\n" not in line for line in told)
    assert any(words in line for line in told), told


def test_an_endless_catalogue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level links to the next, at a new address."""
    for level in range(40):
        links = [{"rel": "child", "href": f"./level{level + 1}.json"}]
        (tmp_path / f"level{level}.json").write_text(json.dumps({**OTHER, "id": str(level), "links": links}))
    root_links = [{"rel": "child", "href": "./level0.json"}]
    catalogue = write_catalogue(tmp_path, {"sound": item("sound")}, root_links=root_links)
    names, told = found_and_skipped(planned(catalogue))
    assert names == ["sound"]
    assert told == [f"{tmp_path}/level16.json: skipped, more than 16 levels below the root"]
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
    "odd features": (COLLECTIONS, {"features": [5, item("sound"), item("a", bbox=[1])]}, "a: skipped, bbox [1]"),
    "odd collections": (
        {"collections": [5, {"id": None}, {"id": "sentinel-2-l2a", "extent": "x"}]},
        {"features": [item("sound")]},
        "a collection: skipped, 5: expected an object with an id",
    ),
    "items of another month": (
        COLLECTIONS,
        {"features": [item("sound"), item("july", p_datetime="2022-07-01T10:50:31Z"), item("b", links="x")]},
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
    names, told = found_and_skipped(planned(api.api))
    assert names == ["sound"]
    assert any(words in line for line in told) and all("\n" not in line for line in told)


def test_endlessly_repeated_pages_are_read_once(api: StacServer) -> None:
    following = {"rel": "next", "href": f"{api.api}/search", "method": "POST", "body": {}}
    api.answers["/api/search"] = json.dumps({"features": [item("sound")], "links": [following]}).encode()
    names, told = found_and_skipped(planned(api.api))
    assert names == ["sound"] and api.requests["/api/search"] == 2
    assert told == [f"{api.api}, a page: skipped, repeated: its next link is a loop: read once"]


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
    sound, damaged = item("sound"), item("damaged", p_datetime="2022-06-11T10:50:31Z")
    for fields, folder in ((sound, ""), (damaged, "damaged/")):
        fields["assets"] = {band: {"href": f"{private}/{folder}{band}.tif{signed}"} for band in BANDS}
    (tmp_path / "damaged").mkdir()
    for band in BANDS:
        (tmp_path / "damaged" / f"{band}.tif").write_bytes(b"no TIFF")
    links = [{"rel": "child", "href": f"gone.json{signed}"}]
    write_catalogue(tmp_path, {"sound": sound, "damaged": damaged, "odd": item("odd", links=signed)}, root_links=links)
    address = f"{private}/catalog.json{signed}"
    arguments = ("earth", "fetch", "--bbox", *BOX, "--time", "2022-06", "--sensor", "sentinel-2", "--catalog", address)
    with caplog.at_level("DEBUG"):
        ran = cli(*arguments, "out.zarr")
    assert ran.code == 0, ran.err
    assert "damaged: skipped, " in ran.err and "gone.json?" in ran.out and "odd: skipped, links" in ran.out
    assert "***" in ran.out and SECRET not in ran.out + ran.err + caplog.text
    kept = [file.read_bytes() for file in Path("out.zarr").rglob("*.json")]
    assert any(b"***" in content for content in kept) and not any(SECRET.encode() in content for content in kept)


@pytest.mark.parametrize(
    ("path", "status"), [("/catalog.json", 403), ("/catalog.json", 503), (".tif", 403), (".tif", 503), ("nowhere", 0)]
)
def test_credentials_are_not_in_errors(path: str, status: int, api: StacServer, tmp_path: Path) -> None:
    private = api.url.replace("://", f"://user:{SECRET}@")
    fields = item("sound")
    fields["assets"] = {band: {"href": f"{private}/{band}.tif?sig={SECRET}"} for band in BANDS}
    write_catalogue(tmp_path, {"sound": fields})
    api.faults[path] = [status] * 100
    address = f"{private if path != 'nowhere' else f'http://user:{SECRET}@127.0.0.1:9'}/catalog.json?sig={SECRET}"
    with pytest.raises(ThalwegError) as caught:
        fetch(planned(address), tmp_path / "out.zarr", retry_policy=QUICK)
    assert "***" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_fetch_is_resumed_with_another_token(api: StacServer, tmp_path: Path) -> None:
    later = item("later", p_datetime="2022-06-11T10:50:31Z")
    later["assets"] = {band: {"href": f"../later/{band}.tif"} for band in BANDS}
    write_catalogue(tmp_path, {"sound": item("sound"), "later": later})
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
