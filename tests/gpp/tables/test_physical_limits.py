"""Codes of missing values, physical limits and units."""

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.tables.physical_limits import (
    LIMITS,
    METEOROLOGY,
    check_gpp_magnitude,
    check_units,
    mask_impossible,
    replace_missing_codes,
)


@pytest.mark.parametrize("code", [-9999, -9999.0, -6999, np.inf, -np.inf])
def test_a_code_is_missing_in_any_column(code: float):
    table = pd.DataFrame({"gpp": [1, code], "e1": [code, 2.0], "other": np.array([code, 3], np.float32)})
    cleaned = replace_missing_codes(table, ["gpp", "e1", "other"])
    expected = pd.DataFrame({"gpp": [1, np.nan], "e1": [np.nan, 2], "other": [np.nan, 3]})
    pd.testing.assert_frame_equal(cleaned, expected, check_dtype=False)


def test_integers_without_a_code_stay_integers():
    table = pd.DataFrame({"count": [1, 2]})
    assert replace_missing_codes(table, ["count"])["count"].dtype == table["count"].dtype


@pytest.mark.parametrize(
    "name", [*(f"{base}_ERA" for base in METEOROLOGY), "TA_F", "SW_IN_POT", "gpp", "GPP_NT_CUT_REF"]
)
@pytest.mark.parametrize("steps", [False, True])
def test_impossible_values_are_missing_and_counted(name: str, steps: bool):
    base = "GPP" if name.lower().startswith("gpp") else name.removesuffix("_ERA").removesuffix("_F")
    low, high = LIMITS[base].step if steps else LIMITS[base].day
    inside = np.linspace(low, high, 30)
    values = pd.DataFrame({name: [*inside, low - 0.5, high + 0.5], "e1": 1e6})
    cleaned, notes = mask_impossible(values, [name, "e1"], "flux.csv", steps)
    np.testing.assert_array_equal(cleaned[name], [*inside, np.nan, np.nan])
    assert (cleaned["e1"] == 1e6).all()
    assert len(notes) == 1 and f"2 of {name} outside of" in notes[0] and notes[0].startswith("flux.csv: ")


@pytest.mark.parametrize(
    ("name", "values", "units"),
    [
        ("TA_ERA", 283.15, "deg C"),
        ("PA_F", 1013.0, "kPa"),
        ("PA_F", 101_300.0, "kPa"),
        ("LW_IN_ERA", 3.1e7, "W m-2"),
        ("VPD_ERA", 900.0, "hPa"),
        ("gpp", 1400.0, "gC m-2 d-1"),
        ("B08", 3100.0, "reflectance"),
        ("VV", 101.0, "dB"),
    ],
)
def test_a_column_in_other_units_is_refused(name: str, values: float, units: str):
    table = pd.DataFrame({name: [values, values, np.nan]})
    with pytest.raises(UsageError, match=f"column '{name}': 2 of 2 values lie outside of .*: expected {units}"):
        mask_impossible(table, [name], "flux.csv")


def test_gpp_of_another_magnitude_is_refused():
    days = pd.Series(np.full(40, 31.0))
    with pytest.raises(UsageError, match="site A: the median of daily GPP is 31: expected gC m-2 d-1"):
        check_gpp_magnitude(days, "A", "flux.csv")
    with pytest.raises(UsageError, match=r"site A: daily GPP reaches 0.031 at most: expected gC m-2 d-1.*kgC m-2 d-1"):
        check_gpp_magnitude(days / 1000, "A", "flux.csv")
    for valid in (days / 10, days * 0, days[:20], days * np.nan):
        check_gpp_magnitude(valid, "A", "flux.csv")


@pytest.mark.parametrize(
    ("column", "units"),
    [
        ("TA_ERA", "degC"), ("TA_F", "deg C"), ("TA_F", "°C"), ("SW_IN_F", "W m-2"), ("SW_IN_F", "W/m2"),
        ("SW_IN_F", "W m^-2"), ("PA_F", "kPa"), ("P_F", "mm"), ("P_ERA", "mm d-1"), ("WS_F", "m s-1"),
        ("WS_F", "m/s"), ("VPD_F", "hPa"), ("VPD_F", "-"), ("VPD_F", ""), ("gpp", "gC m-2 d-1"), ("e1", "anything"),
    ],
)  # fmt: skip
def test_spellings_of_units_are_taken(column: str, units: str):
    check_units(column, units, "flux.csv")


@pytest.mark.parametrize(
    ("column", "units", "steps"),
    [
        ("TA_ERA", "K", False), ("PA_F", "hPa", False), ("VPD_F", "kPa", True), ("P_F", "m", False),
        ("SW_IN_F", "J m-2", False), ("gpp", "gCO2 m-2 d-1", False), ("GPP_NT_VUT_REF", "gC m-2 d-1", True),
        ("GPP_NT_VUT_REF", "umol m-2", True), ("GPP_NT_VUT_REF", "umolCO2 m-2 s-1", False),
    ],
)  # fmt: skip
def test_other_units_are_refused(column: str, units: str, steps: bool):
    with pytest.raises(UsageError, match=f"flux.csv: column '{column}' is in .*: expected"):
        check_units(column, units, "flux.csv", steps)
