"""GPP relative to the level of its site: a regression of the site, and a learner of what is left."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.learner_state import LearnerState
from thalweg.gpp.models.physics.drivers import has_drivers
from thalweg.gpp.models.physics.residual import BASES
from thalweg.gpp.models.sites.site_levels import SiteLevels, fit_site_levels
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMConfig, LightGBMLearner
from thalweg.gpp.tables.physical_limits import POTENTIAL_RADIATION

if TYPE_CHECKING:
    from thalweg.gpp.models.transformer import TransformerLearner

Inner = Literal["lightgbm", "transformer"]
"""Learner of GPP relative to the level."""

MIN_EXPECTED = 0.3
"""Smallest expected GPP in gC m-2 d-1; below, a ratio to it would be noise."""

SITE_MARKS = ("PA_ERA", "PA_F", "WS_ERA", "WS_F")
"""Meteorology that tells sites apart more than days; a learner may do without it."""


class LevelLearner:
    """Learner of the ratio of GPP to its level: a model of photosynthesis times a factor of the site.

    A ratio keeps predictions at other sites near the physics. In the training it is taken to each site's own level, so
    that weather is not learned as the reason why one site has more GPP than another; the level of another site is
    predicted by `SiteLevels`. Days weigh by the square of the level, so that errors count as those of GPP do. Where a
    table has no meteorology, potential radiation takes the place of the model of photosynthesis.

    Args:
        seed: Seed of the learner of the ratio.
        base: Key of `BASES`.
        inner: Learner of the ratio.
        config: Settings of the trees, of the inner learner "lightgbm".
        site_marks: Let the learner of the ratio see `SITE_MARKS` too.
    """

    kind = "site-level"

    def __init__(
        self,
        seed: int = 0,
        base: str = "lue",
        inner: Inner = "lightgbm",
        config: LightGBMConfig | None = None,
        site_marks: bool = False,
    ) -> None:
        self.base_name, self.inner_name, self.site_marks = base, inner, site_marks
        self.base = BASES[base](seed)
        self.ratio = LightGBMLearner(seed, config) if inner == "lightgbm" else _transformer(seed)

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Fit the levels, then the ratio, and return (stages, N, 3) predictions of the held-out days, gC m-2 d-1."""
        if has_drivers(training.features):
            self.base.fit(training, training.select(slice(0)))
        self.levels = fit_site_levels(training, self._expected(training))
        ratio, _ = self._relative(training)
        rest, level = self._relative(held_out)
        return self.ratio.fit(ratio, rest) * level[:, None]

    def select_stage(self, stage: int) -> None:
        """Return to a stage of the learner of the ratio."""
        self.ratio.select_stage(stage)

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3) lower bound, estimate, upper bound, gC m-2 d-1."""
        relative, level = self._relative(windows)
        return self.ratio.predict(relative) * level[:, None]

    def state(self) -> LearnerState:
        """Return the states of the model, of the learner of the ratio, and the levels."""
        parts = {"ratio": self.ratio.state(), "base": self.base.state()}
        settings = {
            "base": self.base_name,
            "inner": self.inner_name,
            "site_marks": self.site_marks,
            "levels": self.levels.settings(),
        }
        return LearnerState.join(self.kind, parts, settings)

    @classmethod
    def from_state(cls, state: LearnerState) -> Self:
        """Return the learner of a state.

        Raises:
            UsageError: The trees are not those of a LightGBM model.
            KeyError, TypeError, ValueError: A part of the state is missing or does not fit.
        """
        settings = state.settings
        learner = cls(base=settings["base"], inner=settings["inner"], site_marks=bool(settings["site_marks"]))
        learner.levels = SiteLevels.from_settings(settings["levels"])
        learner.ratio = type(learner.ratio).from_state(state.part("ratio"))
        learner.base = type(learner.base).from_state(state.part("base"))
        return learner

    def _expected(self, windows: Windows) -> NDArray[np.float64]:
        """Return (N,) GPP by the model of photosynthesis, or else radiation, before the factor of the site."""
        if not len(windows):
            return np.empty(0)
        if has_drivers(windows.features):
            return self.base.predict(windows)[:, 1].astype(float)
        if POTENTIAL_RADIATION in windows.features:
            return windows.daily[windows.last, windows.features.index(POTENTIAL_RADIATION)].astype(float) / 100
        return np.ones(len(windows))

    def _relative(self, windows: Windows) -> tuple[Windows, NDArray[np.float32]]:
        """Return windows of the ratio to the level, and the (N,) level itself, gC m-2 d-1."""
        level = np.maximum(self.levels.of(windows) * self._expected(windows), MIN_EXPECTED).astype(np.float32)
        shown = np.array([self.site_marks or name not in SITE_MARKS for name in windows.features])
        relative = replace(
            windows,
            features=tuple(name for name, here in zip(windows.features, shown, strict=True) if here),
            daily=windows.daily[:, shown],
            target=windows.target / level,
            uncertainty=None if windows.uncertainty is None else windows.uncertainty / level,
            importance=np.square(level),
        )
        return relative, level


def _transformer(seed: int) -> "TransformerLearner":
    from thalweg.gpp.models.transformer import TransformerLearner

    return TransformerLearner(seed)
