import numpy as np
import pandas as pd
import pytest

from thalweg.errors import DataWarning, UsageError
from thalweg.gpp.tables.daily_table import daily_table, feature_columns, with_vegetation_columns


def test_rows_are_ordered_and_units_filled(make_table):
    table = make_table(sites=3)
    again = daily_table(table.sample(frac=1, random_state=0), {"wet": "1"})
    assert again.drop(columns=[]).equals(table)
    assert again.attrs["units"] == {"gpp": "gC m-2 d-1", "wet": "1"}
    assert feature_columns(again) == ["SW_IN_POT", "wet"]


def test_vegetation_becomes_columns(make_table):
    table, columns = with_vegetation_columns(make_table(sites=2))
    assert columns == ["vegetation_DBF", "vegetation_ENF"]
    assert (table[columns].sum(1) == 1).all()
    assert set(columns) <= set(feature_columns(table))


@pytest.mark.parametrize("units", ["gC m-2 d-1", "gC m-2 day-1", "gC/m2/day", "gC m^-2 d^-1"])
def test_spellings_of_grams_are_taken(make_table, units):
    assert len(daily_table(make_table(sites=1), {"gpp": units})) == len(make_table(sites=1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.drop(columns="gpp"), ["no column 'gpp'", "gC m-2 d-1"]),
        (lambda t: t.rename(columns={"gpp": "gpp_umol m-2 s-1"}), ["gpp_umol m-2 s-1", "1.037"]),
        (lambda t: t.iloc[[0, 0, 1]], ["2017-01-01 is repeated at site S0"]),
        (lambda t: t.assign(wet="dry"), ["'wet'", "expected numbers"]),
        (lambda t: t.assign(time="soon"), ["'time'", "expected dates"]),
    ],
)
def test_invalid_tables_are_refused_in_one_line(make_table, change, expected):
    with pytest.raises(UsageError) as refused:
        daily_table(change(make_table(sites=1)), label="mine.csv")
    message = str(refused.value)
    assert message.startswith("mine.csv: ") and "\n" not in message
    assert all(part in message for part in expected)


@pytest.mark.parametrize("units", ["umol m-2 s-1", "µmolCO2 m-2 s-1", "kgC m-2 d-1"])
def test_other_units_are_refused(make_table, units):
    with pytest.raises(UsageError, match="expected gC m-2 d-1"):
        assert len(daily_table(make_table(sites=1), {"gpp": units})) == len(make_table(sites=1))


def test_a_day_with_an_hour_is_that_day(make_table):
    table = make_table(sites=1)
    shifted = daily_table(table.assign(time=table["time"] + np.timedelta64(12, "h")))
    assert (shifted["time"] == table["time"]).all()


def test_codes_and_infinities_are_missing_in_every_column(make_table):
    table = make_table(sites=1).assign(e1=1.0)
    spoiled = table.copy()
    for row, (name, code) in enumerate(
        [("gpp", -9999), ("wet", -9999.0), ("SW_IN_POT", -6999), ("e1", np.inf), ("latitude", -9999)]
    ):
        spoiled.loc[row, name] = code
    cleaned = daily_table(spoiled)
    assert cleaned.isna().sum().sum() == 5
    for row, name in enumerate(["gpp", "wet", "SW_IN_POT", "e1", "latitude"]):
        assert np.isnan(cleaned.loc[row, name])


def test_impossible_values_are_missing_with_a_warning(make_table):
    table = make_table(sites=1)
    table.loc[7, "gpp"] = -999.0
    with pytest.warns(DataWarning, match="mine.csv: impossible values taken as missing: 1 of gpp outside of -25 to 50"):
        cleaned = daily_table(table, label="mine.csv")
    assert np.isnan(cleaned.loc[7, "gpp"]) and len(cleaned.attrs["notes"]) == 1


@pytest.mark.parametrize("days", [20170101, 20170101.0, "20170101"])
def test_integer_days_are_days(make_table, days):
    table = daily_table(make_table(sites=1).iloc[[0]].assign(time=days))
    assert table["time"].tolist() == [pd.Timestamp("2017-01-01")]


def test_a_site_without_a_class_is_named(make_table):
    table = make_table(sites=2)
    for missing in (None, "", "-9999"):
        with pytest.raises(UsageError, match="no vegetation class at site S1"):
            with_vegetation_columns(table.assign(vegetation=table["vegetation"].where(table["site"] == "S0", missing)))
