"""One interface for every GPP model: fit, predict, predict_interval; and how a model is fitted inside a training part.

Learners differ in what they learn, not in how they are treated: an ensemble over groups of training sites (or years)
gives each of them the same early stopping, the same choice among its settings and the same calibration of intervals,
always on groups that a member did not see.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.gpp.windows import Windows
from thalweg.errors import UsageError

Unit = Literal["site", "year"]


class Learner(Protocol):
    """What learns from windows."""

    def fit(self, training: Windows, held_out: Windows) -> Self:
        """Learn from ``training``; ``held_out`` may only tell when to stop."""
        ...

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N, 3) lower bound, best estimate, upper bound, gC m-2 d-1; equal where the learner knows no bounds."""
        ...


class Model(Protocol):
    """What a protocol evaluates, in the manner of scikit-learn."""

    def fit(self, windows: Windows, unit: Unit = "site") -> Self:
        """Fit to windows; ``unit`` says what it will be asked to predict anew: other sites, or other years."""
        ...

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N,) GPP, gC m-2 d-1."""
        ...

    def predict_interval(self, windows: Windows, level: float = 0.9) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(N,) lower and upper bound of the interval that holds the day's GPP with probability ``level``."""
        ...


class Ensemble:
    """The mean of members that each leave out one group of training sites (or years).

    The held-out groups choose among ``settings`` and calibrate the intervals by conformalised quantile regression
    (Romano, Patterson and Candes 2019): bounds are moved by the quantile of how far the held-out days lay beyond them.

    Args:
        settings: Learners to choose from, by name; each is made from a seed.
        members: Groups; fewer where there are fewer sites.
        trials: Groups on which the settings are compared before the rest is fitted with the best one.
        seed: Of the grouping and the members.
    """

    def __init__(
        self, settings: Mapping[str, Callable[[int], Learner]], members: int = 5, trials: int = 2, seed: int = 0
    ) -> None:
        self.settings = dict(settings)
        self.members = members
        self.trials = trials
        self.seed = seed
        self.chosen = next(iter(self.settings))
        self.fitted: list[Learner] = []
        self._beyond = np.zeros(0, np.float32)

    def fit(self, windows: Windows, unit: Unit = "site") -> Self:
        """Fit the members.

        Raises:
            UsageError: Fewer than two sites (or years), so that nothing can be held out.
        """
        splits = self._splits(windows, unit)
        first = {name: self._fit(name, splits[: self.trials]) for name in self.settings}
        if len(first) > 1:
            self.chosen = min(first, key=lambda name: _squared_error(first[name], splits))
        members = first[self.chosen] + self._fit(self.chosen, splits[self.trials :], self.trials)
        self.fitted = members
        self._beyond = np.concatenate(
            [
                _beyond(member.predict(held_out), held_out.target)
                for member, (_, held_out) in zip(members, splits, strict=True)
            ]
        )
        return self

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N,) mean of the members, gC m-2 d-1."""
        return self._bounds(windows)[:, 1]

    def predict_interval(self, windows: Windows, level: float = 0.9) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(N,) lower and upper bounds at ``level``, gC m-2 d-1."""
        bounds = self._bounds(windows)
        margin = np.float32(np.quantile(self._beyond, level))
        return np.minimum(bounds[:, 0] - margin, bounds[:, 1]), np.maximum(bounds[:, 2] + margin, bounds[:, 1])

    def _bounds(self, windows: Windows) -> NDArray[np.float32]:
        if not self.fitted:
            raise UsageError("a model that is not fitted yet: call fit(windows) first")
        return np.mean([member.predict(windows) for member in self.fitted], axis=0, dtype=np.float32)

    def _splits(self, windows: Windows, unit: Unit) -> list[tuple[Windows, Windows]]:
        units: list = windows.sites if unit == "site" else np.unique(windows.year).tolist()
        if len(units) < 2:
            raise UsageError(f"{len(units)} {unit}(s) to train on: expected two or more, one to hold out")
        order = np.random.default_rng(self.seed).permutation(len(units))
        groups: Sequence = np.array_split(order, min(self.members, len(units)))
        named = [[units[index] for index in group] for group in groups]
        splits = [windows.split(**{f"{unit}s": group}) for group in named]
        return [(training, held_out) for training, held_out in splits if len(training) and len(held_out)]

    def _fit(self, name: str, splits: Sequence[tuple[Windows, Windows]], start: int = 0) -> list[Learner]:
        make = self.settings[name]
        return [make(1000 * self.seed + start + index).fit(*split) for index, split in enumerate(splits)]


def _squared_error(members: Sequence[Learner], splits: Sequence[tuple[Windows, Windows]]) -> float:
    errors = [
        (member.predict(held_out)[:, 1] - held_out.target) ** 2
        for member, (_, held_out) in zip(members, splits, strict=False)
    ]
    return float(np.concatenate(errors).mean())


def _beyond(bounds: NDArray, target: NDArray) -> NDArray[np.float32]:
    """How far each day lies beyond the nearer bound; negative inside."""
    return np.maximum(bounds[:, 0] - target, target - bounds[:, 2])
