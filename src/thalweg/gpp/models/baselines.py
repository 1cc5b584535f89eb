"""Honest rivals of the transformer on the same windows: gradient boosting, ridge, climatology."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.climatology import mean_cycle
from thalweg.gpp.data.windows import MEANS, Windows


def summaries(windows: Windows) -> NDArray[np.float32]:
    """(N, K) the last day's features and their means over 7, 30 and 90 days; features that never vary come once."""
    means = windows.running_means()[windows.last][:, np.tile(windows.varies, len(MEANS))]
    return np.concatenate([windows.daily[windows.last], means], 1)


def _alike(estimate: NDArray) -> NDArray[np.float32]:
    return np.repeat(estimate.astype(np.float32)[:, None], 3, 1)


class _OneStage:
    """A learner without stages."""

    def keep(self, stage: int) -> None:
        """There is one stage."""


class BoostingLearner:
    """Histogram gradient boosting on `summaries`; its stages are every `STAGE` trees."""

    STAGE = 20

    def __init__(
        self, seed: int = 0, leaves: int = 31, rate: float = 0.05, least_leaf: int = 50, trees: int = 400
    ) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        self.boosting = HistGradientBoostingRegressor(
            learning_rate=rate,
            max_leaf_nodes=leaves,
            min_samples_leaf=least_leaf,
            max_iter=trees,
            max_features=0.5,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        )
        self.stage = trees // self.STAGE - 1

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Fit the trees; (stages, N, 3)."""
        self.boosting.fit(summaries(training), training.target)
        return np.stack([_alike(estimate) for estimate in self._stages(held_out)])

    def keep(self, stage: int) -> None:
        """Use the trees up to a stage."""
        self.stage = stage

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N, 3) three times the estimate, gC m-2 d-1."""
        return _alike(next(islice(self._stages(windows), self.stage, None)))

    def _stages(self, windows: Windows) -> Iterator[NDArray]:
        return islice(self.boosting.staged_predict(summaries(windows)), self.STAGE - 1, None, self.STAGE)


class RidgeLearner(_OneStage):
    """Ridge regression on `summaries`, missing values at their mean."""

    def __init__(self, seed: int = 0, penalty: float = 10.0) -> None:
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.regression = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(penalty))

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Solve the regression; (1, N, 3)."""
        self.regression.fit(summaries(training), training.target)
        return self.predict(held_out)[None]

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N, 3) three times the estimate, gC m-2 d-1."""
        return _alike(self.regression.predict(summaries(windows)))


class ClimatologyLearner(_OneStage):
    """The mean GPP of the day of year: a site's own where it was seen in training, else that of all sites."""

    def __init__(self, seed: int = 0) -> None:
        self.cycles: dict[str, NDArray] = {}

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Average each site's days by day of year, smoothed over a month; (1, N, 3)."""
        for site in training.sites:
            here = training.site == site
            self.cycles[site] = mean_cycle(training.day_of_year[here], training.target[here])
        self.common = _filled(mean_cycle(training.day_of_year, training.target))
        return self.predict(held_out)[None]

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N, 3) three times the estimate, gC m-2 d-1."""
        estimate = self.common[windows.day_of_year - 1]
        for site in windows.sites:
            if site in self.cycles:
                here = windows.site == site
                own = self.cycles[site][windows.day_of_year[here] - 1]
                estimate[here] = np.where(np.isfinite(own), own, estimate[here])
        return _alike(estimate)


def _filled(cycle: NDArray) -> NDArray:
    """A cycle whose days that were never seen lie on a line between their neighbours, around the year's end too."""
    days = np.arange(len(cycle))
    seen = np.isfinite(cycle)
    return np.interp(days, days[seen], cycle[seen], period=len(cycle))
