"""Declarations of the values in flux tables: codes of missing values, units and physical limits."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from thalweg.earth.sensors import known_sensors
from thalweg.errors import UsageError

MISSING_CODES = (-9999, -6999)
"""Numbers that stand for a missing value: FLUXNET, ICOS and AmeriFlux write -9999, AmeriFlux once wrote -6999 too."""

GPP_UNITS = "gC m-2 d-1"
SECONDS_PER_DAY = 86_400
GRAMS_PER_MICROMOLE = 12.0107e-6 * SECONDS_PER_DAY
"""Carbon of one umol CO2 m-2 s-1 over a day, in gC m-2 d-1; the molar mass is that of the FLUXNET files."""

POTENTIAL_RADIATION = "SW_IN_POT"
"""Column of potential radiation in a daily table, named as in FLUXNET files."""

MAX_MASKED_SHARE = 0.1
"""Largest share of a column's values that may lie outside its limits; a larger share means other units."""

MAX_MEDIAN_GPP = 30.0
"""Largest median of a site's daily GPP in gC m-2 d-1; the most productive crops reach it on their best days only."""

MIN_PEAK_GPP = 0.1
"""Smallest peak of a site's daily GPP in gC m-2 d-1; GPP in kgC m-2 d-1 stays below it."""

_MIN_DAYS = 30  # days from which a median or a peak can show wrong units


@dataclass(frozen=True)
class PhysicalLimits:
    """Units and physical limits of a measured quantity.

    Attributes:
        units: Units of a daily value.
        day: Lowest and highest value of a day.
        step: Lowest and highest value of an hour or half-hour (GPP in umol m-2 s-1, precipitation in mm).
        spellings: Accepted units in the spelling of `normalise_units`; empty where tables do not give units.
    """

    units: str
    day: tuple[float, float]
    step: tuple[float, float]
    spellings: tuple[str, ...]


_RADIATION = ("wm2",)
_DEGREES = ("degc", "c", "°c", "celsius")
LIMITS = {
    # Days: night-time partitioning of ICOS Warm Winter 2020 ranges from -15 to 25; maize reaches about 30.
    # Steps: FLUXNET2015 gives NEE from -100 to 100 umol m-2 s-1 (Pastorello et al. 2020).
    "GPP": PhysicalLimits(GPP_UNITS, (-25, 50), (-100, 200), ("gcm2d1",)),
    # Net exchange and respiration have the range of GPP. A day's latent heat stays below about 500 W m-2,
    # advection included, which evaporates 18 mm.
    "NEE": PhysicalLimits(GPP_UNITS, (-50, 50), (-200, 200), ("gcm2d1",)),
    "RECO": PhysicalLimits(GPP_UNITS, (-25, 50), (-100, 200), ("gcm2d1",)),
    "LE": PhysicalLimits("W m-2", (-150, 500), (-400, 1500), ("wm2",)),
    "ET": PhysicalLimits("mm d-1", (-5, 18), (-5, 18), ("mm", "mmd1", "kgm2d1")),
    # World records of the WMO: -89.2 and 56.7 deg C, 108.5 kPa at sea level, 1825 mm in a day and 305 mm in 42 minutes.
    "TA": PhysicalLimits("deg C", (-90, 60), (-90, 60), _DEGREES),
    "PA": PhysicalLimits("kPa", (40, 110), (40, 110), ("kpa",)),
    "P": PhysicalLimits("mm d-1", (-0.1, 1900), (-0.1, 400), ("mm", "mmd1")),
    # Baseline Surface Radiation Network, physically possible limits (Long and Dutton 2002): global down to -4 W m-2,
    # long-wave 40 to 700 W m-2; a day's mean stays below that at the top of the atmosphere, about 560 W m-2.
    "SW_IN": PhysicalLimits("W m-2", (-10, 560), (-30, 2000), _RADIATION),
    "SW_IN_POT": PhysicalLimits("W m-2", (-1, 600), (-1, 1450), _RADIATION),
    "LW_IN": PhysicalLimits("W m-2", (40, 700), (40, 700), _RADIATION),
    # Saturated air has no deficit; that of dry air at 55 deg C is 157 hPa.
    "VPD": PhysicalLimits("hPa", (-1, 160), (-1, 160), ("hpa", "mbar", "mb")),
    "WS": PhysicalLimits("m s-1", (0, 115), (0, 115), ("ms1", "m/s")),
}
"""Limits by FLUXNET name without `_ERA` or `_F`."""

SITE_COLUMNS = {
    # The tallest trees have 116 m; leaf area above 12 m2 m-2 is not measured in closed forests.
    "canopy_height": PhysicalLimits("m", (0, 130), (0, 130), ("m",)),
    "leaf_area": PhysicalLimits("m2 m-2", (0, 15), (0, 15), ("m2m2", "1")),
    "satellite_level": PhysicalLimits("1", (-1, 15), (-1, 15), ("1",)),
}
"""Optional constants of a site that say something of its level of GPP; a site may lack them.

`satellite_level` is a mean of one satellite quantity over years, such as NIRv, EVI or leaf area, the same at all sites.
"""

METEOROLOGY = ("TA", "SW_IN", "LW_IN", "VPD", "PA", "P", "WS")
"""Daily meteorology of a table; `_ERA` is downscaled from reanalysis, `_F` is measured and gap-filled."""

METEOROLOGY_COLUMN = re.compile(rf"({'|'.join(METEOROLOGY)})_(ERA|F)$")
"""Pattern of the names of meteorology columns."""

_NAME = re.compile(
    rf"(?P<base>{'|'.join(METEOROLOGY)})_(ERA|F)$|(?P<potential>SW_IN_POT)$|(?P<gpp>(gpp|GPP)([ _(\[]|$))"
    r"|(?P<flux>(?:nee|reco|et)(?=$)|(?:NEE|RECO|LE)(?=$|_(?!.*_?(?:QC|SE|SD|UNC|RANDUNC|JOINTUNC)$)))"
)


def limits_of(column: str) -> PhysicalLimits | None:
    """Return units and limits of a column by its name; None for an unknown name."""
    if column in SITE_COLUMNS:
        return SITE_COLUMNS[column]
    found = _NAME.match(column)
    if found is None:
        return _limits_of_band(column)
    return LIMITS["GPP" if found["gpp"] else found["base"] or found["potential"] or found["flux"].upper()]


def _limits_of_band(column: str) -> PhysicalLimits | None:
    """Return the limits of a column that has the name of a sensor's band; of several sensors the first declared."""
    for sensor in known_sensors():
        if column in sensor.band_names and sensor.physical_range is not None:
            return PhysicalLimits(sensor.units, sensor.physical_range, sensor.physical_range, ())
    return None


def replace_missing_codes(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the table with NaN instead of codes of missing values and infinities.

    Args:
        table: Table of numbers.
        columns: Columns to clean.
    """
    cleaned = {}
    for name in columns:
        values = table[name]
        missing = values.isin(MISSING_CODES) | np.isinf(values.astype(float))
        if missing.any():
            cleaned[name] = values.astype(float).mask(missing)
    return table.assign(**cleaned) if cleaned else table


def mask_impossible(
    table: pd.DataFrame, columns: list[str], label: str, steps: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Replace values outside their physical limits by NaN.

    Args:
        table: Numbers, NaN where missing.
        columns: Columns to check; unknown columns stay as they are.
        label: Name of the table in a message.
        steps: Rows are hours or half-hours, not days.

    Returns:
        The table, and one line that counts the replaced values, if there are any.

    Raises:
        UsageError: More than `MAX_MASKED_SHARE` of a column lies outside: other units, or an unknown code.
    """
    cleaned, counts = {}, []
    for name in columns:
        known = limits_of(name)
        if known is None:
            continue
        low, high = known.step if steps else known.day
        values = table[name].astype(float)
        outside = values.notna() & ~values.between(low, high)
        if not outside.any():
            continue
        example = values[outside].iloc[0]
        units = "umol m-2 s-1" if steps and known.units == GPP_UNITS else known.units
        if outside.sum() > MAX_MASKED_SHARE * values.notna().sum():
            raise UsageError(
                f"{label}: column {name!r}: {outside.sum()} of {values.notna().sum()} values lie outside of {low:g} to "
                f"{high:g}, such as {example:g}: expected {units}; convert them, or write missing values as -9999"
            )
        cleaned[name] = values.mask(outside)
        counts.append(f"{outside.sum()} of {name} outside of {low:g} to {high:g} {units}, such as {example:g}")
    if not cleaned:
        return table, []
    return table.assign(**cleaned), [f"{label}: impossible values taken as missing: {'; '.join(counts)}"]


def check_gpp_magnitude(gpp: pd.Series, site: str, label: str) -> None:
    """Refuse daily GPP whose magnitude shows other units than gC m-2 d-1.

    Args:
        gpp: Daily GPP of one site.
        site: Name of the site.
        label: Name of the table in a message.

    Raises:
        UsageError: The median is above `MAX_MEDIAN_GPP`, or no day reaches `MIN_PEAK_GPP`.
    """
    days = gpp.dropna()
    if len(days) < _MIN_DAYS:
        return
    if days.median() > MAX_MEDIAN_GPP:
        raise UsageError(
            f"{label}: site {site}: the median of daily GPP is {days.median():.3g}: expected {GPP_UNITS}, less than "
            f"{MAX_MEDIAN_GPP:g}; convert it from its units (a day's mean in umol m-2 s-1 by {GRAMS_PER_MICROMOLE:.4f})"
        )
    if 0 < days.max() < MIN_PEAK_GPP:
        raise UsageError(
            f"{label}: site {site}: daily GPP reaches {days.max():.3g} at most: expected {GPP_UNITS}; convert it from "
            "its units (kgC m-2 d-1 by 1000)"
        )


def check_units(column: str, units: str, label: str, steps: bool = False) -> None:
    """Refuse a column whose declared units differ from the expected ones.

    Args:
        column: Name of the column; an unknown name has no expected units.
        units: Units as written, in any spelling; "-" and "" declare nothing.
        label: Name of the table in a message.
        steps: Rows are hours or half-hours, not days.

    Raises:
        UsageError: The units differ.
    """
    known = limits_of(column)
    spelling = normalise_units(units)
    if known is None or not known.spellings or not spelling:
        return
    of_gpp = known.units == GPP_UNITS
    if of_gpp and steps:
        if not ("umol" in spelling and spelling.endswith(("s1", "/s"))):
            raise UsageError(f"{label}: column {column!r} is in {units!r}: expected umol m-2 s-1; convert it")
    elif of_gpp and "mol" in spelling:
        raise UsageError(
            f"{label}: column {column!r} is in {units}: expected {GPP_UNITS}; multiply a day's mean in "
            f"umol m-2 s-1 by {GRAMS_PER_MICROMOLE:.4f}"
        )
    elif spelling not in known.spellings:
        raise UsageError(f"{label}: column {column!r} is in {units!r}: expected {known.units}; convert it")


def normalise_units(units: str) -> str:
    """Return units in one spelling: ASCII, lower case, without signs, spaces and dots; "" where there are none."""
    plain = re.sub(r"[-^\s.·*_()\[\]]", "", units.replace("µ", "u").replace("μ", "u")).lower()
    for written, short in (("day1", "d1"), ("/day", "d1"), ("/d", "d1"), ("/m2", "m2"), ("degrees", "deg")):
        plain = plain.replace(written, short)
    return plain
