"""Missing, impossible and misdeclared values are masked and counted, or refused with advice that works."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.decoding.fill_values import fill_values, is_fill_value
from thalweg.earth.cube.decoding.series_decoding import decoding_of
from thalweg.earth.cube.windows import Window
from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2, Quality
from thalweg.errors import DataWarning, UsageError

BANDS = SENTINEL_2.band_names
LOWEST = -3.4028235e38


def read(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    cube = Cube.open(data)
    seen = cube.reference.read(cube.whole)
    return seen.values, seen.valid


def with_values(data: xr.Dataset, change: Callable[[np.ndarray], np.ndarray], **attributes: Any) -> xr.Dataset:
    """Apply a function to every band of a dataset and add attributes; None removes an attribute."""
    data = data.copy(deep=True)
    for name in data.data_vars:
        if name in (*BANDS, "VV", "VH"):
            changed = change(data[name].values.copy())
            kept = {key: value for key, value in {**data[name].attrs, **attributes}.items() if value is not None}
            data[name] = (data[name].dims, changed, kept)
    return data


def first_columns(code: float, dtype: type = np.float32) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        scaled = values if np.issubdtype(dtype, np.floating) else np.rint(values * 10_000)
        changed = scaled.astype(dtype)
        changed[..., :2] = code
        return changed

    return change


# Missing


@pytest.mark.parametrize(
    "name",
    ["_FillValue", "missing_value", "nodata", "_NoDataValue", "nodatavals", "no_data", "NoDataValue", "nodata_value"],
)
@pytest.mark.parametrize("value", [-999, "-999", "-999.0", [-999.0], b"-999"])
def test_a_fill_value_is_read_from_any_attribute(name: str, value: object) -> None:
    assert fill_values({name: value, "units": "1"}, "band") == (-999,)


def test_attributes_without_a_fill_value() -> None:
    assert fill_values({"nodata": np.nan, "_FillValue": "NaN", "missing_value": None, "no_data": "none"}, "") == ()
    with pytest.raises(UsageError, match="band B02: nodata is outside, expected a number"):
        fill_values({"nodata": "outside"}, "band B02")
    assert is_fill_value(np.array([1.5, LOWEST], np.float32), (LOWEST,)).tolist() == [False, True]
    assert is_fill_value(np.array([-0.0999, -0.09991], np.float32), (-999 * 1e-4,)).tolist() == [True, False]
    assert is_fill_value(np.array([0, 65535], np.uint16), (-1, 65535)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("code", "dtype"), [(LOWEST, np.float32), (-9999, np.float32), (-999, np.int16), (65535, np.uint16)]
)
def test_pixels_without_data_are_missing(make_s2: Callable, code: float, dtype: type) -> None:
    expected, _ = read(make_s2())
    values, valid = read(with_values(make_s2(), first_columns(code, dtype), nodata=code))
    assert not valid[..., :2].any() and valid[..., 2:].all()
    np.testing.assert_allclose(values[..., 2:], expected[..., 2:], atol=6e-5)
    _, valid = read(with_values(make_s2(), first_columns(code, dtype)).assign_attrs(nodata=code))
    assert not valid[..., :2].any() and valid[..., 2:].all()


def test_a_fill_value_is_scaled_with_numbers_that_xarray_has_scaled(make_s2: Callable) -> None:
    data = with_values(make_s2(), first_columns(-999, np.int16), nodata=np.int16(-999), scale_factor=1e-4)
    _, valid = read(xr.decode_cf(data))
    assert not valid[..., :2].any() and valid[..., 2:].all()


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_zero_in_all_bands_is_missing_with_any_declared_fill_value(make_s2: Callable, dtype: type) -> None:
    _, valid = read(with_values(make_s2(), first_columns(0, dtype), nodata=-1))
    assert not valid[..., :2].any() and valid[..., 2:].all()
    one = make_s2()
    one["B02"][0, 0, 0] = 0
    assert read(one)[1].all()


@pytest.mark.parametrize("units", ["dB", "linear"])
def test_the_zeros_outside_of_a_swath_are_missing(make_s1: Callable, units: str) -> None:
    def outside(values: np.ndarray) -> np.ndarray:
        values = values if units == "dB" else 10 ** (values / 10)
        values[::2, :, :3] = 0
        return values

    data = with_values(make_s1(), outside, units=units)
    cube = Cube.open(data)
    seen = cube.reference.read(cube.whole)
    assert seen.valid.mean() == pytest.approx(1 - 3 / 5 / 2)
    assert (seen.quality[::2, :, :3] == Quality.MISSING).all()
    assert np.nanmax(seen.values) < -2


# Impossible


def test_infinite_values_are_missing_and_counted(make_s2: Callable) -> None:
    data = make_s2()
    data["B04"][1, 2, 3] = np.inf
    data["B05"][1, 2, 4] = -np.inf
    with pytest.warns(DataWarning, match="2 of 144 pixel-dates with infinite values, taken as missing"):
        cube = Cube.open(data)
    counts: Counter[str] = Counter()
    seen = cube.reference.read(cube.whole, counts)
    assert (seen.quality[1, 2, 3:5] == Quality.MISSING).all() and seen.valid.sum() == 142
    assert counts["infinite"] == 2


def test_impossible_values_are_missing_and_counted(make_s2: Callable, make_s1: Callable) -> None:
    data = make_s2()
    data["B02"][0, 0, :5] = [2.5, -0.5, 1.4, -0.15, -9999]
    data["B03"][0, 1, 0] = 40
    data["SCL"][0, 1, 0] = 9
    with pytest.warns(DataWarning, match=r"3 of 144 pixel-dates with values outside -0.2 to 2, which no surface has"):
        cube = Cube.open(data)
    quality = cube.reference.read(Window(0, 0, 2, 6)).quality
    gone, clear = Quality.MISSING, Quality.CLEAR
    np.testing.assert_array_equal(quality[0, 0], [gone, gone, clear, clear, gone, clear])
    assert quality[0, 1, 0] == Quality.CLOUD
    radar = make_s1()
    radar["VV"][0, 0, :3] = [-99, 55, -45]
    with pytest.warns(DataWarning, match=r"Sentinel-1: 2 of 180 pixel-dates with values outside -60 to 40 dB"):
        cube = Cube.open(radar)
    assert cube.reference.read(cube.whole).valid[0, 0].tolist() == [False, False, True, True, True, True]


def test_inspect_counts_masked_values_and_embed_reports_them(
    cli: Callable, make_s2: Callable, model_folder: Any, tmp_path: Any
) -> None:
    data = make_s2(size=24)
    data["B02"][0, 0, 0] = 3
    data.drop_vars(["SCL", "B06"]).assign_attrs(sensor="sentinel-2").to_netcdf(tmp_path / "s2.nc", engine="h5netcdf")
    source, out = tmp_path / "s2.nc", tmp_path / "out.zarr"
    for command in (
        ("earth", "inspect", source),
        ("earth", "embed", source, out),
        ("earth", "train", "sentinel-2", source, "--out", out),
        ("gpp", "prepare", source, "--xy", 500_100, 5_599_900, "--out", out),
    ):
        refused = cli(*command)
        assert refused.code == 2 and "--assume-clear" in refused.err.splitlines()[-1]
    assert not out.exists()
    shown = cli("earth", "inspect", source, "--assume-clear")
    assert shown.code == 0
    assert "  1 of 2,304 pixel-dates with values outside -0.2 to 2" in shown.out
    done = cli("earth", "embed", source, out, "--assume-clear", "--model", model_folder)
    assert done.code == 0
    for messages in (shown.err, done.err):
        assert "without B06" in messages and "1 of 2,304 pixel-dates with values outside -0.2 to 2" in messages


# Units


@pytest.mark.parametrize("units", ["dB", "db", "DB ", "decibel", "decibels", "dB (sigma0)", None])
def test_decibels_are_known_by_units_or_distribution(make_s1: Callable, units: str | None) -> None:
    data = make_s1()
    for name in ("VV", "VH"):
        data[name].attrs = {} if units is None else {"units": units}
    np.testing.assert_array_equal(read(data)[0], read(make_s1())[0])


@pytest.mark.parametrize("units", ["linear", "Linear", "1", "m2 m-2", "m2/m2", "linear power"])
def test_linear_power_is_known_by_its_units_even_with_noise_below_zero(make_s1: Callable, units: str) -> None:
    def linear(values: np.ndarray) -> np.ndarray:
        power = 10 ** (values / 10)
        power[:, 0] = np.random.default_rng(5).normal(0.001, 0.003, power[:, 0].shape)
        return power

    values, valid = read(with_values(make_s1(), linear, units=units))
    expected, _ = read(make_s1())
    np.testing.assert_allclose(values[:, :, 1:], expected[:, :, 1:], atol=1e-3)
    assert valid[:, 1:].all() and not valid[:, 0].all()
    with pytest.raises(UsageError, match=r"expected backscatter in dB: convert it with 10 \* log10, or write units="):
        Cube.open(with_values(make_s1(), linear, units=""))


def test_units_in_names_count_if_attributes_have_none(make_s1: Callable) -> None:
    def power(values: np.ndarray) -> np.ndarray:
        return 10 ** (values / 10)

    data = with_values(make_s1(), power, units=None)
    named = data.rename(VV="vv_linear", VH="vh_linear")
    np.testing.assert_allclose(read(named)[0], read(make_s1())[0], atol=1e-4)


def test_backscatter_that_its_units_contradict_is_refused(make_s1: Callable) -> None:
    with pytest.raises(UsageError, match=r"although its units are 'linear': .* or write units='dB'"):
        Cube.open(with_values(make_s1(), lambda values: values, units="linear"))
    with pytest.raises(UsageError, match=r"although its units are 'db': .* or write units='linear'"):
        Cube.open(with_values(make_s1(), lambda values: 10 ** (values / 10), units="dB"))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: (np.sqrt(10 ** (values / 10)) * 1000).astype(np.uint16),
        lambda values: (np.sqrt(10 ** (values / 10)) * 1000).astype(np.float32),
        lambda values: np.rint(values * 100).astype(np.int16),
    ],
)
def test_digital_numbers_of_radar_are_refused(make_s1: Callable, change: Callable) -> None:
    with pytest.raises(UsageError, match=r"digital numbers or amplitudes, expected backscatter in dB or linear power"):
        Cube.open(with_values(make_s1(), change))


@pytest.mark.parametrize("code", [-99.0, -9999.0, 999.0])
def test_undeclared_fill_values_do_not_decide_units(make_s1: Callable, code: float) -> None:
    def coded(values: np.ndarray) -> np.ndarray:
        values[:, :2] = code
        return values

    with pytest.warns(DataWarning, match="60 of 180 pixel-dates with values outside"):
        _, valid = read(with_values(make_s1(), coded, units=None))
    assert not valid[:, :2].any() and valid[:, 2:].all()


@pytest.mark.parametrize("number", [LOWEST, -32768.0, -9999.0])
def test_fill_values_do_not_decide_units(make_s1: Callable, number: float) -> None:
    def power(values: np.ndarray) -> np.ndarray:
        values = 10 ** (values / 10)
        values[:, :, :4] = number
        return values

    with pytest.raises(UsageError, match="or write units='linear'"):
        Cube.open(with_values(make_s1(), power, units=None, nodata=number))


@pytest.mark.parametrize("named", [{"scale_factor": 1.0, "add_offset": 0.0}, {"scales": (1.0,), "offsets": (0.0,)}])
@pytest.mark.parametrize("units", [None, "DN"])
def test_a_scaling_by_one_is_ignored(make_s2: Callable, named: dict[str, Any], units: str | None) -> None:
    data = with_values(make_s2(), lambda values: np.rint(values * 10_000).astype(np.uint16), **named, units=units)
    data = data.assign_attrs(scale=1.0)
    np.testing.assert_allclose(read(data)[0], read(make_s2())[0], atol=6e-5)


def test_scalings_that_contradict_each_other_are_refused(make_s2: Callable) -> None:
    numbers = with_values(make_s2(), lambda values: np.rint(values * 10_000).astype(np.uint16), scale_factor=1e-4)
    assert decoding_of(with_values(numbers, lambda values: values, scale=1.0), SENTINEL_2, "")
    with pytest.raises(UsageError, match=r"B02: scale_factor 0.0001 and scale 0.001: remove the wrong one"):
        Cube.open(with_values(numbers, lambda values: values, scale=0.001))
    with pytest.raises(UsageError, match=r"scale_factor is .*, expected one number"):
        Cube.open(with_values(numbers, lambda values: values, scale_factor="a tenth of a thousandth"))


def test_following_the_advice_of_each_refusal_is_accepted(make_s2: Callable, make_s1: Callable) -> None:
    expected = read(make_s2())[0]
    numbers = with_values(make_s2(), lambda values: values * 10_000)
    with pytest.raises(UsageError, match=r"divide by 10000 \(percent by 100\), or write units='DN'"):
        Cube.open(numbers)
    np.testing.assert_allclose(read(with_values(numbers, lambda values: values, units="DN"))[0], expected, atol=1e-6)
    np.testing.assert_allclose(read(with_values(numbers, lambda values: values / 10_000))[0], expected, atol=1e-6)
    with pytest.raises(UsageError, match="they may have been scaled twice"):
        Cube.open(with_values(numbers, lambda values: values / 1e8))
    picture = with_values(make_s2(), lambda values: np.rint(values * 255).astype(np.uint8))
    with pytest.raises(UsageError, match=r"not an 8-bit image or percent, or write the scale_factor"):
        Cube.open(picture)
    scaled = with_values(picture, lambda values: values, scale_factor=1 / 255)
    np.testing.assert_allclose(read(scaled)[0], expected, atol=3e-3)
    packed = with_values(make_s1(), lambda values: np.rint(values * 100).astype(np.int16), scale_factor=0.01)
    np.testing.assert_allclose(read(packed)[0], read(make_s1())[0], atol=6e-3)


def test_units_are_decided_once_for_the_whole_series(make_s1: Callable) -> None:
    """Read a window that alone looks linear, such as that of a city, like the whole series."""
    data = with_values(make_s1(size=12), lambda values: values, units=None)
    for name in ("VV", "VH"):
        data[name][:, :2, :2] = 1.5
    cube = Cube.open(data)
    assert cube.reference.read(Window(0, 0, 2, 2)).values == pytest.approx(1.5)
    with pytest.raises(UsageError, match="units='linear'"):
        decoding_of(data.isel(y=slice(2), x=slice(2)), SENTINEL_1, "")
