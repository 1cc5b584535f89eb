"""Intervals by cross-validation+ (Barber et al. 2021) of quantile bounds (Romano et al. 2019); sites weigh equally.

Every member of an ensemble predicts days of sites (or years) that it did not learn from; the score of such a day is the
distance by which it exceeds the member's bounds. A new day's interval comes from the bounds of each member on that day,
moved by each of the member's scores. No day is withheld from all members, so a final model may learn from every site.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NUM_SCORES = 51
"""Quantiles that stand for the scores of a member."""

_ROWS = 4096


def exceedances(bounds: NDArray, target: NDArray) -> NDArray[np.float32]:
    """Return (N,) distances by which days exceed the nearer of their bounds; negative inside the bounds.

    Args:
        bounds: (N, 3) lower bound, estimate, upper bound.
        target: (N,) observations.
    """
    return np.maximum(bounds[:, 0] - target, target - bounds[:, 2]).astype(np.float32)


def score_quantiles(scores: NDArray, units: NDArray) -> NDArray[np.float32]:
    """Return (`NUM_SCORES`,) quantiles of scores in which each unit, such as a site, counts equally.

    Args:
        scores: (N,) scores of days.
        units: (N,) unit of each day.
    """
    _, index, counts = np.unique(units, return_inverse=True, return_counts=True)
    order = np.argsort(scores)
    weights = 1.0 / counts[index[order]]
    position = (np.cumsum(weights) - weights / 2) / weights.sum()
    return np.interp(np.linspace(0, 1, NUM_SCORES), position, scores[order]).astype(np.float32)


def widened(interval: NDArray, uncertainty: NDArray | None, level: float) -> NDArray[np.float32]:
    """Return intervals that also cover the error of the days' own target.

    The half width on each side becomes the root of the sum of its square and the square of the half width of a normal
    error at the same level. A day without uncertainty keeps its interval. Since the scores of an ensemble come from
    measured days too, such an interval is on the cautious side.

    Args:
        interval: (N, 3) lower bound, estimate, upper bound.
        uncertainty: (N,) standard deviation of the days' target, NaN where unknown; None where no day has one.
        level: Level of the interval, 0 to 1.
    """
    from scipy.stats import norm

    if uncertainty is None:
        return interval
    half = float(norm.ppf(0.5 + level / 2)) * np.nan_to_num(uncertainty, nan=0.0)
    low, middle, high = interval.T
    return np.stack([middle - np.hypot(middle - low, half), middle, middle + np.hypot(high - middle, half)], 1).astype(
        np.float32
    )


def cross_validated_interval(
    estimate: NDArray, bounds: Sequence[NDArray], scores: Sequence[NDArray], level: float
) -> NDArray[np.float32]:
    """Return (N, 3) lower bound, estimate, upper bound at a level; the estimate stays inside.

    Args:
        estimate: (N,) estimates of the whole ensemble.
        bounds: (N, 3) lower bound, estimate, upper bound of each member on the same days.
        scores: (Q,) scores of each member, of equal weight.
        level: Level of the interval, 0 to 1.
    """
    found = np.empty((len(estimate), 3), np.float32)
    for start in range(0, len(estimate), _ROWS):
        rows = slice(start, start + _ROWS)
        lower = [member[rows, :1] - own for member, own in zip(bounds, scores, strict=True)]
        upper = [member[rows, 2:] + own for member, own in zip(bounds, scores, strict=True)]
        low = np.quantile(np.concatenate(lower, 1), 1 - level, axis=1)
        high = np.quantile(np.concatenate(upper, 1), level, axis=1)
        middle = estimate[rows]
        found[rows] = np.stack([np.minimum(low, middle), middle, np.maximum(high, middle)], 1)
    return found
