"""Requests, properties of items, and encoding of numbers; nothing is fetched here."""

import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pystac
import pytest
from pyproj import Transformer

from thalweg.earth.sensors import MaskEncoding, Quality, sensor_by_name
from thalweg.earth.stac import CATALOGUES, Product, Request, plan
from thalweg.earth.stac.encoding import date_bytes, encode_mask, encode_numbers, encode_power
from thalweg.earth.stac.search.catalogues import catalogue_by_name
from thalweg.earth.stac.search.scenes import Scene, group_overpasses
from thalweg.errors import UsageError

BOX = (4.30, 50.90, 4.32, 50.92)


def product(catalogue: str, sensor: str = "sentinel-2") -> Product:
    return CATALOGUES[catalogue].products_of(sensor)[0]


def an_item(
    assets: dict[str, dict[str, Any]], name: str = "item", when: str = "2022-05-01T10:30", **properties: Any
) -> pystac.Item:
    time = datetime.fromisoformat(when).replace(tzinfo=UTC)
    item = pystac.Item(name, None, [4.0, 50.0, 5.0, 51.0], time, {"proj:code": "EPSG:32631", **properties})
    for key, fields in assets.items():
        item.add_asset(key, pystac.Asset(f"{key}.tif", roles=fields.pop("roles", ["data"]), extra_fields=fields))
    return item


def test_the_grid_contains_the_box_on_multiples_of_ten_metres() -> None:
    grid = Request(BOX, "2022").grid
    left, bottom, right, top = grid.boundingbox
    assert str(grid.crs) == "EPSG:32631"
    assert (grid.resolution.x, grid.resolution.y) == (10, -10)
    assert all(edge % 10 == 0 for edge in (left, bottom, right, top))
    to_grid = Transformer.from_crs("EPSG:4326", "EPSG:32631", always_xy=True)
    corners = np.array([to_grid.transform(x, y) for x in BOX[::2] for y in BOX[1::2]])
    assert (corners.min(0) >= (left, bottom)).all() and (corners.max(0) <= (right, top)).all()
    assert (corners.min(0) - (left, bottom) < 10).all()


@pytest.mark.parametrize(
    ("bbox", "crs"),
    [
        ((-0.1, 51.0, -0.05, 51.1), "EPSG:32630"),
        ((18.0, -34.0, 18.1, -33.9), "EPSG:32734"),
        ((5.9, 51.0, 6.2, 51.1), "EPSG:32632"),
        ((5.8, 51.0, 6.1, 51.1), "EPSG:32631"),
        ((5.9, 51.0, 6.0, 51.1), "EPSG:32631"),
        ((179.9, 10.0, 180.0, 10.1), "EPSG:32660"),
    ],
)
def test_the_zone_is_that_of_the_centre_of_the_box(bbox: tuple[float, float, float, float], crs: str) -> None:
    assert Request(bbox, "2022").grid_crs == crs


def test_a_box_of_two_zones_reports_the_chosen_one() -> None:
    request = Request((5.9, 51.0, 6.2, 51.1), "2022")
    assert request.note is not None
    assert "2 UTM zones" in request.note and "EPSG:32632" in request.note and "`crs=EPSG:32631`" in request.note
    chosen = Request((5.9, 51.0, 6.2, 51.1), "2022", crs="EPSG:32631")
    assert chosen.note is None and str(chosen.grid.crs) == "EPSG:32631"
    assert Request(BOX, "2022").note is None


@pytest.mark.parametrize(
    ("time", "first", "last"),
    [
        ("2022", "2022-01-01", "2022-12-31T23:59:59"),
        ("2022-01/2022-12", "2022-01-01", "2022-12-31T23:59:59"),
        ("2022-02", "2022-02-01", "2022-02-28T23:59:59"),
        ("2022-02-03/2022-02-03", "2022-02-03", "2022-02-03T23:59:59"),
    ],
)
def test_a_span_includes_its_last_period(time: str, first: str, last: str) -> None:
    start, end = Request(BOX, time).interval
    assert start == pd.Timestamp(first) and end.floor("s") == pd.Timestamp(last)


INVALID_REQUESTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "west over east": ({"bbox": (4.4, 50.9, 4.3, 51.0)}, ("west 4.4", "not less than east 4.3", "expected west south")),
    "south over north": ({"bbox": (4.3, 51.0, 4.4, 50.9)}, ("south 51", "not less than north 50.9")),
    "antimeridian": ({"bbox": (179.9, 10, -179.9, 10.1)}, ("antimeridian", "one box on either side")),
    "pole": ({"bbox": (4.0, 83.0, 4.1, 85.0)}, ("-80..84", "UTM has no grid")),
    "south pole": ({"bbox": (4.0, -85.0, 4.1, -79.0)}, ("-80..84", "UTM has no grid")),
    "no degrees": ({"bbox": (430000.0, 5e6, 440000.0, 5.1e6)}, ("in degrees", "-180..180")),
    "not a number": ({"bbox": (np.nan, 50.9, 4.3, 51.0)}, ("in degrees",)),
    "dates reversed": ({"time": "2022-12/2022-01"}, ("2022-12 is after 2022-01", "earlier one first")),
    "no date": ({"time": "spring"}, ("`time=spring`", "2022-01/2022-12")),
    "empty date": ({"time": ""}, ("`time=`", "2022-01/2022-12")),
    "three dates": ({"time": "2020/2021/2022"}, ("2020/2021/2022", "or two")),
    "sensor": ({"sensors": ("sentinel-9",)}, ("sentinel-9", "sentinel-1, sentinel-2; did you mean")),
    "no reference system": ({"crs": "UTM"}, ("`crs=UTM`", "EPSG:32631")),
    "degrees as grid": ({"crs": "EPSG:4326"}, ("not in metres", "UTM zone")),
}


@pytest.mark.parametrize("name", INVALID_REQUESTS)
def test_an_invalid_request_raises_one_line_error(name: str) -> None:
    given, words = INVALID_REQUESTS[name]
    with pytest.raises(UsageError) as error:
        Request(**{"bbox": BOX, "time": "2022", **given})
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_an_unknown_catalogue_raises_one_line_error() -> None:
    with pytest.raises(UsageError, match="expected planetary-computer, earth-search, cdse, a URL, or a path"):
        catalogue_by_name("no-such-catalogue")


def test_the_address_of_a_declared_catalogue_gives_its_declaration() -> None:
    assert catalogue_by_name("https://earth-search.aws.element84.com/v1/") is CATALOGUES["earth-search"]


@pytest.mark.parametrize("catalogue", ["planetary-computer", "earth-search", "cdse"])
def test_every_declared_product_names_an_asset_for_every_band(catalogue: str) -> None:
    for declared in CATALOGUES[catalogue].products:
        sensor = sensor_by_name(declared.sensor)
        layer = {sensor.validity.variable} if sensor.validity else set()
        assert set(declared.assets) == set(sensor.band_names) | layer


STATED = {"scale": 1e-4, "offset": -0.1}


@pytest.mark.parametrize(
    ("baseline", "raster", "flags", "offset"),
    [
        ("03.01", {}, {}, 0.0),
        ("04.00", {}, {}, -0.1),
        ("05.11", {}, {}, -0.1),
        ("05.11", STATED, {}, -0.1),
        ("05.11", STATED, {"earthsearch:boa_offset_applied": False}, -0.1),
        ("05.11", STATED, {"earthsearch:boa_offset_applied": True}, 0.0),
        ("05.11", {}, {"sentinel:boa_offset_applied": True}, 0.0),
        ("05.11", {"scale": 1e-4, "offset": 0}, {}, 0.0),
        (4.0, {}, {}, -0.1),
        ("N0400", {}, {}, -0.1),
        ("04.00", {}, {"earthsearch:boa_offset_applied": "False"}, -0.1),
        (None, {}, {"processing:version": "05.09"}, -0.1),
        (None, {}, {"product_uri": "S2A_MSIL2A_20220501T103031_N0400_R108_T31UDS_20220501T164411.SAFE"}, -0.1),
        (None, {}, {"earthsearch:boa_offset_applied": False}, -0.1),
    ],
)
def test_the_offset_of_the_baseline_comes_from_the_item(
    baseline: str | None, raster: dict[str, float], flags: dict[str, bool], offset: float
) -> None:
    item = an_item({"B04": {"raster:bands": [raster]}}, **{"s2:processing_baseline": baseline}, **flags)
    assert Scene(item, product("planetary-computer")).scale_and_offset("B04") == pytest.approx((1e-4, offset))


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({}, "nothing says whether the 1000"),
        ({"s2:processing_baseline": "newest"}, "s2:processing_baseline is newest, expected a processing baseline"),
        (
            {"processing_baseline": "03.01", "s2:processing_baseline": "04.00"},
            "says 3.01, s2:processing_baseline says 4",
        ),
        ({"earthsearch:boa_offset_applied": "perhaps"}, "boa_offset_applied is perhaps, expected true or false"),
    ],
)
def test_an_item_with_an_unknown_offset_is_refused(properties: dict[str, Any], words: str) -> None:
    scene = Scene(an_item({"B04": {}}, **properties), product("planetary-computer"))
    with pytest.raises(UsageError, match=words):
        scene.check()


@pytest.mark.parametrize("key", ["S2-L2A-B02", "blue-10m", "band_2", "b2"])
def test_assets_are_found_by_the_names_of_cubes(key: str) -> None:
    scene = Scene(an_item({key: {}, "scl_20m": {}, "thumbnail_b02": {"roles": ["thumbnail"]}}), product("cdse"))
    assert key_of(scene, "B02") == key
    assert key_of(scene, "SCL") == "scl_20m"


def test_fields_of_stac_1_1_mean_the_same() -> None:
    on_asset = an_item({"B04_10m": {"raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0, "data_type": "uint16"}})
    on_band = an_item({"B04_10m": {"bands": [{"name": "B04", "raster:offset": -0.1}]}})
    for item in (on_asset, on_band):
        assert Scene(item, product("cdse")).scale_and_offset("B04") == pytest.approx((1e-4, -0.1))
    assert Scene(on_asset, product("cdse")).nodata("B04") == 0


def test_landsat_has_the_scale_of_collection_2_by_default() -> None:
    scene = Scene(an_item({"red": {}}), product("planetary-computer", "landsat-8"))
    assert scene.scale_and_offset("B04") == pytest.approx((2.75e-5, -0.2))


@pytest.mark.parametrize("catalogue", ["planetary-computer", "earth-search", "cdse"])
def test_assets_are_found_by_the_names_of_catalogues(catalogue: str) -> None:
    declared = product(catalogue)
    scene = Scene(an_item({key: {} for key in declared.assets.values()}), declared)
    assert {name: key_of(scene, name) for name in scene.assets} == dict(declared.assets)
    assert scene.missing() == []


def key_of(scene: Scene, band: str) -> str:
    return next(key for key, asset in scene.item.assets.items() if asset is scene.assets[band])


def test_declared_bands_of_assets_take_precedence_over_keys() -> None:
    """A catalogue with other keys, a stack of bands, an RGB preview, coarser copies and another format."""
    blue = {"eo:bands": [{"name": "B02", "common_name": "blue"}]}
    item = an_item(
        {
            "B02": {"eo:bands": [{"name": "B01", "common_name": "coastal"}]},
            "first": {**blue, "gsd": 60},
            "second": {**blue, "gsd": 10},
            "preview": {**blue, "gsd": 1, "roles": ["visual"]},
            "stack": {"eo:bands": [{"common_name": "blue"}, {"common_name": "green"}], "gsd": 1},
            "shortwave": {"bands": [{"name": "x", "eo:common_name": "swir16"}]},
        }
    )
    scene = Scene(item, product("planetary-computer"))
    assert key_of(scene, "B02") == "second"
    assert key_of(scene, "B11") == "shortwave"
    assert "B03" in scene.missing() and "SCL" in scene.missing()


def test_of_two_matching_assets_the_declared_key_is_used() -> None:
    blue = {"eo:bands": [{"name": "blue", "common_name": "blue"}]}
    item = an_item({"aa-jp2": {**blue, "gsd": 10}, "blue": {**blue, "gsd": 10}})
    assert key_of(Scene(item, product("earth-search")), "B02") == "blue"


def scene_of(name: str, when: str, **properties: Any) -> Scene:
    return Scene(an_item({"B02": {}}, name, when, **properties), product("planetary-computer"))


def test_scenes_of_a_day_and_an_orbit_are_one_date() -> None:
    orbit = {"sat:relative_orbit": 8}
    dates = group_overpasses(
        [
            scene_of("b", "2022-05-01T10:30:20", **orbit, **{"s2:processing_baseline": "04.00"}),
            scene_of("a", "2022-05-01T10:30:05", **orbit, **{"s2:processing_baseline": "03.01"}),
            scene_of("other zone", "2022-05-01T10:30:00", **orbit, **{"proj:code": "EPSG:32632"}),
            scene_of("other orbit", "2022-05-01T10:40", **{"sat:relative_orbit": 51}),
            scene_of("next day", "2022-05-02T10:30", **orbit),
        ],
        "EPSG:32631",
    )
    assert [date.names for date in dates] == [["b", "a", "other zone"], ["other orbit"], ["next day"]]
    assert dates[0].time == pd.Timestamp("2022-05-01T10:30:00")


def test_morning_and_evening_are_two_dates_without_orbits() -> None:
    whens = {"a": "2022-05-01T05:50:00", "b": "2022-05-01T17:30:00", "c": "2022-05-01T05:50:25"}
    dates = group_overpasses([scene_of(name, when) for name, when in whens.items()], "EPSG:32631")
    assert [date.names for date in dates] == [["a", "c"], ["b"]]


def test_midnight_utc_does_not_divide_an_overpass() -> None:
    scenes = [scene_of("a", "2022-05-01T23:59:50"), scene_of("b", "2022-05-02T00:00:10")]
    for scene in scenes:
        scene.item.bbox = [175.0, -20.0, 176.0, -19.0]
    assert len(group_overpasses(scenes, "EPSG:32760")) == 1


@pytest.mark.parametrize(
    ("qa_pixel", "quality"),
    [
        (1, Quality.MISSING),
        (0, Quality.MISSING),
        (21824, Quality.CLEAR),
        (21952, Quality.WATER),
        (21826, Quality.CLOUD),  # dilated cloud
        (22080, Quality.CLEAR),  # clear, cloud confidence medium: clear in Collection 1's lists too (386)
        (22280, Quality.CLOUD),  # high-confidence cloud
        (23888, Quality.CLOUD),  # cloud shadow
        (30048, Quality.CLOUD),  # snow
    ],
)
def test_landsat_quality_is_read_and_stored_as_the_products_have_it(qa_pixel: int, quality: Quality) -> None:
    """Values of the USGS Landsat 8-9 Collection 2 Level 2 Science Product Guide, table of pixel quality."""
    validity = sensor_by_name("landsat-8").validity
    assert validity is not None and validity.variable == "qa_pixel"
    stored = encode_mask(np.array([qa_pixel]), validity.storage)
    assert stored.dtype == np.uint16 and stored == [qa_pixel]
    assert validity.quality(stored) == [quality]


def mask_of(sensor: str) -> MaskEncoding:
    validity = sensor_by_name(sensor).validity
    assert validity is not None
    return validity.storage


def test_values_outside_the_range_of_a_masks_type_are_no_data() -> None:
    raw = np.array([4.0, np.nan, -1.0, 300.0, 70_000.0], np.float32)
    np.testing.assert_array_equal(encode_mask(raw, mask_of("sentinel-2")), [4, 0, 0, 0, 0])
    np.testing.assert_array_equal(encode_mask(np.array([21824, -1, np.nan]), mask_of("landsat-8")), [21824, 1, 1])


REFLECTANCE, BACKSCATTER, LANDSAT = (
    sensor_by_name(sensor).storage_of(band)
    for sensor, band in (("sentinel-2", "B04"), ("sentinel-1", "VV"), ("landsat-8", "B04"))
)
SMALLEST = -0.2


def test_reflectance_below_zero_is_kept() -> None:
    raw = np.array([0, 1, 900, 1000, 11000, 65535])
    np.testing.assert_array_equal(
        encode_numbers(raw, 0, 1e-4, -0.1, REFLECTANCE, SMALLEST),
        np.array([-32768, -999, -100, 0, 10000, 32767], np.int16),
    )


def test_landsat_numbers_are_kept_and_other_scalings_are_converted() -> None:
    raw = np.array([0, 1, 7273, 43636, 65535])
    np.testing.assert_array_equal(encode_numbers(raw, 0, 2.75e-5, -0.2, LANDSAT, SMALLEST), raw.astype(np.uint16))
    absent = encode_numbers(np.array([-9999.0, -3.4e38, np.inf, np.nan]), 0, 1e-4, 0.0, REFLECTANCE, SMALLEST)
    np.testing.assert_array_equal(absent, np.full(4, -32768, np.int16))
    converted = encode_numbers(np.array([0, 5000]), 0, 1e-4, 0.0, LANDSAT, SMALLEST)
    assert converted[0] == 0 and converted[1] * 2.75e-5 - 0.2 == pytest.approx(0.5, abs=2e-5)


def test_without_physical_limits_only_no_data_codes_are_missing() -> None:
    raw = np.array([-9999.0, 0.0, np.nan])
    np.testing.assert_array_equal(encode_numbers(raw, 0, 1e-4, 0.0, REFLECTANCE), [-9999, -32768, -32768])


def test_power_is_stored_as_decibel() -> None:
    power = np.array([0.1, 1.0, 10 ** (-2.3456), 0.0, -32768.0, np.nan, 1e-30], np.float32)
    expected = np.array([-1000, 0, -2346, -32768, -32768, -32768, -30000], np.int16)
    np.testing.assert_array_equal(encode_power(power, BACKSCATTER), expected)


def test_the_size_of_a_date_is_that_of_its_declared_types() -> None:
    sizes = {name: date_bytes(sensor_by_name(name), (2, 3)) for name in ("sentinel-2", "sentinel-1", "landsat-8")}
    assert sizes == {"sentinel-2": 6 * 21, "sentinel-1": 6 * 4, "landsat-8": 6 * 14}


def test_a_missing_extra_raises_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystac_client", None)
    with pytest.raises(UsageError, match=r"need pystac_client: install thalweg\[archive\]"):
        plan(Request(BOX, "2022"))


def test_a_missing_signer_raises_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "planetary_computer", None)
    with pytest.raises(UsageError, match=r"planetary-computer: .* install thalweg\[planetary-computer\]"):
        CATALOGUES["planetary-computer"].signer()
    assert CATALOGUES["earth-search"].signer() is None


def test_missing_credentials_raise_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(UsageError, match=r"cdse: .*set AWS_ACCESS_KEY_ID .*S3 keys of the Copernicus"):
        CATALOGUES["cdse"].check_credentials(product("cdse"))
    CATALOGUES["earth-search"].check_credentials(product("earth-search"))
