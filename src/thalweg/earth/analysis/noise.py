"""Noise of embeddings: how far the embeddings of an unchanged pixel on the dates of one month lie apart.

The store's `uncertainty` tells how an embedding depends on its context, not how far two clear dates of one surface lie
apart (sun, view, haze, wet soil, growth within the month). The noise is therefore measured on the dates around the
compared periods, as

    z[pixel, date] = state[pixel] + effect[date] + sqrt(s[pixel] * v[date]) * e,    e ~ (0, C), correlated in time.

The scale s of a pixel is estimated from its own dates and drawn towards that of the scene as far as these are few (the
moderated variance of Smyth 2004, doi:10.2202/1544-6115.1027).

Shapes: T dates of the store, K dimensions, N pixels, D dates of a window.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError

Array = NDArray[np.floating]

WINDOW_DAYS = 31
"""Length of a window in days, within which a surface counts as unchanged."""

MIN_PIXELS = 50
"""Pixels with two dates in one window that an estimate needs."""

MAX_CORRELATION = 0.8
"""Largest correlation of successive dates; also assumed where fewer than three dates tell nothing about it."""

MIN_DATE_VARIANCE = 0.5
"""Smallest variance of a date relative to the median date, so that none outweighs all others."""

MIN_REMAINDER = 0.5
"""Smallest share of the variance that is assumed to remain after the mean of the dates was subtracted."""

PRIOR_FREEDOM = (4.0, 100.0)
"""Smallest and largest degrees of freedom of the scene's scale."""

STUDENT_FREEDOM = 5.0
"""Degrees of freedom of the weights against pixels that did change within a window."""

ITERATIONS = 4
EPS = 1e-12


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of the dates around two periods.

    Attributes:
        windows: indices of the dates of each window, (D,) each.
        effects: (T, K), common deviation of the pixels on each date; NaN outside the windows.
        variances: (T,), variance v of each date; NaN outside the windows.
        covariance: (K, K), C, that of a typical pixel (s = 1) on a typical date (v = 1).
        inflation: factor by which the correlation of successive dates raises the variance of their mean, at least 1.
        prior_freedom: degrees of freedom that the typical scale counts as, in addition to those of a pixel.
    """

    windows: Sequence[NDArray[np.integer]]
    effects: Array
    variances: Array
    covariance: Array
    inflation: float
    prior_freedom: float = PRIOR_FREEDOM[0]

    @classmethod
    def fit(cls, series: Array, windows: Sequence[NDArray[np.integer]]) -> "Noise":
        """Estimate the noise from a sample of pixels.

        Args:
            series: (T, K, N), embeddings; NaN where there is none.
            windows: indices of the dates of each window, (D,) each.

        Raises:
            UsageError: Fewer than 50 of the pixels have two dates in one window.
        """
        seen_twice = sum(int((np.isfinite(series[window, 0]).sum(0) > 1).sum()) for window in windows)
        if seen_twice < MIN_PIXELS:
            raise UsageError(
                f"{seen_twice} sampled pixel(s) with two dates within {WINDOW_DAYS} days around the periods: expected "
                f"at least {MIN_PIXELS} to measure the noise of a date; choose periods with more dates"
            )
        effects, variances = np.full(series.shape[:2], np.nan), np.full(len(series), np.nan)
        for window in windows:
            effects[window] = np.nan_to_num(_median(series[window] - _median(series[window], 0), 2))
        parts = [series[window] - effects[window][..., None] for window in windows]
        residuals = np.concatenate([part - _median(part, 0) for part in parts])
        deviations = np.maximum(_median(np.abs(residuals), (0, 2)), EPS)
        precision = np.diag(deviations**-2)
        spread = _median(_squared_norms(residuals, precision), 1)
        spread = np.maximum(np.nan_to_num(spread), max(MIN_DATE_VARIANCE * float(np.nanmedian(spread)), EPS))
        variances[np.concatenate(windows)] = spread / spread.mean()
        noise = cls(windows, effects, variances, np.diag(deviations**2), _inflation(parts, precision))
        for _ in range(ITERATIONS):
            noise = noise._refined(series)
        return noise

    def scatter(self, series: Array) -> tuple[Array, Array]:
        """Return the scale of pixels by their own dates.

        Args:
            series: (T, K, N), embeddings.

        Returns:
            The scale s times its degrees of freedom, and these degrees, (N,) each.
        """
        precision = np.linalg.inv(self.covariance)
        total, freedom = np.zeros((2, series.shape[2]))
        for residuals, own in self._residuals(series):
            mean_square = np.nanmean(np.where(own > 0, _squared_norms(residuals, precision), 0), 0) / series.shape[1]
            total += np.nan_to_num(mean_square) * own
            freedom += own
        return total, freedom

    def period_mean(self, series: Array, uncertainty: Array, dates: NDArray[np.integer]) -> "PeriodMean":
        """Average embeddings over the dates of a period, weighted by inverse variance.

        The variance of a date is that of the noise plus that of the store. The noise counts as many independent dates
        as its correlation leaves, at least one; the store's own variance does not fall with the number of dates, since
        they share their context.

        Args:
            series: (T, K, N), embeddings; NaN where there is none.
            uncertainty: (T, K, N), half-widths of their 68 % intervals.
            dates: indices of the period's dates, all of them within the windows.
        """
        vectors, own = series[dates], uncertainty[dates] ** 2
        relative = self.variances[dates][:, None] + np.mean(own / np.diag(self.covariance)[:, None], axis=1)
        has_embedding = np.isfinite(vectors).all(1) & np.isfinite(relative)
        weights = np.where(has_embedding, 1 / relative, 0.0)
        total = weights.sum(0)
        count = has_embedding.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = (weights / total)[:, None]
            raw = np.where(has_embedding[:, None], vectors, 0)
            mean = (shares * raw).sum(0)
            corrected = mean - (shares * self.effects[dates][..., None]).sum(0)
            variance = np.minimum(count, self.inflation) / total
            store = (shares * np.where(has_embedding[:, None], own, 0)).sum(0)
        return PeriodMean(mean, corrected, variance, store, count)

    def _residuals(self, series: Array) -> Iterator[tuple[Array, Array]]:
        """Yield the standardised residuals (D, K, N) of each window, NaN where none, and their freedom (N,)."""
        for window in self.windows:
            part, variance = series[window] - self.effects[window][..., None], self.variances[window][:, None]
            has_embedding = np.isfinite(part).all(1)
            weights = np.where(has_embedding, 1 / variance, 0.0)
            count = has_embedding.sum(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = (weights[:, None] * np.nan_to_num(part)).sum(0) / weights.sum(0)
                remainder = np.maximum(1 - self.inflation / count, MIN_REMAINDER)
            residuals = (part - mean) / np.sqrt(variance[:, None] * remainder)
            yield residuals, np.where(count > 1, (count - 1) / self.inflation, 0.0)

    def _refined(self, series: Array) -> "Noise":
        """Return the noise with its covariance and the freedom of its scale estimated again."""
        from scipy.special import digamma, polygamma

        size = series.shape[1]
        total, freedom = self.scatter(series)
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = total / freedom
        weights = (STUDENT_FREEDOM + size * freedom) / (STUDENT_FREEDOM + size * total)
        products, number = np.zeros((size, size)), 0.0
        for residuals, own in self._residuals(series):
            usable = np.isfinite(residuals).all(1) & (own > 0)
            vectors = np.moveaxis(residuals, 1, -1)[usable]
            products += (vectors * np.broadcast_to(weights, usable.shape)[usable][:, None]).T @ vectors
            number += len(vectors)
        covariance = products / number + EPS * np.eye(size)
        half = size * freedom / 2
        told = (freedom > 0) & (scale > 0)
        logs = np.log(scale[told]) - digamma(half[told]) + np.log(half[told])
        excess = float(logs.var() - polygamma(1, half[told]).mean()) if told.any() else np.inf
        prior = float(np.clip(2 * _inverse_trigamma(excess), *PRIOR_FREEDOM))
        typical = np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2)) if told.any() else 1.0
        return replace(self, covariance=covariance * float(typical), prior_freedom=prior)


@dataclass(frozen=True, eq=False)
class PeriodMean:
    """Mean embedding of N pixels over a period.

    Attributes:
        mean: (K, N), weighted mean.
        corrected: (K, N), the same without the common effect of each date.
        variance: (N,), variance of the noise in it, relative to the covariance of a typical pixel's date.
        store: (K, N), its variance by the store's own uncertainty.
        count: (N,), number of dates with an embedding; where it is 0, the others are NaN.
    """

    mean: Array
    corrected: Array
    variance: Array
    store: Array
    count: NDArray[np.integer]


def noise_windows(days: NDArray[np.datetime64], dates: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Return the windows in which the noise of a period is measured.

    Args:
        days: (T,), days of the store's dates, ascending.
        dates: indices of the period's dates, ascending.

    Returns:
        Indices of the dates of each window: the period in pieces of at most 31 days; or, if it is shorter, the dates in
        the 31 days around its middle.
    """
    first, last = days[dates[0]], days[dates[-1]]
    length = np.timedelta64(WINDOW_DAYS, "D")
    if last - first < length:
        missing = length - (last - first)
        around = (days >= first - missing // 2) & (days <= last + missing // 2)
        return [np.flatnonzero(around)]
    pieces = (days[dates] - first) // length
    return [dates[pieces == piece] for piece in np.unique(pieces)]


def _inflation(parts: Sequence[Array], precision: Array) -> float:
    """Return by how much the correlation of successive dates raises the variance of a mean over many dates.

    Under a correlation that falls geometrically with the number of dates between two, the squared difference of every
    other date is 1 + r times that of successive ones.
    """
    one = [_squared_norms(part[1:] - part[:-1], precision).ravel() for part in parts if len(part) > 2]
    two = [_squared_norms(part[2:] - part[:-2], precision).ravel() for part in parts if len(part) > 2]
    if not one or not np.isfinite(np.concatenate(two)).any() or not np.isfinite(np.concatenate(one)).any():
        correlation = MAX_CORRELATION
    else:
        ratio = np.nanmedian(np.concatenate(two)) / max(float(np.nanmedian(np.concatenate(one))), EPS)
        correlation = float(np.clip(ratio - 1, 0, MAX_CORRELATION))
    return (1 + correlation) / (1 - correlation)


def _squared_norms(vectors: Array, precision: Array) -> Array:
    """Return the squared Mahalanobis norms (D, N) of vectors (D, K, N)."""
    return np.asarray(np.einsum("dkn,kl,dln->dn", vectors, precision, vectors, optimize=True))


def _median(values: Array, axis: int | tuple[int, ...]) -> Array:
    """Return the median without missing values; NaN where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all values missing
        return np.asarray(np.nanmedian(values, axis=axis))


def _inverse_trigamma(value: float) -> float:
    """Return the argument at which the trigamma function has a value; infinity for values that are not positive."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    low, high = 1e-2, 1e4
    if value <= polygamma(1, high):
        return np.inf
    if value >= polygamma(1, low):
        return low
    return float(brentq(lambda argument: polygamma(1, argument) - value, low, high))
