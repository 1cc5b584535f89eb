"""Declarations: what is refused, scaling, classes, and the registry."""

import numpy as np
import pytest
from pydantic import ValidationError

from thalweg.earth.sensors import (
    LANDSAT_8,
    SENTINEL_1,
    SENTINEL_2,
    Band,
    ClassMask,
    Quality,
    Sensor,
    known_sensors,
    register_sensor,
    sensor_by_name,
)
from thalweg.errors import UsageError

GOOD = {
    "name": "pretend-1",
    "title": "Pretend 1",
    "bands": (Band(name="A"), Band(name="B")),
    "units": "reflectance",
    "value_range": (0, 1),
    "resolution": 10,
}


def test_a_good_declaration_is_taken() -> None:
    assert Sensor(**GOOD).band_names == ("A", "B")


@pytest.mark.parametrize(
    ("wrong", "message"),
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
        ({"averaged_overpasses": 3}, "only a sensor in dB"),
    ],
)
def test_a_wrong_declaration_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Sensor(**{**GOOD, **wrong})


def test_declarations_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SENTINEL_2.resolution = 20


def test_a_band_rejects_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="wavelenght"):
        Band(name="B02", wavelenght=490)


@pytest.mark.parametrize("sensor", [SENTINEL_1, SENTINEL_2, LANDSAT_8], ids=lambda sensor: sensor.name)
def test_scaling_is_undone_inside_the_range_and_clips_outside(sensor: Sensor) -> None:
    low, high = sensor.value_range
    inside = np.linspace(low, high, 17).reshape(1, 17)
    np.testing.assert_allclose(sensor.unscale(sensor.scale(inside)), inside, atol=1e-6)
    np.testing.assert_allclose(sensor.scale(inside), np.linspace(0, 1, 17)[None], atol=1e-12)
    np.testing.assert_array_equal(sensor.scale(np.array([low - 9, high + 9])), [0, 1])


def test_sentinel_1_scales_minus_30_to_5_db() -> None:
    np.testing.assert_allclose(SENTINEL_1.scale(np.array([-30.0, -12.5, 5.0])), [0, 0.5, 1])


def test_scene_classes_become_typed_reasons() -> None:
    layer = np.arange(12, dtype=np.uint8)
    clear, water, missing = {4, 5, 7}, {6}, {0}
    expected = [
        Quality.CLEAR if v in clear else Quality.WATER if v in water else Quality.MISSING if v in missing
        else Quality.CLOUD
        for v in range(12)
    ]  # fmt: skip
    np.testing.assert_array_equal(SENTINEL_2.validity.quality(layer), expected)


def test_landsat_bits_become_typed_reasons() -> None:
    layer = np.array([[322, 386, 834, 898], [324, 1, 352, 328]], np.uint16)
    np.testing.assert_array_equal(
        LANDSAT_8.validity.quality(layer),
        [[Quality.CLEAR] * 4, [Quality.WATER, Quality.MISSING, Quality.CLOUD, Quality.CLOUD]],
    )


def test_only_clear_and_water_are_usable() -> None:
    assert [quality for quality in Quality if quality.usable] == [Quality.CLEAR, Quality.WATER]


def test_a_mask_declares_its_own_classes() -> None:
    mask = ClassMask(variable="mask", clear=(1,), missing=(255,))
    np.testing.assert_array_equal(mask.quality(np.array([0, 1, 255])), [Quality.CLOUD, Quality.CLEAR, Quality.MISSING])


def test_the_registry_knows_its_sensors_and_names_them_in_an_error() -> None:
    assert sensor_by_name("sentinel-2") is SENTINEL_2
    assert [sensor.name for sensor in known_sensors()][:3] == ["sentinel-2", "sentinel-1", "landsat-8"]
    with pytest.raises(UsageError, match=r"sensor 'sentinel-9': expected .*sentinel-2; did you mean sentinel-"):
        sensor_by_name("sentinel-9")


def test_registering_again_is_fine_but_not_differently() -> None:
    assert register_sensor(SENTINEL_2) is SENTINEL_2
    other = SENTINEL_2.model_copy(update={"resolution": 20.0})
    with pytest.raises(UsageError, match="'sentinel-2' is declared already, differently: choose another name"):
        register_sensor(other)
    assert sensor_by_name("sentinel-2") is SENTINEL_2
