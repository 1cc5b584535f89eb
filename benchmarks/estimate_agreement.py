"""Scores of estimates against a truth, and agreement of two estimates without one."""

import numpy as np
from numpy.typing import NDArray


def scores(estimate: NDArray, truth: NDArray) -> dict[str, float]:
    """Return R2, root mean square error, bias and correlation of estimates (N,) of a truth (N,)."""
    error = estimate - truth
    return {
        "r2": float(1 - np.square(error).mean() / truth.var()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "bias": float(error.mean()),
        "r": float(np.corrcoef(estimate, truth)[0, 1]),
    }


def agreement(ours: NDArray, theirs: NDArray) -> dict[str, float]:
    """Return the agreement of two estimates (T, H, W) where the second is not NaN.

    Returns:
        `r`, correlation; `slope`, least-squares slope of ours on theirs; `bias`, mean of ours minus theirs; `space_r`
        and `time_r`, correlations after the means of each date and of each pixel are removed.
    """
    valid = np.isfinite(theirs)
    ours = np.where(valid, ours, np.nan)
    first, second = ours[valid], theirs[valid]
    return {
        "r": float(np.corrcoef(first, second)[0, 1]),
        "slope": float(np.cov(first, second)[0, 1] / second.var(ddof=1)),
        "bias": float((first - second).mean()),
        "space_r": _correlation_of_departures(ours, theirs, valid, (1, 2)),
        "time_r": _correlation_of_departures(ours, theirs, valid, (0,)),
    }


def _correlation_of_departures(
    ours: NDArray, theirs: NDArray, valid: NDArray[np.bool_], axes: tuple[int, ...]
) -> float:
    """Return the correlation of departures from the means over axes; NaN in both where not valid."""
    counts = np.maximum(valid.sum(axes, keepdims=True), 1)
    first, second = (
        values - np.where(valid, values, 0.0).sum(axes, keepdims=True) / counts for values in (ours, theirs)
    )
    return float(np.corrcoef(first[valid], second[valid])[0, 1])
