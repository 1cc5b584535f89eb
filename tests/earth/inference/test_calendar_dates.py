"""Calendars: intervals with a period, lists of dates, and what is refused."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from thalweg.earth.inference.calendar_dates import MAX_DAYS, calendar_days
from thalweg.errors import UsageError


def text(source: object) -> list[str]:
    return [str(day) for day in calendar_days(source)]


@pytest.mark.parametrize(
    ("interval", "days"),
    [
        ("2018-03-01/2018-03-21/P10D", ["2018-03-01", "2018-03-11", "2018-03-21"]),
        ("2018-03-01/2018-03-20/P10D", ["2018-03-01", "2018-03-11"]),
        ("2018-03-01/2018-03-15/P1W", ["2018-03-01", "2018-03-08", "2018-03-15"]),
        ("2018-01-31/2018-04-30/P1M", ["2018-01-31", "2018-02-28", "2018-03-31", "2018-04-30"]),
        ("2018-01-15/2018-04-14/P1M", ["2018-01-15", "2018-02-15", "2018-03-15"]),
        ("2016-02-29/2018-12-31/P1Y", ["2016-02-29", "2017-02-28", "2018-02-28"]),
        ("2018-03-01/2018-03-01/P1D", ["2018-03-01"]),
        (" 2018-03-01/2018-03-02/P99D ", ["2018-03-01"]),
    ],
)
def test_an_interval_has_its_start_and_every_period_until_its_end(interval: str, days: list[str]) -> None:
    assert text(interval) == days


@pytest.mark.parametrize("seed", range(20))
def test_days_of_a_random_interval_are_a_step_apart_and_within_it(seed: int) -> None:
    generator = np.random.default_rng(seed)
    start = date(2015, 1, 1) + timedelta(int(generator.integers(0, 3000)))
    end = start + timedelta(int(generator.integers(0, 1500)))
    step = int(generator.integers(1, 60))
    found = [day.astype(date) for day in calendar_days(f"{start}/{end}/P{step}D")]
    assert found == [start + timedelta(offset) for offset in range(0, (end - start).days + 1, step)]
    monthly = [(pd.Timestamp(start) + pd.DateOffset(months=index)).date() for index in range(60)]
    assert text(f"{start}/{end}/P1M") == [str(day) for day in monthly if day <= end]
    assert calendar_days(calendar_days(f"{start}/{end}/P1M")) == calendar_days(f"{start}/{end}/P1M")


@pytest.mark.parametrize(
    "dates",
    [
        ["2018-06-30", "2018-06-02", "2018-06-30"],
        [date(2018, 6, 30), datetime(2018, 6, 2, 10, 30, tzinfo=UTC)],
        [pd.Timestamp("2018-06-02T23:59"), "2018-06-30"],
        [datetime.fromisoformat("2018-06-03T01:00+02:00"), "2018-06-30"],
        np.array(["2018-06-30", "2018-06-02T10:30"], "datetime64[ns]"),
        pd.DatetimeIndex(["2018-06-02", "2018-06-30"]),
        xr.DataArray(np.array(["2018-06-02", "2018-06-30"], "datetime64[ns]"), dims="time"),
        np.array(["2018-06-02", "2018-06-30"], "datetime64[D]"),
    ],
    ids=lambda dates: type(dates[0]).__name__ + type(dates).__name__,
)
def test_listed_dates_are_sorted_utc_days(dates: object) -> None:
    assert text(dates) == ["2018-06-02", "2018-06-30"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("2018-03-01", r"calendar '2018-03-01': expected start/end/period such as 2018-03-01/2018-10-31/P10D"),
        ("2018-03-01/2018-10-31", "expected start/end/period"),
        ("2018-03-01/2018-10-31/10D", "expected start/end/period"),
        ("2018-03-01/2018-10-31/P1.5D", "expected start/end/period"),
        ("2018-03-01/2018-10-31/P10D/P1D", "expected start/end/period"),
        ("2018-03-01/2018-10-31/PT6H", "expected start/end/period"),
        ("", "expected start/end/period"),
        ("2018-02-30/2018-10-31/P10D", "'2018-02-30' is not a date: expected one such as 2018-06-30"),
        ("2018-3-1/2018-10-31/P10D", "'2018-3-1' is not a date"),
        ("2018-03-01/2018-10-31/P0D", "a period of 0"),
        ("2018-10-31/2018-03-01/P10D", "ends before it starts"),
        ("2010-01-01/2018-10-31/P1D", rf"3,226 days: expected at most {MAX_DAYS:,}: shorten it"),
        ("0001-01-01/9999-12-31/P1D", "expected at most 2,000"),
        ("0001-01-01/9999-12-31/P1M", "expected at most 2,000"),
        ([], "no date in the list"),
        (["2018-06-30", "June"], "'June' is not a date"),
        ([np.datetime64("NaT")], "'NaT' is not a date"),
        ([pd.NaT], "'NaT' is not a date"),
        ([3], "'3' is not a date"),
        (7, "of type int: expected a list of dates, or start/end/period"),
        (list(np.datetime64("2010-01-01") + np.arange(MAX_DAYS + 1)), "2,001 days: expected at most 2,000"),
    ],
)
def test_anything_else_is_refused_in_one_line(source: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        calendar_days(source)
    assert "\n" not in str(caught.value)
