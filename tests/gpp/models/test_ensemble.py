from functools import partial

import numpy as np
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import make_windows
from thalweg.gpp.evaluation.scores import r_squared
from thalweg.gpp.models.baselines import RidgeLearner
from thalweg.gpp.models.ensemble import Ensemble, stack_weights
from thalweg.gpp.models.registry import MODELS, ridge


def test_an_ensemble_predicts_with_calibrated_intervals(make_table):
    windows = make_windows(make_table(sites=12, noise=1.0), ["SW_IN_POT", "wet"])
    training, held_out = windows.split(sites=["S3", "S8"])
    model = ridge(0).fit(training)
    low, predicted, high = model.predict_interval(held_out, 0.8).T
    np.testing.assert_array_equal(predicted, model.predict(held_out))
    assert r_squared(held_out.target, model.predict(held_out)) > 0.5
    assert np.mean((low <= held_out.target) & (held_out.target <= high)) == pytest.approx(0.8, abs=0.08)
    lower, _, higher = model.predict_interval(held_out, 0.95).T
    assert (lower <= low).all() and (higher >= high).all()


def test_gpp_of_a_site_does_not_influence_its_own_prediction(make_table):
    table = make_table(sites=6)
    windows = make_windows(table, ["SW_IN_POT", "wet"])
    other = table.copy()
    other.loc[other["site"] == "S2", "gpp"] = 100.0 - other["gpp"]
    changed = make_windows(other, ["SW_IN_POT", "wet"])
    here = windows.site == "S2"
    one, two = (ridge(0).leave_site_out(each, partitions=2) for each in (windows, changed))
    np.testing.assert_array_equal(one[here], two[here])
    assert not np.allclose(one[~here], two[~here])


def test_shared_members_score_like_separate_ensembles(make_table):
    windows = make_windows(make_table(sites=8, noise=0.5), ["SW_IN_POT", "wet"])
    shared = ridge(0).leave_site_out(windows)[:, 1]
    separate = np.empty_like(shared)
    for site in windows.sites:
        training, held_out = windows.split(sites=[site])
        separate[windows.site == site] = ridge(0).fit(training).predict(held_out)
    one, two = (r_squared(windows.target, predicted) for predicted in (shared, separate))
    assert one == pytest.approx(two, abs=0.03)


def test_candidates_are_chosen_on_held_out_groups(make_table):
    windows = make_windows(make_table(sites=5), ["SW_IN_POT", "wet"])
    model = Ensemble({"useless": lambda seed: RidgeLearner(seed, 1e12), "good": lambda seed: RidgeLearner(seed, 1.0)})
    assert model.fit(windows).chosen == "good"


def test_the_final_member_learns_from_all_sites(make_table):
    windows = make_windows(make_table(sites=4), ["SW_IN_POT", "wet"])
    model = Ensemble({"ridge": RidgeLearner}, members=2).fit(windows)
    alone = RidgeLearner()
    alone.fit(windows, windows.select(slice(0)))
    np.testing.assert_allclose(model.final.predict(windows), alone.predict(windows), rtol=1e-5)
    mean = np.mean([member.predict(windows)[:, 1] for member in (*model.fitted, model.final)], axis=0)
    np.testing.assert_allclose(model.predict(windows), mean, rtol=1e-5)


def test_a_stack_weighs_its_candidates(make_table):
    windows = make_windows(make_table(sites=6), ["SW_IN_POT", "wet"])
    candidates = {"flat": lambda seed: RidgeLearner(seed, 1e12), "good": lambda seed: RidgeLearner(seed, 1.0)}
    model = Ensemble(candidates, stacked=True).fit(windows)
    assert model.chosen == "good" and model.weights["good"] > 0.9
    assert sum(model.weights.values()) == pytest.approx(1)
    random = np.random.default_rng(0)
    truth = random.normal(5, 2, 2000)
    predictions = np.stack([truth + random.normal(size=2000), truth + 2 * random.normal(size=2000)], 1)
    assert stack_weights(predictions, truth) == pytest.approx([0.8, 0.2], abs=0.03)


def test_a_stack_costs_nothing_after_its_candidates(make_table):
    windows = make_windows(make_table(sites=6), ["SW_IN_POT", "wet"])
    fits = []

    def run(function, *arguments):
        fits.append(len(arguments[0]))
        return map(function, *arguments)

    known = {}
    parts = {"10": RidgeLearner, "1000": partial(RidgeLearner, penalty=1000.0)}
    for name in parts:
        Ensemble({name: parts[name]}).leave_site_out(windows, partitions=2, run=run, known=known)
    same = {"10": RidgeLearner, "1000": partial(RidgeLearner, penalty=1000.0)}
    stacked = Ensemble(same, stacked=True).leave_site_out(windows, partitions=2, run=run, known=known)
    np.testing.assert_array_equal(stacked, Ensemble(same, stacked=True).leave_site_out(windows, partitions=2))
    assert fits == [6, 6]


def test_gpp_of_a_site_has_no_part_in_its_stages_weights_and_interval(make_table):
    def of(table):
        candidates = {"flat": partial(RidgeLearner, penalty=1e6), "good": RidgeLearner}
        windows = make_windows(table, ["SW_IN_POT", "wet"])
        return windows, Ensemble(candidates, stacked=True).leave_site_out(windows, partitions=2)

    table = make_table(sites=6)
    poisoned = table.copy()
    poisoned.loc[poisoned["site"] == "S4", "gpp"] = np.random.default_rng(0).uniform(
        0, 40, (table["site"] == "S4").sum()
    )
    (windows, one), (_, two) = of(table), of(poisoned)
    here = windows.site == "S4"
    np.testing.assert_array_equal(one[here], two[here])
    assert not np.allclose(one[~here], two[~here])


def test_years_can_be_the_unit(make_table):
    windows = make_windows(make_table(sites=1, years=4), ["SW_IN_POT", "wet"])
    training, held_out = windows.split(years=[2019])
    assert r_squared(held_out.target, MODELS["ridge"](0).fit(training, "year").predict(held_out)) > 0.7


def test_too_few_sites_are_refused(make_table):
    windows = make_windows(make_table(sites=1, years=1), ["wet"])
    with pytest.raises(UsageError, match=r"1 site\(s\) to train on"):
        ridge(0).fit(windows)
    with pytest.raises(UsageError, match="four or more"):
        ridge(0).leave_site_out(windows)
    with pytest.raises(UsageError, match="not fitted yet"):
        ridge(0).predict(windows)
