"""Embeddings on the dates of a calendar, interpolated per pixel with the embeddings' own uncertainty."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.inference.calendar_dates import calendar_days
from thalweg.earth.store.subsample import evenly_spaced_parts
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

DEFAULT_PERIOD = "P15D"
"""Period of a calendar that is not given."""

MIN_VARIANCE = 1e-4
"""Variance that is added to an embedding's: no date outweighs all others."""

TAIL_WEIGHT, TAIL_DAYS = 1e-6, 60.0
"""Weight, and its decay in days, of dates beyond the kernel: they decide where no date is near."""

CHUNK_VALUES = 2**22
"""Values of embeddings (dates x dimensions x pixels) that are read together, unless one date of a part has more."""

_DAY = np.timedelta64(1, "D")
_NUM_DRIFT_DATES, _MAX_DRIFT_DAYS = 48, 60


def store_calendar(dataset: "xr.Dataset", calendar: str | None = None) -> NDArray[np.datetime64]:
    """Return the days of a calendar for a store.

    Args:
        dataset: embedding dataset with a dimension time.
        calendar: a period such as P15D from the store's first to its last date, or an interval with a period such as
            2018-03-01/2018-10-31/P10D; `DEFAULT_PERIOD` by default.

    Returns:
        datetime64[D], rising.

    Raises:
        UsageError: The calendar is malformed, or a day lies outside the store's dates.
    """
    times = dataset.time.values.astype("datetime64[D]")
    text = (calendar or DEFAULT_PERIOD).strip()
    if "/" not in text:
        text = f"{times.min()}/{times.max()}/{text}"
    days = np.array(calendar_days(text), "datetime64[D]")
    check_within(days, dataset)
    return days


def check_within(days: NDArray[np.datetime64], dataset: "xr.Dataset") -> None:
    """Raise a `UsageError` if days lie more than one calendar step outside a store's dates."""
    times = dataset.time.values.astype("datetime64[D]")
    step = np.diff(days).max() if len(days) > 1 else _DAY
    if days[0] < times.min() - step or days[-1] > times.max() + step:
        raise UsageError(
            f"calendar {days[0]} to {days[-1]}: the store has dates from {times.min()} to {times.max()}: choose days "
            "within them"
        )


@dataclass(frozen=True, eq=False)
class CalendarInterpolation:
    """Interpolation of a store's embeddings to the days of a calendar.

    The value of a day is the mean of the dates around it, each weighted by a Gaussian of its distance in days (standard
    deviation half a step of the calendar, at least 5 days), divided by its variance: the square of its uncertainty,
    and the scatter of single dates that the uncertainty does not explain, such as haze. Dates far away have a very
    small weight, which decides where no date is near. The uncertainty of the mean adds those of its dates,
    and the drift over the days between them and the calendar's day.

    Attributes:
        days: (C,), days of the calendar, datetime64[D].
        kernel: (C, T), weight of each of the store's dates by its distance in days.
        distances: (C, T), days between them.
        scatter: (K,), variance of single dates beyond their uncertainty.
        drift: (K,), variance that a dimension gains per day of distance.
    """

    days: NDArray[np.datetime64]
    kernel: NDArray[np.float32]
    distances: NDArray[np.float32]
    scatter: NDArray[np.float32]
    drift: NDArray[np.float32]

    @classmethod
    def of(cls, dataset: "xr.Dataset", days: NDArray[np.datetime64]) -> "CalendarInterpolation":
        """Prepare the interpolation of a store; reads a bounded sample of it."""
        times = dataset.time.values.astype("datetime64[D]")
        away = ((days[:, None] - times[None]) / _DAY).astype(float)
        step = float(np.median(np.diff(days) / _DAY)) if len(days) > 1 else 10.0
        width = max(step / 2, 5.0)
        kernel = np.exp(-0.5 * (away / width) ** 2) + TAIL_WEIGHT * np.exp(-np.abs(away) / TAIL_DAYS)
        return cls(days, kernel.astype(np.float32), np.abs(away).astype(np.float32), *_scatter_and_drift(dataset))

    def read(self, part: "xr.Dataset", with_uncertainty: bool = False) -> tuple[NDArray, NDArray | None]:
        """Interpolate a part of the store.

        Args:
            part: rows and columns of the store with all its dates; dims (time, embedding, y, x).
            with_uncertainty: whether to compute the uncertainty too.

        Returns:
            Embeddings on the days of the calendar, float32 (C, K, h, w), NaN at pixels without any embedding; and the
            half-width of their 68 % interval, of the same shape.
        """
        size = (part.sizes["embedding"], part.sizes["y"], part.sizes["x"])
        flat = int(np.prod(size))
        count = len(self.days)
        weights, total = np.zeros((2, count, flat), np.float32)
        noise, away = np.zeros((2, count, flat), np.float32) if with_uncertainty else (None, None)
        scatter = np.repeat(self.scatter, size[1] * size[2]) + MIN_VARIANCE
        at_once = max(1, CHUNK_VALUES // flat)
        for first in range(0, part.sizes["time"], at_once):
            some = slice(first, first + at_once)
            values = part.embeddings.isel(time=some).values.reshape(-1, flat)
            variance = part.uncertainty.isel(time=some).values.reshape(-1, flat) ** 2 + scatter
            is_known = np.isfinite(values) & np.isfinite(variance)
            precision = np.where(is_known, 1 / np.where(is_known, variance, 1), 0).astype(np.float32)
            kernel = self.kernel[:, some]
            weights += kernel @ precision
            total += kernel @ (precision * np.where(is_known, values, 0))
            if noise is not None and away is not None:
                noise += kernel**2 @ precision
                away += (kernel * self.distances[:, some]) @ precision
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(weights > 0, total / weights, np.nan)
            if noise is None or away is None:
                return mean.reshape(count, *size), None
            drift = np.repeat(self.drift, size[1] * size[2])
            half_width = np.sqrt(noise / weights**2 + drift * away / weights)
        return mean.reshape(count, *size), half_width.reshape(count, *size).astype(np.float32)


def _scatter_and_drift(dataset: "xr.Dataset") -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the scatter of single dates and the drift per day, both variances of each dimension, float32 (K,).

    The mean squared change between two dates, without what their uncertainty explains, is twice the scatter, and the
    drift times the days between them: a line through the changes between dates at most `_MAX_DRIFT_DAYS` apart.
    """
    times = dataset.time.values
    dates = range(max(0, len(times) - _NUM_DRIFT_DATES), len(times))
    apart, changes = [], []
    for rows, columns in evenly_spaced_parts(dataset, len(dates), 4 * len(dates)):
        part = dataset.isel(y=rows, x=columns)
        recent: list[tuple[NDArray, NDArray, np.datetime64]] = []
        for date in dates:
            here = part.embeddings.isel(time=date).values, part.uncertainty.isel(time=date).values, times[date]
            if not np.isfinite(here[0]).any():
                continue
            for earlier in recent:
                days = float((here[2] - earlier[2]) / _DAY)
                change = (here[0] - earlier[0]) ** 2 - here[1] ** 2 - earlier[1] ** 2
                if days <= _MAX_DRIFT_DAYS and np.isfinite(change).any():
                    apart.append(days)
                    changes.append(np.nanmean(change, (1, 2)))
            recent = [*recent[-2:], here]
    if len(set(apart)) < 2:
        zeros = np.zeros(dataset.sizes["embedding"], np.float32)
        return zeros, zeros
    slope, offset = np.polyfit(apart, np.array(changes), 1)
    return np.maximum(offset / 2, 0).astype(np.float32), np.maximum(slope, 0).astype(np.float32)
