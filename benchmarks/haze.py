"""Haze rule of the benchmarks, fixed before any model was looked at; it keeps undetected cloud out of the truth.

A date counts where the blue band departs by less than 0.012, median over pixels, from each pixel's own median within
45 days. At a site without a blue band all dates count.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

MAX_BLUE_DEPARTURE, BLUE_DAYS = 0.012, 45.0


def dates_without_haze(blue: NDArray, days: NDArray) -> NDArray[np.bool_]:
    """Return which dates (T,) the haze rule keeps, from the blue band (T, H, W), NaN where not clear."""
    kept = np.zeros(len(days), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that were never clear
        for date, day in enumerate(days):
            own_median = np.nanmedian(blue[np.abs(days - day) <= BLUE_DAYS], axis=0)
            kept[date] = np.nanmedian(np.abs(blue[date] - own_median)) < MAX_BLUE_DEPARTURE
    return kept
