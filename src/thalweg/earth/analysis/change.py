"""Change between two periods: the difference of two mean embeddings in units of its own uncertainty, pixel by pixel.

The difference of a pixel is compared with the noise of its dates (`thalweg.earth.analysis.noise`). What all pixels
share, the effect of weather, sun and haze, is subtracted first: a change of the whole scene is therefore not found.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.analysis.noise import WINDOW_DAYS, Noise, noise_windows
from thalweg.earth.analysis.periods import Period, parse_period, period_dates, store_days
from thalweg.earth.cube.windows import grid_windows
from thalweg.earth.store.subsample import block_shape, sample_series
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.model.earth_model import EarthModel

LEVEL = 0.05
"""False discovery rate at which a change is significant."""

STATE_SIZE = 7
"""Dimensions that are compared: the state. The context holds the season, which differs without a change."""

SAMPLE_PIXELS = 4000
"""Pixels from which the noise is estimated, up to a factor of two."""

MIN_COVERAGE = 0.1
"""Share of the pixels that a date must show: the rest of a cloudy date is mostly the edge of clouds."""

MIN_WINDOW_DATES = 3
"""Dates around each period that the noise is measured on at least: of two dates, it is not known which one is hazy, and
up to half of an unchanged scene was significant."""

UNCHANGED_SHARE = 0.25
"""Share of the pixels that is taken as unchanged: if even these lie farther apart than the noise predicts, all
variances are raised until they do not. Hazy single dates and a change of the processing need this."""

DECODED = ("NDVI", "lai")
"""Quantities whose change is decoded for interpretation, as far as the model knows them."""

Progress = Callable[[int, int], None]


class _Statistics(NamedTuple):
    """Comparison of N pixels; NaN where a period has no embedding.

    Attributes:
        magnitude: (N,), Mahalanobis norm of the difference.
        p_value: (N,), probability of a larger one where nothing changed.
        relative: (N,), square of the norm relative to the median of unchanged pixels.
        before: (K, N), mean embedding of the earlier period.
        after: (K, N), mean embedding of the later period.
    """

    magnitude: NDArray[np.floating]
    p_value: NDArray[np.floating]
    relative: NDArray[np.floating]
    before: NDArray[np.floating]
    after: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Dates of two periods, and the noise of the dates around them.

    Attributes:
        dataset: the state on the dates that are read.
        before: indices of the dates of the earlier period in it.
        after: indices of the dates of the later period.
        noise: noise of its dates.
        shift: (K,), difference that all pixels share.
        excess: factor by which the variances are raised, at least 1.
    """

    dataset: "xr.Dataset"
    before: NDArray[np.integer]
    after: NDArray[np.integer]
    noise: Noise
    shift: NDArray[np.floating]
    excess: float = 1.0

    def statistics(self, series: NDArray[np.floating], uncertainty: NDArray[np.floating]) -> "_Statistics":
        """Compare the periods of N pixels.

        Args:
            series: (T, K, N), embeddings on all dates.
            uncertainty: (T, K, N), their uncertainty.
        """
        from scipy.stats import f

        size = series.shape[1]
        before, after = (self.noise.period_mean(series, uncertainty, dates) for dates in (self.before, self.after))
        difference = (after.corrected - before.corrected - self.shift[:, None]).T
        total, own_freedom = self.noise.scatter(series)
        freedom = self.noise.prior_freedom + size * own_freedom
        scale = (self.noise.prior_freedom + size * total) / freedom
        noise = (scale * (before.variance + after.variance))[:, None, None] * self.noise.covariance
        store = (before.store + after.store).T[:, :, None] * np.eye(size)
        square = np.full(len(difference), np.nan)
        known = np.isfinite(difference).all(1)
        solved = np.linalg.solve((noise + store)[known], difference[known][..., None])[..., 0]
        square[known] = (difference[known] * solved).sum(1) / self.excess
        ratio = square / size
        return _Statistics(
            np.sqrt(square), f.sf(ratio, size, freedom), ratio / f.median(size, freedom), before.mean, after.mean
        )


def change(
    dataset: "xr.Dataset",
    before: str,
    after: str,
    model: "str | Path | EarthModel | None" = None,
    level: float = LEVEL,
    progress: Progress | None = None,
) -> "xr.Dataset":
    """Compare two periods of an embedding dataset pixel by pixel.

    The mean embedding of each period is weighted by inverse variance. The variance of the difference is that of the
    noise between the dates of one month, with as many independent dates as their correlation leaves, plus that of the
    store. The squared norm, divided by the dimensions, has an F distribution where nothing changed. The false discovery
    rate is controlled by the procedure of Benjamini and Hochberg (1995), which holds under the positive dependence of
    neighbouring pixels.

    Args:
        dataset: embeddings as `thalweg.open` returns them.
        before: the earlier period: a date, a month or a range, such as `2018-07`.
        after: the later period.
        model: model of the embeddings or its folder, for the decoded changes; the shipped weights by default.
        level: false discovery rate, between 0 and 1.
        progress: callback with the number of finished blocks and their total.

    Returns:
        Dataset with dimensions (y, x), float32, NaN where a pixel has no embedding in one of the periods: `magnitude`,
        the Mahalanobis norm of the difference; `p_value`; `q_value`, the smallest false discovery rate at which the
        pixel is significant; `significant`, 1 or 0; `NDVI_change` and, if the model knows it, `lai_change`. Its
        attributes hold the dates, the number of compared and of changed pixels, `changed_area_ha`, `date_inflation`
        (by how much the correlation of dates raises the variance of their mean) and `noise_excess` (by how much the
        difference of the least changed pixels did).

    Raises:
        MissingPathError: There is no folder `model`.
        UsageError: A period has another form or no usable date, the periods overlap or are in the wrong order, no
            pixel has an embedding in both, there are too few dates to measure the noise, or another model made the
            embeddings.
    """
    import xarray as xr

    from thalweg.earth.analysis.decoded import decoded_map, decoded_units, has_quantity
    from thalweg.earth.model.earth_model import EarthModel

    check_level(level)
    periods = check_periods(before, after)
    loaded = model if isinstance(model, EarthModel) else EarthModel.load(model)
    loaded.check_made(dataset)
    comparison = _prepare(dataset, periods)
    part = comparison.dataset
    quantities = [name for name in DECODED if has_quantity(loaded, name, part.sizes["embedding"])]
    shape = part.sizes["y"], part.sizes["x"]
    maps = {name: np.full(shape, np.nan, np.float32) for name in ("magnitude", "p_value", "q_value", "significant")}
    maps |= {f"{name}_change": np.full(shape, np.nan, np.float32) for name in quantities}
    blocks = list(grid_windows(shape, max(block_shape(dataset))))
    for number, block in enumerate(blocks, 1):
        here = (slice(block.top, block.top + block.height), slice(block.left, block.left + block.width))
        read = part.isel(y=here[0], x=here[1])
        size = (len(part.time), part.sizes["embedding"], block.height * block.width)
        series = read.embeddings.values.reshape(size).astype(np.float64)
        found = comparison.statistics(series, read.uncertainty.values.reshape(size).astype(np.float64))
        pixels = (block.height, block.width)
        maps["magnitude"][here], maps["p_value"][here] = (
            values.reshape(pixels) for values in (found.magnitude, found.p_value)
        )
        means = [vectors.reshape(-1, *pixels) for vectors in (found.before, found.after)]
        for name in quantities:
            first, second = (decoded_map(loaded, vectors, name) for vectors in means)
            maps[f"{name}_change"][here] = second - first
        if progress:
            progress(number, len(blocks))
    known = np.isfinite(maps["p_value"])
    if not known.any():
        raise UsageError(f"no pixel has an embedding in both {before} and {after}: choose longer periods")
    maps["q_value"][known] = false_discovery_rates(maps["p_value"][known])
    maps["significant"][known] = maps["q_value"][known] <= level
    units = {f"{name}_change": decoded_units(name) for name in quantities}
    return xr.Dataset(
        {name: (("y", "x"), values, {"units": units.get(name, "1")}) for name, values in maps.items()},
        coords={name: dataset[name] for name in ("y", "x", "spatial_ref") if name in dataset.coords},
        attrs=_attributes(dataset, comparison, periods, maps, level),
    )


def check_level(level: float) -> None:
    """Raise a `UsageError` if a false discovery rate is not between 0 and 1."""
    if not 0 < level < 1:
        raise UsageError(f"level {level:g}: expected a false discovery rate between 0 and 1")


def check_periods(before: str, after: str) -> tuple[Period, Period]:
    """Return two periods to compare.

    Raises:
        UsageError: One has another form, they overlap, or the first is after the second.
    """
    first, second = parse_period(before), parse_period(after)
    if first.first > second.last:
        raise UsageError(f"{first.text} is after {second.text}: expected the earlier period first")
    if second.first <= first.last:
        raise UsageError(f"{first.text} and {second.text} share days: expected two separate periods")
    return first, second


def false_discovery_rates(p_values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the smallest false discovery rate at which each p-value (N,) is significant (Benjamini-Hochberg)."""
    order = np.argsort(p_values)
    rates = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    result = np.empty(len(order))
    result[order] = np.minimum(np.minimum.accumulate(rates[::-1])[::-1], 1)
    return result


def _prepare(dataset: "xr.Dataset", periods: tuple[Period, Period]) -> _Comparison:
    """Choose the dates, and estimate the noise from a sample of the pixels.

    Raises:
        UsageError: A period has no usable date, both have the same one, or there are too few dates around them.
    """
    days = store_days(dataset)
    requested = [period_dates(dataset, period) for period in periods]
    if len(shared := np.intersect1d(requested[0], requested[1])):
        day = days[shared[0]]
        raise UsageError(f"{periods[0].text} and {periods[1].text} both stand for {day}: choose dates farther apart")
    around = [window for dates in requested for window in noise_windows(days, dates)]
    read = np.unique(np.concatenate([*requested, *around]))
    part = dataset[["embeddings", "uncertainty"]].isel(time=read, embedding=slice(0, STATE_SIZE))
    series = sample_series(part, "embeddings", SAMPLE_PIXELS)
    coverage = np.isfinite(series).all(1).sum(1) / max(1, int(np.isfinite(series).all(1).any(0).sum()))
    usable = coverage >= MIN_COVERAGE
    for period, dates in zip(periods, requested, strict=True):
        if not usable[np.isin(read, dates)].any():
            raise UsageError(
                f"{period.text}: its {len(dates)} date(s) show less than {MIN_COVERAGE:.0%} of the pixels: choose a "
                "longer period"
            )
    part, series, read = part.isel(time=usable), series[usable].astype(np.float64), read[usable]
    before, after = (np.flatnonzero(np.isin(read, dates)) for dates in requested)
    windows = [_period_windows(days[read], before, after, is_later) for is_later in (False, True)]
    for period, around in zip(periods, windows, strict=True):
        number = sum(len(window) for window in around)
        if number < MIN_WINDOW_DATES:
            raise UsageError(
                f"{period.text}: {number} usable date(s) within the {WINDOW_DAYS} days around it, expected at least "
                f"{MIN_WINDOW_DATES} to measure the noise of a date: choose a longer period"
            )
    noise = Noise.fit(series, [*windows[0], *windows[1]])
    uncertainty = sample_series(part, "uncertainty", SAMPLE_PIXELS).astype(np.float64)
    first, second = (noise.period_mean(series, uncertainty, dates).corrected for dates in (before, after))
    if not np.isfinite(first + second).any():
        raise UsageError(
            f"no sampled pixel has an embedding in both {periods[0].text} and {periods[1].text}: choose longer periods"
        )
    comparison = _Comparison(part, before, after, noise, np.nanmedian(second - first, 1))
    relative = comparison.statistics(series, uncertainty).relative
    return replace(comparison, excess=max(1.0, float(np.nanquantile(relative, UNCHANGED_SHARE / 2))))


def _period_windows(
    days: NDArray[np.datetime64], before: NDArray[np.integer], after: NDArray[np.integer], is_later: bool
) -> list[NDArray[np.integer]]:
    """Return the windows of the noise around one of two periods; a date between them belongs to the nearer one.

    No window spans both periods, for then a change would count as noise.
    """
    middle = days[before[-1]] + (days[after[0]] - days[before[-1]]) // 2
    windows = noise_windows(days, after if is_later else before)
    return [window[(days[window] > middle) == is_later] for window in windows]


def _attributes(
    dataset: "xr.Dataset",
    comparison: _Comparison,
    periods: tuple[Period, Period],
    maps: dict[str, NDArray[np.float32]],
    level: float,
) -> dict[str, object]:
    """Return the attributes of a result: its provenance and its summary."""
    days = store_days(comparison.dataset)
    compared, changed = int(np.isfinite(maps["p_value"]).sum()), int(np.nansum(maps["significant"]))
    hectares = float(dataset.attrs["geoemb:gsd"]) ** 2 / 10_000
    attributes: dict[str, object] = {
        **{name: dataset.attrs[name] for name in ("thalweg:model", "geoemb:gsd", "proj:wkt2")},
        "before": periods[0].text,
        "after": periods[1].text,
        "dates_before": [str(day) for day in days[comparison.before]],
        "dates_after": [str(day) for day in days[comparison.after]],
        "level": level,
        "compared_pixels": compared,
        "changed_pixels": changed,
        "changed_area_ha": changed * hectares,
        "date_inflation": comparison.noise.inflation,
        "noise_excess": comparison.excess,
    }
    return attributes
