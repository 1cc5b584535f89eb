"""Daily table: one row per site and day, with a target (GPP by default) and any number of features.

Columns: ``site`` (str), ``time`` (datetime64[ns], midnight), ``gpp`` (gC m-2 d-1, NaN where it is not usable),
or another target's column (``nee``, ``reco``, ``et``) named in ``table.attrs["target"]``,
optionally ``TARGET_UNCERTAINTY`` (its standard uncertainty in the same units, NaN where it is not known),
``vegetation`` (an IGBP class or another name) and ``latitude`` (degrees), and any number of numeric
feature columns. Units by column are in ``table.attrs["units"]``. Rows are ordered by site and time; days without a
row are gaps.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from thalweg.errors import DataWarning, UsageError
from thalweg.gpp.tables.physical_limits import (
    check_gpp_magnitude,
    check_units,
    mask_impossible,
    replace_missing_codes,
)
from thalweg.gpp.tables.table_files import MISSING_TEXTS, TableFile, as_text, first_row, split_units_row, to_numbers
from thalweg.gpp.tables.target_columns import (
    FLUX_COLUMNS,
    GPP,
    TARGET_UNCERTAINTY,
    TARGETS,
    FluxTarget,
    no_target_column,
    target_of,
)
from thalweg.gpp.tables.timestamps import read_times

_KEYS = ("site", "time", "gpp", TARGET_UNCERTAINTY, "vegetation", "latitude")
_TEXTS = ("site", "time", "vegetation")  # columns that are not numbers
_SITE_NAMES = ("site", "site_id")
_TIME_NAMES = ("time", "date", "timestamp")
_MAX_NAMES = 8  # in a message


CLASS_PREFIX = "vegetation_"
"""Beginning of the names of the 0/1 columns of vegetation classes."""


def daily_table(frame: pd.DataFrame, units: Mapping[str, str] | None = None, label: str = "table") -> pd.DataFrame:
    """Check, clean and order a daily table.

    Codes of missing values (-9999, -6999) and infinities become NaN in every column. Values of GPP and meteorology
    outside their physical limits become NaN too, and a `DataWarning` counts them.

    Args:
        frame: Table with the columns ``site``, ``time`` and ``gpp`` (gC m-2 d-1), optionally ``vegetation`` and
            ``latitude`` (degrees north), and numeric features, in any order of rows.
        units: Units by column; those in ``frame.attrs["units"]`` apply to the columns that are missing here.
        label: Name of the table in messages.

    Returns:
        A new table ordered by site and time. ``attrs["units"]`` holds the units by column, ``attrs["notes"]`` one line
        per thing that was left out.

    Raises:
        UsageError: A column is missing or not numeric, a day is repeated, or values are in other units.
    """
    target = target_of(frame)
    table = frame.copy() if frame.index.is_unique else frame.reset_index(drop=True)
    attrs: dict[str, Any] = {
        "units": {target.column: target.units} | frame.attrs.get("units", {}) | dict(units or {}),
        "notes": list(frame.attrs.get("notes", [])),
        "target": target.name,
    }
    daily = f"daily {target.label} in {target.units}"
    for column, meaning in (("site", "the site's name"), ("time", "the day"), (target.column, daily)):
        if column not in table:
            in_moles = [str(name) for name in table if str(name).lower().startswith(column) and "mol" in str(name)]
            if in_moles:
                check_units(in_moles[0], in_moles[0][len(column) :].strip(" _()[]"), label)
            raise UsageError(f"{label}: no column {column!r} ({meaning}): it has {_listed(table.columns)}")
    for column, unit in attrs["units"].items():
        if column in table and not _of_another_target(column, target):
            check_units(column, unit, label)
    table["site"] = _site_names(table["site"], label)
    table["time"] = read_times(table["time"], f"{label}: column 'time'").dt.normalize()
    columns = [str(name) for name in table if name not in _TEXTS]
    table[columns] = to_numbers(table[columns], label)
    limited = [name for name in columns if not _of_another_target(name, target)]
    table, impossible = mask_impossible(replace_missing_codes(table, columns), limited, label)
    for note in impossible:
        warnings.warn(note, DataWarning, stacklevel=2)
    if "latitude" in table and not (table["latitude"].isna() | table["latitude"].between(-90, 90)).all():
        raise UsageError(f"{label}: column 'latitude' reaches {table['latitude'].abs().max():g}: expected -90 to 90")
    if TARGET_UNCERTAINTY in table and (table[TARGET_UNCERTAINTY] < 0).any():
        raise UsageError(
            f"{label}: column {TARGET_UNCERTAINTY!r} holds {table[TARGET_UNCERTAINTY].min():g}: expected standard "
            f"deviations in {target.units}, 0 or more, missing ones as -9999"
        )
    repeated = table.duplicated(["site", "time"])
    if repeated.any():
        row = table[repeated].iloc[0]
        raise UsageError(
            f"{label}: {row.time:%Y-%m-%d} is repeated at site {row.site}: expected one row per site and day; "
            "remove the copy or average the rows"
        )
    for site, rows in table.groupby("site") if target.is_gpp else ():
        check_gpp_magnitude(rows["gpp"], str(site), label)
    ordered = table.sort_values(["site", "time"], ignore_index=True)
    ordered.attrs = attrs | {"notes": attrs["notes"] + impossible}
    return ordered


def is_daily_table(file: TableFile) -> bool:
    """Return True if a file has a column of sites and one of days."""
    return file.column(*_SITE_NAMES) is not None and file.column(*_TIME_NAMES) is not None


def read_daily_table(
    file: TableFile, gpp_column: str | None = None, units: Mapping[str, str] | None = None, target: FluxTarget = GPP
) -> pd.DataFrame:
    """Read a daily table from a file (CSV or Parquet).

    Args:
        file: File with its days in a column ``time``, ``date`` or ``TIMESTAMP``.
        gpp_column: Column of the target; the one of its name, such as ``gpp``, by default.
        units: Units by column, where the file does not give them.
        target: FluxTarget of the table; columns of other targets are not read, unless it is GPP.

    Returns:
        The table as `daily_table` returns it.

    Raises:
        UsageError: The file is not a daily table; see `daily_table`.
    """
    names = {"site": file.column(*_SITE_NAMES), "time": file.column(*_TIME_NAMES)}
    for name, found in names.items():
        if found is None:
            raise UsageError(f"{file.name}: no column {name!r}: it has {_listed(file.names)}")
    own = target.column
    gpp = file.column(own) if gpp_column is None else gpp_column
    # Latent heat of a daily table is not converted: its ET is in a column of that name.
    held = gpp is not None and (gpp.lower() == own or (target.flux != "LE" and target.holds(gpp)))
    if gpp is None or gpp not in file.names or not held:
        raise no_target_column(file.name, gpp or own, file.names, target)
    written = {found: name for name, found in (names | {own: gpp}).items() if found is not None}
    others = ("site", "gpp") if target.is_gpp else ("site", *FLUX_COLUMNS)
    cells = file.read(lambda name: bool(name) and (name in written or name.lower() not in others))
    row_units, cells = split_units_row(cells, str(names["time"]), file.name)
    given = {written.get(name, name): unit for name, unit in (file.units | row_units).items()}
    cells = cells.rename(columns=written)
    cells["time"] = read_times(cells["time"], f"{file.name}: column {names['time']!r}")
    columns = [str(name) for name in cells if name not in _TEXTS]
    cells[columns] = to_numbers(cells[columns], file.name, decimal_comma=file.delimiter != ",")
    cells.attrs["target"] = target.name
    return daily_table(cells, {**(units or {}), **given}, file.name)


def require_target(table: pd.DataFrame, label: str) -> None:
    """Refuse a table without a day of its target.

    Args:
        table: Daily table.
        label: Name of the table in the message.

    Raises:
        UsageError: No day has it; the message lists what was left out before.
    """
    target = target_of(table)
    if not table[target.column].notna().any():
        notes = "".join(f"; {note}" for note in table.attrs.get("notes", []))
        raise UsageError(f"{label}: no day with usable {target.label} among {len(table)}: expected some{notes}")


def _of_another_target(name: str, target: FluxTarget) -> bool:
    """Return True if a column holds a flux that is not the table's target; its units and limits are not checked."""
    others = [one for one in TARGETS.values() if one.column != target.column]
    return any(name == one.column or one.holds(name) for one in others)


def _site_names(sites: pd.Series, label: str) -> pd.Series:
    """Return the names of sites as text.

    Raises:
        UsageError: A name is missing.
    """
    texts = as_text(sites)
    missing = texts.str.lower().isin(MISSING_TEXTS | {"-9999", "-6999"})
    if missing.any():
        raise UsageError(f"{label}: column 'site', {first_row(sites[missing])}: no site: name it")
    return texts


def feature_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns a model may predict from: all but site, time, targets, uncertainty, vegetation, latitude."""
    return [column for column in table.columns if column not in (*_KEYS, target_of(table).column)]


def with_vegetation_columns(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Add one 0/1 column per vegetation class, so that every model can use the class as a feature.

    Args:
        table: Daily table with a column ``vegetation``.

    Returns:
        The wider table, and the names of the new columns.

    Raises:
        UsageError: The column is missing, or a site has no class.
    """
    if "vegetation" not in table:
        raise UsageError(
            "no column 'vegetation': expected a class per site: list the sites with their class (site, igbp) in "
            f"towers.csv next to the flux files, or add the column; the table has {_listed(table.columns)}"
        )
    missing = as_text(table["vegetation"]).isin(["", "-9999"])
    if missing.any():
        raise UsageError(
            f"no vegetation class at site {table.loc[missing, 'site'].iloc[0]}: expected one per site: list it (site, "
            "igbp) in towers.csv next to the flux files"
        )
    classes = sorted(table["vegetation"].astype(str).unique())
    added = {f"{CLASS_PREFIX}{name}": (table["vegetation"].astype(str) == name).astype("float32") for name in classes}
    wider = table.assign(**added)
    wider.attrs = dict(table.attrs)
    return wider, list(added)


def with_model_classes(table: pd.DataFrame, features: Iterable[str]) -> pd.DataFrame:
    """Add the 0/1 columns of vegetation classes that a model needs, where the table has the site's class.

    A class that the model did not learn from is 0 in all of them.

    Args:
        table: Daily table.
        features: Features of the model.
    """
    needed = [name for name in features if name.startswith(CLASS_PREFIX) and name not in table]
    if not needed or "vegetation" not in table:
        return table
    classes = table["vegetation"].astype(str)
    return table.assign(**{name: (classes == name.removeprefix(CLASS_PREFIX)).astype("float32") for name in needed})


def _listed(columns: Iterable[str]) -> str:
    names = [str(column) for column in columns]
    return ", ".join(names[:_MAX_NAMES]) + (f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else "")
