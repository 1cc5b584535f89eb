"""Gap filling: from the dates of a series to every day (paper, section "GPP use")."""

import warnings
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.errors import unknown_name
from thalweg.gpp.footprint.footprint import MIN_DATES, too_few_dates

GapFilling = Literal["linear", "kalman"]
"""Methods of gap filling."""


@dataclass(frozen=True)
class FilledSeries:
    """Series with a value on every day.

    Attributes:
        time: (D,) datetime64[ns], every day.
        values: (D, K) float64.
        variance: (D, K) float64, variance of the values as estimates of the signal; None for a method without it.
    """

    time: NDArray[np.datetime64]
    values: NDArray[np.float64]
    variance: NDArray[np.float64] | None


def fill_to_days(
    dates: NDArray[np.datetime64],
    values: NDArray,
    method: GapFilling = "linear",
    days: NDArray[np.datetime64] | None = None,
    label: str = "series",
) -> FilledSeries:
    """Fill series to days.

    `linear` interpolates between the dates and extends the first and last value. `kalman` smooths each series with an
    integrated random walk observed with noise (the "smooth trend" of statsmodels), whose two variances are estimated
    by maximum likelihood; between dates it follows the trend and its variance grows.

    Args:
        dates: (T,) datetime64, in order; several dates of one day are averaged.
        values: (T, K), finite.
        method: "linear" or "kalman".
        days: (D,) consecutive days to fill; from the first to the last date by default.
        label: Name of the series in a message.

    Raises:
        UsageError: There are fewer than `MIN_DATES` dates, or the method is unknown.
    """
    check_gap_filling(method)
    if len(dates) < MIN_DATES:
        raise too_few_dates(label, len(dates))
    frame = pd.DataFrame(np.asarray(values, float), index=pd.DatetimeIndex(dates).normalize())
    observed = frame.groupby(level=0).mean()
    every = pd.DatetimeIndex(days) if days is not None else pd.date_range(observed.index[0], observed.index[-1])
    time = every.to_numpy().astype("datetime64[ns]")
    if method == "linear":
        at, known = (index.to_numpy().astype("datetime64[D]").astype(float) for index in (every, observed.index))
        filled = [np.interp(at, known, observed[column]) for column in observed]
        return FilledSeries(time, np.stack(filled, 1), None)
    whole = every.union(pd.date_range(observed.index[0], observed.index[-1]))
    smoothed = [_smooth(observed[column].reindex(whole).to_numpy()) for column in observed]
    wanted = whole.get_indexer(every)
    means, variances = (np.stack(part, 1)[wanted] for part in zip(*smoothed, strict=True))
    return FilledSeries(time, means, variances)


def check_gap_filling(method: str) -> GapFilling:
    """Return the method of gap filling of this name.

    Raises:
        UsageError: There is no such method.
    """
    if method not in get_args(GapFilling):
        raise unknown_name("gap filling", method, get_args(GapFilling))
    return cast(GapFilling, method)


def _smooth(series: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the level of a smooth trend, given a daily series with NaN in its gaps."""
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    centre, scale = float(np.nanmean(series)), float(np.nanstd(series))
    if scale <= 1e-9 * abs(centre):
        return np.full(len(series), centre), np.zeros(len(series))
    model = UnobservedComponents((series - centre) / scale, "smooth trend", use_exact_diffuse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels warns of an optimum at a variance of zero, which is fine
        fitted = model.fit(disp=0, maxiter=50, cov_type="none")
    variance = np.maximum(fitted.smoothed_state_cov[0, 0], 0.0)
    return centre + scale * fitted.smoothed_state[0], scale**2 * variance
