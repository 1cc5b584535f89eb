"""Daily values of a flux file: from daily rows, or from half-hourly and hourly rows aggregated to days."""

import warnings
from collections.abc import Sequence

import pandas as pd

from thalweg.errors import DataWarning, UsageError
from thalweg.gpp.flux.flux_files import DAY_COLUMN, STEP_COLUMN
from thalweg.gpp.flux.half_hours import aggregate_steps
from thalweg.gpp.tables.physical_limits import (
    METEOROLOGY_COLUMN,
    POTENTIAL_RADIATION,
    check_units,
    mask_impossible,
    replace_missing_codes,
)
from thalweg.gpp.tables.table_files import TableFile, split_units_row, to_numbers
from thalweg.gpp.tables.timestamps import read_times


def read_days(file: TableFile, columns: Sequence[str], quality: str | None) -> pd.DataFrame:
    """Read the days of a flux file.

    Args:
        file: File with a column of times.
        columns: Columns of fluxes and of their uncertainty.
        quality: Their quality column; None where it is not known.

    Returns:
        Fluxes (of carbon in gC m-2 d-1, of heat in W m-2), quality, potential radiation and
        meteorology, as far as the file has them, indexed by day;
        ``attrs["notes"]`` holds one line per thing that was left out.

    Raises:
        UsageError: A cell, a date or the units are invalid, or a time is repeated.
    """
    has_steps = DAY_COLUMN not in file.names
    time_column = STEP_COLUMN if has_steps else DAY_COLUMN

    def wanted(name: str) -> bool:
        return name in (time_column, *columns, quality, POTENTIAL_RADIATION) or bool(METEOROLOGY_COLUMN.match(name))

    units, cells = split_units_row(file.read(wanted), time_column, file.name)
    for name, unit in (file.units | units).items():
        if name in cells:
            check_units(name, unit, file.name, has_steps)
    time = read_times(cells[time_column], f"{file.name}: column {time_column!r}")
    values = to_numbers(cells.drop(columns=time_column), file.name, decimal_comma=file.delimiter != ",")
    read = [str(name) for name in values]
    values = replace_missing_codes(values, read)
    if quality in values:
        check_quality(values[quality], file.name, has_steps)
    values, notes = mask_impossible(values, read, file.name, has_steps)
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    values.index = pd.DatetimeIndex(time)
    values = values.sort_index()
    repeated = values.index.duplicated()
    if repeated.any():
        raise UsageError(f"{file.name}: {values.index[repeated][0]:%Y-%m-%d %H:%M} is repeated: expected it once")
    if has_steps:
        days = aggregate_steps(values, file.name, quality)
    else:
        _check_whole_days(values, file.name)
        days = values
    days.attrs = {"notes": notes}
    return days


def check_quality(quality: pd.Series, label: str, has_steps: bool) -> None:
    """Refuse a quality column that is neither a share of good data (days) nor a flag (steps).

    Args:
        quality: The column.
        label: Name of the file in the message.
        has_steps: Rows are hours or half-hours, not days.

    Raises:
        UsageError: A value is invalid.
    """
    good = quality.isin([0, 1, 2, 3]) if has_steps else quality.between(0, 1)
    wrong = quality[quality.notna() & ~good]
    if len(wrong):
        expected = "flags 0 to 3" if has_steps else "the share of good data, 0 to 1"
        raise UsageError(f"{label}: column {quality.name!r} holds {wrong.iloc[0]:g}: expected {expected}")


def _check_whole_days(values: pd.DataFrame, label: str) -> None:
    """Refuse rows that are not days.

    Raises:
        UsageError: A row has a time of day, or the rows have other steps.
    """
    time = pd.DatetimeIndex(values.index)
    step = time.to_series().diff().median()
    if (time != time.normalize()).any() or (len(time) > 2 and step != pd.Timedelta(days=1)):
        raise UsageError(f"{label}: column {DAY_COLUMN!r}: steps of {step}: expected one row per day")
