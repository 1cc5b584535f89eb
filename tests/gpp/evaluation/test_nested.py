"""Nested leave-site-out: a site has no part in what predicts it."""

from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from thalweg.errors import UsageError
from thalweg.gpp.evaluation.nested import Regressor, nested_leave_site_out
from thalweg.gpp.evaluation.scores import r_squared
from thalweg.gpp.models.row_learners import row_learners

Views = dict[str, np.ndarray]
SUPPORT_VECTORS = {
    name: make for name, make in row_learners("svr", 2).items() if name.startswith("components") and "C 1," in name
}
RIDGES = {str(penalty): partial(Ridge, penalty) for penalty in (0.01, 1.0, 100.0, 10_000.0)}


class SiteCounter:
    """Regression that notes which sites it was fitted to and predicted, by the first feature."""

    def __init__(self, log: list[tuple[set[int], set[int]]]) -> None:
        self.log = log

    def fit(self, features: np.ndarray, target: np.ndarray) -> None:
        self.fitted = set(features[:, 0].astype(int))

    def predict(self, features: np.ndarray) -> np.ndarray:
        self.log.append((self.fitted, set(features[:, 0].astype(int))))
        return np.zeros(len(features))


def make_rows(num_sites: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Views]:
    """Return target, sites and two views: one with the signal, one of noise; sites differ in their number of rows."""
    random = np.random.default_rng(seed)
    sites = np.repeat([f"S{index}" for index in range(num_sites)], random.integers(6, 16, num_sites))
    signal = random.normal(size=(len(sites), 4))
    target = 5 + signal @ [2.0, 1.0, 0.5, 0.0] + random.normal(size=len(sites))
    return target, sites, {"noise": random.normal(size=signal.shape), "signal": signal}


def poisoned(views: Views, rows: np.ndarray) -> Views:
    random = np.random.default_rng(1)
    garbage = {name: values.copy() for name, values in views.items()}
    for values in garbage.values():
        values[rows] = 1e3 * random.normal(size=values[rows].shape)
    return garbage


def test_the_informative_view_is_chosen_for_every_site():
    target, sites, views = make_rows()
    found = nested_leave_site_out(target, sites, views, RIDGES)
    assert list(found.chosen) == list(np.unique(sites))
    assert {view for view, _ in found.chosen.values()} == {"signal"}
    assert 0.6 < r_squared(target, found.predicted) < 1


@pytest.mark.parametrize("learners", [RIDGES, SUPPORT_VECTORS], ids=["ridge", "svr"])
def test_a_site_has_no_part_in_its_choice_and_its_target_none_in_its_prediction(learners):
    target, sites, views = make_rows()
    clean = nested_leave_site_out(target, sites, views, learners, groups=4)
    for site in np.unique(sites)[:3]:
        rows = sites == site
        bad_target = np.where(rows, 1e4 * np.random.default_rng(2).normal(size=len(target)), target)
        found = nested_leave_site_out(bad_target, sites, views, learners, groups=4)
        assert found.chosen[site] == clean.chosen[site]
        np.testing.assert_array_equal(found.predicted[rows], clean.predicted[rows])
        assert not np.allclose(found.predicted[~rows], clean.predicted[~rows])  # the garbage does reach other sites

        found = nested_leave_site_out(bad_target, sites, poisoned(views, rows), learners, groups=4)
        assert found.chosen[site] == clean.chosen[site]


def test_a_choice_would_differ_if_the_site_took_part():
    target, sites, views = make_rows()
    rows = sites == "S0"
    found = nested_leave_site_out(np.where(rows, 1e4, target), sites, poisoned(views, rows), RIDGES)
    clean = nested_leave_site_out(target, sites, views, RIDGES)
    assert any(found.chosen[site] != clean.chosen[site] for site in clean.chosen)
    assert found.chosen["S0"] == clean.chosen["S0"]


def test_learners_see_neither_the_scored_group_nor_the_group_of_the_choice():
    sites = np.repeat(np.arange(8), 3)
    log: list[tuple[set[int], set[int]]] = []
    learners: dict[str, partial[Regressor]] = {"one": partial(SiteCounter, log)}
    features = sites[:, None].astype(float)
    nested_leave_site_out(np.zeros(len(sites)), sites.astype(str), {"site": features}, learners, groups=4)
    assert all(not fitted & held_out and fitted | held_out == set(range(8)) for fitted, held_out in log)
    pairs, outer = log[:6], log[6:]
    assert all(len(held_out) == 4 for _, held_out in pairs)  # two groups of two sites
    assert [held_out for _, held_out in outer] == [{site} for site in range(8)]


@pytest.mark.parametrize(
    ("num_sites", "groups", "message"),
    [
        (9, 2, "2 groups of 9 sites: expected three groups or more"),
        (4, 6, "6 groups of 4 sites: expected .* no more than there are sites"),
    ],
)
def test_too_few_groups_or_sites_raise_one_line_error(num_sites, groups, message):
    with pytest.raises(UsageError, match=message) as error:
        nested_leave_site_out(*make_rows(num_sites), RIDGES, groups=groups)
    assert "\n" not in str(error.value)


def test_rows_that_do_not_match_raise_one_line_error():
    target, sites, views = make_rows()
    with pytest.raises(UsageError, match=r"signal: \d+ rows, the target has \d+: expected the same rows"):
        nested_leave_site_out(target, sites, {"signal": views["signal"][1:]}, RIDGES)
