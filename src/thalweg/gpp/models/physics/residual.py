"""Residual learning: a regression of what a model of photosynthesis leaves, on the same windows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.learner_state import LearnerState
from thalweg.gpp.models.physics.physics_learners import LightUseEfficiencyLearner, PModelLearner
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMConfig, LightGBMLearner

BASES: dict[str, Callable[[int], LightUseEfficiencyLearner | PModelLearner]] = {
    "lue": LightUseEfficiencyLearner,
    "p-model": PModelLearner,
}
"""Models of photosynthesis below a residual learner, by name."""

OUTPUT = "photosynthesis"
"""Feature of a residual learner with the output of the model below it, gC m-2 d-1."""


class ResidualLearner:
    """LightGBM on the residuals of a model of photosynthesis, whose output is one of its features.

    Args:
        seed: Seed of the trees.
        base: Key of `BASES`.
        config: Settings of the trees.
    """

    kind = "residual"

    def __init__(self, seed: int = 0, base: str = "lue", config: LightGBMConfig | None = None) -> None:
        self.base_name = base
        self.base = BASES[base](seed)
        self.trees = LightGBMLearner(seed, config)

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Fit the model, then the trees, and return (stages, N, 3) predictions of the held-out days, gC m-2 d-1."""
        self.base.fit(training, held_out.select(slice(0)))
        residual, _ = self._residual(training)
        rest, level = self._residual(held_out)
        return self.trees.fit(residual, rest) + level[:, None]

    def select_stage(self, stage: int) -> None:
        """Use the trees up to a stage."""
        self.trees.select_stage(stage)

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3) lower bound, estimate, upper bound, gC m-2 d-1."""
        residual, level = self._residual(windows)
        return self.trees.predict(residual) + level[:, None]

    def state(self) -> LearnerState:
        """Return the states of the model and of the trees."""
        return LearnerState.join(
            self.kind, {"base": self.base.state(), "trees": self.trees.state()}, {"base": self.base_name}
        )

    @classmethod
    def from_state(cls, state: LearnerState) -> Self:
        """Return the learner of a state.

        Raises:
            UsageError: The trees are not those of a LightGBM model.
            KeyError, TypeError: A part of the state is missing or of another type.
        """
        learner = cls(base=state.settings["base"])
        learner.base = type(learner.base).from_state(state.part("base"))
        learner.trees = LightGBMLearner.from_state(state.part("trees"))
        return learner

    def _residual(self, windows: Windows) -> tuple[Windows, NDArray[np.float32]]:
        """Return windows of the residuals with the model's output as a feature, and the (N,) output itself."""
        every_day = replace(windows, last=np.arange(len(windows.daily)))
        output = self.base.predict(every_day)[:, 1]
        level = output[windows.last]
        wider = replace(
            windows,
            features=(*windows.features, OUTPUT),
            daily=np.concatenate([windows.daily, output[:, None]], 1),
            target=windows.target - level,
        )
        return wider, level
