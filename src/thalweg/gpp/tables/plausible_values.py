"""What a value of a flux table can be: codes of missing values, units and physical limits, all declared here."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.errors import UsageError

MISSING_CODES = (-9999, -6999)
"""Numbers that stand for a missing value: FLUXNET, ICOS and AmeriFlux write -9999, AmeriFlux once wrote -6999 too."""

GPP_UNITS = "gC m-2 d-1"
GRAMS_PER_MICROMOLE = 12.011e-6 * 86_400
"""One umol CO2 m-2 s-1, held for a day, in gC m-2 d-1."""

MAX_MASKED = 0.1
"""Share of a column's values that may lie outside of its limits; with more, it is in other units."""

MAX_MEDIAN_GPP = 30.0
"""Median of a site's daily GPP in gC m-2 d-1; the most productive crops reach it on their best days only."""

MIN_PEAK_GPP = 0.1
"""Least that a site's daily GPP in gC m-2 d-1 rises to; a site in kgC m-2 d-1 stays below it."""

_MIN_DAYS = 30  # of which a median or a peak says something of units


@dataclass(frozen=True)
class Bounds:
    """Units and physical limits of a measured quantity.

    Attributes:
        units: Of a day's value.
        day: Least and greatest value of a day.
        step: Least and greatest value of an hour or half-hour (GPP in umol m-2 s-1, precipitation in mm).
        spellings: Its units as `plain_units` writes them; none where tables do not say them.
    """

    units: str
    day: tuple[float, float]
    step: tuple[float, float]
    spellings: tuple[str, ...]


_RADIATION = ("wm2",)
_DEGREES = ("degc", "c", "°c", "celsius")
BOUNDS = {
    # Days: night-time partitioning of ICOS Warm Winter 2020 goes from -15 to 25; maize reaches about 30.
    # Steps: FLUXNET2015 gives NEE from -100 to 100 umol m-2 s-1 (Pastorello et al. 2020).
    "GPP": Bounds(GPP_UNITS, (-25, 50), (-100, 200), ("gcm2d1",)),
    # World records of the WMO: -89.2 and 56.7 deg C, 108.5 kPa at sea level, 1825 mm in a day and 305 mm in 42 minutes.
    "TA": Bounds("deg C", (-90, 60), (-90, 60), _DEGREES),
    "PA": Bounds("kPa", (40, 110), (40, 110), ("kpa",)),
    "P": Bounds("mm d-1", (-0.1, 1900), (-0.1, 400), ("mm", "mmd1")),
    # Baseline Surface Radiation Network, physically possible limits (Long and Dutton 2002): global down to -4 W m-2,
    # long-wave 40 to 700 W m-2; a day's mean stays below that at the top of the atmosphere, about 560 W m-2.
    "SW_IN": Bounds("W m-2", (-10, 560), (-30, 2000), _RADIATION),
    "SW_IN_POT": Bounds("W m-2", (-1, 600), (-1, 1450), _RADIATION),
    "LW_IN": Bounds("W m-2", (40, 700), (40, 700), _RADIATION),
    # Saturated air has no deficit; that of dry air at 55 deg C is 157 hPa.
    "VPD": Bounds("hPa", (-1, 160), (-1, 160), ("hpa", "mbar", "mb")),
    "WS": Bounds("m s-1", (0, 115), (0, 115), ("ms1", "m/s")),
}
"""By FLUXNET name without `_ERA` or `_F`."""

METEOROLOGY = ("TA", "SW_IN", "LW_IN", "VPD", "PA", "P", "WS")
"""Daily meteorology that is read; `_ERA` downscaled from reanalysis, or `_F` gap-filled."""

_BANDS = {
    name: Bounds(sensor.units, sensor.physical_range, sensor.physical_range, ())
    for sensor in (SENTINEL_1, SENTINEL_2)
    if sensor.physical_range is not None
    for name in sensor.band_names
}
_NAME = re.compile(
    rf"(?P<base>{'|'.join(METEOROLOGY)})_(ERA|F)$|(?P<potential>SW_IN_POT)$|(?P<gpp>(gpp|GPP)([ _(\[]|$))"
)


def bounds_of(column: str) -> Bounds | None:
    """Units and limits of a column by its name; None where nothing is known of it."""
    found = _NAME.match(column)
    if found is None:
        return _BANDS.get(column)
    return BOUNDS["GPP" if found["gpp"] else found["base"] or found["potential"]]


def without_codes(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Codes of missing values and infinities as NaN."""
    cleaned = {}
    for name in columns:
        values = table[name]
        missing = values.isin(MISSING_CODES) | np.isinf(values.astype(float))
        if missing.any():
            cleaned[name] = values.astype(float).mask(missing)
    return table.assign(**cleaned) if cleaned else table


def without_impossible(
    table: pd.DataFrame, columns: list[str], where: str, steps: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Values outside of their physical limits as NaN, and one line that counts them, if there are any.

    Args:
        table: Numbers, missing ones NaN.
        columns: Columns to check; those of which nothing is known are left as they are.
        where: What to call the table in a message.
        steps: Whether rows are hours or half-hours, not days.

    Raises:
        UsageError: More than `MAX_MASKED` of a column lies outside: other units, or an unknown code.
    """
    cleaned, counts = {}, []
    for name in columns:
        known = bounds_of(name)
        if known is None:
            continue
        low, high = known.step if steps else known.day
        values = table[name].astype(float)
        outside = values.notna() & ~values.between(low, high)
        if not outside.any():
            continue
        example = values[outside].iloc[0]
        units = "umol m-2 s-1" if steps and known.units == GPP_UNITS else known.units
        if outside.sum() > MAX_MASKED * values.notna().sum():
            raise UsageError(
                f"{where}: column {name!r}: {outside.sum()} of {values.notna().sum()} values lie outside of {low:g} to "
                f"{high:g}, such as {example:g}: expected {units}; convert them, or write missing values as -9999"
            )
        cleaned[name] = values.mask(outside)
        counts.append(f"{outside.sum()} of {name} outside of {low:g} to {high:g} {units}, such as {example:g}")
    if not cleaned:
        return table, []
    return table.assign(**cleaned), [f"{where}: impossible values taken as missing: {'; '.join(counts)}"]


def check_gpp_magnitude(gpp: pd.Series, site: str, where: str) -> None:
    """Refuse a site's daily GPP whose size is that of other units.

    Raises:
        UsageError: Its median is above `MAX_MEDIAN_GPP`, or no day reaches `MIN_PEAK_GPP`.
    """
    days = gpp.dropna()
    if len(days) < _MIN_DAYS:
        return
    if days.median() > MAX_MEDIAN_GPP:
        raise UsageError(
            f"{where}: site {site}: the median of daily GPP is {days.median():.3g}: expected {GPP_UNITS}, less than "
            f"{MAX_MEDIAN_GPP:g}; convert it from its units (a day's mean in umol m-2 s-1 by {GRAMS_PER_MICROMOLE:.4f})"
        )
    if 0 < days.max() < MIN_PEAK_GPP:
        raise UsageError(
            f"{where}: site {site}: daily GPP reaches {days.max():.3g} at most: expected {GPP_UNITS}; convert it from "
            "its units (kgC m-2 d-1 by 1000)"
        )


def check_units(column: str, units: str, where: str, steps: bool = False) -> None:
    """Refuse a column that is said to be in other units than expected.

    Args:
        column: Its name; nothing is expected of a name that is not known.
        units: As written, in any spelling; "-" and "" say nothing.
        where: What to call the table in a message.
        steps: Whether rows are hours or half-hours, not days.

    Raises:
        UsageError: The units are others.
    """
    known = bounds_of(column)
    plain = plain_units(units)
    if known is None or not known.spellings or not plain:
        return
    of_gpp = known.units == GPP_UNITS
    if of_gpp and steps:
        if not ("umol" in plain and plain.endswith(("s1", "/s"))):
            raise UsageError(f"{where}: column {column!r} is in {units!r}: expected umol m-2 s-1; convert it")
    elif of_gpp and "mol" in plain:
        raise UsageError(
            f"{where}: column {column!r} is in {units}: expected {GPP_UNITS}; multiply a day's mean in "
            f"umol m-2 s-1 by {GRAMS_PER_MICROMOLE:.4f}"
        )
    elif plain not in known.spellings:
        raise UsageError(f"{where}: column {column!r} is in {units!r}: expected {known.units}; convert it")


def plain_units(units: str) -> str:
    """Units in one spelling: ASCII, lower case, without signs, spaces and dots; "" where they say nothing."""
    plain = re.sub(r"[-^\s.·*_()\[\]]", "", units.replace("µ", "u").replace("μ", "u")).lower()
    for written, short in (("day1", "d1"), ("/day", "d1"), ("/d", "d1"), ("/m2", "m2"), ("degrees", "deg")):
        plain = plain.replace(written, short)
    return plain
