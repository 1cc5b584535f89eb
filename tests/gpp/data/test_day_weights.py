"""Weights of days by the uncertainty of their target: what they are, and that every learner uses them."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest

from thalweg.gpp.data.day_weights import day_weights, residual_scale
from thalweg.gpp.data.windows import Windows, make_windows
from thalweg.gpp.models.baselines import ClimatologyLearner, RidgeLearner
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.physics.physics_learners import LightUseEfficiencyLearner, PModelLearner
from thalweg.gpp.models.physics.residual import ResidualLearner
from thalweg.gpp.models.transformer import TransformerConfig, TransformerLearner
from thalweg.gpp.models.trees.boosting import BoostingLearner
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMConfig, LightGBMLearner
from thalweg.gpp.tables.daily_table import feature_columns
from thalweg.gpp.tables.target_columns import TARGET_UNCERTAINTY

FEATURES = ("SW_IN_POT", "wet", "TA_F", "VPD_F", "SW_IN_F")
TREES = LightGBMConfig(leaves=8, trees=50, bound_trees=5, rate=0.2)
LEARNERS: dict[str, Callable] = {
    "ridge": RidgeLearner,
    "climatology": ClimatologyLearner,
    "lightgbm": partial(LightGBMLearner, config=TREES),
    "boosting": partial(BoostingLearner, leaves=8, trees=40),
    "lue": LightUseEfficiencyLearner,
    "p-model": PModelLearner,
    "residual": partial(ResidualLearner, base="lue", config=TREES),
    "transformer": partial(
        TransformerLearner,
        config=TransformerConfig(width=16, epochs=8, crop_days=120, dropout=0.0, rate=5e-3, decay=0.1),
    ),
}


@pytest.fixture(scope="module")
def clean(make_table: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    table = make_table(sites=4, noise=0.1)
    return table.assign(TA_F=table["SW_IN_POT"] / 18, VPD_F=5.0 + table["wet"], SW_IN_F=table["SW_IN_POT"] / 2)


@pytest.fixture(scope="module")
def noisy(clean: pd.DataFrame) -> pd.DataFrame:
    """The table with a third of the days raised by 20 gC m-2 d-1, and with that as their uncertainty."""
    bad = np.random.default_rng(0).random(len(clean)) < 1 / 3
    return clean.assign(gpp=clean["gpp"] + 20.0 * bad, **{TARGET_UNCERTAINTY: np.where(bad, 20.0, 0.1)})


def test_weights_have_a_floor_and_a_mean_of_one_at_every_site(noisy: pd.DataFrame):
    table = noisy.copy()
    table.loc[(table["site"] == "S1") & (table["time"].dt.day == 1), TARGET_UNCERTAINTY] = np.nan
    table.loc[table["site"] == "S2", TARGET_UNCERTAINTY] = np.nan
    windows = make_windows(table, FEATURES)
    weights = day_weights(windows)
    for site in windows.sites:
        assert weights[windows.site == site].mean() == pytest.approx(1)
    assert (weights[windows.site == "S2"] == 1).all()
    here = windows.site == "S0"
    floor = residual_scale(windows)
    ratio = (20.0**2 + floor**2) / (0.1**2 + floor**2)
    assert weights[here].max() / weights[here].min() == pytest.approx(ratio, rel=1e-4)
    unknown = (windows.site == "S1") & np.isnan(windows.uncertainty)
    typical = (windows.site == "S1") & (windows.uncertainty < 1)
    assert weights[unknown][0] == pytest.approx(weights[typical][0])


def test_a_table_without_uncertainty_has_no_weights(clean: pd.DataFrame):
    windows = make_windows(clean, FEATURES)
    assert windows.uncertainty is None and day_weights(windows) is None
    assert day_weights(make_windows(clean.assign(**{TARGET_UNCERTAINTY: np.nan}), FEATURES)) is None
    assert windows.select(slice(5)).uncertainty is None


def test_the_uncertainty_is_no_predictor(noisy: pd.DataFrame):
    assert TARGET_UNCERTAINTY not in feature_columns(noisy)


@pytest.mark.parametrize("name", LEARNERS)
def test_days_of_noise_lose_their_influence(name: str, clean: pd.DataFrame, noisy: pd.DataFrame):
    """The weighted fit on noisy days comes closer to the clean truth than the fit that does not know the noise."""
    truth = make_windows(clean, FEATURES, stride=2).split(sites=["S2"])[1].target

    def error(table: pd.DataFrame) -> float:
        training, held_out = _split(table)
        return float(np.abs(LEARNERS[name](0).fit(training, held_out)[-1, :, 1] - truth).mean())

    assert error(noisy) < 0.6 * error(noisy.drop(columns=TARGET_UNCERTAINTY))


def test_uncertainty_widens_intervals_in_quadrature_and_leaves_predictions(clean: pd.DataFrame):
    equal = np.full(len(clean), 2.0)
    bounds = []
    for table in (clean, clean.assign(**{TARGET_UNCERTAINTY: equal})):
        training, held_out = _split(table)
        bounds.append(Ensemble({"ridge": RidgeLearner}, members=3).fit(training).predict_interval(held_out, 0.9))
    (low, estimate, high), (lower, same, higher) = (one.T for one in bounds)
    np.testing.assert_allclose(same, estimate, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(higher - same, np.hypot(high - estimate, 1.6449 * 2.0), rtol=1e-3)
    np.testing.assert_allclose(same - lower, np.hypot(estimate - low, 1.6449 * 2.0), rtol=1e-3)


def test_shared_members_widen_intervals_too(clean: pd.DataFrame):
    one, two = (
        Ensemble({"ridge": RidgeLearner}).leave_site_out(make_windows(table, FEATURES, stride=5), partitions=1)
        for table in (clean, clean.assign(**{TARGET_UNCERTAINTY: 2.0}))
    )
    np.testing.assert_allclose(two[:, 1], one[:, 1], rtol=1e-4, atol=1e-4)
    assert (two[:, 2] - two[:, 0] > one[:, 2] - one[:, 0] + 1).all()


def _split(table: pd.DataFrame) -> tuple[Windows, Windows]:
    return make_windows(table, FEATURES, stride=2).split(sites=["S2"])
