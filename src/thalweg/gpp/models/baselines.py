"""Baselines of the GPP models on the same windows: ridge regression and climatology."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.climatology import climatology
from thalweg.gpp.data.day_weights import day_weights
from thalweg.gpp.data.windows import Windows, summary_columns
from thalweg.gpp.models.ensemble import equal_bounds
from thalweg.gpp.models.learner_state import LearnerState


class SingleStageLearner:
    """Learner with one stage."""

    def select_stage(self, stage: int) -> None:
        """Do nothing, because there is one stage."""


class RidgeLearner(SingleStageLearner):
    """Ridge regression on `Windows.summaries`, with missing values replaced by their mean.

    Args:
        seed: Not used; the solution is unique.
        penalty: Weight of the squared coefficients.
    """

    kind = "ridge"

    def __init__(self, seed: int = 0, penalty: float = 10.0) -> None:
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.regression = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), Ridge(penalty))

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Solve the regression and return (1, N, 3) predictions of the held-out days, gC m-2 d-1."""
        self.varies = training.varies
        weights = day_weights(training)
        fitted = self.regression.fit(training.summaries(self.varies), training.target, ridge__sample_weight=weights)
        imputer, scaler, ridge = (step for _, step in fitted.steps)
        self.arrays = {
            "missing": imputer.statistics_,
            "mean": scaler.mean_,
            "scale": scaler.scale_,
            "coefficients": ridge.coef_,
            "intercept": np.atleast_1d(ridge.intercept_),
        }
        return self.predict(held_out)[None]

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3), three times the estimate, gC m-2 d-1."""
        features = windows.summaries(self.varies)
        arrays = self.arrays
        complete = np.where(np.isfinite(features), features, arrays["missing"])
        return equal_bounds(
            (complete - arrays["mean"]) / arrays["scale"] @ arrays["coefficients"] + arrays["intercept"]
        )

    def state(self) -> LearnerState:
        """Return the arrays of the regression and the mask of averaged features."""
        return LearnerState(self.kind, {}, {"varies": self.varies, **self.arrays})

    @classmethod
    def from_state(cls, state: LearnerState) -> Self:
        """Return the learner of a state.

        Raises:
            KeyError: A part of the state is missing.
            ValueError: An array is of another size than the features.
        """
        learner = cls()
        learner.varies = np.asarray(state.arrays["varies"], bool)
        learner.arrays = {
            name: state.arrays[name] for name in ("missing", "mean", "scale", "coefficients", "intercept")
        }
        sizes = {len(values) for name, values in learner.arrays.items() if name != "intercept"}
        if sizes != {summary_columns(learner.varies)}:
            raise ValueError("a regression of other features")
        return learner


class ClimatologyLearner(SingleStageLearner):
    """Mean GPP of the day of year: that of the site where training has it, that of all sites elsewhere.

    Args:
        seed: Not used; nothing is random.
    """

    kind = "climatology"

    def __init__(self, seed: int = 0) -> None:
        self.by_site: dict[str, NDArray] = {}

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Compute the climatologies and return (1, N, 3) predictions of the held-out days, gC m-2 d-1."""
        weights = day_weights(training)
        for site in training.sites:
            here = training.site == site
            own = None if weights is None else weights[here]
            self.by_site[site] = climatology(training.day_of_year[here], training.target[here], own)
        self.of_all_sites = _interpolated(climatology(training.day_of_year, training.target, weights))
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

    def state(self) -> LearnerState:
        """Return the climatologies of the sites and of all sites."""
        arrays = {f"site {site}": values for site, values in self.by_site.items()}
        return LearnerState(self.kind, {}, {"all": self.of_all_sites, **arrays})

    @classmethod
    def from_state(cls, state: LearnerState) -> Self:
        """Return the learner of a state.

        Raises:
            KeyError: A part of the state is missing.
            ValueError: A climatology does not have 366 days.
        """
        learner = cls()
        if any(values.shape != (366,) for values in state.arrays.values()):
            raise ValueError("a climatology of other than 366 days")
        learner.of_all_sites = state.arrays["all"]
        learner.by_site = {
            name.removeprefix("site "): values for name, values in state.arrays.items() if name.startswith("site ")
        }
        return learner


def _interpolated(values: NDArray) -> NDArray:
    """Interpolate the missing days of a climatology linearly, across the end of the year too."""
    days = np.arange(len(values))
    known = np.isfinite(values)
    return np.interp(days, days[known], values[known], period=len(values))
