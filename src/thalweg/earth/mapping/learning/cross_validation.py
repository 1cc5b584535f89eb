"""Nested cross-validation over spatial blocks: choice of the learner, and predictions of blocks that it did not see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.mapping.learning.learners import LearnerKind, Settings, class_probabilities
from thalweg.earth.mapping.learning.spatial_blocks import block_folds

INNER_FOLDS = 3
"""Folds of the inner cross-validation, which chooses the learner."""

MAX_CHOICE_PIXELS = 1500
"""Largest number of pixels that the choice of the learner is made on, evenly spaced over the labels."""

CURVE_FRACTIONS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the training blocks of the learning curve."""


@dataclass(frozen=True)
class LearnerChoice:
    """LearnerKind with its settings, and its score on blocks that it did not see.

    Attributes:
        learner: kind of learner.
        settings: its settings.
        score: macro F1, or R2.
    """

    learner: LearnerKind
    settings: Settings
    score: float

    def fit(self, features: NDArray, values: NDArray, seed: int) -> Any:
        """Return the fitted scikit-learn estimator."""
        return _fit(self.learner, self.settings, features, values, seed)

    @property
    def title(self) -> str:
        """LearnerKind and settings in text."""
        shown = ", ".join(f"{name} {value:g}" for name, value in self.settings.items())
        return f"{self.learner.title} ({shown})"


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Predictions of blocks by learners that were chosen and fitted without them.

    Attributes:
        predicted: probabilities (N, C) of classes, or numbers (N,), of every labelled pixel.
        folds: (N,), fold in which the pixel was predicted.
        choices: choice of each fold.
        candidates: scores of all candidates on all labels.
    """

    predicted: NDArray[np.floating]
    folds: NDArray[np.int64]
    choices: tuple[LearnerChoice, ...]
    candidates: tuple[LearnerChoice, ...]

    @property
    def best(self) -> LearnerChoice:
        """Candidate with the highest score on all labels: the one to fit to all of them."""
        return max(self.candidates, key=lambda choice: choice.score)


def cross_validate(
    features: NDArray[np.floating],
    values: NDArray,
    groups: NDArray[np.int64],
    candidates: Sequence[LearnerKind],
    classes: int,
    seed: int,
) -> CrossValidation:
    """Cross-validate over blocks; in every fold, an inner cross-validation of its training blocks chooses a learner.

    Args:
        features: (N, F), finite.
        values: (N,), indices of classes, or numbers.
        groups: (N,), block of each pixel; at least three blocks.
        candidates: learners to choose from.
        classes: number of classes; 0 for numbers.
        seed: seed of the learners.
    """
    strata = values if classes else None
    shape = (len(values), classes) if classes else (len(values),)
    predicted = np.full(shape, np.nan, np.float32)
    folds = np.full(len(values), -1)
    choices = []
    for number, (training, test) in enumerate(block_folds(groups, strata)):
        scored = choose(features[training], values[training], groups[training], candidates, classes, seed)
        best = max(scored, key=lambda choice: choice.score)
        estimator = best.fit(features[training], values[training], seed)
        predicted[test] = _predict(estimator, features[test], classes)
        folds[test] = number
        choices.append(best)
    chosen = choose(features, values, groups, candidates, classes, seed)
    return CrossValidation(predicted, folds, tuple(choices), tuple(chosen))


def choose(
    features: NDArray[np.floating],
    values: NDArray,
    groups: NDArray[np.int64],
    candidates: Sequence[LearnerKind],
    classes: int,
    seed: int,
) -> list[LearnerChoice]:
    """Return every candidate and setting with its score in a cross-validation over blocks.

    Args:
        features: (N, F), finite.
        values: (N,), indices of classes, or numbers.
        groups: (N,), block of each pixel.
        candidates: learners to choose from; a single one with a single setting is not scored.
        classes: number of classes; 0 for numbers.
        seed: seed of the learners.
    """
    options = [(learner, settings) for learner in candidates for settings in learner.settings]
    if len(options) == 1:
        return [LearnerChoice(*options[0], np.nan)]
    step = -(-len(values) // MAX_CHOICE_PIXELS)
    some = np.arange(0, len(values), step)
    features, values, groups = features[some], values[some], groups[some]
    strata = values if classes else None
    folds = list(block_folds(groups, strata, INNER_FOLDS))
    if not folds:  # two blocks of one class each: nothing to compare by
        return [LearnerChoice(learner, settings, np.nan) for learner, settings in options]
    found = []
    for learner, settings in options:
        truth, guesses = [], []
        for training, test in folds:
            estimator = _fit(learner, settings, features[training], values[training], seed)
            truth.append(values[test])
            guesses.append(_predict(estimator, features[test], classes))
        found.append(LearnerChoice(learner, settings, score(np.concatenate(truth), np.concatenate(guesses), classes)))
    return found


def score(values: NDArray, predicted: NDArray, classes: int) -> float:
    """Return the macro F1 of probabilities (N, C), or the R2 of numbers (N,)."""
    from sklearn.metrics import f1_score, r2_score

    if not len(values):
        return np.nan
    if classes:
        return float(f1_score(values, predicted.argmax(1), average="macro", labels=np.unique(values), zero_division=0))
    return float(r2_score(values, predicted)) if len(values) > 1 else np.nan


def _predict(estimator: Any, features: NDArray, classes: int) -> NDArray:
    return class_probabilities(estimator, features, classes) if classes else estimator.predict(features)


def learning_curve(
    features: NDArray[np.floating],
    values: NDArray,
    groups: NDArray[np.int64],
    choice: LearnerChoice,
    classes: int,
    seed: int,
) -> tuple[tuple[float, float, float], ...]:
    """Return the score of a choice by the share of the training blocks, each on the same test blocks.

    Args:
        features: (N, F), finite.
        values: (N,), indices of classes, or numbers.
        groups: (N,), block of each pixel.
        choice: learner and its settings.
        classes: number of classes; 0 for numbers.
        seed: seed of the learner and of the choice of blocks.

    Returns:
        Share of the training blocks, mean number of training pixels, and score, for each of `CURVE_FRACTIONS`.
    """
    random = np.random.default_rng(seed)
    curve = []
    for fraction in CURVE_FRACTIONS:
        truth, guesses, sizes = [], [], []
        for training, test in block_folds(groups, values if classes else None):
            blocks = np.unique(groups[training])
            count = max(1, round(fraction * len(blocks)))
            some = training[np.isin(groups[training], random.permutation(blocks)[:count])]
            if (classes and len(np.unique(values[some])) < 2) or len(some) < 2:
                continue
            estimator = choice.fit(features[some], values[some], seed)
            truth.append(values[test])
            guesses.append(_predict(estimator, features[test], classes))
            sizes.append(len(some))
        if sizes:
            found = score(np.concatenate(truth), np.concatenate(guesses), classes)
            curve.append((fraction, float(np.mean(sizes)), found))
    return tuple(curve)


def _fit(learner: LearnerKind, settings: Settings, features: NDArray, values: NDArray, seed: int) -> Any:
    """Return a fitted estimator; one of neighbours asks for no more of them than there are pixels."""
    if "n_neighbors" in settings:
        settings = {**settings, "n_neighbors": min(settings["n_neighbors"], len(features))}
    return learner.make(settings, seed).fit(features, values)
