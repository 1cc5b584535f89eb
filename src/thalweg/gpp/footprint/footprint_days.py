"""Daily features of a footprint that varies from day to day."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.gpp.footprint.footprint import MIN_DATES, MIN_SHARE, too_few_dates
from thalweg.gpp.footprint.footprint_series import FootprintPixels
from thalweg.gpp.footprint.kljun_footprints import KljunFootprints

_MIN_VARIANCE = 1e-12  # of identical pixels without uncertainty, whose weights are equal


def features_of_footprints(pixels: FootprintPixels, footprints: KljunFootprints, label: str = "series") -> pd.DataFrame:
    """Average the pixels with the footprint of each day, filled linearly between the dates.

    The dates before and after a day are averaged with the day's own footprint, then weighted by their distance in time:
    where all pixels are usable and equally certain, the same as averaging pixels that were filled. A pixel's weight is
    its share of the flux over u^2 + s^2, with its uncertainty u and the variance s^2 between the pixels of the date
    (see `average_pixels`). If less than `MIN_SHARE` of a day's footprint is usable on a date, the mean footprint takes
    its place there.

    Args:
        pixels: Pixels of the footprint's window on their dates.
        footprints: Footprint of each day on the same pixels.
        label: Name of the pixels in messages.

    Returns:
        Columns `time`, one per feature, and `NAME_spread` (standard deviation between the pixels), one row per day from
        the first to the last date of which `MIN_SHARE` of the mean footprint is usable.

    Raises:
        UsageError: There are fewer than `MIN_DATES` such dates.
    """
    inside = pixels.footprint.inside
    usable = pixels.usable[:, inside]
    mean_weights = footprints.mean / footprints.mean.sum()
    selected = usable @ mean_weights >= MIN_SHARE
    if selected.sum() < MIN_DATES:
        raise too_few_dates(label, int(selected.sum()))
    dates = pixels.dates[selected].astype("datetime64[D]")
    known, group = np.unique(dates, return_inverse=True)
    days = np.arange(known[0], known[-1] + 1)
    weights = footprints.on_days(days)
    totals = np.zeros((2, len(days), len(pixels.names)))
    position = np.searchsorted(known, days, side="right") - 1  # date before or on the day
    elapsed = np.append(np.diff(known).astype(float), 1.0)[position]
    late = (days - known[position]).astype(float) / elapsed
    per_date = np.bincount(group)
    for index, date in zip(group, np.flatnonzero(selected), strict=True):
        # Days between the previous date and the next one see this date, the more the closer.
        share = np.where(position == index, 1 - late, np.where(position == index - 1, late, 0.0))
        near = share > 0
        values, half_width = pixels.values[date][:, inside], pixels.uncertainty[date][:, inside]
        moments = _weighted_moments(
            weights[near], mean_weights, values.astype(float), usable[date], half_width.astype(float)
        )
        totals[:, near] += share[near, None] / per_date[index] * moments
    columns = dict(zip(pixels.names, totals[0].T, strict=True))
    columns |= {f"{name}_spread": spread for name, spread in zip(pixels.names, totals[1].T, strict=True)}
    return pd.DataFrame({"time": days.astype("datetime64[ns]"), **columns})


def _weighted_moments(
    weights: NDArray, mean_weights: NDArray, values: NDArray, usable: NDArray[np.bool_], half_width: NDArray
) -> NDArray[np.float64]:
    """Return (2, D, K) mean and standard deviation of a date's (K, P) values with the footprints of (D, P) days."""
    good = values[:, usable]
    own = weights[:, usable]
    own = np.where(own.sum(1, keepdims=True) >= MIN_SHARE, own, mean_weights[usable])
    certainty = 1 / np.maximum(half_width[:, usable] ** 2 + good.var(1)[:, None], _MIN_VARIANCE)
    total = own @ certainty.T
    mean = own @ (certainty * good).T / total
    variance = own @ (certainty * good**2).T / total - mean**2
    return np.stack([mean, np.sqrt(np.maximum(variance, 0.0))])
