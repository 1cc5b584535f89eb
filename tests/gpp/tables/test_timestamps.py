"""Dates in tables: the right day, or a message of one line."""

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.tables.timestamps import read_times

DAY = pd.Timestamp("2019-03-02")


@pytest.mark.parametrize(
    "written",
    [
        20190302,
        20190302.0,
        np.int32(20190302),
        "20190302",
        " 20190302 ",
        "20190302.0",
        201903020000,
        "20190302000000",
        "2019-03-02",
        "2019-3-2",
        "2019/03/02",
        "2019-03-02 00:00:00",
        "2019-03-02T00:00:00.000",
        "2019-03-02T00:00:00Z",
        "2019-03-02T00:00:00+09:00",
        DAY,
        DAY.date(),
        DAY.tz_localize("UTC"),
    ],
)
def test_a_day_is_that_day(written: object):
    times = read_times(pd.Series([written, written]), "table")
    assert times.dtype == "datetime64[ns]"
    assert times.tolist() == [DAY, DAY]


@pytest.mark.parametrize("written", [201903021230, "201903021230", "2019-03-02T12:30", "2019-03-02 12:30:00"])
def test_a_time_of_day_is_kept(written: object):
    assert read_times(pd.Series([written]), "table")[0] == DAY + pd.Timedelta(hours=12, minutes=30)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("02/03/2019", "'02/03/2019' is not a date"),
        ("02.03.2019", "is not a date"),
        ("Mar 2 2019", "is not a date"),
        ("2019061", "7 digits"),
        (201903, "6 digits"),
        (2019, "4 digits"),
        (43526, "5 digits"),
        (1551484800, "10 digits"),
        (20190230, "'20190230' is not a date"),
        ("2019-13-01", "is not a date"),
        ("0019-03-02", "years 1900 to 2100"),
        (99990101, "years 1900 to 2100"),
        (20190302.5, "is not a date"),
        (np.nan, "no date: expected"),
        ("", "no date: expected"),
        (-9999, "'-9999' is not a date"),
        ("2019-03-02T12:00Z", "has a zone and a time of day"),
        ("2019-03-02T12:00:00+02:00", "has a zone and a time of day"),
    ],
)
def test_other_texts_are_refused(written: object, expected: str):
    with pytest.raises(UsageError) as refused:
        read_times(pd.Series([written]), "table: column 'time'")
    assert expected in str(refused.value) and str(refused.value).startswith("table: column 'time', row 0: ")


def test_dates_in_two_formats_are_refused():
    with pytest.raises(UsageError, match="row 1: '20190303' is not a date"):
        read_times(pd.Series(["2019-03-02", "20190303"]), "table")
