"""Daily values of half-hours or hours, by the rules of ONEFlux (Pastorello et al. 2020).

Days are those of TIMESTAMP_START in local standard time. Radiation, temperature, vapour pressure deficit, pressure,
wind and heat are averaged; precipitation is summed; carbon is summed from umol CO2 m-2 s-1 to gC m-2 d-1. The quality
of a day is the share of its records that are measured (0) or filled well (1), and its random uncertainty is the root of
the sum of squares over the number of records that have one. A day with a missing record has no value.

The daily files of the networks can differ from this in two columns: they choose the reference (REF) once more among the
daily versions of the flux, and take the percentiles of these.
"""

import re

import numpy as np
import pandas as pd

from thalweg.errors import UsageError
from thalweg.gpp.tables.physical_limits import GPP_UNITS, GRAMS_PER_MICROMOLE, limits_of
from thalweg.gpp.tables.target_columns import RANDOM_UNCERTAINTY

_GOOD_FLAG = 1  # largest flag of a measured or well-filled record
_CARBON_UNCERTAINTY = re.compile(rf"NEE_\w+{RANDOM_UNCERTAINTY}$")
_PRECIPITATION = re.compile(r"P_(ERA|F)$")


def aggregate_steps(steps: pd.DataFrame, label: str, quality: str | None) -> pd.DataFrame:
    """Aggregate half-hourly or hourly values to days.

    Args:
        steps: Values indexed by the start of the step.
        label: Name of the file in a message.
        quality: Column of flags 0 to 3; None without one.

    Returns:
        Values indexed by day.

    Raises:
        UsageError: The steps are neither half-hours nor hours.
    """
    time = pd.DatetimeIndex(steps.index)
    step = time.to_series().diff().median()
    steps_per_day = round(float(np.timedelta64(1, "D") / step.to_numpy())) if len(steps) > 1 else 0
    if steps_per_day not in (24, 48):
        raise UsageError(f"{label}: steps of {step}: expected half-hours or hours")
    day = time.normalize()
    days = steps.groupby(day)
    count = days.count()
    daily = days.mean().where(count == steps_per_day)
    for name in map(str, steps):
        known = limits_of(name)
        if name.endswith(RANDOM_UNCERTAINTY):
            # Random errors of the records are independent; records without one do not count.
            daily[name] = np.sqrt((steps[name] ** 2).groupby(day).sum()) / count[name].where(count[name] > 0)
        if (known is not None and known.units == GPP_UNITS) or _CARBON_UNCERTAINTY.match(name):
            daily[name] *= GRAMS_PER_MICROMOLE
        elif _PRECIPITATION.match(name):
            daily[name] *= steps_per_day
    if quality in steps:
        daily[quality] = (steps[quality] <= _GOOD_FLAG).groupby(day).sum() / steps_per_day
    return daily
