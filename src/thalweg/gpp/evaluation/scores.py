"""Scores of predicted daily GPP, pooled and by site.

Predictions are a table with columns site, time, observed, predicted, lower, upper (gC m-2 d-1), one row per held-out
site and day.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.gpp.evaluation.time_scales import at_scale, climatology_of_rows
from thalweg.gpp.tables.physical_limits import GPP_UNITS

TAIL = 0.9
"""Quantile of a site's observed GPP above which a day belongs to the tail."""

UNITS = {
    "r2": "share of the variance explained",
    "rmse": "gC m-2 d-1",
    "mae": "gC m-2 d-1",
    "bias": "gC m-2 d-1, predicted less observed",
    "nrmse_sd": "RMSE over the standard deviation of the observed days",
    "seasonal_r2": "R2 of the sites' climatologies",
    "anomaly_r2": "R2 of the anomalies from each site's climatology",
    "week_r2": "R2 of weekly means with four days or more",
    "season_r2": "R2 of three-monthly means with thirty days or more",
    "year_r2": "R2 of yearly means with 180 days or more, levels of the sites included",
    "site_mean_r2": "R2 of the sites' means",
    "tail_rmse": "gC m-2 d-1, days above the site's 90th percentile",
    "tail_bias": "gC m-2 d-1, the same days",
    "coverage": "share of days inside the interval",
    "interval_width": "gC m-2 d-1, mean",
    "days": "held-out days",
}
"""Meaning and units of the scores of GPP."""


def score_meanings(units: str) -> dict[str, str]:
    """Return the meanings of the scores of a target in some units."""
    return {name: meaning.replace(GPP_UNITS, units) for name, meaning in UNITS.items()}


def score(predictions: pd.DataFrame) -> dict[str, float]:
    """Return the scores over all rows; `UNITS` has their names and units.

    Climatologies of the observed and the predicted GPP are computed from the rows themselves, so that a model that
    knows only the climatology has no skill in the anomalies.

    Args:
        predictions: Columns site, time, observed, predicted, lower, upper (gC m-2 d-1).
    """
    observed, predicted = (predictions[name].to_numpy(float) for name in ("observed", "predicted"))
    error = predicted - observed
    climatologies = {name: climatology_of_rows(predictions, name) for name in ("observed", "predicted")}
    tail = predictions["observed"] >= predictions.groupby("site")["observed"].transform("quantile", TAIL)
    tail_error = error[tail.to_numpy()]
    inside = predictions["observed"].between(predictions["lower"], predictions["upper"])
    rmse = _root_mean_square(error)
    return {
        "r2": r_squared(observed, predicted),
        "rmse": rmse,
        "mae": float(np.abs(error).mean()),
        "bias": float(error.mean()),
        "nrmse_sd": float(rmse / observed.std()) if observed.std() > 0 else float("nan"),
        "seasonal_r2": r_squared(climatologies["observed"], climatologies["predicted"]),
        "anomaly_r2": r_squared(observed - climatologies["observed"], predicted - climatologies["predicted"]),
        **{f"{scale}_r2": _r_squared_at(predictions, scale) for scale in ("week", "season", "year")},
        "site_mean_r2": _r_squared_at(predictions, "site"),
        "tail_rmse": _root_mean_square(tail_error),
        "tail_bias": float(tail_error.mean()),
        "coverage": float(inside.mean()),
        "interval_width": float((predictions["upper"] - predictions["lower"]).mean()),
        "days": float(len(predictions)),
    }


def score_by_site(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return one row of `score` per site."""
    return pd.DataFrame({site: score(rows) for site, rows in predictions.groupby("site")}).T.rename_axis("site")


def r_squared(observed: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of the variance explained: negative if worse than the mean, NaN if nothing varies."""
    total = np.square(observed - observed.mean()).sum()
    return float(1 - np.square(predicted - observed).sum() / total) if total > 0 else float("nan")


def r_squared_interval(
    observed: np.ndarray, predicted: np.ndarray, sites: np.ndarray, draws: int = 1000
) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of R2, over draws of sites.

    Args:
        observed: (N,) observations.
        predicted: (R, N), R predictions; the score is the mean of their scores.
        sites: (N,) site of each row.
        draws: Number of bootstrap draws.
    """
    return _interval([_mean_r_squared(observed, predicted, rows) for rows in _drawn_rows(sites, draws)])


def r_squared_difference(
    observed: np.ndarray, first: np.ndarray, second: np.ndarray, sites: np.ndarray, draws: int = 1000
) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the difference in R2 between two models, over draws of sites.

    An interval that contains 0 means that other sites could reverse the order of the models.

    Args:
        observed: (N,) observations.
        first: (R, N), R predictions of the first model; its score is the mean of their scores.
        second: (R, N), R predictions of the second model.
        sites: (N,) site of each row.
        draws: Number of bootstrap draws.
    """
    return _interval(
        [
            _mean_r_squared(observed, first, rows) - _mean_r_squared(observed, second, rows)
            for rows in _drawn_rows(sites, draws)
        ]
    )


def site_mean_r_squared(observed: np.ndarray, predicted: np.ndarray, sites: np.ndarray) -> float:
    """Return the R2 of the sites' mean predictions: one observation per site, however many rows it has."""
    rows = _rows_by_site(sites)
    return r_squared(*(np.array([values[here].mean() for here in rows]) for values in (observed, predicted)))


def quartiles_over_sites(
    observed: np.ndarray, predicted: np.ndarray, sites: np.ndarray, min_rows: int = 10
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return the quartiles over sites of a site's own R2 and RMSE.

    Args:
        observed: (N,) observations.
        predicted: (N,) predictions.
        sites: (N,) site of each row.
        min_rows: Rows that a site must have to be counted.

    Returns:
        (3,) quartiles of R2, (3,) quartiles of the RMSE, and the number of sites counted; NaN if there is none.
    """
    rows = [here for here in _rows_by_site(sites) if len(here) >= min_rows]
    if not rows:
        return np.full(3, np.nan), np.full(3, np.nan), 0
    shares = [r_squared(observed[here], predicted[here]) for here in rows]
    errors = [_root_mean_square(predicted[here] - observed[here]) for here in rows]
    quartiles = [0.25, 0.5, 0.75]
    return np.nanquantile(shares, quartiles), np.quantile(errors, quartiles), len(rows)


def _r_squared_at(predictions: pd.DataFrame, scale: str) -> float:
    rows = at_scale(predictions, scale)
    return r_squared(rows["observed"].to_numpy(), rows["predicted"].to_numpy()) if len(rows) else float("nan")


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean())) if len(values) else float("nan")


def _mean_r_squared(observed: np.ndarray, predicted: np.ndarray, rows: np.ndarray) -> float:
    return float(np.mean([r_squared(observed[rows], one[rows]) for one in predicted]))


def _rows_by_site(sites: np.ndarray) -> list[NDArray[np.intp]]:
    return [np.flatnonzero(sites == site) for site in np.unique(sites)]


def _drawn_rows(sites: np.ndarray, draws: int) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of as many sites as there are, drawn with replacement; the same draws at every call."""
    rows = _rows_by_site(sites)
    random = np.random.default_rng(0)
    for _ in range(draws):
        yield np.concatenate([rows[index] for index in random.integers(len(rows), size=len(rows))])


def _interval(scores: list[float]) -> tuple[float, float]:
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)
