"""Learners for tables of single rows, each as a grid of settings to choose among (see `evaluation.nested`).

The last columns of a row are shared by all sets of predictors that are compared, such as the day of year. Kernels
measure distances over all columns, so the other columns are scaled to a total variance of 1, however many they are;
otherwise the shared columns would count less in larger sets.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import unknown_name

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin
    from sklearn.pipeline import Pipeline

    Grid = dict[str, Callable[[], RegressorMixin | Pipeline]]

SCALINGS = ("standardised", "quantiles", "components")
"""Scalings of the columns that are not shared: to unit variance, to a normal distribution, to whitened components."""

SHARED_WEIGHTS = (0.5, 1.0)
"""Standard deviations of the shared columns together, where the others have 1."""

EXPLAINED = 0.999
"""Share of the variance that the whitened components explain."""


def row_learners(name: str, shared: int, seed: int = 0) -> "Grid":
    """Return the grid of settings of a learner: functions that make an unfitted regression, by the setting's name.

    Args:
        name: One of `ROW_LEARNERS`.
        shared: Number of the last columns that all compared sets share, 1 or more.
        seed: Seed of the random learners.

    Raises:
        UsageError: There is no such learner.
    """
    if name not in ROW_LEARNERS:
        raise unknown_name("learner", name, ROW_LEARNERS)
    return ROW_LEARNERS[name](shared, seed)


def _forests(shared: int, seed: int) -> "Grid":
    """Random forests of 100 trees: share of the columns per split, rows per leaf."""
    from sklearn.ensemble import RandomForestRegressor

    return {
        f"{columns:g} of the columns, {leaf} rows per leaf": partial(
            RandomForestRegressor, 100, max_features=columns, min_samples_leaf=leaf, random_state=seed
        )
        for columns, leaf in product((0.2, 0.5), (2, 5))
    }


def _boosting(shared: int, seed: int) -> "Grid":
    """LightGBM: leaves per tree, number of trees."""
    from lightgbm import LGBMRegressor

    return {
        f"{trees} trees of {leaves} leaves": partial(
            LGBMRegressor,
            n_estimators=trees,
            num_leaves=leaves,
            learning_rate=0.05,
            colsample_bytree=0.5,
            n_jobs=1,
            verbose=-1,
            random_state=seed,
        )
        for leaves, trees in product((4, 12), (100, 300))
    }


def _support_vectors(shared: int, seed: int) -> "Grid":
    """Support vectors with a Gaussian kernel: scaling, weight of the shared columns, C, gamma."""
    from sklearn.svm import SVR

    return {
        f"{scaling}, shared columns {weight:g}, C {penalty}, gamma {gamma}": partial(
            _scaled, partial(SVR, C=penalty, gamma=gamma), scaling, weight, shared
        )
        for scaling, weight, penalty, gamma in product(SCALINGS, SHARED_WEIGHTS, (1, 10), (0.1, 0.5))
    }


def _gaussian_process(shared: int, seed: int) -> "Grid":
    """Gaussian process with a Matern 3/2 kernel: scaling, weight of the shared columns, length, noise."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern

    return {
        f"{scaling}, shared columns {weight:g}, length {length}, noise {noise}": partial(
            _scaled,
            partial(GaussianProcessRegressor, Matern(length, nu=1.5), alpha=noise, optimizer=None),
            scaling,
            weight,
            shared,
        )
        for scaling, weight, length, noise in product(SCALINGS, SHARED_WEIGHTS, (1, 3), (0.1, 0.4))
    }


ROW_LEARNERS: dict[str, Callable[[int, int], "Grid"]] = {
    "rf": _forests,
    "svr": _support_vectors,
    "gp": _gaussian_process,
    "lgbm": _boosting,
}
"""Functions that make the grid of a learner from the number of shared columns and a seed, by the learner's name."""


def _scaled(make_kernel: Callable[[], Any], scaling: str, weight: float, shared: int) -> "Pipeline":
    """Return a kernel method on scaled columns and a target of unit variance; everything is fitted to training rows."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, QuantileTransformer, StandardScaler

    def scale_to(total: float) -> FunctionTransformer:
        return FunctionTransformer(_divide_by_root_of_columns, kw_args={"total": total})

    steps = {
        "standardised": [StandardScaler()],
        "quantiles": [QuantileTransformer(n_quantiles=100, output_distribution="normal")],
        "components": [StandardScaler(), PCA(EXPLAINED, whiten=True, svd_solver="full")],
    }[scaling]
    columns = ColumnTransformer(
        [
            ("own", make_pipeline(*steps, scale_to(1.0)), slice(None, -shared)),
            ("shared", make_pipeline(StandardScaler(), scale_to(weight)), slice(-shared, None)),
        ]
    )
    return make_pipeline(columns, TransformedTargetRegressor(make_kernel(), transformer=StandardScaler()))


def _divide_by_root_of_columns(values: NDArray, total: float) -> NDArray:
    """Scale columns of unit variance so that their standard deviations add up, in squares, to that of ``total``."""
    return values * (total / np.sqrt(values.shape[1]))
