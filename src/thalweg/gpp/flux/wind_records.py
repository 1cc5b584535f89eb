"""Half-hourly wind and stability of flux files, for the footprint of a tower."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.errors import UsageError
from thalweg.gpp.flux.flux_files import DAY_COLUMN, STEP_COLUMN, flux_files, open_flux_table, site_name
from thalweg.gpp.footprint.flow_records import FlowSeries, obukhov_length
from thalweg.gpp.tables.daily_table import is_daily_table
from thalweg.gpp.tables.physical_limits import check_units, replace_missing_codes
from thalweg.gpp.tables.table_files import TableFile, split_units_row, to_numbers
from thalweg.gpp.tables.target_columns import FluxTarget, quality_column
from thalweg.gpp.tables.timestamps import read_times

DIRECTION, FRICTION = "WD", "USTAR"
_SPEED = ("WS", "WS_F")
_HEAT = ("H", "H_F_MDS")
_TEMPERATURE = ("TA", "TA_F", "TA_ERA")
_PRESSURE = ("PA", "PA_F", "PA_ERA")
_LENGTH, _CROSSWIND, _LAYER = "MO_LENGTH", "V_SIGMA", "PBLH"
_MEASURED = 0  # flag of a record that was measured, not filled

# Records outside of these limits are left out.
_LIMITS = {
    DIRECTION: (0, 360), FRICTION: (0, 10), "WS": (0, 115), "WS_F": (0, 115), "H": (-1000, 2000),
    "H_F_MDS": (-1000, 2000), _CROSSWIND: (0, 20), _LAYER: (10, 6000),
}  # fmt: skip


@dataclass(frozen=True)
class WindColumns:
    """Columns of a half-hourly file that a footprint is computed from.

    Attributes:
        speed: Wind speed.
        stability: Obukhov length, or heat flux, temperature and pressure.
        optional: Standard deviation of the lateral wind and height of the boundary layer, where the file has them.
    """

    speed: str
    stability: tuple[str, ...]
    optional: tuple[str, ...]

    @classmethod
    def of(cls, file: TableFile) -> "WindColumns":
        """Return the columns of a file.

        Raises:
            UsageError: The file has daily rows, or lacks wind or stability.
        """
        if STEP_COLUMN not in file.names or is_daily_table(file):
            raise UsageError(f"{file.name}: daily values: expected a half-hourly file (_HH_) for a footprint")
        speed = _first(_SPEED, file)
        derived = tuple(_first(names, file) for names in (_HEAT, _TEMPERATURE, _PRESSURE))
        stability = (_LENGTH,) if _LENGTH in file.names else derived
        needed = {DIRECTION: DIRECTION in file.names, "WS": speed, FRICTION: FRICTION in file.names}
        needed["MO_LENGTH, or H, TA and PA"] = all(stability)
        if missing := [name for name, found in needed.items() if not found]:
            raise UsageError(f"{file.name}: no column {missing[0]}: expected wind and stability for a footprint")
        found = tuple(name for name in stability if name)
        return cls(str(speed), found, tuple(name for name in (_CROSSWIND, _LAYER) if name in file.names))


def read_wind(source: Path, site: str | None, target: FluxTarget) -> FlowSeries:
    """Read the half-hourly wind and stability of a site.

    Records count whose flux was measured, by the quality column of the target's reference; all of them without it.

    Args:
        source: Half-hourly flux file, or a folder with one of the site.
        site: Site in a folder; needed where it has several.
        target: Target whose fluxes have the footprint.

    Returns:
        Records in order of time, NaN where a value is missing or impossible.

    Raises:
        UsageError: There is no half-hourly file with the columns, or it is damaged.
    """
    files = [open_flux_table(source)] if source.is_file() else _site_files(source, site, target)
    columns = [WindColumns.of(file) for file in files]
    parts = [_read(file, own, target) for file, own in zip(files, columns, strict=True)]
    joined = pd.concat(parts).sort_index()
    if joined.index.has_duplicates:
        raise UsageError(f"{files[0].name}: {joined.index[joined.index.duplicated()][0]} is in more than one file")
    return FlowSeries(
        time=joined.index.to_numpy().astype("datetime64[ns]"),
        measured=joined.pop("measured").to_numpy(bool),
        **{str(name): values.to_numpy(float) for name, values in joined.items()},
    )


def _site_files(folder: Path, site: str | None, target: FluxTarget) -> list[TableFile]:
    """Return the half-hourly files of a site that have wind.

    Raises:
        UsageError: There is none, or there are several sites.
    """
    files = [file for file in flux_files(folder, None, target)[0] if DAY_COLUMN not in file.names]
    own = [file for file in files if DIRECTION in file.names and site in (None, site_name(file.path))]
    if not own:
        raise UsageError(f"{folder.name}: no half-hourly file (_HH_) with wind: expected one for a footprint")
    if len({site_name(file.path) for file in own}) > 1:
        raise UsageError(f"{folder.name}: several sites with half-hourly wind: name one with `site`")
    return own


def _read(file: TableFile, columns: WindColumns, target: FluxTarget) -> pd.DataFrame:
    """Read the records of a file with the names of `FlowSeries`."""
    references = [quality_column(names[0]) for names in target.reference_columns("nt")]
    quality = next((name for name in references if name in file.names), None)
    speed_quality = f"{columns.speed}_QC" if f"{columns.speed}_QC" in file.names else None
    wanted = {
        STEP_COLUMN, DIRECTION, columns.speed, FRICTION, *columns.stability, *columns.optional, quality, speed_quality,
    }  # fmt: skip
    units, cells = split_units_row(file.read(lambda name: name in wanted), STEP_COLUMN, file.name)
    for name, unit in (file.units | units).items():
        if name in cells:
            check_units(name, unit, file.name, steps=True)
    time = read_times(cells[STEP_COLUMN], f"{file.name}: column {STEP_COLUMN!r}")
    values = to_numbers(cells.drop(columns=STEP_COLUMN), file.name, decimal_comma=file.delimiter != ",")
    values = replace_missing_codes(values, [str(name) for name in values]).astype(float)
    for column in values:
        low, high = _LIMITS.get(str(column), (-np.inf, np.inf))
        values[column] = values[column].where(values[column].between(low, high))
    measured = pd.Series(True, values.index) if quality is None else values[quality] == _MEASURED
    if speed_quality is not None:  # a filled wind speed does not belong to the friction velocity
        measured &= values[speed_quality] == _MEASURED
    records = pd.DataFrame(
        {
            "wind_from": values[DIRECTION],
            "wind_speed": values[columns.speed],
            "friction_velocity": values[FRICTION],
            "obukhov_length": _obukhov_length(values, columns),
            "crosswind_std": values.get(_CROSSWIND, np.nan),
            "boundary_layer": values.get(_LAYER, np.nan),
            "measured": measured,
        }
    )
    records.index = pd.DatetimeIndex(time)
    return records


def _obukhov_length(values: pd.DataFrame, columns: WindColumns) -> NDArray[np.float64]:
    if columns.stability == (_LENGTH,):
        return values[_LENGTH].to_numpy(float)
    heat, temperature, pressure = (values[name].to_numpy(float) for name in columns.stability)
    return obukhov_length(values[FRICTION].to_numpy(float), heat, temperature, pressure)


def _first(names: tuple[str, ...], file: TableFile) -> str | None:
    return next((name for name in names if name in file.names), None)
