"""Checks of an estimator from a file: a learner of this package, for these features, whose trees are in bounds.

skops builds known types only, but does not look at their values, and scikit-learn follows the node indices of a tree
without checking them: a forged file could crash the process.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError

TREE_TYPES = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
"""Types of trees that a model file may hold, in addition to those that skops trusts; `check_estimator` checks them."""

_LEARNERS = {
    "LogisticRegression",
    "Ridge",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor",
    "KNeighborsClassifier",
    "KNeighborsRegressor",
}
_LEAF = -1


def check_estimator(estimator: Any, features: int, classes: int) -> None:
    """Check an estimator from a file.

    Args:
        estimator: fitted scikit-learn estimator.
        features: number of features that it has to take.
        classes: number of classes; 0 for numbers.

    Raises:
        UsageError: It is no learner of this package, takes other features, knows other classes, or has a tree whose
            nodes point outside of it.
    """
    steps = [step for _, step in estimator.steps] if type(estimator).__name__ == "Pipeline" else [estimator]
    kinds = [type(step).__name__ for step in steps]
    if kinds[-1] not in _LEARNERS or set(kinds[:-1]) - {"StandardScaler"}:
        raise UsageError(f"a learner of type {', '.join(kinds)}: expected one of {', '.join(sorted(_LEARNERS))}")
    if any(step.n_features_in_ != features for step in steps):
        raise UsageError(f"a learner of other features than the {features} of its days")
    learner = steps[-1]
    if classes and not np.array_equal(learner.classes_, np.arange(classes)):
        raise UsageError(f"a learner of other classes than its {classes}")
    for left, right, feature, is_leaf in _trees(learner):
        node = np.arange(len(left))
        inner = ~is_leaf
        is_inside = (np.minimum(left, right) > node) & (np.maximum(left, right) < len(left))
        if not len(left) or not (is_inside & (feature >= 0) & (feature < features))[inner].all():
            raise UsageError("a tree whose nodes point outside of it")


def _trees(learner: Any) -> Iterator[tuple[NDArray, NDArray, NDArray, NDArray]]:
    """Yield the left and right children, the feature, and whether it is a leaf, of the nodes of each tree.

    Raises:
        UsageError: A tree has nodes of another layout.
    """
    if type(learner).__name__.startswith("RandomForest"):
        for member in learner.estimators_:
            tree = member.tree_
            left, right = (np.asarray(side, np.int64) for side in (tree.children_left, tree.children_right))
            if member.n_features_in_ != learner.n_features_in_ or tree.n_features != learner.n_features_in_:
                raise UsageError("a tree of other features than its forest")
            yield left, right, np.asarray(tree.feature, np.int64), left == _LEAF
    if type(learner).__name__.startswith("HistGradientBoosting"):
        from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

        for predictor in (one for iteration in learner._predictors for one in iteration):
            nodes = predictor.nodes
            if nodes.dtype != PREDICTOR_RECORD_DTYPE or nodes["is_categorical"].any():
                raise UsageError("a tree with nodes of another layout")
            children = (nodes[side].astype(np.int64) for side in ("left", "right", "feature_idx"))
            left, right, feature = children
            yield left, right, feature, nodes["is_leaf"].astype(bool)
