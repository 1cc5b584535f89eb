import numpy as np
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import make_windows
from thalweg.gpp.evaluation.scores import r_squared
from thalweg.gpp.models.baselines import BoostingLearner, ClimatologyLearner, RidgeLearner, summaries
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.predictors import MODELS, ridge


def test_summaries_are_the_last_day_and_its_means(make_table):
    table = make_table(sites=2)
    table.loc[5:40, "wet"] = np.nan
    windows = make_windows(table.assign(still=table["latitude"]), ["wet", "still"], complete=0.5)
    found = summaries(windows)
    assert found.shape == (len(windows), 2 + 3)  # what never varies comes once
    index = 30
    values = windows.values[index, :, 0]
    means = [np.nanmean(values[-days:]) for days in (7, 30, 90)]
    np.testing.assert_allclose(found[index], [values[-1], windows.values[index, -1, 1], *means], rtol=1e-5)


def few_trees(seed: int) -> BoostingLearner:
    return BoostingLearner(seed, trees=60, rate=0.1)


@pytest.mark.parametrize("learner", [few_trees, RidgeLearner])
def test_rivals_learn_and_go_back_to_a_stage(make_table, learner):
    windows = make_windows(make_table(sites=4), ["SW_IN_POT", "wet"])
    training, held_out = windows.split(sites=["S1"])
    made = learner(0)
    path = made.fit(training, held_out)
    assert r_squared(held_out.target, path[-1, :, 1]) > 0.8
    made.keep(0)
    np.testing.assert_allclose(made.predict(held_out), path[0], rtol=1e-6)


def test_climatology_knows_a_site_it_has_seen(make_table):
    table = make_table(sites=3, years=3)
    table.loc[table["site"] == "S0", "gpp"] += 5
    windows = make_windows(table, ["wet"])
    training, held_out = windows.split(years=[2019])
    learner = ClimatologyLearner()
    seen = learner.fit(training, held_out)[0, :, 1]
    here = held_out.site == "S0"
    assert abs((seen - held_out.target)[here].mean()) < 1
    others, unseen = windows.split(sites=["S0"])
    assert (ClimatologyLearner().fit(others, unseen)[0, :, 1] - unseen.target).mean() < -4


def test_climatology_bridges_days_it_has_never_seen(make_table):
    windows = make_windows(make_table(sites=3), ["wet"])
    seen = windows.select((windows.day_of_year > 60) & (windows.day_of_year < 300))
    assert np.isfinite(ClimatologyLearner().fit(seen, windows)).all()


def test_an_ensemble_predicts_with_honest_intervals(make_table):
    windows = make_windows(make_table(sites=12, noise=1.0), ["SW_IN_POT", "wet"])
    training, held_out = windows.split(sites=["S3", "S8"])
    model = ridge(0).fit(training)
    low, predicted, high = model.predict_interval(held_out, 0.8).T
    np.testing.assert_array_equal(predicted, model.predict(held_out))
    assert r_squared(held_out.target, model.predict(held_out)) > 0.5
    assert np.mean((low <= held_out.target) & (held_out.target <= high)) == pytest.approx(0.8, abs=0.08)
    lower, _, higher = model.predict_interval(held_out, 0.95).T
    assert (lower <= low).all() and (higher >= high).all()


def test_no_gpp_of_a_site_has_a_part_in_its_own_prediction(make_table):
    table = make_table(sites=6)
    windows = make_windows(table, ["SW_IN_POT", "wet"])
    other = table.copy()
    other.loc[other["site"] == "S2", "gpp"] = 100.0 - other["gpp"]
    changed = make_windows(other, ["SW_IN_POT", "wet"])
    here = windows.site == "S2"
    one, two = (ridge(0).leave_site_out(each, partitions=2) for each in (windows, changed))
    np.testing.assert_array_equal(one[here], two[here])
    assert not np.allclose(one[~here], two[~here])


def test_sharing_members_scores_like_fitting_anew(make_table):
    windows = make_windows(make_table(sites=8, noise=0.5), ["SW_IN_POT", "wet"])
    shared = ridge(0).leave_site_out(windows)[:, 1]
    anew = np.empty_like(shared)
    for site in windows.sites:
        training, held_out = windows.split(sites=[site])
        anew[windows.site == site] = ridge(0).fit(training).predict(held_out)
    one, two = (r_squared(windows.target, predicted) for predicted in (shared, anew))
    assert one == pytest.approx(two, abs=0.03)


def test_settings_are_chosen_on_held_out_groups(make_table):
    windows = make_windows(make_table(sites=5), ["SW_IN_POT", "wet"])
    model = Ensemble({"useless": lambda seed: RidgeLearner(seed, 1e12), "good": lambda seed: RidgeLearner(seed, 1.0)})
    assert model.fit(windows).chosen == "good"


def test_years_can_be_the_unit(make_table):
    windows = make_windows(make_table(sites=1, years=4), ["SW_IN_POT", "wet"])
    training, held_out = windows.split(years=[2019])
    assert r_squared(held_out.target, MODELS["ridge"](0).fit(training, "year").predict(held_out)) > 0.7


def test_what_can_not_be_held_out_is_refused(make_table):
    windows = make_windows(make_table(sites=1, years=1), ["wet"])
    with pytest.raises(UsageError, match=r"1 site\(s\) to train on"):
        ridge(0).fit(windows)
    with pytest.raises(UsageError, match="four or more"):
        ridge(0).leave_site_out(windows)
    with pytest.raises(UsageError, match="not fitted yet"):
        ridge(0).predict(windows)
