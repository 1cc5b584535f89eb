"""Learners of GPP from meteorology by published equations, scaled to towers by plant type."""

from abc import ABC, abstractmethod
from dataclasses import asdict, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.baselines import SingleStageLearner
from thalweg.gpp.models.ensemble import equal_bounds
from thalweg.gpp.models.learner_state import LearnerState
from thalweg.gpp.models.physics.drivers import read_drivers
from thalweg.gpp.models.physics.light_use_efficiency import LightUseParameters, absorbed_efficiency, fit_parameters
from thalweg.gpp.models.physics.p_model import potential_gpp
from thalweg.gpp.models.physics.pooled_scale import PooledScale, fit_pooled_scale


class _ScaledLearner(SingleStageLearner, ABC):
    """Learner whose output is scaled by plant type.

    Args:
        seed: Not used; nothing is random.
    """

    kind = ""

    def __init__(self, seed: int = 0) -> None:
        self.scale = PooledScale(1.0, {})

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Fit the parameters and the scale, and return (1, N, 3) predictions of the held-out days, gC m-2 d-1."""
        self._fit_parameters(training)
        self.scale = fit_pooled_scale(training, self._output(training))
        return self.predict(held_out)[None]

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3), three times the estimate, gC m-2 d-1."""
        if not len(windows):
            return np.empty((0, 3), np.float32)
        return equal_bounds(self.scale.of(windows) * self._output(windows))

    def state(self) -> LearnerState:
        """Return the parameters and the scales."""
        return LearnerState(self.kind, {"scale": asdict(self.scale)})

    @classmethod
    def from_state(cls, state: LearnerState) -> Self:
        """Return the learner of a state.

        Raises:
            KeyError, TypeError: A part of the state is missing or of another type.
        """
        learner = cls()
        scale = state.settings["scale"]
        learner.scale = PooledScale(
            float(scale["mean"]), {name: float(value) for name, value in scale["by_class"].items()}
        )
        return learner

    def _fit_parameters(self, training: Windows) -> None:
        """Fit what the equations leave open; nothing by default."""

    @abstractmethod
    def _output(self, windows: Windows) -> NDArray[np.float64]:
        """Return the output (N,) of the equations, before the scale."""


class LightUseEfficiencyLearner(_ScaledLearner):
    """Light-use-efficiency model of Makela et al. (2008); the modifiers are fitted to the training days."""

    kind = "lue"

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.parameters = LightUseParameters()

    def state(self) -> LearnerState:
        """Return the parameters and the scales."""
        state = super().state()
        return replace(state, settings={**state.settings, "parameters": asdict(self.parameters)})

    @classmethod
    def from_state(cls, state: LearnerState) -> Self:
        """Return the learner of a state.

        Raises:
            KeyError, TypeError: A part of the state is missing or of another type.
        """
        learner = super().from_state(state)
        learner.parameters = LightUseParameters(**state.settings["parameters"])
        return learner

    def _fit_parameters(self, training: Windows) -> None:
        self.parameters = fit_parameters(read_drivers(training), training)

    def _output(self, windows: Windows) -> NDArray[np.float64]:
        return absorbed_efficiency(read_drivers(windows), windows, self.parameters)


class PModelLearner(_ScaledLearner):
    """P-model with acclimated efficiency; the scale stands for the absorbed fraction of light where it is unknown."""

    kind = "p-model"

    def _output(self, windows: Windows) -> NDArray[np.float64]:
        return potential_gpp(read_drivers(windows), windows)
