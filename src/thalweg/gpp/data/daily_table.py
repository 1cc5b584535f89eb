"""What a daily table is: one row per site and day, GPP beside any number of features.

Columns: ``site`` (str), ``time`` (datetime64[ns], midnight), ``gpp`` (gC m-2 d-1, NaN where it is not usable),
optionally ``vegetation`` (an IGBP class or another name) and ``latitude`` (degrees), and any number of numeric
feature columns. Units by column are in ``table.attrs["units"]``. Rows are in order of site and time; days without a
row are gaps.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from thalweg.errors import DataWarning, UsageError
from thalweg.gpp.tables.gpp_columns import is_gpp_column, no_gpp_column
from thalweg.gpp.tables.plausible_values import (
    GPP_UNITS,
    check_gpp_magnitude,
    check_units,
    without_codes,
    without_impossible,
)
from thalweg.gpp.tables.table_files import MISSING_TEXTS, TableFile, as_text, numbers, place, take_units_row
from thalweg.gpp.tables.timestamps import read_times

_KEYS = ("site", "time", "gpp", "vegetation", "latitude")
_WORDS = ("site", "time", "vegetation")  # columns that are no numbers
_SITES = ("site", "site_id")
_TIMES = ("time", "date", "timestamp")


def daily_table(frame: pd.DataFrame, units: Mapping[str, str] | None = None, source: str = "table") -> pd.DataFrame:
    """Check, clean and order a daily table.

    Codes of missing values (-9999, -6999) and infinities become NaN in every column; so do impossible values of GPP
    and meteorology (see `plausible`), which a `DataWarning` counts.

    Args:
        frame: Columns as the module says, in any order of rows; extra columns must be numeric.
        units: Units by column; those in ``frame.attrs["units"]`` are kept where this says nothing.
        source: What to call the table in a message.

    Returns:
        A new table, rows in order of site and time; ``attrs["units"]`` filled for ``gpp``, ``attrs["notes"]`` one line
        for each thing that was left out.

    Raises:
        UsageError: A column is missing or no number, a day comes twice, or values are in other units.
    """
    table = frame.copy() if frame.index.is_unique else frame.reset_index(drop=True)
    attrs: dict[str, Any] = {
        "units": {"gpp": GPP_UNITS} | frame.attrs.get("units", {}) | dict(units or {}),
        "notes": list(frame.attrs.get("notes", [])),
    }
    for column, meaning in (("site", "the site's name"), ("time", "the day"), ("gpp", f"daily GPP in {GPP_UNITS}")):
        if column not in table:
            in_moles = [str(name) for name in table if str(name).lower().startswith(column) and "mol" in str(name)]
            if in_moles:
                check_units(in_moles[0], in_moles[0][len(column) :].strip(" _()[]"), source)
            raise UsageError(f"{source}: no column {column!r} ({meaning}): it has {_named(table.columns)}")
    for column, unit in attrs["units"].items():
        if column in table:
            check_units(column, unit, source)
    table["site"] = _site_names(table["site"], source)
    table["time"] = read_times(table["time"], f"{source}: column 'time'").dt.normalize()
    columns = [str(name) for name in table if name not in _WORDS]
    table[columns] = numbers(table[columns], source)
    table, impossible = without_impossible(without_codes(table, columns), columns, source)
    for note in impossible:
        warnings.warn(note, DataWarning, stacklevel=2)
    if "latitude" in table and not (table["latitude"].isna() | table["latitude"].between(-90, 90)).all():
        raise UsageError(f"{source}: column 'latitude' goes to {table['latitude'].abs().max():g}: expected -90 to 90")
    twice = table.duplicated(["site", "time"])
    if twice.any():
        row = table[twice].iloc[0]
        raise UsageError(
            f"{source}: {row.time:%Y-%m-%d} comes twice at site {row.site}: expected one row per site and day; "
            "drop the copy or average them"
        )
    for site, rows in table.groupby("site"):
        check_gpp_magnitude(rows["gpp"], str(site), source)
    ordered = table.sort_values(["site", "time"], ignore_index=True)
    ordered.attrs = attrs | {"notes": attrs["notes"] + impossible}
    return ordered


def is_daily_table(file: TableFile) -> bool:
    """Whether a file has a column of sites and one of days."""
    return _column(file, _SITES) is not None and _column(file, _TIMES) is not None


def read_daily_table(
    file: TableFile, gpp_column: str | None = None, units: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a daily table from a file (CSV or Parquet).

    Args:
        file: Its days are in a column ``time``, ``date`` or ``TIMESTAMP``.
        gpp_column: The column of GPP; ``gpp`` by default.
        units: Units by column, where the file does not say them.

    Raises:
        UsageError: It is no daily table; see `daily_table`.
    """
    names = {"site": _column(file, _SITES), "time": _column(file, _TIMES)}
    for name, found in names.items():
        if found is None:
            raise UsageError(f"{file.where}: no column {name!r}: it has {_named(file.names)}")
    gpp = _column(file, ("gpp",)) if gpp_column is None else gpp_column
    if gpp is None or gpp not in file.names or not (gpp.lower() == "gpp" or is_gpp_column(gpp)):
        raise no_gpp_column(file.where, gpp or "gpp", file.names)
    written = {found: name for name, found in (names | {"gpp": gpp}).items() if found is not None}
    cells = file.read(lambda name: bool(name) and (name in written or name.lower() not in ("site", "gpp")))
    row_units, cells = take_units_row(cells, str(names["time"]), file.where)
    said = {written.get(name, name): unit for name, unit in (file.units | row_units).items()}
    cells = cells.rename(columns=written)
    cells["time"] = read_times(cells["time"], f"{file.where}: column {names['time']!r}")
    columns = [str(name) for name in cells if name not in _WORDS]
    cells[columns] = numbers(cells[columns], file.where, decimal_comma=file.delimiter != ",")
    return daily_table(cells, {**(units or {}), **said}, file.where)


def require_gpp(table: pd.DataFrame, source: str) -> None:
    """Refuse a table without a day of GPP.

    Raises:
        UsageError: There is none; the message says what was left out before.
    """
    if not table["gpp"].notna().any():
        notes = "".join(f"; {note}" for note in table.attrs.get("notes", []))
        raise UsageError(f"{source}: no day with usable GPP among {len(table)}: expected some{notes}")


def _column(file: TableFile, names: Iterable[str]) -> str | None:
    """The first column that has one of some names, in upper or lower case."""
    written = {name.lower(): name for name in reversed(file.names)}
    return next((written[name] for name in names if name in written), None)


def _site_names(sites: pd.Series, source: str) -> pd.Series:
    """Names of sites as text.

    Raises:
        UsageError: One is missing.
    """
    texts = as_text(sites)
    missing = texts.str.lower().isin(MISSING_TEXTS | {"-9999", "-6999"})
    if missing.any():
        raise UsageError(f"{source}: column 'site', {place(sites[missing])}: no site: name it")
    return texts


def feature_columns(table: pd.DataFrame) -> list[str]:
    """The columns a model may predict from: all but site, time, gpp, vegetation and latitude."""
    return [column for column in table.columns if column not in _KEYS]


def with_vegetation_columns(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Add one 0/1 column per vegetation class, so that any model can use the class as a feature."""
    if "vegetation" not in table:
        raise UsageError(f"no column 'vegetation': expected a class per site; the table has {_named(table.columns)}")
    missing = as_text(table["vegetation"]).isin(["", "-9999"])
    if missing.any():
        raise UsageError(f"no vegetation class at site {table.loc[missing, 'site'].iloc[0]}: expected one per site")
    classes = sorted(table["vegetation"].astype(str).unique())
    added = {f"vegetation_{name}": (table["vegetation"].astype(str) == name).astype("float32") for name in classes}
    wider = table.assign(**added)
    wider.attrs = dict(table.attrs)
    return wider, list(added)


def _named(columns: Iterable[str]) -> str:
    names = [str(column) for column in columns]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
