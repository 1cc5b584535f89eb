"""Flux-tower files as users have them, read into a daily table (see `tables`).

FLUXNET2015 and ICOS products: FULLSET and SUBSET, daily (DD) and half-hourly or hourly (HH, HR), the daily ERA
meteorology beside them; plain daily CSV files with the same column names; and daily tables. Missing is -9999.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from thalweg.earth.gpp.radiation import POTENTIAL_RADIATION, potential_radiation
from thalweg.earth.gpp.tables import GPP_UNITS, GRAMS_PER_MICROMOLE, check_units, daily_table
from thalweg.errors import UsageError

Partitioning = Literal["nt", "dt"]

METEOROLOGY = {
    "TA": "deg C", "SW_IN": "W m-2", "LW_IN": "W m-2", "VPD": "hPa", "PA": "kPa", "P": "mm d-1", "WS": "m s-1",
}  # fmt: skip
"""Daily meteorology that is read, and its units; `_ERA` downscaled from reanalysis, or `_F` gap-filled."""

_MISSING = -9999
_QUALITY = "NEE_VUT_REF_QC"
_TIMESTAMPS = {"TIMESTAMP": "%Y%m%d", "TIMESTAMP_START": "%Y%m%d%H%M"}
_SITE = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2}-[A-Za-z0-9]{3})(?![A-Za-z0-9])")
_AUXILIARY = re.compile(r"_(AUX[A-Z]*|WW|MM|YY)_")
_UNITS_IN_NAME = re.compile(r"^(?P<name>.+?)[ _]*[(\[]\s*(?P<units>[^)\]]+)[)\]]$|^(?P<bare>.+?)_(?P<mol>[uµμ]mol.*)$")


@dataclass(frozen=True)
class Rules:
    """What counts as a usable day.

    Attributes:
        partitioning: GPP from night-time respiration (``nt``) or from daytime light response (``dt``).
        quality: Least share of measured or well-filled NEE of a day (``NEE_VUT_REF_QC``).
        keep_negative: Keep days of negative GPP; dropping them biases winter upwards.
    """

    partitioning: Partitioning = "nt"
    quality: float = 0.75
    keep_negative: bool = True

    def __post_init__(self) -> None:
        if self.partitioning not in ("nt", "dt"):
            raise UsageError(f"partitioning {self.partitioning!r}: expected nt (night-time) or dt (daytime)")
        if not 0 <= self.quality <= 1:
            raise UsageError(f"quality {self.quality:g}: expected the least share of good data, 0 to 1")

    @property
    def column(self) -> str:
        """The FLUXNET name of the GPP column."""
        return f"GPP_{self.partitioning.upper()}_VUT_REF"


def read_flux(source: str | Path, rules: Rules | None = None, sites: str | Path | None = None) -> pd.DataFrame:
    """Read a flux file, a daily table (CSV with columns site, time, gpp), or a folder of flux files.

    Args:
        source: In a folder, auxiliary and weekly to yearly files are passed over, daily files are preferred to
            half-hourly ones of the same site, and daily ERA files are joined to the site's days.
        rules: What counts as a usable day.
        sites: CSV of sites with columns site, lat and igbp; ``towers.csv`` in the folder, or beside it, by default.

    Returns:
        A daily table: gpp, meteorology, SW_IN_POT (from the file, else from the latitude), vegetation and latitude
        where the list of sites has them.

    Raises:
        UsageError: No flux file, no GPP, wrong units, duplicate days; one line naming the file.
    """
    source, rules = Path(source), rules or Rules()
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder: expected a flux file or a folder of them")
    if source.is_file() and {"site", "time"} <= set(_header(source)):
        return daily_table(pd.read_csv(source), source=source.name)
    files = [source] if source.is_file() else _flux_files(source)
    if not files:
        raise UsageError(f"{source}: no CSV file with a TIMESTAMP column in it: expected FLUXNET or ICOS files")
    known = _site_list(source, sites)
    by_site: dict[str, list[Path]] = {}
    for path in files:
        by_site.setdefault(site_of(path), []).append(path)
    parts = [_read_site(site, paths, rules, known) for site, paths in by_site.items()]
    units = {name: unit for part in parts for name, unit in part.attrs["units"].items()}
    return daily_table(pd.concat(parts, ignore_index=True), units, source.name)


def site_of(path: Path) -> str:
    """The site's identifier in a file name, such as BE-Bra; the whole stem where there is none."""
    found = _SITE.search(path.stem)
    return found.group(1) if found else path.stem


def _flux_files(folder: Path) -> list[Path]:
    paths = [path for path in sorted(folder.rglob("*.csv")) if not _AUXILIARY.search(path.name)]
    return [path for path in paths if _TIMESTAMPS.keys() & set(_header(path))]


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return [name.strip() for name in lines.readline().strip().split(",")]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a CSV file ({error})") from error


def _site_list(source: Path, sites: str | Path | None) -> pd.DataFrame:
    """Latitude and vegetation by site, as far as known."""
    folder = source if source.is_dir() else source.parent
    candidates = [Path(sites)] if sites is not None else [folder / "towers.csv", folder.parent / "towers.csv"]
    for path in candidates:
        if not path.exists():
            if sites is not None:
                raise UsageError(f"{path}: no such file: expected a CSV of sites with columns site, lat, igbp")
            continue
        listed = pd.read_csv(path).rename(columns={"lat": "latitude", "igbp": "vegetation"})
        if not {"site", "latitude"} <= set(listed):
            raise UsageError(f"{path}: columns {', '.join(_names(listed))}: expected site, lat and igbp")
        return listed.set_index("site")
    return pd.DataFrame()


def _read_site(site: str, paths: Iterable[Path], rules: Rules, known: pd.DataFrame) -> pd.DataFrame:
    read = [(path, _read_file(path)) for path in paths]
    with_gpp = [(path, days) for path, days in read if _has_gpp(days)]
    if not with_gpp:
        raise UsageError(f"{read[0][0].name}: no column {rules.column!r}: expected the site's daily GPP")
    daily = [(path, days) for path, days in with_gpp if not days.attrs["half_hourly"]] or with_gpp
    frame = _join_years([days for _, days in daily], daily[0][0].name)
    for path, days in read:
        if not _has_gpp(days):
            frame = _add_meteorology(frame, days, path.name, site)
    return _tidy(site, frame, rules, known, daily[0][0].name)


def _read_file(path: Path) -> pd.DataFrame:
    """Days of a file, indexed by day, -9999 as NaN, FLUXNET names without units."""
    frame = pd.read_csv(path, encoding="utf-8-sig", low_memory=False)
    stamp = next((name for name in _TIMESTAMPS if name in frame), None)
    if stamp is None:
        raise UsageError(f"{path.name}: no column TIMESTAMP or TIMESTAMP_START: expected a FLUXNET or ICOS file")
    units, frame = _take_units(frame, stamp)
    try:
        time = pd.to_datetime(frame[stamp].astype("int64").astype(str), format=_TIMESTAMPS[stamp])
    except ValueError as error:
        raise UsageError(
            f"{path.name}: {stamp}: expected {_TIMESTAMPS[stamp]} ({str(error).splitlines()[0]})"
        ) from error
    kept = [name for name in _names(frame) if _wanted(name)]
    values = frame[kept].apply(pd.to_numeric, errors="coerce").replace(_MISSING, np.nan)
    values.index = pd.DatetimeIndex(time)
    half_hourly = stamp == "TIMESTAMP_START"
    twice = values.index.duplicated()
    if twice.any():
        raise UsageError(f"{path.name}: {values.index[twice][0]:%Y-%m-%d %H:%M} comes twice: expected it once")
    for name in _names(values) if not half_hourly else ():
        if name.startswith("GPP") and name in units:
            check_units(name, units[name], path.name)
    days = _sum_to_days(values, path.name) if half_hourly else values
    days.attrs = {"half_hourly": half_hourly}
    return days


def _take_units(frame: pd.DataFrame, stamp: str) -> tuple[dict[str, str], pd.DataFrame]:
    """Units said by column names or by a row under them, and the frame without them."""
    units, plain = {}, {}
    for name in _names(frame):
        if found := _UNITS_IN_NAME.match(name.strip()):
            plain[name] = found["name"] or found["bare"]
            units[plain[name]] = found["units"] or found["mol"]
    frame = frame.rename(columns={name: plain.get(name, name.strip()) for name in _names(frame)})
    if len(frame) and not str(frame[stamp].iloc[0]).strip().isdigit():
        units |= {name: str(value) for name, value in frame.iloc[0].items()}
        frame = frame.iloc[1:]
    return units, frame


def _wanted(name: str) -> bool:
    meteorology = re.match(rf"({'|'.join(METEOROLOGY)})_(ERA|F)$", name)
    gpp = re.match(r"GPP_[ND]T_VUT_REF$", name)
    return bool(meteorology or gpp) or name in (POTENTIAL_RADIATION, _QUALITY)


def _sum_to_days(steps: pd.DataFrame, where: str) -> pd.DataFrame:
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
    for name in _names(steps):
        if name.startswith("GPP"):
            daily[name] *= GRAMS_PER_MICROMOLE
        elif re.match(r"P_(ERA|F)$", name):
            daily[name] *= in_a_day
    if _QUALITY in steps:
        good = steps[_QUALITY] <= 1
        daily[_QUALITY] = good.groupby(time.normalize()).sum() / in_a_day
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


def _names(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame.columns]


def _has_gpp(days: pd.DataFrame) -> bool:
    return any(name.startswith("GPP") for name in _names(days))


def _span(frame: pd.DataFrame) -> str:
    return f"{frame.index[0]:%Y-%m-%d} to {frame.index[-1]:%Y-%m-%d}"


def _tidy(site: str, days: pd.DataFrame, rules: Rules, known: pd.DataFrame, where: str) -> pd.DataFrame:
    """Rows of a daily table."""
    if rules.column not in days:
        others = ", ".join(name for name in _names(days) if name.startswith("GPP"))
        raise UsageError(f"{where}: no column {rules.column!r}, it has {others}: choose the other partitioning")
    gpp = days[rules.column]
    if _QUALITY in days:
        gpp = gpp.where(days[_QUALITY] >= rules.quality)
    if not rules.keep_negative:
        gpp = gpp.where(gpp >= 0)
    # Reanalysis is there for every site; what the tower measured, gap-filled, where it is all there is.
    names = {
        base: next((f"{base}_{kind}" for kind in ("ERA", "F") if f"{base}_{kind}" in days), None)
        for base in METEOROLOGY
    }
    table = days[[name for name in names.values() if name]].copy()
    units = {name: METEOROLOGY[base] for base, name in names.items() if name} | {"gpp": GPP_UNITS}
    latitude = known["latitude"].get(site) if "latitude" in known else None
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
        table.insert(3, "latitude", float(latitude))
    if "vegetation" in known and site in known.index:
        table.insert(3, "vegetation", str(known["vegetation"][site]))
    table.attrs = {"units": units}
    return table
