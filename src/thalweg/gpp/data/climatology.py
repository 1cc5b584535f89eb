"""A site's mean cycle: what it does in a mean year, computed from its observations."""

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 31
"""Days over which a mean cycle is averaged; the year's ends are joined."""


def day_of_year(time: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """1 to 366, of any datetime64."""
    return (time.astype("datetime64[D]") - time.astype("datetime64[Y]")).astype(np.int64) + 1


def mean_cycle(days: NDArray[np.int64], values: NDArray) -> NDArray[np.float64]:
    """(366,) mean of the values within 15 days of each day of the year, NaN where there is none.

    Args:
        days: (N,) day of year, 1 to 366.
        values: (N,) finite.
    """
    total = np.bincount(days - 1, values, minlength=366)
    count = np.bincount(days - 1, minlength=366).astype(float)
    around = (np.arange(366)[:, None] + np.arange(-(SMOOTHING // 2), SMOOTHING // 2 + 1)) % 366
    total, count = total[around].sum(1), count[around].sum(1)
    return np.divide(total, count, out=np.full(366, np.nan), where=count > 0)
