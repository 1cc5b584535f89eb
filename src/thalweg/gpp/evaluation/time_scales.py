"""Time scales of predicted GPP: days, weeks, seasons, mean cycles, anomalies, years, and the means of sites.

Predictions are a table with columns site, time, observed, predicted (gC m-2 d-1), one row per held-out site and day.
"""

import numpy as np
import pandas as pd

from thalweg.gpp.data.climatology import climatology, day_of_year

MIN_DAYS = {"week": 4, "season": 30, "year": 180}
"""Days with an observation that a week, a season (December to February, ...) and a calendar year must have."""

SCALES = ("day", "week", "season", "cycle", "anomaly", "year", "site")
"""Names of the scales, from the finest to the means of sites."""


def at_scale(predictions: pd.DataFrame, scale: str) -> pd.DataFrame:
    """Return observed and predicted GPP at a time scale.

    Args:
        predictions: Columns site, time, observed, predicted.
        scale: One of `SCALES`. `cycle` is the site's climatology on each day, `anomaly` the departure from it, and
            `site` the mean of all days of a site.

    Returns:
        Columns site, observed, predicted; one row per day, or per period that has enough days.
    """
    plain = predictions[["site", "observed", "predicted"]].reset_index(drop=True)
    if scale == "day":
        return plain
    if scale in ("cycle", "anomaly"):
        cycles = pd.DataFrame({name: climatology_of_rows(predictions, name) for name in ("observed", "predicted")})
        rest = cycles if scale == "cycle" else plain[["observed", "predicted"]] - cycles
        return pd.concat([plain["site"], rest], axis=1)
    if scale == "site":
        return plain.groupby("site", as_index=False)[["observed", "predicted"]].mean()
    periods = _periods(pd.DatetimeIndex(predictions["time"]), scale)
    groups = plain.groupby(["site", periods])
    enough = groups["observed"].count() >= MIN_DAYS[scale]
    return groups[["observed", "predicted"]].mean()[enough].reset_index("site").reset_index(drop=True)


def climatology_of_rows(predictions: pd.DataFrame, column: str) -> np.ndarray:
    """Return (N,) float64, the climatology of a column at each row's site on the row's day of year."""
    found = np.empty(len(predictions))
    days = day_of_year(predictions["time"].to_numpy())
    values = predictions[column].to_numpy(float)
    for site in predictions["site"].unique():
        here = (predictions["site"] == site).to_numpy()
        found[here] = climatology(days[here], values[here])[days[here] - 1]
    return found


def _periods(time: pd.DatetimeIndex, scale: str) -> np.ndarray:
    """Return (N,) number of the week, season or year of each day."""
    if scale == "week":
        return np.asarray((time - pd.Timestamp("1970-01-05")).days // 7)
    if scale == "season":
        return np.asarray((time.year * 12 + time.month) // 3)
    return np.asarray(time.year)
