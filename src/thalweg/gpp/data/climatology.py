"""Climatology of a daily quantity at a site: its mean by day of year."""

import numpy as np
from numpy.typing import NDArray

SMOOTHING_DAYS = 31
"""Length of the moving average of a climatology in days, periodic over the year."""


def day_of_year(time: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return the day of year, 1 to 366, of datetime64 values of any resolution."""
    return (time.astype("datetime64[D]") - time.astype("datetime64[Y]")).astype(np.int64) + 1


def climatology(days: NDArray[np.int64], values: NDArray, weights: NDArray | None = None) -> NDArray[np.float64]:
    """Return (366,) means of the values within 15 days of each day of year, NaN where there is none.

    Args:
        days: (N,) day of year, 1 to 366.
        values: (N,) finite.
        weights: (N,) weights of the values; all are equal by default.
    """
    total = np.bincount(days - 1, values if weights is None else values * weights, minlength=366)
    count = np.bincount(days - 1, weights, minlength=366).astype(float)
    around = (np.arange(366)[:, None] + np.arange(-(SMOOTHING_DAYS // 2), SMOOTHING_DAYS // 2 + 1)) % 366
    total, count = total[around].sum(1), count[around].sum(1)
    return np.divide(total, count, out=np.full(366, np.nan), where=count > 0)
