"""Flux-tower data as daily tables.

Read are ONEFlux products (FLUXNET2015, AmeriFlux FLUXNET, ICOS), FULLSET and SUBSET, daily (DD) and half-hourly or
hourly (HH, HR), with their ERA meteorology; plain daily CSV files with the same column names; and daily tables.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from thalweg.errors import DataWarning, MissingPathError, UsageError
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.flux.flux_days import check_quality, read_days
from thalweg.gpp.flux.flux_files import (
    DAY_COLUMN,
    MAX_LISTED,
    flux_files,
    open_flux_table,
    read_site_list,
    require_flux_columns,
    site_name,
)
from thalweg.gpp.flux.flux_names import FluxFileName
from thalweg.gpp.flux.flux_policy import SiteRecord, policy_lines
from thalweg.gpp.flux.flux_uncertainty import UncertaintyColumns
from thalweg.gpp.tables.daily_table import daily_table, is_daily_table, read_daily_table
from thalweg.gpp.tables.physical_limits import LIMITS, METEOROLOGY, POTENTIAL_RADIATION, SITE_COLUMNS
from thalweg.gpp.tables.table_files import TableFile
from thalweg.gpp.tables.target_columns import (
    GPP,
    TARGET_UNCERTAINTY,
    FluxTarget,
    no_target_column,
    quality_column,
    target_named,
)

Partitioning = Literal["nt", "dt"]
"""Partitioning of net exchange by night-time respiration (nt) or daytime light response (dt)."""


@dataclass(frozen=True)
class FluxConfig:
    """Choice of the target, its column and the usable days of flux files.

    Attributes:
        partitioning: GPP and RECO from night-time respiration (``nt``) or from daytime light response (``dt``).
        quality: Smallest share of a day's measured or well-filled NEE (LE for ET), 0 to 1, in its quality column.
        keep_negative: Keep days of negative GPP; without them GPP in winter is biased upwards.
        gpp_column: Column of the target to use instead of the reference, such as GPP_NT_CUT_REF.
        target: Key of `TARGETS`. The reference at a varying threshold (VUT) is used, or at a constant one (CUT) where
            a site has no other. None is GPP at a varying threshold and nothing else.

    Raises:
        UsageError: The partitioning, the quality or the target is invalid, or they contradict each other.
    """

    partitioning: Partitioning = "nt"
    quality: float = 0.75
    keep_negative: bool = True
    gpp_column: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if self.partitioning not in ("nt", "dt"):
            raise UsageError(f"partitioning {self.partitioning!r}: expected nt (night-time) or dt (daytime)")
        if not 0 <= self.quality <= 1:
            raise UsageError(f"quality {self.quality:g}: expected the smallest share of good data, 0 to 1")
        if self.quantity.flux not in ("GPP", "RECO") and not self.keep_negative:
            raise UsageError(f"target {self.target}: negative {self.quantity.label} is no error: keep it")

    @property
    def quantity(self) -> FluxTarget:
        """Target of the tables."""
        return GPP if self.target is None else target_named(self.target)

    @property
    def choices(self) -> list[tuple[str, ...]]:
        """Columns of which the first present are used, each time those whose mean is the target."""
        if self.gpp_column is not None:
            return [(self.gpp_column,)]
        references = self.quantity.reference_columns(self.partitioning)
        return references[:1] if self.target is None else references


def read_flux(source: str | Path, config: FluxConfig | None = None, sites: str | Path | None = None) -> pd.DataFrame:
    """Read a flux file, a daily table (CSV or Parquet with columns site, time, gpp), or a folder of flux files.

    Args:
        source: File or folder. In a folder, metadata, auxiliary and weekly to yearly files are ignored, daily files
            are preferred to half-hourly ones of the same site, and daily ERA files are joined to the site's days.
        config: Choice of the GPP column and of the usable days; `FluxConfig()` by default.
        sites: List of sites with columns site, lat and igbp; ``towers.csv`` in the folder or its parent by default.

    Returns:
        Daily table (see `daily_table`): the target (gpp in gC m-2 d-1), its uncertainty where known, meteorology,
        SW_IN_POT (W m-2, from the file, else from the latitude), and vegetation and latitude where the list of sites
        has them.
        Values and files that were left out are listed in ``attrs["notes"]`` and as `DataWarning`;
        ``attrs["policy"]`` states columns, quality, gaps and storage, one line each.

    Raises:
        MissingPathError: The source or the list of sites does not exist.
        UsageError: There is no flux file or no target, units are wrong, or days are repeated; the message names
            the file.
    """
    source, config = Path(source), config or FluxConfig()
    site_list = Path(sites) if sites is not None else None
    if not source.exists():
        raise MissingPathError(f"{source}: no such file or folder: expected a flux file or a folder of them")
    notes: list[str] = []
    if source.is_file():
        file = open_flux_table(source)
        if is_daily_table(file):
            table = read_daily_table(file, config.gpp_column, target=config.quantity)
            return _select_days(table, config, file.name)
        files = [require_flux_columns(file, config.quantity)]
    else:
        files, notes = flux_files(source, site_list, config.quantity)
    known = read_site_list(source, site_list)
    by_site: dict[str, list[TableFile]] = {}
    for file in files:
        by_site.setdefault(site_name(file.path), []).append(file)
    parts = [_read_site(site, own, config, known) for site, own in by_site.items()]
    records = [part.attrs["record"] for part in parts]
    unchecked_sites: dict[str, list[str]] = {}
    for one in records:
        if not one.has_quality:
            unchecked_sites.setdefault(one.quality or "quality column known", []).append(one.site)
    for quality, unchecked in unchecked_sites.items():
        notes.append(f"{source.name}: no {quality} at {_listed(unchecked)}: days are not selected by quality")
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    units = {name: unit for part in parts for name, unit in part.attrs["units"].items()}
    joined = pd.concat(parts, ignore_index=True)
    joined.attrs = {
        "notes": notes + [note for part in parts for note in part.attrs["notes"]],
        "target": config.quantity.name,
    }
    table = daily_table(joined, units, source.name)
    table.attrs["policy"] = policy_lines(records, config.quantity, config.quality, config.keep_negative)
    return table


def _read_site(site: str, files: Iterable[TableFile], config: FluxConfig, known: pd.DataFrame) -> pd.DataFrame:
    """Read the files of one site as rows of a daily table."""
    files = list(files)
    target = config.quantity
    columns, chosen = _chosen_columns(files, config)
    quality = quality_column(columns[0])
    daily = _preferred(chosen)
    shared = set(daily[0].names).intersection(*(file.names for file in daily))
    uncertainty = UncertaintyColumns.of(columns, shared)
    wanted = columns if uncertainty is None else (*columns, *uncertainty.names)
    parts = [read_days(file, wanted, quality) for file in daily]
    frame = _concatenate(parts, daily[0].name)
    notes = [note for days in parts for note in days.attrs["notes"]]
    for file in _preferred([file for file in files if not target.columns_in(file.names)]):
        weather = read_days(file, (), None)
        notes += weather.attrs["notes"]
        frame = _add_meteorology(frame, weather, file.name, site)
    table = _table_of_site(site, frame, columns, config, known, daily[0].name)
    if uncertainty is not None:
        known_uncertainty = target.in_units(uncertainty.daily_values(frame), frame, daily[0].name)
        spread = known_uncertainty.where(table[target.column].notna())
        table.insert(list(table).index(target.column) + 1, TARGET_UNCERTAINTY, spread)
        table.attrs["units"][TARGET_UNCERTAINTY] = target.units
    table.attrs["record"] = replace(
        table.attrs["record"],
        uncertainty=uncertainty.statement if uncertainty else "",
        has_steps=DAY_COLUMN not in daily[0].names,
    )
    table.attrs["notes"] = notes + table.attrs["notes"]
    return table


def _preferred(files: list[TableFile]) -> list[TableFile]:
    """Return the daily files of a site, without subsets of others; the half-hourly ones if there are none."""
    daily = [file for file in files if DAY_COLUMN in file.names] or files
    return [file for file in daily if not FluxFileName.parse(file.name).is_subset] or daily


def _chosen_columns(files: list[TableFile], config: FluxConfig) -> tuple[tuple[str, ...], list[TableFile]]:
    """Return the columns of the target at a site, and the files that have them.

    Raises:
        UsageError: No file has the columns.
    """
    for columns in config.choices:
        chosen = [file for file in files if set(columns) <= set(file.names)]
        if chosen and all(config.quantity.holds(name) for name in columns):
            return columns, chosen
    if all(FluxFileName.parse(file.name).is_reanalysis for file in files):
        raise UsageError(
            f"{files[0].name}: meteorology downscaled from ERA, which has no {config.quantity.column.upper()}: "
            "expected a folder with the site's fluxes too (_FULLSET_, _SUBSET_ or _FLUXMET_)"
        )
    names = [name for file in files for name in file.names]
    label = next((file.name for file in files if config.quantity.columns_in(file.names)), files[0].name)
    raise no_target_column(label, config.choices[0][0], dict.fromkeys(names), config.quantity)


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
            f"{label}: no overlap in time with the fluxes of {site} ({_span(weather)}, fluxes {_span(frame)}): "
            "expected meteorology of the same days"
        )
    return frame.join(weather[[name for name in weather if name not in frame]])


def _span(frame: pd.DataFrame) -> str:
    return f"{frame.index[0]:%Y-%m-%d} to {frame.index[-1]:%Y-%m-%d}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _usable(values: pd.Series, quality: pd.Series | None, config: FluxConfig) -> pd.Series:
    """Return the target of the usable days, NaN on the others."""
    if quality is not None:
        values = values.where(quality >= config.quality)
    return values if config.keep_negative else values.where(values >= 0)


def _select_days(table: pd.DataFrame, config: FluxConfig, label: str) -> pd.DataFrame:
    """Keep the target of the usable days of a daily table, by the quality column of a chosen column if present."""
    name = None if config.gpp_column is None else quality_column(config.gpp_column)
    if name in table:
        check_quality(table[name], label, has_steps=False)
    elif name is not None:
        note = f"{label}: no {name}: days are not selected by quality"
        table.attrs["notes"].append(note)
        warnings.warn(note, DataWarning, stacklevel=3)
    column = config.quantity.column
    present = table[column].notna()
    table[column] = _usable(table[column], table.get(name) if name else None, config)
    uncertainty = TARGET_UNCERTAINTY if TARGET_UNCERTAINTY in table else ""
    record = SiteRecord(
        label, (config.gpp_column or column,), name, name in table, present, table[column].notna(), uncertainty
    )
    table.attrs["policy"] = policy_lines([record], config.quantity, config.quality, config.keep_negative, oneflux=False)
    return table


def _table_of_site(
    site: str, days: pd.DataFrame, columns: tuple[str, ...], config: FluxConfig, known: pd.DataFrame, label: str
) -> pd.DataFrame:
    """Return a site's days as rows of a daily table."""
    target, quality, notes = config.quantity, quality_column(columns[0]), []
    values = target.daily_values(days, columns, label)
    flags = days.get(quality) if quality else None
    if target.flux == "LE" and flags is not None and flags.isna().all():
        flags = None  # some products have the column of heat, but no flag in it
    usable = _usable(values, flags, config)
    present = values.notna()
    if present.any() and usable.isna().all():
        sign = "" if config.keep_negative else ", negative days left out"
        notes.append(
            f"{label}: none of {present.sum()} days with {target.label} has {quality} of {config.quality:g} or more"
            f"{sign}"
        )
    # Reanalysis is available at every site; gap-filled measurements are used where it is missing.
    names = {
        base: next((f"{base}_{kind}" for kind in ("ERA", "F") if f"{base}_{kind}" in days), None)
        for base in METEOROLOGY
    }
    table = days[[name for name in names.values() if name]].copy()
    units = {name: LIMITS[base].units for base, name in names.items() if name} | {target.column: target.units}
    latitude = known["latitude"].get(site) if "latitude" in known else None
    latitude = None if latitude is None or np.isnan(latitude) else float(latitude)
    if POTENTIAL_RADIATION in days:
        table[POTENTIAL_RADIATION] = days[POTENTIAL_RADIATION]
    elif latitude is not None:
        table[POTENTIAL_RADIATION] = potential_radiation(latitude, days.index.to_numpy())
    if POTENTIAL_RADIATION in table:
        units[POTENTIAL_RADIATION] = "W m-2"
    for name in (name for name in SITE_COLUMNS if name in known and site in known.index):
        table[name] = float(known[name][site])
        units[name] = SITE_COLUMNS[name].units
    table.insert(0, "site", site)
    table.insert(1, "time", days.index)
    table.insert(2, target.column, usable)
    if latitude is not None:
        table.insert(3, "latitude", latitude)
    if "vegetation" in known and site in known.index:
        table.insert(3, "vegetation", str(known["vegetation"][site]))
    record = SiteRecord(site, columns, quality, flags is not None, present, usable.notna())
    table.attrs = {"units": units, "notes": notes, "record": record}
    return table
