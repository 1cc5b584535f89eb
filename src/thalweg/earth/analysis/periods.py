"""Periods of a store: a date, a month or a range, and the dates that lie in them."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.store.lookup import date_index
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

PERIOD_FORMS = "a date 2018-07-05, a month 2018-07, or a range of either such as 2018-06/2018-08"
"""Text forms that `parse_period` reads."""

_PART = re.compile(r"\d{4}-\d\d(?:-\d\d)?")


@dataclass(frozen=True)
class Period:
    """Period of whole days.

    Attributes:
        text: the period as it was requested.
        first: its first day, datetime64[D].
        last: its last day, datetime64[D].
    """

    text: str
    first: np.datetime64
    last: np.datetime64

    @property
    def is_date(self) -> bool:
        """True for a single day, which stands for the nearest date of a store."""
        return bool(self.first == self.last)


def parse_period(text: str) -> Period:
    """Read a period from its text form.

    Args:
        text: a date, a month, or a range of two of them, both included.

    Raises:
        UsageError: The text has another form, or the range ends before it starts.
    """
    parts = [part.strip() for part in text.split("/")]
    try:
        if not 1 <= len(parts) <= 2 or not all(map(_PART.fullmatch, parts)):
            raise ValueError
        first, last = np.datetime64(parts[0], "D"), _last_day(parts[-1])
    except ValueError:
        raise UsageError(f"period {text!r}: expected {PERIOD_FORMS}") from None
    if last < first:
        raise UsageError(f"period {text!r}: expected a range whose end is not before its start")
    return Period(text.strip(), first, last)


def _last_day(text: str) -> np.datetime64:
    """Return the last day of a date or a month."""
    if len(text) == len("2018-07-05"):
        return np.datetime64(text, "D")
    return (np.datetime64(text, "M") + 1).astype("datetime64[D]") - np.timedelta64(1, "D")


def store_days(dataset: "xr.Dataset") -> NDArray[np.datetime64]:
    """Return the days (T,) of a dataset's dates, datetime64[D]."""
    return np.asarray(dataset.time.values.astype("datetime64[D]"))


def period_dates(dataset: "xr.Dataset", period: Period) -> NDArray[np.integer]:
    """Return the indices of a dataset's dates in a period; of a single day, the date at most three days away.

    Raises:
        UsageError: The dataset has no date in the period.
    """
    if period.is_date:
        return np.array([date_index(dataset, str(period.first))])
    days = store_days(dataset)
    found = np.flatnonzero((days >= period.first) & (days <= period.last))
    if not len(found):
        raise UsageError(
            f"no date of this store lies in {period.text}: its dates are from {days.min()} to {days.max()}"
        )
    return found
