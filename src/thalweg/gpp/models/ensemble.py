"""Ensemble over groups of training sites or years: fit, predict and calibrated intervals, the same for every learner.

Each member of an ensemble leaves out one group of training sites (or years). The left-out group chooses the stage at
which the member stops, the best of the candidate learners, and the width of the intervals.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import Windows

HoldoutUnit = Literal["site", "year"]
"""Unit that is held out as a whole, inside the training part too."""

Preprocess = Callable[[Windows, Windows], tuple[Windows, Windows]]
"""Function applied to the training and held-out windows of a split before a learner is fitted."""


class Learner(Protocol):
    """Model that learns from windows in stages: epochs, trees, or a single stage."""

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Fit to ``training`` and predict ``held_out`` after every stage; the held-out GPP is not used.

        Returns:
            (stages, N, 3) lower bound, best estimate and upper bound of the held-out days' GPP, gC m-2 d-1; the three
            are equal where the learner has no bounds.
        """
        ...

    def select_stage(self, stage: int) -> None:
        """Return to a stage by its index and drop the later ones."""
        ...

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3) lower bound, best estimate, upper bound at the selected stage, gC m-2 d-1."""
        ...


class Ensemble:
    """Mean of members that each leave out one group of training sites (or years).

    The group that a member leaves out chooses the member's stage, the best candidate learner, and the width of the
    intervals. Intervals follow conformalised quantile regression (Romano, Patterson and Candes 2019): bounds are moved
    by a quantile of the distances by which held-out days exceed them.

    Args:
        candidates: Functions that make a learner from a seed, by name; the best one is chosen by held-out error.
        members: Number of groups, at least two; fewer where there are fewer sites.
        seed: Seed of the grouping and of the members.

    Attributes:
        learners: Fitted members of the chosen candidate; empty before `fit`.
        chosen: Name of the chosen candidate; "" before `fit`.
        exceedances: (C,) float32, distances by which calibration days exceed their bounds, gC m-2 d-1.
    """

    def __init__(self, candidates: Mapping[str, Callable[[int], Learner]], members: int = 5, seed: int = 0) -> None:
        self.candidates = dict(candidates)
        self.members = members
        self.seed = seed
        self.chosen = ""
        self.learners: list[Learner] = []
        self.exceedances = np.zeros(0, np.float32)

    def fit(self, windows: Windows, unit: HoldoutUnit = "site") -> Self:
        """Fit the members and choose the candidate with the least error over all held-out groups.

        Args:
            windows: Windows with a target.
            unit: Unit the ensemble will predict: other sites, or other years.

        Raises:
            UsageError: There are fewer than two sites (or years), so that nothing can be held out.
        """
        splits = [windows.split(**{f"{unit}s": group}) for group in self._groups(windows, unit, self.members)]
        splits = [(training, held_out) for training, held_out in splits if len(training) and len(held_out)]
        fitted = {
            name: [_fit_member(make(self._member_seed(index)), *split) for index, split in enumerate(splits)]
            for name, make in self.candidates.items()
        }
        self.chosen = min(fitted, key=lambda name: sum(one.error * len(one.exceedances) for one in fitted[name]))
        self.learners = [one.learner for one in fitted[self.chosen]]
        self.exceedances = np.concatenate([one.exceedances for one in fitted[self.chosen]])
        return self

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N,) float32, the mean of the members, gC m-2 d-1.

        Raises:
            UsageError: The ensemble is not fitted.
        """
        return self._mean_bounds(windows)[:, 1]

    def predict_interval(self, windows: Windows, level: float = 0.9) -> NDArray[np.float32]:
        """Return (N, 3) float32: lower bound, prediction and upper bound at ``level``, gC m-2 d-1.

        Raises:
            UsageError: The ensemble is not fitted.
        """
        return _widen(self._mean_bounds(windows), self.exceedances, level)

    def leave_site_out(
        self,
        windows: Windows,
        level: float = 0.9,
        partitions: int = 3,
        preprocess: Preprocess | None = None,
        run: Callable[..., Iterable] = map,
    ) -> NDArray[np.float32]:
        """Predict every site by members that left it out, with members shared between sites.

        The sites are divided into ``members`` groups, ``partitions`` times. A member learns from the sites outside its
        group and predicts every site of the group. For each site, the *other* sites of the group choose stage and
        candidate and calibrate the interval. A site's GPP therefore has no influence on its own prediction, as if an
        ensemble were fitted for each site, at a fraction of the cost.

        Args:
            windows: Windows of all sites.
            level: Level of the intervals.
            partitions: Members per site.
            preprocess: Applied to each split, such as principal components of the training part.
            run: ``map``, or the ``map`` of a pool of processes.

        Returns:
            (N, 3) float32 lower bound, prediction, upper bound, gC m-2 d-1.

        Raises:
            UsageError: There are fewer than four sites.
        """
        sites = len(windows.sites)
        if sites < 4:
            raise UsageError(f"{sites} sites: expected four or more to share members between sites")
        groups = [
            group
            for partition in range(partitions)
            for group in self._groups(windows, "site", min(self.members, sites // 2), partition)
        ]
        seeds = [self._member_seed(index) for index in range(len(groups))]
        count = len(groups)
        paths = run(_held_out_paths, count * [self.candidates], count * [windows], groups, seeds, count * [preprocess])
        bounds = np.zeros((len(windows), 3), np.float32)
        exceedances: dict[str, list[NDArray]] = {site: [] for site in windows.sites}
        for group, path in zip(groups, paths, strict=True):
            held_out = windows.split(sites=group)[1]
            for site in group:
                others = held_out.site != site
                errors = np.square(path[:, others, 1] - held_out.target[others]).mean(1)
                best = path[int(errors.argmin())]
                bounds[windows.site == site] += best[~others] / partitions
                exceedances[site].append(_exceedances(best[others], held_out.target[others]))
        for site in windows.sites:
            here = windows.site == site
            bounds[here] = _widen(bounds[here], np.concatenate(exceedances[site]), level)
        return bounds

    def _member_seed(self, index: int) -> int:
        return 1000 * self.seed + index

    def _mean_bounds(self, windows: Windows) -> NDArray[np.float32]:
        if not self.learners:
            raise UsageError("the model is not fitted yet: call fit(windows) first")
        return np.mean([learner.predict(windows) for learner in self.learners], axis=0, dtype=np.float32)

    def _groups(self, windows: Windows, unit: HoldoutUnit, count: int, partition: int = 0) -> list[list]:
        units: list = windows.sites if unit == "site" else np.unique(windows.year).tolist()
        if len(units) < 2:
            raise UsageError(f"{len(units)} {unit}(s) to train on: expected two or more, one to hold out")
        order = np.random.default_rng((self.seed, partition)).permutation(len(units))
        return [[units[index] for index in group] for group in np.array_split(order, min(count, len(units)))]


def equal_bounds(estimate: NDArray) -> NDArray[np.float32]:
    """Return (N, 3) float32, an estimate (N,) as lower bound, best estimate and upper bound."""
    return np.repeat(estimate.astype(np.float32)[:, None], 3, 1)


@dataclass(frozen=True)
class _Member:
    """Learner at its best stage, its mean squared error and the exceedances of its held-out days."""

    learner: Learner
    error: float
    exceedances: NDArray[np.float32]


def _fit_member(learner: Learner, training: Windows, held_out: Windows) -> _Member:
    path = learner.fit(training, held_out)
    errors = np.square(path[:, :, 1] - held_out.target).mean(1)
    best = int(errors.argmin())
    learner.select_stage(best)
    return _Member(learner, float(errors[best]), _exceedances(path[best], held_out.target))


def _held_out_paths(
    candidates: Mapping[str, Callable[[int], Learner]],
    windows: Windows,
    sites: list[str],
    seed: int,
    preprocess: Preprocess | None,
) -> NDArray[np.float32]:
    """Return (stages of all candidates, N, 3) predictions of the sites that were left out."""
    split = windows.split(sites=sites)
    training, held_out = preprocess(*split) if preprocess is not None else split
    return np.concatenate([make(seed).fit(training, held_out) for make in candidates.values()])


def _exceedances(bounds: NDArray, target: NDArray) -> NDArray[np.float32]:
    """Return the distance by which each day exceeds the nearer bound; negative inside the bounds."""
    return np.maximum(bounds[:, 0] - target, target - bounds[:, 2])


def _widen(bounds: NDArray, exceedances: NDArray, level: float) -> NDArray[np.float32]:
    """Move bounds (N, 3) so that a share ``level`` of the calibration days lies inside; the estimate stays inside."""
    margin = np.float32(np.quantile(exceedances, level))
    low = np.minimum(bounds[:, 0] - margin, bounds[:, 1])
    high = np.maximum(bounds[:, 2] + margin, bounds[:, 1])
    return np.stack([low, bounds[:, 1], high], 1)
