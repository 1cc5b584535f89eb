"""Baselines of the GPP models on the same windows: ridge regression and climatology."""

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.climatology import climatology
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.ensemble import equal_bounds


class _SingleStageLearner:
    """Learner with one stage."""

    def select_stage(self, stage: int) -> None:
        """Do nothing, because there is one stage."""


class RidgeLearner(_SingleStageLearner):
    """Ridge regression on `Windows.summaries`, with missing values replaced by their mean.

    Args:
        seed: Not used; the solution is unique.
        penalty: Weight of the squared coefficients.
    """

    def __init__(self, seed: int = 0, penalty: float = 10.0) -> None:
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.regression = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(penalty))

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Solve the regression and return (1, N, 3) predictions of the held-out days, gC m-2 d-1."""
        self.regression.fit(training.summaries(), training.target)
        return self.predict(held_out)[None]

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3), three times the estimate, gC m-2 d-1."""
        return equal_bounds(self.regression.predict(windows.summaries()))


class ClimatologyLearner(_SingleStageLearner):
    """Mean GPP of the day of year: that of the site where training has it, that of all sites elsewhere.

    Args:
        seed: Not used; nothing is random.
    """

    def __init__(self, seed: int = 0) -> None:
        self.by_site: dict[str, NDArray] = {}

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Compute the climatologies and return (1, N, 3) predictions of the held-out days, gC m-2 d-1."""
        for site in training.sites:
            here = training.site == site
            self.by_site[site] = climatology(training.day_of_year[here], training.target[here])
        self.of_all_sites = _interpolated(climatology(training.day_of_year, training.target))
        return self.predict(held_out)[None]

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3), three times the estimate, gC m-2 d-1."""
        estimate = self.of_all_sites[windows.day_of_year - 1]
        for site in windows.sites:
            if site in self.by_site:
                here = windows.site == site
                own = self.by_site[site][windows.day_of_year[here] - 1]
                estimate[here] = np.where(np.isfinite(own), own, estimate[here])
        return equal_bounds(estimate)


def _interpolated(values: NDArray) -> NDArray:
    """Interpolate the missing days of a climatology linearly, across the end of the year too."""
    days = np.arange(len(values))
    known = np.isfinite(values)
    return np.interp(days, days[known], values[known], period=len(values))
