"""Gradient boosting on summaries of the windows."""

from collections.abc import Iterator
from itertools import islice
from typing import Self

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.day_weights import day_weights
from thalweg.gpp.data.windows import Windows, summary_columns
from thalweg.gpp.models.ensemble import equal_bounds
from thalweg.gpp.models.learner_state import LearnerState, dump_estimator, load_estimator

STAGE_TREES = 20
"""Trees per stage."""


class BoostingLearner:
    """Histogram gradient boosting on `Windows.summaries`; each stage adds `STAGE_TREES` trees.

    Args:
        seed: Seed of the trees.
        leaves: Leaves per tree, at most.
        rate: Learning rate.
        least_leaf: Days per leaf, at least.
        trees: Number of trees.
    """

    kind = "boosting"

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
        self.stage = trees // STAGE_TREES - 1

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Fit the trees and return (stages, N, 3) predictions of the held-out days, gC m-2 d-1."""
        self.varies = training.varies
        self.boosting.fit(training.summaries(self.varies), training.target, sample_weight=day_weights(training))
        if not len(held_out):
            return np.empty((self.boosting.n_iter_ // STAGE_TREES, 0, 3), np.float32)
        return np.stack([equal_bounds(estimate) for estimate in self._stages(held_out)])

    def select_stage(self, stage: int) -> None:
        """Use the trees up to a stage."""
        self.stage = stage

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3), three times the estimate, gC m-2 d-1."""
        return equal_bounds(next(islice(self._stages(windows), self.stage, None)))

    def state(self) -> LearnerState:
        """Return the trees, the mask of averaged features and the selected stage."""
        return LearnerState(
            self.kind,
            {"stage": self.stage},
            {"varies": self.varies},
            {"trees.skops": dump_estimator(self.boosting)},
        )

    @classmethod
    def from_state(cls, state: LearnerState) -> Self:
        """Return the learner of a state.

        Raises:
            UsageError: The trees are not those of this learner.
            KeyError: A part of the state is missing.
        """
        learner = cls()
        learner.stage = int(state.settings["stage"])
        learner.varies = np.asarray(state.arrays["varies"], bool)
        columns = summary_columns(learner.varies)
        learner.boosting = load_estimator(state.files["trees.skops"], columns)
        return learner

    def _stages(self, windows: Windows) -> Iterator[NDArray]:
        features = windows.summaries(self.varies)
        return islice(self.boosting.staged_predict(features), STAGE_TREES - 1, None, STAGE_TREES)
