"""LightGBM as a model of its own: stages, day of the year, climate, and a text that is checked."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import Windows, make_windows
from thalweg.gpp.evaluation.scores import r_squared
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMConfig, LightGBMLearner, site_climate
from thalweg.gpp.models.trees.lightgbm_text import booster_text, read_booster

CONFIG = LightGBMConfig(leaves=8, trees=50, bound_trees=10, rate=0.2, climate=True)


@pytest.fixture(scope="module")
def split(make_table: Callable[..., pd.DataFrame]) -> tuple[Windows, Windows]:
    return make_windows(make_table(sites=4), ["SW_IN_POT", "wet"], stride=3).split(sites=["S1"])


@pytest.fixture(scope="module")
def fitted(split: tuple[Windows, Windows]) -> tuple[LightGBMLearner, np.ndarray]:
    learner = LightGBMLearner(0, CONFIG)
    return learner, learner.fit(*split)


def test_it_predicts_an_unseen_site_with_bounds(fitted: tuple[LightGBMLearner, np.ndarray], split: tuple):
    low, estimate, high = fitted[1][-1].T
    assert r_squared(split[1].target, estimate) > 0.8
    assert (low <= estimate).all() and (estimate <= high).all()
    assert 0.3 < np.mean((low <= split[1].target) & (split[1].target <= high)) <= 1


def test_a_stage_drops_the_later_trees(split: tuple[Windows, Windows]):
    learner = LightGBMLearner(0, CONFIG)
    path = learner.fit(*split)
    learner.select_stage(0)
    np.testing.assert_allclose(learner.predict(split[1]), path[0], rtol=1e-4, atol=1e-4)


def test_the_state_predicts_as_before(fitted: tuple[LightGBMLearner, np.ndarray], split: tuple[Windows, Windows]):
    learner = fitted[0]
    restored = LightGBMLearner.from_state(learner.state())
    np.testing.assert_allclose(restored.predict(split[1]), learner.predict(split[1]), rtol=1e-5, atol=1e-5)


def test_the_day_of_the_year_is_a_feature(split: tuple[Windows, Windows]):
    target = np.sin(2 * np.pi * split[0].day_of_year / 365.25).astype(np.float32)
    training = split[0].select(slice(None))
    training.target[:] = target
    scores = []
    for day_of_year in (True, False):
        config = LightGBMConfig(leaves=8, trees=50, bound_trees=5, rate=0.2, day_of_year=day_of_year)
        found = LightGBMLearner(0, config).fit(training.select(training.year == 2017), training)[-1, :, 1]
        scores.append(r_squared(target, found))
    assert scores[0] > scores[1]


def test_a_short_record_has_no_climate(make_table: Callable[..., pd.DataFrame]):
    windows = make_windows(make_table(sites=2), ["SW_IN_POT"])
    climate = site_climate(windows, 330)
    here = windows.site == "S0"
    first, end = windows.runs[0]
    np.testing.assert_allclose(climate[here, 0], windows.daily[first:end, 0].mean(), rtol=1e-5)
    assert (climate[here][:, 1] > 0).all()
    assert np.isnan(site_climate(windows, 10_000)).all()


def test_a_forged_text_is_refused(fitted: tuple[LightGBMLearner, np.ndarray]):
    booster = fitted[0].boosters["estimate"]
    features = booster.num_feature()
    text = booster_text(booster, 25).decode()
    assert read_booster(text.encode(), features).num_trees() == 25
    line = next(one for one in text.splitlines() if one.startswith("left_child="))
    split_line = next(one for one in text.splitlines() if one.startswith("split_feature="))
    for changed, message in (
        (text.replace(line, line.replace("=", "=9", 1)), "outside"),
        (text.replace(split_line, split_line.replace("=", "=9", 1)), "features it does not have"),
        (text.replace("num_cat=0", "num_cat=1", 1), "another kind"),
        ("pickle", "not a LightGBM model"),
        (text.replace(line, line[:-1] + "x"), "not a list of integers"),
    ):
        with pytest.raises(UsageError, match=message):
            read_booster(changed.encode(), features)
    with pytest.raises(UsageError, match="other features"):
        read_booster(text.encode(), features + 1)
