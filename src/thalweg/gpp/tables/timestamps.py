"""Strict reading of dates and times in tables: formats are not guessed, and numbers are never nanoseconds."""

import re

import numpy as np
import pandas as pd

from thalweg.errors import UsageError
from thalweg.gpp.tables.table_files import MISSING_TEXTS, as_text, first_row

FIRST_YEAR, LAST_YEAR = 1900, 2100
"""Range of years of a date."""

_DIGITS = {8: "YYYYMMDD", 12: "YYYYMMDDHHMM", 14: "YYYYMMDDHHMMSS"}
_COMPACT = re.compile(
    r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)(?:(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)?)?(?:\.0+)?"
)
_ISO = re.compile(
    r"(?P<year>\d{4})[-/](?P<month>\d{1,2})[-/](?P<day>\d{1,2})"
    r"(?:[T ](?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?(?:\.\d+)?)?"
    r"\s*(?P<zone>Z|UTC|[+-]\d\d:?\d\d)?"
)
_PARTS = ["year", "month", "day", "hour", "minute", "second"]


def read_times(cells: pd.Series, label: str) -> pd.Series:
    """Read the dates and times of a column, without a time zone.

    Integers and digits are YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS; text may also be ISO 8601 (2018-06-30,
    2018-06-30T12:30). A zone is accepted at midnight only, and the day is the one that is written.

    Args:
        cells: Text, integers, or datetimes; indexed by line number.
        label: Name of the file and the column in a message.

    Returns:
        The times, datetime64[ns].

    Raises:
        UsageError: A cell is missing or not such a date.
    """
    if isinstance(cells.dtype, np.dtype) and np.issubdtype(cells.dtype, np.datetime64):
        texts = as_text(cells.dt.strftime("%Y-%m-%dT%H:%M:%S"))
    elif pd.api.types.is_float_dtype(cells.dtype):
        whole = cells % 1 == 0
        texts = as_text(cells.astype(str).mask(whole, cells.where(whole, 0).map("{:.0f}".format)))
    else:
        texts = as_text(cells)
    if texts.empty:
        return pd.Series([], cells.index, dtype="datetime64[ns]")
    pattern = _COMPACT if _COMPACT.fullmatch(texts.iloc[0]) else _ISO
    parts = texts.str.extract(f"^{pattern.pattern}$")
    if parts["year"].isna().any():
        raise _not_a_date(texts[parts["year"].isna()], label)
    if "zone" in parts:
        clock = parts[["hour", "minute", "second"]].fillna("0").astype(int).any(axis=1)
        if (wrong := parts["zone"].notna() & clock).any():
            cell = texts[wrong]
            raise UsageError(
                f"{label}, {first_row(cell)}: {cell.iloc[0]!r} has a zone and a time of day: expected the site's own "
                "day or time, without a zone"
            )
    times = pd.to_datetime(parts[_PARTS].fillna("0").astype(int), errors="coerce")
    inside = parts["year"].astype(int).between(FIRST_YEAR, LAST_YEAR)
    if (wrong := times.isna() | ~inside).any():
        raise _not_a_date(texts[wrong], label)
    return times.astype("datetime64[ns]")


def _not_a_date(texts: pd.Series, label: str) -> UsageError:
    """Return the error that the first of some cells is not a date, with the expected formats."""
    text = str(texts.iloc[0])
    found = "no date" if text.lower() in MISSING_TEXTS else f"{text[:40]!r} is not a date"
    digits = len(text) if text.isdigit() else 0
    if digits and digits not in _DIGITS:
        found += f" ({digits} digits)"
    return UsageError(
        f"{label}, {first_row(texts)}: {found}: expected dates such as 2018-06-30 or 20180630, years {FIRST_YEAR} to "
        f"{LAST_YEAR}"
    )
