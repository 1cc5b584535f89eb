"""Dates and times as tables write them, read strictly: never guessed, never nanoseconds since 1970."""

import re

import numpy as np
import pandas as pd

from thalweg.errors import UsageError
from thalweg.gpp.tables.table_files import MISSING_TEXTS, as_text, place

FIRST_YEAR, LAST_YEAR = 1900, 2100
"""Years that a date may lie in."""

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


def read_times(cells: pd.Series, where: str) -> pd.Series:
    """Dates and times of a column, without a zone.

    Integers and digits are YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS; text may also be ISO 8601 (2018-06-30,
    2018-06-30T12:30). A zone may stand at midnight, whose day is the one that is written.

    Args:
        cells: Text, integers, or datetimes; indexed by the file's lines.
        where: The file and the column, for a message.

    Returns:
        The times, datetime64[ns].

    Raises:
        UsageError: A cell is missing or no such date.
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
        _refuse(texts[parts["year"].isna()], where)
    if "zone" in parts:
        clock = parts[["hour", "minute", "second"]].fillna("0").astype(int).any(axis=1)
        if (wrong := parts["zone"].notna() & clock).any():
            cell = texts[wrong]
            raise UsageError(
                f"{where}, {place(cell)}: {cell.iloc[0]!r} has a zone and a time of day: expected the site's own day "
                "or time, without a zone"
            )
    times = pd.to_datetime(parts[_PARTS].fillna("0").astype(int), errors="coerce")
    inside = parts["year"].astype(int).between(FIRST_YEAR, LAST_YEAR)
    if (wrong := times.isna() | ~inside).any():
        _refuse(texts[wrong], where)
    return times.astype("datetime64[ns]")


def _refuse(texts: pd.Series, where: str) -> None:
    """Say what the first of some cells is, and what is expected.

    Raises:
        UsageError: Always.
    """
    text = str(texts.iloc[0])
    found = "no date" if text.lower() in MISSING_TEXTS else f"{text[:40]!r} is no date"
    digits = len(text) if text.isdigit() else 0
    if digits and digits not in _DIGITS:
        found += f" ({digits} digits)"
    raise UsageError(
        f"{where}, {place(texts)}: {found}: expected dates such as 2018-06-30 or 20180630, years {FIRST_YEAR} to "
        f"{LAST_YEAR}"
    )
