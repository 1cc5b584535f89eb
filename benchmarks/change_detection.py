"""Change between two periods: false discoveries where nothing changed, changes that are known.

null: sites BE-1, BE-3 and TZ-1; every second date of a month against the others, as if they were of two years: nothing
    changed. Months with at least three dates on each side.
    null_months: number of months; null_below_005: mean fraction of p-values of at most 0.05; null_any: fraction of the
    months with a significant pixel; null_changed, null_worst: mean and largest fraction of significant pixels.
exchange: the same months; in the later period, a square of 24 x 24 pixels gets the embeddings of another part of the
    site, as a change of the land cover would give.
    exchange_found: fraction of significant pixels among those of the square whose decoded NDVI moved by more than 0.1;
    exchange_false_share: pixels outside the square as a fraction of the significant ones, over all months.
landscape: a simulated landscape of 48 x 48 pixels, May against August: growth and harvest.
    landscape_found_above_1, landscape_found_below_01: fraction of significant pixels among those whose true leaf area
    changed by more than 1, and by less than 0.1 (soil, residues and leaves may have changed there).
    landscape_lai_correlation: correlation of the decoded with the true change of leaf area.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from common import arguments, report
from thalweg.earth.analysis.change import change
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import UsageError
from thalweg.simulate import simulate

SITES = ("BE-1", "BE-3", "TZ-1")
MIN_DATES = 6
"""Dates of a month that is divided."""

APART = np.timedelta64(3652, "D")
"""Time by which every second date of a month is moved."""

SQUARE = slice(16, 40)
SHIFT = (23, 17)
"""Rows and columns between the square and the part whose embeddings it gets."""
MOVED = 0.1
SEED, SIDE = 11, 48


def main() -> None:
    """Print the figures of all parts."""
    given = arguments(__doc__)
    model = EarthModel.load(given.model)
    months = [month for site in SITES for month in site_months(given.data / site, model)]
    figures = month_figures(months) | landscape_figures(model)
    report({"model": model.identifier, **figures}, given.json)


@dataclass(frozen=True)
class Month:
    """Pixels of one month of a site: numbers of compared, falsely and rightly significant ones.

    Attributes:
        below: fraction of p-values of at most 0.05 without a change.
        changed: fraction of significant pixels without a change.
        moved: pixels of the exchanged square whose decoded NDVI moved.
        found: those of them that are significant.
        significant: significant pixels with the exchange.
        outside: those of them outside the square.
    """

    below: float
    changed: float
    moved: int
    found: int
    significant: int
    outside: int


def site_months(site: Path, model: EarthModel) -> Iterator[Month]:
    """Yield the months of a site with enough dates, each compared with itself and with an exchanged square."""
    store = embed(Cube.open(site), model)
    months = store.time.values.astype("datetime64[M]")
    for month in np.unique(months):
        part = store.isel(time=np.flatnonzero(months == month))
        if part.sizes["time"] < MIN_DATES:
            continue
        times = part.time.values.copy()
        times[1::2] += APART
        part = part.assign_coords(time=times).sortby("time")
        periods = str(month), str(times[1].astype("datetime64[M]"))
        try:
            null = change(part, *periods, model)
        except UsageError:  # fewer than three dates show enough pixels
            continue
        exchanged = change(with_exchange(part, periods[1]), *periods, model)
        known = np.isfinite(null.p_value.values)
        inside = np.zeros(known.shape, bool)
        inside[SQUARE, SQUARE] = True
        moved = inside & (np.abs(exchanged.NDVI_change.values - null.NDVI_change.values) > MOVED)
        significant = exchanged.significant.values == 1
        yield Month(
            float((null.p_value.values[known] <= 0.05).mean()),
            float(null.significant.values[known].mean()),
            int(moved.sum()),
            int((significant & moved).sum()),
            int(significant.sum()),
            int((significant & ~inside).sum()),
        )


def month_figures(months: Sequence[Month]) -> dict[str, float]:
    """Return the figures of the null and of the exchange over months."""
    changed = [month.changed for month in months]
    return {
        "null_months": len(months),
        "null_below_005": float(np.mean([month.below for month in months])),
        "null_any": float(np.mean(np.array(changed) > 0)),
        "null_changed": float(np.mean(changed)),
        "null_worst": max(changed),
        "exchange_found": sum(month.found for month in months) / sum(month.moved for month in months),
        "exchange_false_share": sum(month.outside for month in months) / sum(month.significant for month in months),
    }


def with_exchange(store: xr.Dataset, day: str) -> xr.Dataset:
    """Return a store in which a square shows another part of the site from a day on."""
    later = store.time.values >= np.datetime64(day)
    result = store.copy()
    for name in ("embeddings", "uncertainty"):
        values = store[name].values.copy()
        other = np.roll(values[later], SHIFT, (2, 3))
        part = values[later]
        part[:, :, SQUARE, SQUARE] = other[:, :, SQUARE, SQUARE]
        values[later] = part
        result[name] = (store[name].dims, values)
    return result


def landscape_figures(model: EarthModel) -> dict[str, float]:
    """Return the figures of a simulated landscape, whose truth is known."""
    landscape = simulate(seed=SEED, size=SIDE, years=1)
    store = embed(Cube.open({"sentinel-2": landscape.sentinel2, "sentinel-1": landscape.sentinel1}), model)
    result = change(store, "2018-05", "2018-08", model)
    before, after = (
        landscape.truth.lai.isel(
            time=np.isin(landscape.truth.time.values.astype("datetime64[D]"), np.array(days, "M8"))
        )
        for days in (result.attrs["dates_before"], result.attrs["dates_after"])
    )
    truth = (after.mean("time") - before.mean("time")).values
    significant, known = result.significant.values == 1, np.isfinite(result.p_value.values)
    return {
        "landscape_found_above_1": float(significant[known & (np.abs(truth) > 1)].mean()),
        "landscape_found_below_01": float(significant[known & (np.abs(truth) < 0.1)].mean()),
        "landscape_lai_correlation": float(np.corrcoef(truth[known], result.lai_change.values[known])[0, 1]),
    }


if __name__ == "__main__":
    main()
