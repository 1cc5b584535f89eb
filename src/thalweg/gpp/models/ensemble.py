"""Ensemble over groups of training sites or years: fit, predict and intervals, the same for every learner.

Each member of an ensemble leaves out one group of training sites (or years) and predicts it. These predictions choose
the stage at which every candidate learner stops and the best candidate, or the weights of all candidates, and give the
scores behind the intervals. A last member learns from all sites.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.intervals import cross_validated_interval, exceedances, score_quantiles, widened
from thalweg.gpp.models.learner_state import LearnerState

HoldoutUnit = Literal["site", "year"]
"""Unit that is held out as a whole, inside the training part too."""

Preprocess = Callable[[Windows, Windows], tuple[Windows, Windows]]
"""Function applied to the training and held-out windows of a split before a learner is fitted."""

Paths = dict[Hashable, NDArray[np.float32]]
"""(stages, N, 3) predictions of held-out groups, by learner, seed and group."""

MIN_WEIGHT = 0.01
"""Weight below which a candidate of a stack is left out."""


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

    def state(self) -> LearnerState:
        """Return everything that `predict` needs."""
        ...


@dataclass(frozen=True)
class Member:
    """Fitted learners of the candidates in use, and the weights of their predictions.

    Attributes:
        learners: Learners by candidate.
        weights: Weights by candidate, with a sum of 1.
    """

    learners: Mapping[str, Learner]
    weights: Mapping[str, float]

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3) lower bound, estimate, upper bound, gC m-2 d-1."""
        parts = [self.weights[name] * learner.predict(windows) for name, learner in self.learners.items()]
        return np.sum(parts, axis=0, dtype=np.float32)


class Ensemble:
    """Mean of members that each leave out one group of training sites (or years), and of a member that leaves out none.

    Args:
        candidates: Functions that make a learner from a seed, by name.
        members: Number of groups, at least two; fewer where there are fewer sites.
        seed: Seed of the grouping and of the members.
        stacked: Weigh all candidates by least squares on the groups that they did not learn from, with weights that are
            not negative and have a sum of 1; otherwise the best candidate is chosen.

    Attributes:
        fitted: Members that left out a group; empty before `fit`.
        final: Member that learned from all sites; None before `fit`.
        weights: Weights by candidate; empty before `fit`.
        scores: (Q,) quantiles of each member's distances by which days exceed its bounds, gC m-2 d-1.
    """

    def __init__(
        self,
        candidates: Mapping[str, Callable[[int], Learner]],
        members: int = 5,
        seed: int = 0,
        stacked: bool = False,
    ) -> None:
        self.candidates = dict(candidates)
        self.members = members
        self.seed = seed
        self.stacked = stacked
        self.fitted: list[Member] = []
        self.final: Member | None = None
        self.weights: dict[str, float] = {}
        self.scores: list[NDArray[np.float32]] = []

    @property
    def chosen(self) -> str:
        """Name of the candidate of the largest weight; "" before `fit`."""
        return max(self.weights, key=lambda name: self.weights[name], default="")

    @property
    def learners(self) -> list[Learner]:
        """All fitted learners: those of the members, then those of the final member."""
        members = [*self.fitted, *([self.final] if self.final is not None else [])]
        return [learner for member in members for learner in member.learners.values()]

    def fit(self, windows: Windows, unit: HoldoutUnit = "site") -> Self:
        """Fit the members, choose or weigh the candidates on the held-out groups, and fit the final member.

        Args:
            windows: Windows with a target.
            unit: Unit the ensemble will predict: other sites, or other years.

        Raises:
            UsageError: There are fewer than two sites (or years), so that nothing can be held out.
        """
        splits = [windows.split(**{f"{unit}s": group}) for group in self._groups(windows, unit, self.members)]
        splits = [(training, held_out) for training, held_out in splits if len(training) and len(held_out)]
        made = [
            {name: make(self._member_seed(index)) for name, make in self.candidates.items()}
            for index in range(len(splits))
        ]
        paths = [
            {name: learner.fit(*split) for name, learner in own.items()}
            for own, split in zip(made, splits, strict=True)
        ]
        targets = [held_out.target for _, held_out in splits]
        stages, self.weights = _choose(paths, targets, self.stacked)
        self.fitted, self.scores = [], []
        for own, path, (_, held_out) in zip(made, paths, splits, strict=True):
            for name in self.weights:
                own[name].select_stage(stages[name])
            self.fitted.append(Member({name: own[name] for name in self.weights}, self.weights))
            bounds = _weighted(path, stages, self.weights)
            units = held_out.site if unit == "site" else held_out.year
            self.scores.append(score_quantiles(exceedances(bounds, held_out.target), units))
        self.final = self._fit_final(windows, stages)
        return self

    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N,) float32, the mean of the members and the final member, gC m-2 d-1.

        Raises:
            UsageError: The ensemble is not fitted.
        """
        return self._predictions(windows)[0]

    def predict_interval(self, windows: Windows, level: float = 0.9) -> NDArray[np.float32]:
        """Return (N, 3) float32: lower bound, prediction and upper bound at ``level``, gC m-2 d-1.

        Raises:
            UsageError: The ensemble is not fitted.
        """
        estimate, bounds = self._predictions(windows)
        found = cross_validated_interval(estimate, bounds, self.scores, level)
        return widened(found, windows.uncertainty, level)

    def leave_site_out(
        self,
        windows: Windows,
        level: float = 0.9,
        partitions: int = 3,
        preprocess: Preprocess | None = None,
        run: Callable[..., Iterable] = map,
        known: Paths | None = None,
    ) -> NDArray[np.float32]:
        """Predict every site by members that left it out, with members shared between sites.

        The sites are divided into ``members`` groups, ``partitions`` times. A member learns from the sites outside its
        group and predicts every site of the group. For each site, the *other* sites of its groups choose the stages
        and the candidate (or the weights), and give the scores of the interval. A site's GPP therefore has no influence
        on its own prediction, as if an ensemble were fitted for each site, at a fraction of the cost. No member here
        learns from all other sites, as the final member of `fit` does.

        Args:
            windows: Windows of all sites.
            level: Level of the intervals.
            partitions: Members per site.
            preprocess: Applied to each split, such as principal components of the training part.
            run: ``map``, or the ``map`` of a pool of processes.
            known: Predictions of held-out groups by earlier calls on the same windows, which are not made again; new
                ones are added. A stack therefore costs nothing after its candidates.

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
        paths = self._held_out_paths(windows, groups, preprocess, run, {} if known is None else known)
        held_out = [windows.split(sites=group)[1] for group in groups]
        found = np.empty((len(windows), 3), np.float32)
        for site in windows.sites:
            own = [index for index, group in enumerate(groups) if site in group]
            mates = [held_out[index].site != site for index in own]
            mate_paths = [_rows(paths[index], rows) for index, rows in zip(own, mates, strict=True)]
            targets = [held_out[index].target[rows] for index, rows in zip(own, mates, strict=True)]
            stages, weights = _choose(mate_paths, targets, self.stacked)
            bounds = [
                _weighted(_rows(paths[index], ~rows), stages, weights) for index, rows in zip(own, mates, strict=True)
            ]
            scores = [
                score_quantiles(exceedances(_weighted(path, stages, weights), target), held_out[index].site[rows])
                for path, target, index, rows in zip(mate_paths, targets, own, mates, strict=True)
            ]
            estimate = np.mean(bounds, axis=0)[:, 1]
            found[windows.site == site] = cross_validated_interval(estimate, bounds, scores, level)
        return widened(found, windows.uncertainty, level)

    def _fit_final(self, windows: Windows, stages: Mapping[str, int]) -> Member:
        learners = {}
        for name in self.weights:
            learners[name] = self.candidates[name](self._member_seed(self.members))
            learners[name].fit(windows, windows.select(slice(0)))
            learners[name].select_stage(stages[name])
        return Member(learners, self.weights)

    def _held_out_paths(
        self,
        windows: Windows,
        groups: list[list],
        preprocess: Preprocess | None,
        run: Callable[..., Iterable],
        known: Paths,
    ) -> list[dict[str, NDArray[np.float32]]]:
        """Return the predictions of each group by learners that left it out, by candidate."""
        keys = [
            {name: (identity(make), self._member_seed(index), tuple(group)) for name, make in self.candidates.items()}
            for index, group in enumerate(groups)
        ]
        jobs = [
            (own[name], make, group)
            for group, own in zip(groups, keys, strict=True)
            for name, make in self.candidates.items()
            if own[name] not in known
        ]
        if jobs:
            new, makes, held_groups = zip(*jobs, strict=True)
            count = len(jobs)
            seeds = [key[1] for key in new]
            found = run(_held_out_path, makes, count * [windows], held_groups, seeds, count * [preprocess])
            known.update(zip(new, found, strict=True))
        return [{name: known[key] for name, key in own.items()} for own in keys]

    def _member_seed(self, index: int) -> int:
        return 1000 * self.seed + index

    def _predictions(self, windows: Windows) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        """Return the (N,) estimate and the (N, 3) bounds of the members that left out a group."""
        if self.final is None:
            raise UsageError("the model is not fitted yet: call fit(windows) first")
        bounds = [member.predict(windows) for member in self.fitted]
        estimates = [one[:, 1] for one in (*bounds, self.final.predict(windows))]
        return np.mean(estimates, axis=0, dtype=np.float32), bounds

    def _groups(self, windows: Windows, unit: HoldoutUnit, count: int, partition: int = 0) -> list[list]:
        units: list = windows.sites if unit == "site" else np.unique(windows.year).tolist()
        if len(units) < 2:
            raise UsageError(f"{len(units)} {unit}(s) to train on: expected two or more, one to hold out")
        order = np.random.default_rng((self.seed, partition)).permutation(len(units))
        return [[units[index] for index in group] for group in np.array_split(order, min(count, len(units)))]


def equal_bounds(estimate: NDArray) -> NDArray[np.float32]:
    """Return (N, 3) float32, an estimate (N,) as lower bound, best estimate and upper bound."""
    return np.repeat(estimate.astype(np.float32)[:, None], 3, 1)


def bounds_around(estimate: NDArray, low: NDArray, high: NDArray) -> NDArray[np.float32]:
    """Return (N, 3) float32 lower bound, estimate, upper bound; bounds on the wrong side become the estimate."""
    return np.stack([np.minimum(low, estimate), estimate, np.maximum(high, estimate)], 1).astype(np.float32)


def stack_weights(predictions: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Return (C,) weights, not negative and with a sum of 1, of the least squared error.

    Args:
        predictions: (N, C) predictions of the candidates for days that they did not learn from.
        target: (N,) observations.
    """
    from scipy.optimize import nnls

    strong = 1e3 * float(np.abs(predictions).mean() + 1e-9) * np.sqrt(len(target))  # holds the sum at 1
    rows = np.concatenate([predictions.astype(float), np.full((1, predictions.shape[1]), strong)])
    weights = nnls(rows, np.append(target.astype(float), strong))[0]
    return np.asarray(weights / weights.sum())


def _choose(
    paths: Sequence[Mapping[str, NDArray]], targets: Sequence[NDArray], stacked: bool
) -> tuple[dict[str, int], dict[str, float]]:
    """Return the best stage of every candidate, and the weights of the candidates that are used."""
    stages, errors = {}, {}
    for name in paths[0]:
        pairs = zip(paths, targets, strict=True)
        squared = np.sum([np.square(path[name][..., 1] - target).sum(1) for path, target in pairs], axis=0)
        stages[name] = int(squared.argmin())
        errors[name] = float(squared.min())
    if not stacked:
        return stages, {min(errors, key=lambda name: errors[name]): 1.0}
    predictions = [np.stack([path[name][stages[name], :, 1] for name in stages], 1) for path in paths]
    weights = stack_weights(np.concatenate(predictions), np.concatenate(targets))
    used = {name: float(weight) for name, weight in zip(stages, weights, strict=True) if weight >= MIN_WEIGHT}
    return stages, {name: weight / sum(used.values()) for name, weight in used.items()}


def _weighted(
    path: Mapping[str, NDArray], stages: Mapping[str, int], weights: Mapping[str, float]
) -> NDArray[np.float32]:
    """Return (N, 3) weighted bounds and estimate of the candidates at their stages."""
    return np.sum([weight * path[name][stages[name]] for name, weight in weights.items()], axis=0, dtype=np.float32)


def _rows(path: Mapping[str, NDArray], rows: NDArray) -> dict[str, NDArray]:
    return {name: values[:, rows] for name, values in path.items()}


def identity(make: Callable[[int], Learner]) -> Hashable:
    """Return a key that is equal for functions that make the same learner."""
    if isinstance(make, partial):
        return make.func, make.args, tuple(sorted(make.keywords.items()))
    return make


def _held_out_path(
    make: Callable[[int], Learner], windows: Windows, sites: list[str], seed: int, preprocess: Preprocess | None
) -> NDArray[np.float32]:
    """Return (stages, N, 3) predictions of the sites that were left out."""
    split = windows.split(sites=sites)
    return make(seed).fit(*(preprocess(*split) if preprocess is not None else split))
