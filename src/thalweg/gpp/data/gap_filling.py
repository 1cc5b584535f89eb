"""From the dates on which a footprint was seen to days (paper, section "GPP use")."""

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.errors import UsageError

Method = Literal["linear", "kalman"]

MIN_DATES = 5
"""Fewest dates that make a daily series."""


@dataclass(frozen=True)
class Daily:
    """A series filled to days.

    Attributes:
        time: (D,) datetime64[ns], every day.
        values: (D, K).
        variance: (D, K) of the values as estimates of the underlying signal; None where the method gives none.
    """

    time: NDArray[np.datetime64]
    values: NDArray[np.float64]
    variance: NDArray[np.float64] | None


def fill_to_days(
    dates: NDArray[np.datetime64],
    values: NDArray,
    method: Method = "linear",
    days: NDArray[np.datetime64] | None = None,
    where: str = "series",
) -> Daily:
    """Fill series to days.

    `linear` interpolates between the dates and holds the first and last value beyond them. `kalman` smooths a local
    linear trend without level noise (statsmodels' "smooth trend": an integrated random walk seen through noise),
    its two variances estimated by maximum likelihood, value by value; between dates it follows the trend and its
    variance grows.

    Args:
        dates: (T,) datetime64, in order; several dates of one day are averaged.
        values: (T, K), finite.
        method: "linear" or "kalman".
        days: (D,) consecutive days to fill; from the first to the last date by default.
        where: what to call the series in a message.

    Raises:
        UsageError: fewer than `MIN_DATES` dates, or an unknown method.
    """
    if method not in get_args(Method):
        raise UsageError(f"gap filling {method!r}: expected one of {', '.join(get_args(Method))}")
    if len(dates) < MIN_DATES:
        raise UsageError(
            f"{where}: {len(dates)} dates with enough of the footprint seen, expected at least {MIN_DATES}: take a "
            "longer record or a larger radius"
        )
    frame = pd.DataFrame(np.asarray(values, float), index=pd.DatetimeIndex(dates).normalize())
    seen = frame.groupby(level=0).mean()
    every = pd.DatetimeIndex(days) if days is not None else pd.date_range(seen.index[0], seen.index[-1])
    time = every.to_numpy().astype("datetime64[ns]")
    if method == "linear":
        at, known = (index.to_numpy().astype("datetime64[D]").astype(float) for index in (every, seen.index))
        filled = [np.interp(at, known, seen[column]) for column in seen]
        return Daily(time, np.stack(filled, 1), None)
    whole = every.union(pd.date_range(seen.index[0], seen.index[-1]))
    smoothed = [_smooth(seen[column].reindex(whole).to_numpy()) for column in seen]
    wanted = whole.get_indexer(every)
    means, variances = (np.stack(part, 1)[wanted] for part in zip(*smoothed, strict=True))
    return Daily(time, means, variances)


def _smooth(series: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of the level of a smooth trend, given a daily series with NaN in its gaps."""
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    centre, scale = float(np.nanmean(series)), float(np.nanstd(series))
    if scale <= 1e-9 * abs(centre):
        return np.full(len(series), centre), np.zeros(len(series))
    model = UnobservedComponents((series - centre) / scale, "smooth trend", use_exact_diffuse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an optimum at a variance of zero is fine and warned about
        fitted = model.fit(disp=0, maxiter=50, cov_type="none")
    variance = np.maximum(fitted.smoothed_state_cov[0, 0], 0.0)
    return centre + scale * fitted.smoothed_state[0], scale**2 * variance
