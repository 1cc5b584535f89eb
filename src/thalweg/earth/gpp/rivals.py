"""Honest rivals of the transformer on the same windows: gradient boosting, ridge, climatology."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.gpp.seasons import mean_cycle
from thalweg.earth.gpp.windows import Windows

MEANS = (7, 30, 90)
"""Days of the running means that a rival without a sense of time is given."""


def summaries(windows: Windows) -> NDArray[np.float32]:
    """(N, K) the last day's features and their means over 7, 30 and 90 days; features that never vary come once."""
    totals = np.cumsum(np.nan_to_num(windows.daily, nan=0.0), axis=0, dtype=np.float64)
    counts = np.cumsum(np.isfinite(windows.daily), axis=0, dtype=np.int64)
    columns = [windows.daily[windows.last]]
    varies = _varies(windows)
    for days in MEANS:
        before = windows.last - days
        first = (before < 0)[:, None]
        total = totals[windows.last] - np.where(first, 0, totals[before])
        count = counts[windows.last] - np.where(first, 0, counts[before])
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        columns.append(mean[:, varies].astype(np.float32))
    return np.concatenate(columns, 1)


def _varies(windows: Windows) -> NDArray[np.bool_]:
    """(F,) whether a feature changes within any site's record; a vegetation class does not."""
    ranges = [
        np.nanmax(windows.daily[first:end], 0) - np.nanmin(windows.daily[first:end], 0) for first, end in windows.runs
    ]
    return np.nanmax(ranges, 0) > 0


def _alike(estimate: NDArray) -> NDArray[np.float32]:
    return np.repeat(estimate.astype(np.float32)[:, None], 3, 1)


class BoostingLearner:
    """Histogram gradient boosting on `summaries`, stopped early on the held-out sites."""

    def __init__(self, seed: int = 0, leaves: int = 31, rate: float = 0.05, least_leaf: int = 50) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        self.trees = HistGradientBoostingRegressor(
            learning_rate=rate,
            max_leaf_nodes=leaves,
            min_samples_leaf=least_leaf,
            max_iter=400,
            max_features=0.5,
            l2_regularization=1.0,
            early_stopping=True,
            n_iter_no_change=25,
            random_state=seed,
        )

    def fit(self, training: Windows, held_out: Windows) -> Self:
        """Fit the trees."""
        self.trees.fit(summaries(training), training.target, X_val=summaries(held_out), y_val=held_out.target)
        return self

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N, 3) three times the estimate, gC m-2 d-1."""
        return _alike(self.trees.predict(summaries(windows)))


class RidgeLearner:
    """Ridge regression on `summaries`, missing values at their mean."""

    def __init__(self, seed: int = 0, penalty: float = 10.0) -> None:
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.regression = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(penalty))

    def fit(self, training: Windows, held_out: Windows) -> Self:
        """Solve the regression; the held-out windows are not needed."""
        self.regression.fit(summaries(training), training.target)
        return self

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N, 3) three times the estimate, gC m-2 d-1."""
        return _alike(self.regression.predict(summaries(windows)))


class ClimatologyLearner:
    """The mean GPP of the day of year: a site's own where it was seen in training, else that of all sites."""

    def __init__(self, seed: int = 0) -> None:
        self.cycles: dict[str, NDArray] = {}

    def fit(self, training: Windows, held_out: Windows) -> Self:
        """Average each site's days by day of year, smoothed over a month."""
        for site in training.sites:
            here = training.site == site
            self.cycles[site] = mean_cycle(training.day_of_year[here], training.target[here])
        self.common = np.nanmean(list(self.cycles.values()), 0)
        return self

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N, 3) three times the estimate, gC m-2 d-1."""
        estimate = self.common[windows.day_of_year - 1]
        for site in windows.sites:
            if site in self.cycles:
                here = windows.site == site
                own = self.cycles[site][windows.day_of_year[here] - 1]
                estimate[here] = np.where(np.isfinite(own), own, estimate[here])
        return _alike(estimate)
