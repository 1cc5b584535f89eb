"""Weights of days by the uncertainty of their target."""

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.windows import Windows

PENALTY = 10.0
"""Weight of the squared coefficients of the regression that gives the scale of the residuals."""


def day_weights(windows: Windows) -> NDArray[np.float64] | None:
    """Return (N,) weights of the days of windows, with a mean of 1; None where all are equal.

    A day weighs 1 / (s² + r²), with s the standard deviation of its target, and that of the site's median day where it
    has none. r is the standard deviation of what a ridge regression leaves (`residual_scale`), so that no day counts
    for much more than the others because its target is precise: a model would not predict it much better. These
    weights have a mean of 1 at every site; those of `Windows.importance` are factors to them.

    Args:
        windows: Windows with a target.
    """
    weights = _inverse_variance(windows)
    if windows.importance is None:
        return weights
    important = windows.importance.astype(float) if weights is None else weights * windows.importance
    return important / max(float(important.mean()), 1e-12)


def _inverse_variance(windows: Windows) -> NDArray[np.float64] | None:
    """Return (N,) weights by the uncertainty of the target; None where no day has one."""
    if windows.uncertainty is None or not np.isfinite(windows.uncertainty).any():
        return None
    floor = residual_scale(windows)
    weights = np.ones(len(windows))
    for site in windows.sites:
        here = windows.site == site
        own = windows.uncertainty[here].astype(float)
        known = np.isfinite(own)
        if known.any():
            spread = np.where(known, own, np.median(own[known]))
            inverse = 1 / np.maximum(np.square(spread) + floor**2, 1e-12)
            weights[here] = inverse / inverse.mean()
    return weights


def residual_scale(windows: Windows) -> float:
    """Return the standard deviation of the target that a ridge regression on the summaries of the windows leaves."""
    columns = windows.summaries().astype(float)
    mean = np.nanmean(np.where(np.isfinite(columns).any(0), columns, 0.0), 0)
    centred = np.nan_to_num(columns - mean, nan=0.0)
    scale = centred.std(0)
    standardised = centred / np.where(scale > 0, scale, 1.0)
    target = windows.target.astype(float) - windows.target.mean()
    normal = standardised.T @ standardised + PENALTY * np.eye(standardised.shape[1])
    return float((target - standardised @ np.linalg.solve(normal, standardised.T @ target)).std())
