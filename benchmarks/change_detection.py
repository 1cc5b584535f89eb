"""Change between two periods: p-values where little changes, changes that are known, changes with known causes.

halves: site BE-1, the first half of a month against the second: little changes, few pixels should be significant.
    halves_MONTH_below_005: fraction of p-values of at most 0.05; halves_MONTH_changed: fraction of significant pixels.
exchange: the same halves of February and July; in the later one, a square of 24 x 24 pixels gets the embeddings of
    another part of the site, as a change of the land cover would give.
    exchange_MONTH_found: fraction of significant pixels among those of the square whose decoded NDVI moved by more than
    0.1; exchange_MONTH_outside: fraction of significant pixels outside; exchange_MONTH_false_share: pixels outside as a
    fraction of all significant ones.
landscape: a simulated landscape of 48 x 48 pixels, May against August: growth and harvest.
    landscape_found_above_1, landscape_found_below_01: fraction of significant pixels among those whose true leaf area
    changed by more than 1, and by less than 0.1 (soil, residues and leaves may have changed there).
    landscape_lai_correlation: correlation of the decoded with the true change of leaf area.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from common import arguments, report
from thalweg.earth.analysis.change import change
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.simulate import simulate

HALVES = {"february": ("2018-02", 14, 28), "july": ("2018-07", 15, 31), "october": ("2018-10", 14, 31)}
"""Month, last day of its first half, and its last day."""
EXCHANGED = ("february", "july")
SQUARE = slice(16, 40)
SHIFT = (23, 17)
"""Rows and columns between the square and the part whose embeddings it gets."""
MOVED = 0.1
SEED, SIDE = 11, 48


def main() -> None:
    """Print the figures of all parts."""
    given = arguments(__doc__)
    model = EarthModel.load(given.model)
    figures = site_figures(given.data / "BE-1", model) | landscape_figures(model)
    report({"model": model.identifier, **figures}, given.json)


def site_figures(site: Path, model: EarthModel) -> dict[str, float]:
    """Return the figures of the halves of months, unchanged and with an exchanged square."""
    store = embed(Cube.open(site), model)
    figures = {}
    for name, (month, middle, end) in HALVES.items():
        periods = f"{month}-01/{month}-{middle}", f"{month}-{middle + 1}/{month}-{end}"
        result = change(store, *periods, model)
        known = np.isfinite(result.p_value.values)
        figures[f"halves_{name}_below_005"] = float((result.p_value.values[known] <= 0.05).mean())
        figures[f"halves_{name}_changed"] = float(result.significant.values[known].mean())
        if name in EXCHANGED:
            exchanged = change(with_exchange(store, f"{month}-{middle + 1}"), *periods, model)
            significant = exchanged.significant.values == 1
            inside = np.zeros_like(significant)
            inside[SQUARE, SQUARE] = True
            moved = np.abs(exchanged.NDVI_change.values - result.NDVI_change.values) > MOVED
            figures[f"exchange_{name}_found"] = float(significant[inside & moved].mean())
            figures[f"exchange_{name}_outside"] = float(significant[~inside & known].mean())
            figures[f"exchange_{name}_false_share"] = float((significant & ~inside).sum() / significant.sum())
    return figures


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
