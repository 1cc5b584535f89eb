"""Nested leave-site-out for tables of single rows: what predicts a site is chosen on other sites only.

Sites are split into groups. The candidate for the sites of one group is the one with the least squared error over the
rows of all other groups, where a row is predicted by a learner fitted without the row's group and without the group
that the choice is for. A site is then predicted by its group's candidate, fitted to all other sites. One learner fitted
without two groups serves the choices for both, so that the choices cost few fits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError

NUM_GROUPS = 6
"""Groups of sites that the choices are made with."""


class Regressor(Protocol):
    """Unfitted regression with the interface of scikit-learn."""

    def fit(self, features: Any, target: Any, /) -> Any:
        """Fit to (N, F) features and an (N,) target."""
        ...

    def predict(self, features: Any, /) -> NDArray:
        """Return (N,) predictions of (N, F) features."""
        ...


@dataclass(frozen=True)
class NestedPredictions:
    """Predictions of held-out sites, and what was chosen for each site.

    Attributes:
        predicted: (N,) predictions, each by a learner fitted to the other sites.
        chosen: Names of the view and of the learner, by site.
    """

    predicted: NDArray[np.float64]
    chosen: dict[str, tuple[str, str]]


def nested_leave_site_out(
    target: NDArray,
    sites: NDArray,
    views: Mapping[str, NDArray],
    learners: Mapping[str, Callable[[], Regressor]],
    groups: int = NUM_GROUPS,
    seed: int = 0,
) -> NestedPredictions:
    """Predict every site by the view and the learner that are best on other sites, fitted to all other sites.

    Args:
        target: (N,) observations.
        sites: (N,) site of each row.
        views: (N, F) features of the rows, by the view's name; F may differ between views.
        learners: Functions that make an unfitted learner, by name.
        groups: Number of groups of sites, three or more; the sites are dealt to them at random.
        seed: Seed of the grouping.

    Returns:
        The predictions of all rows and the choice for each site. The target of a site has no part in either of its own;
        its features have a part in its predictions only.

    Raises:
        UsageError: There are fewer than three groups or fewer sites than groups, or rows do not match.
    """
    names = np.unique(sites)
    _check(target, sites, views, groups, len(names))
    parts = np.array_split(np.random.default_rng(seed).permutation(len(names)), groups)
    group_of_site = np.empty(len(names), int)
    for index, part in enumerate(parts):
        group_of_site[part] = index
    row_groups = group_of_site[np.searchsorted(names, sites)]
    candidates = list(product(views, learners))
    errors = np.stack(
        [_errors_without(views[view], target, row_groups, learners[learner]) for view, learner in candidates]
    )
    best = [candidates[index] for index in errors.argmin(0)]
    predicted = np.empty(len(target))
    chosen = {}
    for site, group in zip(names, group_of_site, strict=True):
        view, learner = chosen[str(site)] = best[group]
        held_out = sites == site
        model = learners[learner]()
        model.fit(views[view][~held_out], target[~held_out])
        predicted[held_out] = model.predict(views[view][held_out])
    return NestedPredictions(predicted, chosen)


def _errors_without(
    features: NDArray, target: NDArray, groups: NDArray[np.int_], make_learner: Callable[[], Regressor]
) -> NDArray[np.float64]:
    """Return, for each group, the sum of squared errors over the rows of the other groups, fitted without the group."""
    errors = np.zeros(groups.max() + 1)
    for pair in combinations(range(len(errors)), 2):
        held_out = np.isin(groups, pair)
        model = make_learner()
        model.fit(features[~held_out], target[~held_out])
        squared = np.square(model.predict(features[held_out]) - target[held_out])
        for chosen_for, scored in (pair, pair[::-1]):
            errors[chosen_for] += squared[groups[held_out] == scored].sum()
    return errors


def _check(target: NDArray, sites: NDArray, views: Mapping[str, NDArray], groups: int, num_sites: int) -> None:
    if not 3 <= groups <= num_sites:
        raise UsageError(
            f"{groups} groups of {num_sites} sites: expected three groups or more, and no more than there are sites"
        )
    for name, values in {"sites": sites, **views}.items():
        if len(values) != len(target):
            raise UsageError(f"{name}: {len(values)} rows, the target has {len(target)}: expected the same rows")
