"""Intervals of scores over draws of sites, quartiles over sites, and differences between models.

Other sites would give other scores: sites are drawn with replacement, and the scores of each draw follow from sums per
site, so that a thousand draws cost little.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.gpp.evaluation.scores import score_by_site
from thalweg.gpp.evaluation.time_scales import SCALES, at_scale

DRAWS = 1000
QUANTILES = (0.025, 0.975)
MIN_COVERAGE = 0.8
"""Coverage below which a site counts as missed by 90 % intervals."""

_KEYS = ["split", "predictors", "model", "seed"]


def draw_counts(sites: int, draws: int = DRAWS) -> NDArray[np.float64]:
    """Return (draws, S) how often each site is drawn; the same numbers at every call."""
    random = np.random.default_rng(0)
    return np.stack([np.bincount(random.integers(sites, size=sites), minlength=sites) for _ in range(draws)]).astype(
        float
    )


def r_squared_draws(rows: pd.DataFrame, counts: NDArray, sites: Sequence[str]) -> NDArray[np.float64]:
    """Return (draws,) R2 of the drawn sites.

    Args:
        rows: Columns site, observed, predicted.
        counts: (draws, S) how often each site is drawn.
        sites: S names.
    """
    frame = pd.DataFrame(
        {
            "n": 1.0,
            "sum": rows["observed"],
            "squares": np.square(rows["observed"]),
            "errors": np.square(rows["predicted"] - rows["observed"]),
        }
    )
    sums = frame.groupby(rows["site"].to_numpy()).sum().reindex(list(sites), fill_value=0.0).to_numpy()
    number, total, squares, errors = (counts @ sums).T
    with np.errstate(invalid="ignore", divide="ignore"):
        varied = squares - np.square(total) / number
        return np.where(varied > 1e-9 * squares, 1 - errors / varied, np.nan)


def error_draws(rows: pd.DataFrame, counts: NDArray, sites: Sequence[str]) -> NDArray[np.float64]:
    """Return (draws, 2) RMSE and coverage of the drawn sites.

    Args:
        rows: Columns site, observed, predicted, lower, upper.
        counts: (draws, S) how often each site is drawn.
        sites: S names.
    """
    frame = pd.DataFrame(
        {
            "n": 1.0,
            "errors": np.square(rows["predicted"] - rows["observed"]),
            "inside": rows["observed"].between(rows["lower"], rows["upper"]).astype(float),
        }
    )
    sums = frame.groupby(rows["site"].to_numpy()).sum().reindex(list(sites), fill_value=0.0).to_numpy()
    number, errors, inside = (counts @ sums).T
    return np.stack([np.sqrt(errors / number), inside / number], 1)


def error_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return RMSE and coverage with their 95 % intervals over draws of sites.

    Args:
        predictions: Predictions of an `Evaluation`.

    Returns:
        One row per split, set of predictors, model and seed: rmse, rmse_low, rmse_high, coverage, coverage_low,
        coverage_high.
    """
    found = []
    for key, own in predictions.groupby(_KEYS, sort=False):
        sites = sorted(own["site"].unique())
        draws = error_draws(own, np.concatenate([np.ones((1, len(sites))), draw_counts(len(sites))]), sites)
        row = dict(zip(_KEYS, key, strict=True))
        for name, values in zip(("rmse", "coverage"), draws.T, strict=True):
            low, high = _interval(values[1:])
            row |= {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}
        found.append(row)
    return pd.DataFrame(found)


def scale_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return R2 at every time scale with its 95 % interval over draws of sites.

    Args:
        predictions: Predictions of an `Evaluation`.

    Returns:
        One row per split, set of predictors, model, seed and scale: r2, low, high, number of values.
    """
    found = []
    for key, own in predictions.groupby(_KEYS, sort=False):
        sites = sorted(own["site"].unique())
        counts = draw_counts(len(sites))
        for scale in SCALES:
            rows = at_scale(own, scale)
            whole = r_squared_draws(rows, np.ones((1, len(sites))), sites)[0]
            low, high = _interval(r_squared_draws(rows, counts, sites))
            found.append((*key, scale, whole, low, high, len(rows)))
    return pd.DataFrame(found, columns=[*_KEYS, "scale", "r2", "low", "high", "values"])


def difference_table(predictions: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return the differences in R2 of all models to a reference with their 95 % intervals over the same draws of sites.

    Args:
        predictions: Predictions of an `Evaluation`.
        reference: Model that the others are compared with, on the same set of predictors.

    Returns:
        One row per split, set of predictors, model, seed and scale: difference, low, high; no rows where the reference
        was not evaluated.
    """
    found = []
    for (split, predictors, seed), own in predictions.groupby(["split", "predictors", "seed"], sort=False):
        by_model = dict(list(own.groupby("model", sort=False)))
        base = by_model.pop(reference, None)
        if base is None:
            continue
        sites = sorted(own["site"].unique())
        counts = np.concatenate([np.ones((1, len(sites))), draw_counts(len(sites))])
        for scale in SCALES:
            compared = r_squared_draws(at_scale(base, scale), counts, sites)
            for model, rows in by_model.items():
                gain = r_squared_draws(at_scale(rows, scale), counts, sites) - compared
                found.append((split, predictors, model, seed, scale, gain[0], *_interval(gain[1:])))
    return pd.DataFrame(found, columns=[*_KEYS, "scale", "difference", "low", "high"])


def quartile_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return quartiles over sites of R2 and RMSE, and the coverage of the intervals by site.

    Args:
        predictions: Predictions of an `Evaluation`.

    Returns:
        One row per split, set of predictors, model and seed: r2_p25 to rmse_p75, coverage_min, coverage_p25, and
        covered, the share of sites with a coverage of at least `MIN_COVERAGE`.
    """
    found = []
    for key, own in predictions.groupby(_KEYS, sort=False):
        sites = score_by_site(own)
        row = dict(zip(_KEYS, key, strict=True))
        for name in ("r2", "rmse"):
            for percent in (25, 50, 75):
                row[f"{name}_p{percent}"] = float(np.nanquantile(sites[name], percent / 100))
        row["coverage_min"] = float(sites["coverage"].min())
        row["coverage_p25"] = float(sites["coverage"].quantile(0.25))
        row["covered"] = float((sites["coverage"] >= MIN_COVERAGE).mean())
        found.append(row)
    return pd.DataFrame(found)


def _interval(draws: NDArray) -> tuple[float, float]:
    known = draws[np.isfinite(draws)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, QUANTILES)
    return float(low), float(high)
