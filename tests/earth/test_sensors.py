"""Declarations of sensors: validation, scaling, masks, storage, common names, and the registry."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from thalweg.earth.sensors import (
    LANDSAT_8,
    SENTINEL_1,
    SENTINEL_2,
    Band,
    ClassMask,
    MaskEncoding,
    Quality,
    Sensor,
    StorageEncoding,
    known_sensors,
    register_sensor,
    sensor_by_name,
)
from thalweg.errors import UsageError

VALID = {
    "name": "pretend-1",
    "title": "Pretend 1",
    "bands": (Band(name="A"), Band(name="B")),
    "units": "reflectance",
    "value_range": (0, 1),
    "resolution": 10,
}


def test_a_valid_declaration_is_accepted() -> None:
    sensor = Sensor(**VALID)
    assert sensor.band_names == ("A", "B")
    assert sensor.encoding_size == 2 * 12  # a trajectory of two bands at 11 offsets, and the centre date


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value_range": (1, 0)}, "value_range must rise"),
        ({"value_range": (1, 1)}, "value_range must rise"),
        ({"bands": (Band(name="A"), Band(name="A"))}, "two bands share a name"),
        ({"bands": ()}, "at least 1 item"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"name": "Pretend 1"}, "should match pattern"),
        ({"units": "kelvin"}, "'reflectance' or 'dB'"),
        ({"resolution": 0}, "greater than 0"),
        ({"offsets": (-20, 20)}, "hold 0"),
        ({"offsets": (20, 0, -20)}, "must rise"),
        ({"encoding_size": 2}, "must exceed the number of bands"),
        ({"encoding_size": 9, "offsets": (-9, 0, 9)}, "exceeds the values of a trajectory .*: give at most 8"),
        ({"averaged_overpasses": 3}, "only a sensor in dB"),
        ({"bands": (Band(name="A", common_name="red"), Band(name="B", common_name="red"))}, "share a common_name"),
        ({"product_names": (r"P1_\d{8}",)}, "has no group date: write"),
        ({"rgb_previews": (("A", "B", "C"),)}, "rgb_previews name C: choose of A, B"),
    ],
)
def test_an_invalid_declaration_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Sensor(**{**VALID, **changes})


def test_declarations_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SENTINEL_2.resolution = 20


def test_a_band_rejects_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="wavelenght"):
        Band(name="B02", wavelenght=490)


@pytest.mark.parametrize("sensor", [SENTINEL_1, SENTINEL_2, LANDSAT_8], ids=lambda sensor: sensor.name)
def test_scaling_is_inverted_inside_the_range_and_clips_outside(sensor: Sensor) -> None:
    low, high = sensor.value_range
    inside = np.linspace(low, high, 17).reshape(1, 17)
    np.testing.assert_allclose(sensor.unscale(sensor.scale(inside)), inside, atol=1e-6)
    np.testing.assert_allclose(sensor.scale(inside), np.linspace(0, 1, 17)[None], atol=1e-12)
    np.testing.assert_array_equal(sensor.scale(np.array([low - 9, high + 9])), [0, 1])


def test_sentinel_1_scales_minus_30_to_5_db() -> None:
    np.testing.assert_allclose(SENTINEL_1.scale(np.array([-30.0, -12.5, 5.0])), [0, 0.5, 1])


def test_scene_classes_become_quality_values() -> None:
    layer = np.arange(12, dtype=np.uint8)
    clear, water, missing = {4, 5, 7}, {6}, {0}
    expected = [
        Quality.CLEAR if v in clear else Quality.WATER if v in water else Quality.MISSING if v in missing
        else Quality.CLOUD
        for v in range(12)
    ]  # fmt: skip
    np.testing.assert_array_equal(SENTINEL_2.validity.quality(layer), expected)


def test_landsat_flags_of_collection_2_become_quality_values() -> None:
    layer = np.array([[21824, 22080, 54596, 21952], [1, 0, 22280, 23888]], np.uint16)
    np.testing.assert_array_equal(
        LANDSAT_8.validity.quality(layer),
        [[Quality.CLEAR] * 3 + [Quality.WATER], [Quality.MISSING] * 2 + [Quality.CLOUD] * 2],
    )


def test_landsat_classes_of_collection_1_are_the_legacy_mask() -> None:
    assert [mask.variable for mask in LANDSAT_8.masks] == ["qa_pixel", "pixel_qa"]
    layer = np.array([[322, 386, 834, 898], [324, 1, 352, 328]], np.uint16)
    np.testing.assert_array_equal(
        LANDSAT_8.masks[1].quality(layer),
        [[Quality.CLEAR] * 4, [Quality.WATER, Quality.MISSING, Quality.CLOUD, Quality.CLOUD]],
    )


@pytest.mark.parametrize(
    ("sensor", "mask", "scaling"),
    [
        (LANDSAT_8, "qa_pixel", (2.75e-5, -0.2)),
        (LANDSAT_8, "pixel_qa", (1e-4, 0.0)),
        (LANDSAT_8, None, None),
        (SENTINEL_2, "SCL", (1e-4, 0.0)),
        (SENTINEL_2, None, (1e-4, 0.0)),
        (SENTINEL_1, None, None),
    ],
)
def test_the_mask_decides_between_scalings(
    sensor: Sensor, mask: str | None, scaling: tuple[float, float] | None
) -> None:
    declared = next((known for known in sensor.masks if known.variable == mask), None)
    assert sensor.digital_number_scaling(declared) == scaling


def test_a_band_has_its_own_storage_else_that_of_its_sensor_or_units() -> None:
    own = StorageEncoding(dtype="uint16", scale=0.1, fill=0)
    sensor = Sensor(**{**VALID, "bands": (Band(name="A", storage=own), Band(name="B"))})
    assert sensor.storage_of("A") == own
    assert sensor.storage_of("B") == StorageEncoding(dtype="int16", scale=1e-4, fill=-32768)
    assert sensor.model_copy(update={"storage": own}).storage_of("B") == own
    assert SENTINEL_1.storage_of("VV") == StorageEncoding(dtype="int16", scale=0.01, fill=-32768)
    assert LANDSAT_8.storage_of("B04") == StorageEncoding(dtype="uint16", scale=2.75e-5, offset=-0.2, fill=0)


@pytest.mark.parametrize("declare", [StorageEncoding, MaskEncoding])
def test_a_fill_value_must_fit_its_type(declare: type) -> None:
    scale = {"scale": 1.0} if declare is StorageEncoding else {}
    with pytest.raises(ValidationError, match="fill -1 does not fit uint8: choose a number of 0 to 255"):
        declare(dtype="uint8", fill=-1, **scale)


def test_bands_have_common_names_of_stac() -> None:
    for sensor in (SENTINEL_2, LANDSAT_8):
        assert [sensor.band_by_common_name(name).name for name in ("blue", "green", "red")] == ["B02", "B03", "B04"]
    assert SENTINEL_2.band_by_common_name("nir").name == "B08"
    assert SENTINEL_2.band_by_common_name("nir08").name == "B8A"
    assert LANDSAT_8.band_by_common_name("nir08").name == "B05"
    assert LANDSAT_8.band_by_common_name("nir") is None
    assert SENTINEL_1.band_by_common_name("red") is None


def test_an_older_declaration_has_common_names_among_its_aliases() -> None:
    sensor = Sensor(**{**VALID, "bands": (Band(name="A", aliases=("red",)), Band(name="nir"))})
    assert [sensor.band_by_common_name(name).name for name in ("red", "nir")] == ["A", "nir"]
    assert sensor.band_by_common_name("blue") is None


def test_files_keep_the_names_of_fields() -> None:
    fields = json.loads(SENTINEL_2.model_dump_json())
    assert fields["sets_dates"] is True and fields["averaged_acquisitions"] == 1
    assert fields["pictures"] == [["B04", "B03", "B02"], ["B12", "B8A", "B05"]]
    assert Sensor.model_validate(fields) == SENTINEL_2


def test_only_clear_and_water_are_usable() -> None:
    assert [quality for quality in Quality if quality.usable] == [Quality.CLEAR, Quality.WATER]


def test_a_mask_declares_its_own_classes() -> None:
    mask = ClassMask(variable="mask", clear=(1,), missing=(255,))
    np.testing.assert_array_equal(mask.quality(np.array([0, 1, 255])), [Quality.CLOUD, Quality.CLEAR, Quality.MISSING])


def test_the_error_of_an_unknown_sensor_lists_the_known_ones() -> None:
    assert sensor_by_name("sentinel-2") is SENTINEL_2
    assert [sensor.name for sensor in known_sensors()][:3] == ["sentinel-2", "sentinel-1", "landsat-8"]
    with pytest.raises(UsageError, match=r"sensor 'sentinel-9': expected .*sentinel-2; did you mean sentinel-"):
        sensor_by_name("sentinel-9")


def test_an_equal_declaration_can_be_registered_again_another_cannot() -> None:
    assert register_sensor(SENTINEL_2) is SENTINEL_2
    other = SENTINEL_2.model_copy(update={"resolution": 20.0})
    with pytest.raises(UsageError, match="'sentinel-2' is declared already, differently: choose another name"):
        register_sensor(other)
    with pytest.raises(UsageError, match=r"`sensor` is of type dict: expected a thalweg.Sensor"):
        register_sensor({"name": "sentinel-2"})
    assert sensor_by_name("sentinel-2") is SENTINEL_2
