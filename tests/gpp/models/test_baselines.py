"""Baselines and gradient boosting: skill, stages, and the climatology of known and unknown sites."""

import numpy as np
import pytest

from thalweg.gpp.data.windows import make_windows
from thalweg.gpp.evaluation.scores import r_squared
from thalweg.gpp.models.baselines import ClimatologyLearner, RidgeLearner
from thalweg.gpp.models.trees.boosting import BoostingLearner


def few_trees(seed: int) -> BoostingLearner:
    return BoostingLearner(seed, trees=60, rate=0.1)


@pytest.mark.parametrize("learner", [few_trees, RidgeLearner])
def test_learners_return_to_a_stage(make_table, learner):
    windows = make_windows(make_table(sites=4), ["SW_IN_POT", "wet"])
    training, held_out = windows.split(sites=["S1"])
    made = learner(0)
    path = made.fit(training, held_out)
    assert r_squared(held_out.target, path[-1, :, 1]) > 0.8
    made.select_stage(0)
    np.testing.assert_allclose(made.predict(held_out), path[0], rtol=1e-6)


def test_climatology_of_a_known_site_is_its_own(make_table):
    table = make_table(sites=3, years=3)
    table.loc[table["site"] == "S0", "gpp"] += 5
    windows = make_windows(table, ["wet"])
    training, held_out = windows.split(years=[2019])
    learner = ClimatologyLearner()
    predicted = learner.fit(training, held_out)[0, :, 1]
    here = held_out.site == "S0"
    assert abs((predicted - held_out.target)[here].mean()) < 1
    others, unknown = windows.split(sites=["S0"])
    assert (ClimatologyLearner().fit(others, unknown)[0, :, 1] - unknown.target).mean() < -4


def test_climatology_interpolates_missing_days(make_table):
    windows = make_windows(make_table(sites=3), ["wet"])
    known = windows.select((windows.day_of_year > 60) & (windows.day_of_year < 300))
    assert np.isfinite(ClimatologyLearner().fit(known, windows)).all()
