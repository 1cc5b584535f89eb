"""Calendars: the days to embed, given as an ISO 8601 interval with a period or as a list of dates."""

import re
from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from thalweg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    CalendarSource = str | Sequence[str | date | np.datetime64] | np.ndarray | xr.DataArray

MAX_DAYS = 2_000
"""Largest number of days of a calendar: more than five years of daily embeddings."""

INTERVAL_FORM = "start/end/period such as 2018-03-01/2018-10-31/P10D (days P10D, weeks P1W, months P1M, years P1Y)"
"""Form of an interval with a period, for messages."""

_PERIOD = re.compile(r"P(\d{1,6})([DWMY])", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DAYS = {"D": 1, "W": 7}
_MONTHS = {"M": 1, "Y": 12}


def calendar_days(source: "CalendarSource") -> tuple[np.datetime64, ...]:
    """Return the days of a calendar.

    Args:
        source: an ISO 8601 interval with a period, such as `2018-03-01/2018-10-31/P10D`, or dates (text, `date`,
            `datetime` or `datetime64`; UTC). The start of an interval is a day of the calendar; its end is one if the
            period hits it. Months and years are counted from the start: a day that a month lacks becomes its last day.

    Returns:
        datetime64[D], rising, each day once.

    Raises:
        UsageError: The interval is malformed, ends before it starts, or has more than `MAX_DAYS` days; or the dates
            are not dates, or none.
    """
    return _interval_days(source) if isinstance(source, str) else _listed_days(source)


def _interval_days(text: str) -> tuple[np.datetime64, ...]:
    parts = text.strip().split("/")
    period = _PERIOD.fullmatch(parts[-1])
    if len(parts) != 3 or not period:
        raise UsageError(f"calendar {text!r}: expected {INTERVAL_FORM}")
    start, end = (_day(part, f"calendar {text!r}") for part in parts[:2])
    count, unit = int(period[1]), period[2]
    if count == 0:
        raise UsageError(f"calendar {text!r}: a period of 0: expected {INTERVAL_FORM}")
    if end < start:
        raise UsageError(f"calendar {text!r}: ends before it starts: expected {INTERVAL_FORM}")
    if unit in _DAYS:
        step = count * _DAYS[unit]
        number = int((end - start).astype(int)) // step + 1
        _check_number(number, f"calendar {text!r}")
        return tuple(start + step * np.arange(number))
    step = count * _MONTHS[unit]
    number = int((end.astype("datetime64[M]") - start.astype("datetime64[M]")).astype(int)) // step + 1
    _check_number(number, f"calendar {text!r}")
    months = start.astype("datetime64[M]") + step * np.arange(number)
    within_month = start - start.astype("datetime64[M]").astype("datetime64[D]")
    last = (months + 1).astype("datetime64[D]") - 1
    days = np.minimum(months.astype("datetime64[D]") + within_month, last)
    return tuple(days[days <= end])


def _listed_days(source: "Iterable[object] | np.ndarray | xr.DataArray") -> tuple[np.datetime64, ...]:
    found = np.unique([_day(entry, "calendar") for entry in np.ravel(_entries(source))])
    if not len(found):
        raise UsageError(f"calendar: no date in the list: expected dates such as 2018-06-30, or {INTERVAL_FORM}")
    _check_number(len(found), "calendar")
    return tuple(found)


def _entries(source: "Iterable[object] | np.ndarray | xr.DataArray") -> np.ndarray:
    values = getattr(source, "values", source)  # of xarray or pandas
    if isinstance(values, np.ndarray):
        return values
    if not isinstance(values, Iterable):
        raise UsageError(f"calendar of type {type(source).__name__}: expected a list of dates, or {INTERVAL_FORM}")
    entries = list(values)
    array = np.empty(len(entries), object)
    array[:] = entries
    return array


def _day(value: object, where: str) -> np.datetime64:
    """Return the UTC day of a date, datetime64[D]."""
    if isinstance(value, date) and value == value:  # also `datetime` and `pandas.Timestamp`, but not its NaT
        moment = getattr(value, "utctimetuple", value.timetuple)()
        value = f"{moment.tm_year:04}-{moment.tm_mon:02}-{moment.tm_mday:02}"
    if isinstance(value, np.datetime64) and not np.isnat(value):
        return value.astype("datetime64[D]")
    try:
        if isinstance(value, str) and _DATE.fullmatch(value.strip()):
            return np.datetime64(value.strip(), "D")
    except ValueError:
        pass  # such as the 30th of February
    raise UsageError(f"{where}: {str(value)!r} is not a date: expected one such as 2018-06-30")


def _check_number(number: int, where: str) -> None:
    if number > MAX_DAYS:
        raise UsageError(
            f"{where}: {number:,} days: expected at most {MAX_DAYS:,}: shorten it, or take a longer period"
        )
