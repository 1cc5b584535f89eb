"""Learners from scikit-learn, each with the settings that the cross-validation chooses from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.errors import unknown_name

AUTO = "auto"
"""Name that stands for a choice among all learners."""

MAX_FEATURES_BOOSTING = 0.3
"""Share of the features that each split of a boosted tree looks at."""

Settings = Mapping[str, Any]
"""Settings of a learner by name."""


@dataclass(frozen=True)
class LearnerKind:
    """Kind of learner.

    Attributes:
        name: name on the command line and in reports.
        title: name in text.
        make: function from settings and a seed to an unfitted scikit-learn estimator.
        settings: settings to choose from.
    """

    name: str
    title: str
    make: Callable[[Settings, int], Any]
    settings: tuple[Settings, ...]


def _logistic(settings: Settings, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return _standardised(LogisticRegression(max_iter=300, class_weight="balanced", random_state=seed, **settings))


def _ridge(settings: Settings, seed: int) -> Any:
    from sklearn.linear_model import Ridge

    return _standardised(Ridge(random_state=seed, **settings))


def _forest(settings: Settings, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, class_weight="balanced_subsample", random_state=seed, n_jobs=1, **settings)


def _regression_forest(settings: Settings, seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(100, max_features=1 / 3, random_state=seed, n_jobs=1, **settings)


def _boosting(settings: Settings, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        class_weight="balanced", max_features=MAX_FEATURES_BOOSTING, early_stopping=False, random_state=seed, **settings
    )


def _regression_boosting(settings: Settings, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_features=MAX_FEATURES_BOOSTING, early_stopping=False, random_state=seed, **settings
    )


def _neighbours(settings: Settings, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return _standardised(KNeighborsClassifier(weights="distance", algorithm="brute", **settings))


def _regression_neighbours(settings: Settings, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsRegressor

    return _standardised(KNeighborsRegressor(weights="distance", algorithm="brute", **settings))


def _standardised(estimator: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), estimator)


_TREES = ({"max_iter": 60, "max_leaf_nodes": 8, "min_samples_leaf": 5},)
_NEIGHBOURS = ({"n_neighbors": 3}, {"n_neighbors": 9})
_LEAVES = ({"min_samples_leaf": 1},)

CLASSIFIERS: tuple[LearnerKind, ...] = (
    LearnerKind("logistic", "logistic regression", _logistic, ({"C": 0.01}, {"C": 0.1}, {"C": 1.0})),
    LearnerKind("forest", "random forest", _forest, _LEAVES),
    LearnerKind("boosting", "histogram gradient boosting", _boosting, _TREES),
    LearnerKind("knn", "k nearest neighbours", _neighbours, _NEIGHBOURS),
)
"""Learners of classes."""

REGRESSORS: tuple[LearnerKind, ...] = (
    LearnerKind("ridge", "ridge regression", _ridge, ({"alpha": 1.0}, {"alpha": 30.0}, {"alpha": 1000.0})),
    LearnerKind("forest", "random forest", _regression_forest, _LEAVES),
    LearnerKind("boosting", "histogram gradient boosting", _regression_boosting, _TREES),
    LearnerKind("knn", "k nearest neighbours", _regression_neighbours, _NEIGHBOURS),
)
"""Learners of numbers."""

MIN_CLASS_PIXELS_TREES = 20
"""Pixels of the rarest class below which `AUTO` leaves boosted trees out: they need more to split on."""


def learners(name: str, is_class: bool, rarest: int) -> tuple[LearnerKind, ...]:
    """Return the learners that a name stands for.

    Args:
        name: name of a learner, or `AUTO`.
        is_class: whether they learn classes, else numbers.
        rarest: number of labelled pixels of the rarest class, or of all pixels.

    Raises:
        UsageError: There is no such learner.
    """
    known = CLASSIFIERS if is_class else REGRESSORS
    if name == AUTO:
        return tuple(one for one in known if one.name != "boosting" or rarest >= MIN_CLASS_PIXELS_TREES)
    chosen = tuple(one for one in known if one.name == name)
    if not chosen:
        raise unknown_name("learner", name, [AUTO, *(one.name for one in known)])
    return chosen


def class_probabilities(estimator: Any, features: np.ndarray, classes: int) -> np.ndarray:
    """Return the probabilities (N, classes) of a fitted classifier; 0 for classes that it did not see.

    Args:
        estimator: classifier of the indices of classes.
        features: (N, F).
        classes: number of classes in all.
    """
    probabilities = np.zeros((len(features), classes), np.float32)
    probabilities[:, np.asarray(estimator.classes_, int)] = estimator.predict_proba(features)
    return probabilities
