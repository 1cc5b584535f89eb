"""Flux-tower data as daily tables.

Read are ONEFlux products (FLUXNET2015, AmeriFlux FLUXNET, ICOS), FULLSET and SUBSET, daily (DD) and half-hourly or
hourly (HH, HR), with the daily ERA meteorology; plain daily CSV files with the same column names; and daily tables.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from thalweg.errors import DataWarning, MissingPathError, UsageError
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.tables.daily_table import daily_table, is_daily_table, read_daily_table
from thalweg.gpp.tables.flux_days import check_quality, read_days
from thalweg.gpp.tables.flux_files import (
    DAY_COLUMN,
    MAX_LISTED,
    flux_files,
    open_flux_table,
    read_site_list,
    require_flux_columns,
    site_name,
)
from thalweg.gpp.tables.gpp_columns import gpp_columns, is_gpp_column, no_gpp_column, quality_column
from thalweg.gpp.tables.physical_limits import GPP_UNITS, LIMITS, METEOROLOGY, POTENTIAL_RADIATION
from thalweg.gpp.tables.table_files import TableFile

Partitioning = Literal["nt", "dt"]
"""Partitioning of net exchange by night-time respiration (nt) or daytime light response (dt)."""


@dataclass(frozen=True)
class FluxConfig:
    """Choice of the GPP column and of the usable days of flux files.

    Attributes:
        partitioning: GPP from night-time respiration (``nt``) or from daytime light response (``dt``).
        quality: Smallest share of measured or well-filled NEE of a day, 0 to 1 (quality column of the GPP column).
        keep_negative: Keep days of negative GPP; without them GPP in winter is biased upwards.
        gpp_column: Column to use instead of the partitioning's reference, such as GPP_NT_CUT_REF.

    Raises:
        UsageError: The partitioning or the quality is invalid.
    """

    partitioning: Partitioning = "nt"
    quality: float = 0.75
    keep_negative: bool = True
    gpp_column: str | None = None

    def __post_init__(self) -> None:
        if self.partitioning not in ("nt", "dt"):
            raise UsageError(f"partitioning {self.partitioning!r}: expected nt (night-time) or dt (daytime)")
        if not 0 <= self.quality <= 1:
            raise UsageError(f"quality {self.quality:g}: expected the smallest share of good data, 0 to 1")

    @property
    def column(self) -> str:
        """Name of the GPP column."""
        return f"GPP_{self.partitioning.upper()}_VUT_REF" if self.gpp_column is None else self.gpp_column


def read_flux(source: str | Path, config: FluxConfig | None = None, sites: str | Path | None = None) -> pd.DataFrame:
    """Read a flux file, a daily table (CSV or Parquet with columns site, time, gpp), or a folder of flux files.

    Args:
        source: File or folder. In a folder, metadata, auxiliary and weekly to yearly files are ignored, daily files
            are preferred to half-hourly ones of the same site, and daily ERA files are joined to the site's days.
        config: Choice of the GPP column and of the usable days; `FluxConfig()` by default.
        sites: List of sites with columns site, lat and igbp; ``towers.csv`` in the folder or its parent by default.

    Returns:
        Daily table (see `daily_table`): gpp (gC m-2 d-1), meteorology, SW_IN_POT (W m-2, from the file, else from the
        latitude), and vegetation and latitude where the list of sites has them. Values and files that were left out
        are listed in ``attrs["notes"]`` and as `DataWarning`.

    Raises:
        MissingPathError: The source or the list of sites does not exist.
        UsageError: There is no flux file or no GPP, units are wrong, or days are repeated; the message names the file.
    """
    source, config = Path(source), config or FluxConfig()
    site_list = Path(sites) if sites is not None else None
    if not source.exists():
        raise MissingPathError(f"{source}: no such file or folder: expected a flux file or a folder of them")
    notes: list[str] = []
    if source.is_file():
        file = open_flux_table(source)
        if is_daily_table(file):
            return _select_days(read_daily_table(file, config.gpp_column), config, file.name)
        files = [require_flux_columns(file)]
    else:
        files, notes = flux_files(source, site_list)
    known = read_site_list(source, site_list)
    by_site: dict[str, list[TableFile]] = {}
    for file in files:
        by_site.setdefault(site_name(file.path), []).append(file)
    parts = [_read_site(site, own, config, known) for site, own in by_site.items()]
    if unchecked := [str(part["site"].iloc[0]) for part in parts if not part.attrs["has_quality"]]:
        name = quality_column(config.column) or "quality column known"
        notes.append(f"{source.name}: no {name} at {_listed(unchecked)}: days are not selected by quality")
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    units = {name: unit for part in parts for name, unit in part.attrs["units"].items()}
    joined = pd.concat(parts, ignore_index=True)
    joined.attrs = {"notes": notes + [note for part in parts for note in part.attrs["notes"]]}
    return daily_table(joined, units, source.name)


def _read_site(site: str, files: Iterable[TableFile], config: FluxConfig, known: pd.DataFrame) -> pd.DataFrame:
    """Read the files of one site as rows of a daily table."""
    files = list(files)
    with_gpp = [file for file in files if config.column in file.names]
    if not with_gpp or not is_gpp_column(config.column):
        names = [name for file in files for name in file.names]
        label = next((file.name for file in files if gpp_columns(file.names)), files[0].name)
        raise no_gpp_column(label, config.column, dict.fromkeys(names))
    daily = [file for file in with_gpp if DAY_COLUMN in file.names] or with_gpp
    parts = [read_days(file, config.column) for file in daily]
    frame = _concatenate(parts, daily[0].name)
    notes = [note for days in parts for note in days.attrs["notes"]]
    for file in files:
        if not gpp_columns(file.names):
            weather = read_days(file, config.column)
            notes += weather.attrs["notes"]
            frame = _add_meteorology(frame, weather, file.name, site)
    table = _table_of_site(site, frame, config, known, daily[0].name)
    table.attrs["notes"] = notes + table.attrs["notes"]
    return table


def _concatenate(parts: list[pd.DataFrame], label: str) -> pd.DataFrame:
    """Concatenate the days of several files of one site.

    Raises:
        UsageError: A day is in more than one file.
    """
    joined = pd.concat(parts).sort_index()
    if joined.index.duplicated().any():
        day = joined.index[joined.index.duplicated()][0]
        raise UsageError(f"{label}: {day:%Y-%m-%d} is in more than one file of the site: keep one of them")
    return joined


def _add_meteorology(frame: pd.DataFrame, weather: pd.DataFrame, label: str, site: str) -> pd.DataFrame:
    """Add the columns of a meteorology file that the site's days lack.

    Raises:
        UsageError: The two have no day in common.
    """
    if not len(frame.index.intersection(weather.index)):
        raise UsageError(
            f"{label}: no overlap in time with the GPP of {site} ({_span(weather)}, GPP {_span(frame)}): "
            "expected meteorology of the same days"
        )
    return frame.join(weather[[name for name in weather if name not in frame]])


def _span(frame: pd.DataFrame) -> str:
    return f"{frame.index[0]:%Y-%m-%d} to {frame.index[-1]:%Y-%m-%d}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _usable_gpp(days: pd.DataFrame, column: str, quality: str | None, config: FluxConfig) -> pd.Series:
    """Return the GPP of the usable days, NaN on the others."""
    gpp = days[column]
    if quality in days:
        gpp = gpp.where(days[quality] >= config.quality)
    return gpp if config.keep_negative else gpp.where(gpp >= 0)


def _select_days(table: pd.DataFrame, config: FluxConfig, label: str) -> pd.DataFrame:
    """Keep the GPP of the usable days of a daily table, by the quality column of a chosen GPP column if present."""
    name = None if config.gpp_column is None else quality_column(config.gpp_column)
    if name in table:
        check_quality(table[name], label, has_steps=False)
    elif name is not None:
        note = f"{label}: no {name}: days are not selected by quality"
        table.attrs["notes"].append(note)
        warnings.warn(note, DataWarning, stacklevel=3)
    table["gpp"] = _usable_gpp(table, "gpp", name, config)
    return table


def _table_of_site(site: str, days: pd.DataFrame, config: FluxConfig, known: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return a site's days as rows of a daily table."""
    quality, notes = quality_column(config.column), []
    present, gpp = days[config.column].notna(), _usable_gpp(days, config.column, quality, config)
    if present.any() and gpp.isna().all():
        sign = "" if config.keep_negative else ", negative days left out"
        notes.append(
            f"{label}: none of {present.sum()} days with GPP has {quality} of {config.quality:g} or more{sign}"
        )
    # Reanalysis is available at every site; gap-filled measurements are used where it is missing.
    names = {
        base: next((f"{base}_{kind}" for kind in ("ERA", "F") if f"{base}_{kind}" in days), None)
        for base in METEOROLOGY
    }
    table = days[[name for name in names.values() if name]].copy()
    units = {name: LIMITS[base].units for base, name in names.items() if name} | {"gpp": GPP_UNITS}
    latitude = known["latitude"].get(site) if "latitude" in known else None
    latitude = None if latitude is None or np.isnan(latitude) else float(latitude)
    if POTENTIAL_RADIATION in days:
        table[POTENTIAL_RADIATION] = days[POTENTIAL_RADIATION]
    elif latitude is not None:
        table[POTENTIAL_RADIATION] = potential_radiation(latitude, days.index.to_numpy())
    if POTENTIAL_RADIATION in table:
        units[POTENTIAL_RADIATION] = "W m-2"
    table.insert(0, "site", site)
    table.insert(1, "time", days.index)
    table.insert(2, "gpp", gpp)
    if latitude is not None:
        table.insert(3, "latitude", latitude)
    if "vegetation" in known and site in known.index:
        table.insert(3, "vegetation", str(known["vegetation"][site]))
    table.attrs = {"units": units, "notes": notes, "has_quality": quality in days}
    return table
