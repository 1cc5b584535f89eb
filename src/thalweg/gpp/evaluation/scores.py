"""Scores of predicted daily GPP, pooled and by site.

Predictions are a table with columns site, time, observed, predicted, lower, upper (gC m-2 d-1), one row per held-out
site and day.
"""

import numpy as np
import pandas as pd

from thalweg.gpp.data.climatology import day_of_year, mean_cycle

TAIL = 0.9
"""Quantile of a site's observed GPP from which a day is in the tail."""

UNITS = {
    "r2": "share of the variance explained",
    "rmse": "gC m-2 d-1",
    "mae": "gC m-2 d-1",
    "bias": "gC m-2 d-1, predicted less observed",
    "nrmse_sd": "RMSE over the standard deviation of the observed days",
    "seasonal_r2": "R2 of the sites' mean cycles",
    "anomaly_r2": "R2 of what is left after removing each site's mean cycle",
    "tail_rmse": "gC m-2 d-1, days above the site's 90th percentile",
    "tail_bias": "gC m-2 d-1, the same days",
    "coverage": "share of days inside the interval",
    "interval_width": "gC m-2 d-1, mean",
    "days": "held-out days",
}
"""What each score is, and its units."""


def score(predictions: pd.DataFrame) -> dict[str, float]:
    """Scores over all rows; their names and units are in `UNITS`.

    Cycles are means over the days of year of the rows themselves, observed and predicted alike, so a score of
    anomalies can not be earned by knowing the mean cycle.
    """
    observed, predicted = (predictions[name].to_numpy(float) for name in ("observed", "predicted"))
    error = predicted - observed
    cycles = {name: cycle(predictions, name) for name in ("observed", "predicted")}
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
        "seasonal_r2": r_squared(cycles["observed"], cycles["predicted"]),
        "anomaly_r2": r_squared(observed - cycles["observed"], predicted - cycles["predicted"]),
        "tail_rmse": _root_mean_square(tail_error),
        "tail_bias": float(tail_error.mean()),
        "coverage": float(inside.mean()),
        "interval_width": float((predictions["upper"] - predictions["lower"]).mean()),
        "days": float(len(predictions)),
    }


def score_by_site(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row of `score` per site."""
    return pd.DataFrame({site: score(rows) for site, rows in predictions.groupby("site")}).T.rename_axis("site")


def r_squared(observed: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the variance explained, negative where the mean would do better; NaN where nothing varies."""
    total = np.square(observed - observed.mean()).sum()
    return float(1 - np.square(predicted - observed).sum() / total) if total > 0 else float("nan")


def r_squared_lead(
    observed: np.ndarray, ahead: np.ndarray, behind: np.ndarray, sites: np.ndarray, draws: int = 1000
) -> tuple[float, float]:
    """The middle 95 % of what one model is ahead of another in R2, over draws of the sites with replacement.

    Where the two ends have two signs, other sites could turn the lead.

    Args:
        observed: (N,).
        ahead: (R, N), R predictions of the first model; its score is the mean of theirs.
        behind: (R, N), of the second.
        sites: (N,), the site of each row.
        draws: how often sites are drawn.
    """
    rows = [np.flatnonzero(sites == site) for site in np.unique(sites)]
    random = np.random.default_rng(0)
    leads = []
    for _ in range(draws):
        drawn = np.concatenate([rows[index] for index in random.integers(len(rows), size=len(rows))])
        first, second = (
            np.mean([r_squared(observed[drawn], one[drawn]) for one in predicted]) for predicted in (ahead, behind)
        )
        leads.append(first - second)
    low, high = np.quantile(leads, [0.025, 0.975])
    return float(low), float(high)


def cycle(predictions: pd.DataFrame, column: str) -> np.ndarray:
    """(N,) the mean cycle of each row's site on the row's day of year."""
    found = np.empty(len(predictions))
    days = day_of_year(predictions["time"].to_numpy())
    values = predictions[column].to_numpy(float)
    for site in predictions["site"].unique():
        here = (predictions["site"] == site).to_numpy()
        found[here] = mean_cycle(days[here], values[here])[days[here] - 1]
    return found


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean())) if len(values) else float("nan")
