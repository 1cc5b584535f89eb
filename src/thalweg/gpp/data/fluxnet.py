"""Flux-tower files as users have them, read into a daily table (see `tables`).

ONEFlux products (FLUXNET2015, AmeriFlux FLUXNET, ICOS): FULLSET and SUBSET, daily (DD) and half-hourly or hourly (HH,
HR), the daily ERA meteorology with them; plain daily CSV files with the same column names; and daily tables.
"""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from thalweg.errors import DataWarning, UsageError
from thalweg.gpp.data.daily_table import daily_table, is_daily_table, read_daily_table
from thalweg.gpp.data.radiation import POTENTIAL_RADIATION, potential_radiation
from thalweg.gpp.tables.flux_products import is_passed_over, reason_by_header, reason_by_name
from thalweg.gpp.tables.gpp_columns import gpp_columns, is_gpp_column, no_gpp_column, quality_column
from thalweg.gpp.tables.plausible_values import (
    BOUNDS,
    GPP_UNITS,
    GRAMS_PER_MICROMOLE,
    METEOROLOGY,
    check_units,
    without_codes,
    without_impossible,
)
from thalweg.gpp.tables.table_files import TableFile, as_text, numbers, open_table, take_units_row
from thalweg.gpp.tables.timestamps import read_times

Partitioning = Literal["nt", "dt"]

_DAILY, _STEPS = "TIMESTAMP", "TIMESTAMP_START"
_SITE = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2}-[A-Za-z0-9]{3})(?![A-Za-z0-9])")
_WEATHER = re.compile(rf"({'|'.join(METEOROLOGY)})_(ERA|F)$")
_TABLE_SUFFIXES = (".csv", ".parquet")
_OTHER_SUFFIXES = (".txt", ".tsv", ".zip", ".gz", ".xlsx", ".xls")
_SHOWN = 3


@dataclass(frozen=True)
class Rules:
    """What counts as a usable day.

    Attributes:
        partitioning: GPP from night-time respiration (``nt``) or from daytime light response (``dt``).
        quality: Least share of measured or well-filled NEE of a day (the NEE quality column that belongs to the GPP).
        keep_negative: Keep days of negative GPP; dropping them biases winter upwards.
        gpp_column: The column to take instead of the partitioning's reference, such as GPP_NT_CUT_REF.
    """

    partitioning: Partitioning = "nt"
    quality: float = 0.75
    keep_negative: bool = True
    gpp_column: str | None = None

    def __post_init__(self) -> None:
        if self.partitioning not in ("nt", "dt"):
            raise UsageError(f"partitioning {self.partitioning!r}: expected nt (night-time) or dt (daytime)")
        if not 0 <= self.quality <= 1:
            raise UsageError(f"quality {self.quality:g}: expected the least share of good data, 0 to 1")

    @property
    def column(self) -> str:
        """The name of the GPP column."""
        return f"GPP_{self.partitioning.upper()}_VUT_REF" if self.gpp_column is None else self.gpp_column


def read_flux(source: str | Path, rules: Rules | None = None, sites: str | Path | None = None) -> pd.DataFrame:
    """Read a flux file, a daily table (CSV or Parquet with columns site, time, gpp), or a folder of flux files.

    Args:
        source: In a folder, metadata, auxiliary and weekly to yearly files are passed over, daily files are preferred
            to half-hourly ones of the same site, and daily ERA files are joined to the site's days.
        rules: What counts as a usable day.
        sites: Table of sites with columns site, lat and igbp; ``towers.csv`` in the folder or its parent by default.

    Returns:
        A daily table: gpp, meteorology, SW_IN_POT (from the file, else from the latitude), vegetation and latitude
        where the list of sites has them. What was left out is in ``attrs["notes"]`` and warned of (`DataWarning`).

    Raises:
        UsageError: No flux file, no GPP, wrong units, duplicate days; one line naming the file.
    """
    source, rules = Path(source), rules or Rules()
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder: expected a flux file or a folder of them")
    notes: list[str] = []
    if source.is_file():
        file = _open(source)
        if is_daily_table(file):
            return _usable_days(read_daily_table(file, rules.gpp_column), rules, file.where)
        files = [_flux_file(file)]
    else:
        files, notes = _flux_files(source, Path(sites) if sites is not None else None)
    known = _site_list(source, sites)
    by_site: dict[str, list[TableFile]] = {}
    for file in files:
        by_site.setdefault(site_of(file.path), []).append(file)
    parts = [_read_site(site, own, rules, known) for site, own in by_site.items()]
    if unchecked := [str(part["site"].iloc[0]) for part in parts if not part.attrs["has_quality"]]:
        name = quality_column(rules.column) or "quality column known"
        notes.append(f"{source.name}: no {name} at {_some(unchecked)}: its days are not chosen by quality")
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    units = {name: unit for part in parts for name, unit in part.attrs["units"].items()}
    joined = pd.concat(parts, ignore_index=True)
    joined.attrs = {"notes": notes + [note for part in parts for note in part.attrs["notes"]]}
    return daily_table(joined, units, source.name)


def site_of(path: Path) -> str:
    """The site's identifier in a file name, such as BE-Bra; the whole stem where there is none."""
    found = _SITE.search(path.stem)
    return found.group(1) if found else path.stem


def _open(path: Path) -> TableFile:
    """Open a file unless its name or header says that it has no daily GPP.

    Raises:
        UsageError: It is of such a product, or cannot be read.
    """
    if reason := reason_by_name(path):
        raise UsageError(f"{path.name}: {reason}")
    file = open_table(path)
    if not is_daily_table(file) and (reason := reason_by_header(file)):
        raise UsageError(f"{path.name}: {reason}")
    return file


def _has_times(file: TableFile) -> bool:
    return _DAILY in file.names or _STEPS in file.names


def _flux_file(file: TableFile) -> TableFile:
    """The file, if it has times and something to read.

    Raises:
        UsageError: It has not.
    """
    if not _has_times(file):
        raise UsageError(
            f"{file.where}: no column {_DAILY} or {_STEPS}: expected a FLUXNET or ICOS "
            "file, or a daily table with columns site, time and gpp"
        )
    if not gpp_columns(file.names) and not any(_WEATHER.match(name) for name in file.names):
        raise no_gpp_column(file.where, "GPP_NT_VUT_REF", ())
    return file


def _flux_files(folder: Path, sites: Path | None) -> tuple[list[TableFile], list[str]]:
    """A folder's flux files, and a line that names those left out.

    Raises:
        UsageError: None can be read; the message says why.
    """
    files, reasons = [], []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        suffix = path.suffix.lower()
        if hidden or not path.is_file() or suffix not in _TABLE_SUFFIXES + _OTHER_SUFFIXES:
            continue
        if is_passed_over(path.name) or path.name == "towers.csv" or path == sites:
            continue
        try:
            file = _open(path)
            if is_daily_table(file):
                raise UsageError(f"{path.name}: a daily table: give it by itself, or join several into one")
            if suffix == ".txt" and not _has_times(file):
                continue  # a README, not a tower's
            files.append(_flux_file(file))
        except UsageError as error:
            reasons.append(str(error))
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    named = "; ".join(reasons[:_SHOWN]) + more
    if not files and reasons:
        raise UsageError(f"{folder}: no file that can be read: {named}")
    if not files:
        raise UsageError(f"{folder}: no CSV file with a TIMESTAMP column in it: expected FLUXNET or ICOS files")
    return files, [f"{folder.name}: left out {len(reasons)} of its files: {named}"] if reasons else []


def _site_list(source: Path, sites: str | Path | None) -> pd.DataFrame:
    """Latitude and vegetation by site, as far as known."""
    folder = source if source.is_dir() else source.parent
    candidates = [Path(sites)] if sites is not None else [folder / "towers.csv", folder.parent / "towers.csv"]
    for path in candidates:
        if not path.exists():
            if sites is not None:
                raise UsageError(f"{path}: no such file: expected a CSV of sites with columns site, lat, igbp")
            continue
        file = open_table(path)
        listed = file.read().rename(columns={"lat": "latitude", "igbp": "vegetation"})
        if not {"site", "latitude"} <= set(listed):
            raise UsageError(f"{path}: columns {', '.join(file.names)}: expected site, lat and igbp")
        latitude = numbers(listed[["latitude"]], file.where, decimal_comma=file.delimiter != ",")
        listed["latitude"] = without_codes(latitude, ["latitude"])["latitude"]
        listed["site"] = as_text(listed["site"])
        wrong = listed["latitude"].notna() & ~listed["latitude"].between(-90, 90)
        twice = listed["site"].duplicated()
        if wrong.any():
            raise UsageError(f"{path}: latitude {listed['latitude'][wrong].iloc[0]:g}: expected -90 to 90")
        if twice.any():
            raise UsageError(f"{path}: site {listed['site'][twice].iloc[0]} comes twice: expected one row per site")
        return listed.set_index("site")
    return pd.DataFrame()


def _read_site(site: str, files: Iterable[TableFile], rules: Rules, known: pd.DataFrame) -> pd.DataFrame:
    """Rows of a daily table from the files of one site."""
    files = list(files)
    with_gpp = [file for file in files if rules.column in file.names]
    if not with_gpp or not is_gpp_column(rules.column):
        names = [name for file in files for name in file.names]
        where = next((file.where for file in files if gpp_columns(file.names)), files[0].where)
        raise no_gpp_column(where, rules.column, dict.fromkeys(names))
    daily = [file for file in with_gpp if _DAILY in file.names] or with_gpp
    read = [_read_file(file, rules) for file in daily]
    frame = _join_years(read, daily[0].where)
    notes = [note for days in read for note in days.attrs["notes"]]
    for file in files:
        if not gpp_columns(file.names):
            weather = _read_file(file, rules)
            notes += weather.attrs["notes"]
            frame = _add_meteorology(frame, weather, file.where, site)
    table = _tidy(site, frame, rules, known, daily[0].where)
    table.attrs["notes"] = notes + table.attrs["notes"]
    return table


def _read_file(file: TableFile, rules: Rules) -> pd.DataFrame:
    """Days of a file, indexed by day, FLUXNET names without units."""
    steps = _DAILY not in file.names
    stamp = _STEPS if steps else _DAILY
    quality = quality_column(rules.column)

    def wanted(name: str) -> bool:
        return name in (stamp, rules.column, quality, POTENTIAL_RADIATION) or bool(_WEATHER.match(name))

    units, cells = take_units_row(file.read(wanted), stamp, file.where)
    for name, unit in (file.units | units).items():
        if name in cells:
            check_units(name, unit, file.where, steps)
    time = read_times(cells[stamp], f"{file.where}: column {stamp!r}")
    values = numbers(cells.drop(columns=stamp), file.where, decimal_comma=file.delimiter != ",")
    columns = [str(name) for name in values]
    values = without_codes(values, columns)
    if quality in values:
        _check_quality(values[quality], file.where, steps)
    values, notes = without_impossible(values, columns, file.where, steps)
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    values.index = pd.DatetimeIndex(time)
    values = values.sort_index()
    twice = values.index.duplicated()
    if twice.any():
        raise UsageError(f"{file.where}: {values.index[twice][0]:%Y-%m-%d %H:%M} comes twice: expected it once")
    days = _sum_to_days(values, file.where, quality, rules.column) if steps else _whole_days(values, file.where)
    days.attrs = {"notes": notes}
    return days


def _check_quality(quality: pd.Series, where: str, steps: bool) -> None:
    """Refuse a quality that is no share of good data (days) and no flag (steps).

    Raises:
        UsageError: It is not.
    """
    good = quality.isin([0, 1, 2, 3]) if steps else quality.between(0, 1)
    wrong = quality[quality.notna() & ~good]
    if len(wrong):
        expected = "flags 0 to 3" if steps else "the share of good data, 0 to 1"
        raise UsageError(f"{where}: column {quality.name!r} holds {wrong.iloc[0]:g}: expected {expected}")


def _whole_days(values: pd.DataFrame, where: str) -> pd.DataFrame:
    """Days, if that is what they are.

    Raises:
        UsageError: They have a time of day, or other steps.
    """
    time = pd.DatetimeIndex(values.index)
    step = time.to_series().diff().median()
    if (time != time.normalize()).any() or (len(time) > 2 and step != pd.Timedelta(days=1)):
        raise UsageError(f"{where}: column {_DAILY!r}: steps of {step}: expected one row per day")
    return values


def _sum_to_days(steps: pd.DataFrame, where: str, quality: str | None, gpp: str) -> pd.DataFrame:
    """Half-hourly or hourly values to days.

    GPP goes from umol m-2 s-1 to gC m-2 d-1, precipitation is summed, the rest averaged; a day of which a step is
    missing has no value. The quality becomes the share of steps that are measured (0) or filled well (1).
    """
    time = pd.DatetimeIndex(steps.index)
    step = time.to_series().diff().median()
    in_a_day = round(float(np.timedelta64(1, "D") / step.to_numpy())) if len(steps) > 1 else 0
    if in_a_day not in (24, 48):
        raise UsageError(f"{where}: steps of {step}: expected half-hours or hours")
    days = steps.groupby(time.normalize())
    daily = days.mean().where(days.count() == in_a_day)
    for name in steps:
        if name == gpp:
            daily[name] *= GRAMS_PER_MICROMOLE
        elif re.match(r"P_(ERA|F)$", str(name)):
            daily[name] *= in_a_day
    if quality in steps:
        good = steps[quality] <= 1
        daily[quality] = good.groupby(time.normalize()).sum() / in_a_day
    return daily


def _join_years(parts: list[pd.DataFrame], where: str) -> pd.DataFrame:
    """Files of one site one after another."""
    joined = pd.concat(parts).sort_index()
    if joined.index.duplicated().any():
        day = joined.index[joined.index.duplicated()][0]
        raise UsageError(f"{where}: {day:%Y-%m-%d} is in more than one file of the site: keep one of them")
    return joined


def _add_meteorology(frame: pd.DataFrame, weather: pd.DataFrame, where: str, site: str) -> pd.DataFrame:
    """Columns of a meteorology file that the site's days lack."""
    if not len(frame.index.intersection(weather.index)):
        raise UsageError(
            f"{where}: no overlap in time with the GPP of {site} ({_span(weather)}, GPP {_span(frame)}): "
            "expected meteorology of the same days"
        )
    return frame.join(weather[[name for name in weather if name not in frame]])


def _span(frame: pd.DataFrame) -> str:
    return f"{frame.index[0]:%Y-%m-%d} to {frame.index[-1]:%Y-%m-%d}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _usable(days: pd.DataFrame, column: str, quality: str | None, rules: Rules) -> pd.Series:
    """GPP of the days that count, NaN on the others."""
    gpp = days[column]
    if quality in days:
        gpp = gpp.where(days[quality] >= rules.quality)
    return gpp if rules.keep_negative else gpp.where(gpp >= 0)


def _usable_days(table: pd.DataFrame, rules: Rules, where: str) -> pd.DataFrame:
    """A daily table with GPP on the days that count, by the quality of a chosen column where the table has it."""
    name = None if rules.gpp_column is None else quality_column(rules.gpp_column)
    if name in table:
        _check_quality(table[name], where, steps=False)
    elif name is not None:
        note = f"{where}: no {name}: its days are not chosen by quality"
        table.attrs["notes"].append(note)
        warnings.warn(note, DataWarning, stacklevel=3)
    table["gpp"] = _usable(table, "gpp", name, rules)
    return table


def _tidy(site: str, days: pd.DataFrame, rules: Rules, known: pd.DataFrame, where: str) -> pd.DataFrame:
    """Rows of a daily table."""
    quality, notes = quality_column(rules.column), []
    present, gpp = days[rules.column].notna(), _usable(days, rules.column, quality, rules)
    if present.any() and gpp.isna().all():
        sign = "" if rules.keep_negative else ", negative days left out"
        notes.append(f"{where}: none of {present.sum()} days with GPP has {quality} of {rules.quality:g} or more{sign}")
    # Reanalysis is there for every site; what the tower measured, gap-filled, where it is all there is.
    names = {
        base: next((f"{base}_{kind}" for kind in ("ERA", "F") if f"{base}_{kind}" in days), None)
        for base in METEOROLOGY
    }
    table = days[[name for name in names.values() if name]].copy()
    units = {name: BOUNDS[base].units for base, name in names.items() if name} | {"gpp": GPP_UNITS}
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
