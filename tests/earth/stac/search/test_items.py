"""Invalid items: each is skipped with a line that names it; valid items are still found."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stac_items import BOW_TIE, BOX, SPAN, found_and_skipped, item, planned, write_catalogue
from thalweg.earth.stac import fetch
from thalweg.earth.stac.search.items import InvalidItemError, centre_longitude, footprint_of, instant, item_of
from thalweg.errors import UsageError

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
    return item_of(fields, footprint_of(fields), "/archive/items/invalid.json")


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


def test_each_invalid_item_is_reported_once_and_valid_ones_are_fetched(tmp_path: Path) -> None:
    invalid = {name: entry for name, entry in INVALID.items() if isinstance(entry[0], dict)}
    items = {
        f"invalid {index}": {**fields, "id": f"invalid {index}"} for index, (fields, _) in enumerate(invalid.values())
    }
    valid = item("valid", **SPAN)
    catalogue = write_catalogue(tmp_path, {**items, "valid": valid})
    fetch_plan = planned(catalogue)
    names, reported = found_and_skipped(fetch_plan)
    assert names == ["valid"] and len(reported) == len(invalid)
    for (name, (_, words)), line in zip(invalid.items(), reported, strict=True):
        assert line.startswith("invalid ") and words in line, name
    store = xr.open_zarr(fetch(fetch_plan, tmp_path / "out.zarr"), group="sentinel-2")
    assert store.time.values.astype("datetime64[s]") == [np.datetime64("2022-06-01T10:50:31")]
    assert float(store.B03.max()) == pytest.approx(0.1001)
    store.to_netcdf(tmp_path / "fetched.nc")
    assert float(xr.open_dataset(tmp_path / "fetched.nc").B03.max()) == pytest.approx(0.1001)


def test_invalid_items_outside_the_box_are_not_reported(tmp_path: Path) -> None:
    away = item("away", bbox=[9.0, 50.0, 9.1, 50.1], geometry="null", assets="none")
    names, reported = found_and_skipped(planned(write_catalogue(tmp_path, {"away": away, "valid": item("valid")})))
    assert (names, reported) == (["valid"], [])


def test_the_error_of_an_empty_search_reports_invalid_items(tmp_path: Path) -> None:
    catalogue = write_catalogue(tmp_path, {"a": item("a", links="x"), "b": item("b", p_datetime="now")})
    with pytest.raises(UsageError) as caught:
        planned(catalogue)
    line = str(caught.value)
    assert "nothing found" in line and "\n" not in line
    assert "(2 invalid entries skipped, the first: a: links 'x': expected a list" in line


def test_a_repeated_identifier_is_used_once(tmp_path: Path) -> None:
    again = item("valid", p_datetime="2022-06-11T10:50:31Z")
    names, reported = found_and_skipped(planned(write_catalogue(tmp_path, {"a": item("valid"), "b": again})))
    assert names == ["valid"]
    assert reported == ["valid, a second one: skipped, the identifier is repeated: the first item is used"]
