"""One interface for every GPP model: fit, predict, predict_interval; and how a model is fitted inside a training part.

Learners differ in what they learn, not in how they are treated: an ensemble over groups of training sites (or years)
gives each of them the same early stopping, the same choice among its settings and the same calibration of intervals,
always on groups that a member did not see.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import Windows

Unit = Literal["site", "year"]

Prepare = Callable[[Windows, Windows], tuple[Windows, Windows]]
"""What is done to the training and held-out windows of a split before learning."""


class Learner(Protocol):
    """What learns from windows, in stages: epochs, trees, or a single one."""

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Learn from ``training``.

        Returns:
            (stages, N, 3): after each stage, the lower bound, best estimate and upper bound of the held-out days'
            GPP, gC m-2 d-1; the three are equal where the learner knows no bounds. The held-out GPP is not used.
        """
        ...

    def keep(self, stage: int) -> None:
        """Go back to a stage, by its index; later stages are dropped."""
        ...

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N, 3) lower bound, best estimate, upper bound at the stage that was kept, gC m-2 d-1."""
        ...


class Model(Protocol):
    """What a protocol evaluates, in the manner of scikit-learn."""

    def fit(self, windows: Windows, unit: Unit = "site") -> Self:
        """Fit to windows; ``unit`` says what it will be asked to predict anew: other sites, or other years."""
        ...

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N,) GPP, gC m-2 d-1."""
        ...

    def predict_interval(self, windows: Windows, level: float = 0.9) -> NDArray[np.float32]:
        """(N, 3) lower bound, prediction, upper bound: between them lies the day's GPP with probability ``level``."""
        ...


class Ensemble:
    """The mean of members that each leave out one group of training sites (or years).

    The group that a member left out says at which stage to stop, which of the ``settings`` is best, and how wide an
    interval must be, by conformalised quantile regression (Romano, Patterson and Candes 2019): bounds are moved by
    the quantile of how far the held-out days lay beyond them.

    Args:
        settings: Learners to choose from, by name; each is made from a seed.
        members: Groups, two or more; fewer where there are fewer sites.
        seed: Of the grouping and the members.
    """

    def __init__(self, settings: Mapping[str, Callable[[int], Learner]], members: int = 5, seed: int = 0) -> None:
        self.settings = dict(settings)
        self.members = members
        self.seed = seed
        self.chosen = ""
        self.fitted: list[Learner] = []
        self.beyond = np.zeros(0, np.float32)

    def fit(self, windows: Windows, unit: Unit = "site") -> Self:
        """Fit the members; the settings are compared over all held-out groups together.

        Raises:
            UsageError: Fewer than two sites (or years), so that nothing can be held out.
        """
        splits = [windows.split(**{f"{unit}s": group}) for group in self._groups(windows, unit, self.members)]
        splits = [(training, held_out) for training, held_out in splits if len(training) and len(held_out)]
        tried = {
            name: [_fitted(make(self._member(index)), *split) for index, split in enumerate(splits)]
            for name, make in self.settings.items()
        }
        self.chosen = min(tried, key=lambda name: sum(one.error * len(one.beyond) for one in tried[name]))
        self.fitted = [one.learner for one in tried[self.chosen]]
        self.beyond = np.concatenate([one.beyond for one in tried[self.chosen]])
        return self

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N,) mean of the members, gC m-2 d-1."""
        return self._bounds(windows)[:, 1]

    def predict_interval(self, windows: Windows, level: float = 0.9) -> NDArray[np.float32]:
        """(N, 3) lower bound, prediction, upper bound at ``level``, gC m-2 d-1."""
        return _widen(self._bounds(windows), self.beyond, level)

    def leave_site_out(
        self,
        windows: Windows,
        level: float = 0.9,
        partitions: int = 3,
        prepare: Prepare | None = None,
        run: Callable[..., Iterable] = map,
    ) -> NDArray[np.float32]:
        """Predict every site by members that left it out, members shared between sites.

        The sites are parted into ``members`` groups, ``partitions`` times. A member learns from the sites outside of
        its group and serves every site of the group: for each, the *other* sites of the group choose stage and
        setting and calibrate the interval. No GPP of a site has a part in its own prediction, as if an ensemble had
        been fitted for each site anew, at a fraction of the cost.

        Args:
            windows: Of all sites.
            level: Of the intervals.
            partitions: Members per site.
            prepare: Applied to each split, such as principal components of the training part.
            run: ``map``, or that of a pool of processes.

        Returns:
            (N, 3) lower bound, prediction, upper bound, gC m-2 d-1.

        Raises:
            UsageError: Fewer than four sites.
        """
        sites = len(windows.sites)
        if sites < 4:
            raise UsageError(f"{sites} sites: expected four or more to share members between sites")
        groups = [
            group
            for partition in range(partitions)
            for group in self._groups(windows, "site", min(self.members, sites // 2), partition)
        ]
        seeds = [self._member(index) for index in range(len(groups))]
        count = len(groups)
        paths = run(_held_out_paths, count * [self.settings], count * [windows], groups, seeds, count * [prepare])
        bounds = np.zeros((len(windows), 3), np.float32)
        beyond: dict[str, list[NDArray]] = {site: [] for site in windows.sites}
        for group, path in zip(groups, paths, strict=True):
            held_out = windows.split(sites=group)[1]
            for site in group:
                others = held_out.site != site
                errors = np.square(path[:, others, 1] - held_out.target[others]).mean(1)
                best = path[int(errors.argmin())]
                bounds[windows.site == site] += best[~others] / partitions
                beyond[site].append(_beyond(best[others], held_out.target[others]))
        for site in windows.sites:
            here = windows.site == site
            bounds[here] = _widen(bounds[here], np.concatenate(beyond[site]), level)
        return bounds

    def _member(self, index: int) -> int:
        return 1000 * self.seed + index

    def _bounds(self, windows: Windows) -> NDArray[np.float32]:
        if not self.fitted:
            raise UsageError("a model that is not fitted yet: call fit(windows) first")
        return np.mean([member.predict(windows) for member in self.fitted], axis=0, dtype=np.float32)

    def _groups(self, windows: Windows, unit: Unit, count: int, partition: int = 0) -> list[list]:
        units: list = windows.sites if unit == "site" else np.unique(windows.year).tolist()
        if len(units) < 2:
            raise UsageError(f"{len(units)} {unit}(s) to train on: expected two or more, one to hold out")
        order = np.random.default_rng((self.seed, partition)).permutation(len(units))
        return [[units[index] for index in group] for group in np.array_split(order, min(count, len(units)))]


@dataclass(frozen=True)
class _Member:
    """A learner at its best stage, its mean squared error and how far held-out days lie beyond its bounds."""

    learner: Learner
    error: float
    beyond: NDArray[np.float32]


def _fitted(learner: Learner, training: Windows, held_out: Windows) -> _Member:
    path = learner.fit(training, held_out)
    errors = np.square(path[:, :, 1] - held_out.target).mean(1)
    best = int(errors.argmin())
    learner.keep(best)
    return _Member(learner, float(errors[best]), _beyond(path[best], held_out.target))


def _held_out_paths(
    settings: Mapping[str, Callable[[int], Learner]],
    windows: Windows,
    sites: list[str],
    seed: int,
    prepare: Prepare | None,
) -> NDArray[np.float32]:
    """(stages of all settings, N, 3) what learners say of the sites they left out."""
    split = windows.split(sites=sites)
    training, held_out = prepare(*split) if prepare is not None else split
    return np.concatenate([make(seed).fit(training, held_out) for make in settings.values()])


def _beyond(bounds: NDArray, target: NDArray) -> NDArray[np.float32]:
    """How far each day lies beyond the nearer bound; negative inside."""
    return np.maximum(bounds[:, 0] - target, target - bounds[:, 2])


def _widen(bounds: NDArray, beyond: NDArray, level: float) -> NDArray[np.float32]:
    """Bounds (N, 3) moved so that ``level`` of the calibration days would lie inside; the estimate stays inside."""
    margin = np.float32(np.quantile(beyond, level))
    low = np.minimum(bounds[:, 0] - margin, bounds[:, 1])
    high = np.maximum(bounds[:, 2] + margin, bounds[:, 1])
    return np.stack([low, bounds[:, 1], high], 1)
