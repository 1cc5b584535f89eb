"""LightGBM on summaries of the windows, the day of the year and, where chosen, the climate of the site."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.day_weights import day_weights
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.ensemble import bounds_around
from thalweg.gpp.models.learner_state import LearnerState
from thalweg.gpp.models.trees.lightgbm_text import booster_text, read_booster

if TYPE_CHECKING:
    from lightgbm import Booster

STAGE_TREES = 25
"""Trees per stage."""

MIN_RECORD = 330
"""Days that a site's record must have for its mean to be called a climate; a shorter one has no climate."""

_BOUNDS = {"lower": 0.05, "upper": 0.95}


@dataclass(frozen=True)
class LightGBMConfig:
    """Settings of the trees.

    Attributes:
        leaves: Leaves per tree, at most.
        min_leaf: Days per leaf, at least.
        rate: Learning rate.
        trees: Number of trees of the estimate.
        bound_trees: Number of trees of each bound.
        day_of_year: Add sine and cosine of the day of the year.
        climate: Add mean and standard deviation of every feature over the site's record.
    """

    leaves: int = 31
    min_leaf: int = 50
    rate: float = 0.05
    trees: int = 300
    bound_trees: int = 50
    day_of_year: bool = True
    climate: bool = False


class LightGBMLearner:
    """LightGBM regression with quantile regressions as bounds; each stage adds `STAGE_TREES` trees to the estimate.

    Args:
        seed: Seed of the trees.
        config: Settings of the trees.
    """

    kind = "lightgbm"

    def __init__(self, seed: int = 0, config: LightGBMConfig | None = None) -> None:
        self.seed = seed
        self.config = config or LightGBMConfig()
        self.stage = self.config.trees // STAGE_TREES - 1
        self.boosters: dict[str, Booster] = {}

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Fit the trees and return (stages, N, 3) predictions of the held-out days, gC m-2 d-1."""
        import lightgbm

        config = self.config
        self.varies = training.varies
        shared = {
            "num_leaves": config.leaves,
            "min_data_in_leaf": config.min_leaf,
            "feature_fraction": 0.5,
            "lambda_l2": 1.0,
            "seed": self.seed,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }
        weights = day_weights(training)
        data = lightgbm.Dataset(self._features(training), training.target, weight=weights, free_raw_data=False)
        estimate = {**shared, "objective": "regression", "learning_rate": config.rate}
        self.boosters = {"estimate": lightgbm.train(estimate, data, config.trees)}
        for name, level in _BOUNDS.items():
            bound = {**shared, "objective": "quantile", "alpha": level, "learning_rate": 2 * config.rate}
            self.boosters[name] = lightgbm.train(bound, data, config.bound_trees)
        if not len(held_out):
            return np.empty((config.trees // STAGE_TREES, 0, 3), np.float32)
        features = self._features(held_out)
        bounds = self._bounds(features)
        return np.stack([bounds_around(estimate, *bounds) for estimate in self._stages(features)])

    def select_stage(self, stage: int) -> None:
        """Use the trees up to a stage."""
        self.stage = stage

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3) lower bound, estimate, upper bound, gC m-2 d-1."""
        features = self._features(windows)
        trees = (self.stage + 1) * STAGE_TREES
        estimate = np.asarray(self.boosters["estimate"].predict(features, num_iteration=trees, num_threads=1))
        return bounds_around(estimate, *self._bounds(features))

    def state(self) -> LearnerState:
        """Return the settings and the trees up to the selected stage as text."""
        trees = {"estimate": (self.stage + 1) * STAGE_TREES, "lower": -1, "upper": -1}
        return LearnerState(
            self.kind,
            {"seed": self.seed, "stage": self.stage, "config": asdict(self.config)},
            {"varies": self.varies},
            {f"{name}.txt": booster_text(booster, trees[name]) for name, booster in self.boosters.items()},
        )

    @classmethod
    def from_state(cls, state: LearnerState) -> Self:
        """Return the learner of a state.

        Raises:
            UsageError: A text is not one of this learner's models.
            KeyError: A part of the state is missing.
        """
        learner = cls(int(state.settings["seed"]), LightGBMConfig(**state.settings["config"]))
        learner.stage = int(state.settings["stage"])
        learner.varies = np.asarray(state.arrays["varies"], bool)
        columns = _count(learner.varies, learner.config)
        learner.boosters = {name: read_booster(state.files[f"{name}.txt"], columns) for name in ("estimate", *_BOUNDS)}
        return learner

    def _features(self, windows: Windows) -> NDArray[np.float32]:
        parts = [windows.summaries(self.varies)]
        if self.config.day_of_year:
            angle = 2 * np.pi * windows.day_of_year / 365.25
            parts.append(np.stack([np.sin(angle), np.cos(angle)], 1))
        if self.config.climate:
            parts.append(site_climate(windows, MIN_RECORD)[:, np.tile(self.varies, 2)])
        return np.concatenate(parts, 1).astype(np.float32)

    def _bounds(self, features: NDArray) -> tuple[NDArray, NDArray]:
        low, high = (np.asarray(self.boosters[name].predict(features, num_threads=1)) for name in _BOUNDS)
        return low, high

    def _stages(self, features: NDArray) -> Iterator[NDArray]:
        total: Any = 0.0
        for first in range(0, self.config.trees, STAGE_TREES):
            total = total + np.asarray(
                self.boosters["estimate"].predict(
                    features, start_iteration=first, num_iteration=STAGE_TREES, num_threads=1
                )
            )
            yield total


def site_climate(windows: Windows, min_days: int) -> NDArray[np.float32]:
    """Return (N, 2 F) float32 mean and standard deviation of each feature over the record of the window's site.

    Args:
        windows: Windows of any sites.
        min_days: Days with a value that a record must have; NaN with fewer.
    """
    found = np.full((len(windows), 2 * windows.daily.shape[1]), np.nan, np.float32)
    for first, end in windows.runs:
        here = (windows.last >= first) & (windows.last < end)
        days = windows.daily[first:end]
        known = np.isfinite(days)
        if not here.any() or known.any(1).sum() < min_days:
            continue
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, days, 0.0).sum(0, dtype=np.float64) / count
        spread = np.sqrt(np.where(known, np.square(days - mean), 0.0).sum(0) / count)
        found[here] = np.where(np.tile(known.any(0), 2), np.concatenate([mean, spread]), np.nan)
    return found


def _count(varies: NDArray[np.bool_], config: LightGBMConfig) -> int:
    """Return the number of columns of the learner's features."""
    return len(varies) + int(varies.sum()) * (3 + 2 * config.climate) + 2 * config.day_of_year
