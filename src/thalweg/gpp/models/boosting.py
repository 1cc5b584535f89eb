"""Gradient boosting on summaries of the windows."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.ensemble import equal_bounds

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
        self.boosting.fit(training.summaries(), training.target)
        return np.stack([equal_bounds(estimate) for estimate in self._stages(held_out)])

    def select_stage(self, stage: int) -> None:
        """Use the trees up to a stage."""
        self.stage = stage

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3), three times the estimate, gC m-2 d-1."""
        return equal_bounds(next(islice(self._stages(windows), self.stage, None)))

    def _stages(self, windows: Windows) -> Iterator[NDArray]:
        return islice(self.boosting.staged_predict(windows.summaries()), STAGE_TREES - 1, None, STAGE_TREES)
