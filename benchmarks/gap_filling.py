"""Hidden dates of Sentinel-2: errors of a model and of four baselines that fill them from the other dates.

A date is hidden at all pixels. It counts at the pixels that were clear on it and on a date before and one after it.
Every baseline is linear in a pixel's observations; its weights depend on their dates and validity only.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from embedded_site import OPTICAL, EmbeddedSite, haze_free
from thalweg.earth.model.context import HALO, SAME_DAY, SensorContext
from thalweg.earth.training.tiles import TrainingSite, near_days

HIDDEN_STEP = 3
PENALTIES = (1.0, 10.0)
HARMONICS, HARMONIC_RIDGE, DAYS_PER_YEAR = 2, 0.1, 365.25
PATTERNS_AT_ONCE = 2000


@dataclass(frozen=True)
class DateErrors:
    """Mean absolute error of each hidden date, in reflectance, over its pixels and the site's bands.

    Attributes:
        error: per date.
        unbiased: per date, each band's mean residual removed.
    """

    error: list[float] = field(default_factory=list)
    unbiased: list[float] = field(default_factory=list)

    def add(self, filled: NDArray, truth: NDArray) -> None:
        """Add a date, filled and observed, both (C, P)."""
        residual = filled - truth
        self.error.append(float(np.abs(residual).mean()))
        self.unbiased.append(float(np.abs(residual - residual.mean(1, keepdims=True)).mean()))

    def extend(self, others: "DateErrors") -> None:
        """Add the dates of another site."""
        self.error.extend(others.error)
        self.unbiased.extend(others.unbiased)

    def summary(self) -> dict[str, float]:
        """Return mean and median over dates, by the suffix of their keys."""
        return {
            "": float(np.mean(self.error)),
            "_median": float(np.median(self.error)),
            "_unbiased": float(np.mean(self.unbiased)),
            "_unbiased_median": float(np.median(self.unbiased)),
        }


def linear_weights(valid: NDArray[np.bool_], days: NDArray, day: float) -> NDArray:
    """Return weights (T, P) of the linear interpolation between each pixel's clear dates before and after a day."""
    rows = np.arange(len(days))[:, None]
    before = np.where(valid & (days < day)[:, None], rows, -1).max(0)
    after = np.where(valid & (days > day)[:, None], rows, len(days)).min(0)
    share = (day - days[before]) / (days[after] - days[before])
    return np.where(rows == before, 1 - share, 0.0) + np.where(rows == after, share, 0.0)


def whittaker_weights(valid: NDArray[np.bool_], days: NDArray, day: float, penalty: float) -> NDArray:
    """Return weights (T, P) of a Whittaker smoother of second differences on a daily grid, at a day of that grid."""
    grid = np.round(days - days.min()).astype(int)
    target = round(day - days.min())
    patterns, inverse = np.unique(valid, axis=1, return_inverse=True)
    solved = np.empty(patterns.shape)
    for start in range(0, patterns.shape[1], PATTERNS_AT_ONCE):
        some = patterns[:, start : start + PATTERNS_AT_ONCE]
        evidence = np.zeros((max(int(grid.max()), target) + 1, some.shape[1]))
        np.add.at(evidence, grid, some)
        solved[:, start : start + PATTERNS_AT_ONCE] = _smoother_row(evidence, target, penalty)[grid]
    weights: NDArray = solved[:, inverse.ravel()] * valid
    return weights


def _smoother_row(evidence: NDArray, target: int, penalty: float) -> NDArray:
    """Return row `target` of (diag(evidence) + penalty * D'D)^-1 for columns of evidence (N, P), by banded LDL'."""
    length = len(evidence)
    main, first = np.zeros(length), np.zeros(length)
    for place, coefficient in enumerate((1.0, -2.0, 1.0)):
        main[place : length - 2 + place] += penalty * coefficient**2
    for place, coefficient in enumerate((-2.0, -2.0)):
        first[1 + place : length - 1 + place] += penalty * coefficient
    pivot, lower = np.empty_like(evidence), np.zeros_like(evidence)
    result = np.zeros_like(evidence)
    result[target] = 1.0
    for day in range(length):
        pivot[day] = evidence[day] + main[day]
        if day > 0:
            lower[day] = (first[day] - (penalty * lower[day - 1] if day > 1 else 0.0)) / pivot[day - 1]
            pivot[day] -= lower[day] ** 2 * pivot[day - 1]
        if day > 1:
            pivot[day] -= penalty**2 / pivot[day - 2]
        if day > target:
            result[day] = -lower[day] * result[day - 1]
        if day > target + 1:
            result[day] -= penalty / pivot[day - 2] * result[day - 2]
    result /= pivot
    for day in range(length - 2, -1, -1):
        result[day] -= lower[day + 1] * result[day + 1]
        if day < length - 2:
            result[day] -= penalty / pivot[day] * result[day + 2]
    return result


def harmonic_weights(valid: NDArray[np.bool_], days: NDArray, day: float) -> NDArray:
    """Return weights (T, P) of a least-squares fit of a mean, a trend and two harmonics of the year, with a ridge."""
    years = (days - day) / DAYS_PER_YEAR
    phases = [2 * np.pi * order * years for order in range(1, HARMONICS + 1)]
    waves = [wave(phase) for phase in phases for wave in (np.cos, np.sin)]
    design = np.stack([np.ones_like(years), years, *waves], 1)
    at_day = np.array([1.0, 0.0, *[1.0, 0.0] * HARMONICS])
    ridge = HARMONIC_RIDGE * np.diag(np.arange(len(at_day)) > 0)
    patterns, inverse = np.unique(valid, axis=1, return_inverse=True)
    products = (design[:, :, None] * design[:, None]).reshape(len(days), -1)
    normal = (patterns.T.astype(float) @ products).reshape(-1, *ridge.shape) + ridge
    solved = np.linalg.solve(normal, np.broadcast_to(at_day[:, None], (len(normal), len(at_day), 1)))[..., 0]
    weights: NDArray = (design @ solved.T)[:, inverse.ravel()] * valid
    return weights


BASELINES: dict[str, Callable[[NDArray[np.bool_], NDArray, float], NDArray]] = {
    "linear": linear_weights,
    **{f"whittaker_{penalty:.0f}": partial(whittaker_weights, penalty=penalty) for penalty in PENALTIES},
    "harmonic": harmonic_weights,
}
"""Weights (T, P) of observations by name, from validity (T, P), days (T,) and the day to fill."""


def hidden_rows(site: TrainingSite) -> list[int]:
    """Return every third of a site's clear dates without haze, as indices; not the first and the last one."""
    rows: list[int] = np.flatnonzero(haze_free(site))[1:-1:HIDDEN_STEP].tolist()
    return rows


@dataclass(frozen=True)
class HiddenDate:
    """Pixels that count on a hidden date: truth (C, P), where they are (H, W), and the other observations."""

    truth: NDArray
    where: NDArray[np.bool_]
    values: NDArray
    valid: NDArray[np.bool_]
    days: NDArray
    day: float


def hidden_dates(site: TrainingSite, rows: Sequence[int]) -> Iterator[HiddenDate]:
    """Yield the hidden dates: values (T, C, P) of present bands and validity (T, P), false on the date itself."""
    context = site.contexts[OPTICAL]
    inner = slice(HALO, -HALO)
    values = context.values[:, context.present][..., inner, inner].numpy()
    valid = context.valid[:, 0, inner, inner].numpy() > 0
    days = context.days.numpy().astype(float)
    for row in rows:
        day = float(site.centre_days[row])
        date = int(np.abs(days - day).argmin())
        others = valid & (np.abs(days - day) >= SAME_DAY)[:, None, None]
        where = valid[date] & others[days < day].any(0) & others[days > day].any(0)
        yield HiddenDate(values[date][:, where], where, values[:, :, where], others[:, where], days, day)


def baseline_errors(site: TrainingSite, rows: Sequence[int]) -> dict[str, DateErrors]:
    """Return the errors of each baseline on some hidden dates."""
    errors = {name: DateErrors() for name in BASELINES}
    for hidden in hidden_dates(site, rows):
        if hidden.where.any():
            for name, weights in BASELINES.items():
                weight = weights(hidden.valid, hidden.days, hidden.day)
                errors[name].add(np.einsum("tp,tcp->cp", weight, hidden.values), hidden.truth)
    return errors


def hide_centre(contexts: dict[str, SensorContext], days: torch.Tensor) -> dict[str, SensorContext]:
    """Mask the centre date (1,) of the optical sensor; dates further away than in training are left out for speed."""
    near = {name: context.select(near_days(context.days, days)) for name, context in contexts.items()}
    optical = near[OPTICAL]
    return {**near, OPTICAL: optical.mask((optical.days - days).abs() < SAME_DAY)}


def model_errors(here: EmbeddedSite, rows: Sequence[int]) -> DateErrors:
    """Return the errors of hidden dates decoded from the 32 dimensions of that day's embedding."""
    errors = DateErrors()
    present = here.site.contexts[OPTICAL].present
    for row, hidden in zip(rows, hidden_dates(here.site, rows), strict=True):
        if hidden.where.any():
            values, _ = here.embed([row], hide_centre)
            decoded = here.decode(values, OPTICAL, torch.zeros(1, 1), 32)[0, present].numpy()
            errors.add(decoded[:, hidden.where], hidden.truth)
    return errors
