"""Level of a site: pooled by plant type, predicted from climate and canopy height, and GPP relative to it."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from thalweg.gpp.data.windows import Windows, make_windows
from thalweg.gpp.evaluation.scores import r_squared
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.physics.drivers import read_drivers
from thalweg.gpp.models.physics.light_use_efficiency import LightUseParameters, absorbed_efficiency
from thalweg.gpp.models.physics.physics_learners import LightUseEfficiencyLearner
from thalweg.gpp.models.sites.level_learner import SITE_MARKS, LevelLearner
from thalweg.gpp.models.sites.site_columns import site_table
from thalweg.gpp.models.sites.site_levels import SiteLevels, fit_site_levels
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMConfig, LightGBMLearner

DRIVERS = ("TA_ERA", "VPD_ERA", "SW_IN_ERA", "vegetation_DBF", "vegetation_ENF")
TREES = LightGBMConfig(leaves=8, min_leaf=50, trees=50, bound_trees=10, rate=0.1)
SITES = 12


@pytest.fixture(scope="module")
def weather(make_table: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    table = make_table(sites=SITES, years=1)
    random = np.random.default_rng(3)
    light = table["SW_IN_POT"] * random.uniform(0.2, 0.8, len(table))
    number = table["site"].str[1:].astype(int)
    return table.assign(
        SW_IN_ERA=light,
        TA_ERA=table["SW_IN_POT"] / 18 - 6 + random.normal(0, 3, len(table)),
        VPD_ERA=light / 25 * random.uniform(0.5, 1.5, len(table)),
        vegetation_DBF=(table["vegetation"] == "DBF").astype(float),
        vegetation_ENF=(table["vegetation"] == "ENF").astype(float),
        canopy_height=10.0 + (7 * number) % 13,
        PA_ERA=90.0 + number,
    )


def towers(weather: pd.DataFrame, level: pd.Series, columns: tuple[str, ...] = DRIVERS) -> Windows:
    """Return windows whose GPP is a level times that of the light-use-efficiency model."""
    driven = make_windows(weather, DRIVERS, stride=3)
    possible = absorbed_efficiency(read_drivers(driven), driven, LightUseParameters())
    windows = make_windows(weather, columns, stride=3)
    by_site = level.groupby(weather["site"]).first()
    windows.target[:] = possible * by_site[windows.site].to_numpy()
    return windows


def unit(windows: Windows) -> np.ndarray:
    """Return the GPP of the model at a level of 1."""
    return absorbed_efficiency(read_drivers(windows), windows, LightUseParameters())


def test_the_level_of_a_type_is_shared(weather: pd.DataFrame):
    windows = towers(weather, 0.5 + 0.4 * weather["vegetation_DBF"] + 0.02 * (weather["canopy_height"] % 3))
    training, held_out = windows.split(sites=["S0", "S1"])
    levels = fit_site_levels(training, unit(training))
    found = dict(zip(held_out.sites, levels.predict(site_table(held_out, levels.varies)), strict=True))
    assert found["S0"] == pytest.approx(0.92, abs=0.08) and found["S1"] == pytest.approx(0.52, abs=0.08)
    assert levels.own["S2"] == pytest.approx(0.92, abs=0.03)


def test_levels_without_reason_are_drawn_to_the_mean(weather: pd.DataFrame):
    level = pd.Series(np.random.default_rng(1).normal(0.7, 0.15, SITES)).clip(0.3)[weather["site"].str[1:].astype(int)]
    windows = towers(weather, level.set_axis(weather.index))
    training, held_out = windows.split(sites=["S3", "S8"])
    levels = fit_site_levels(training, unit(training))
    spread = np.std(list(levels.own.values()))
    assert np.abs(levels.predict(site_table(held_out, levels.varies)) - levels.mean).max() < 0.8 * spread


def test_canopy_height_predicts_a_level_and_may_be_missing(weather: pd.DataFrame):
    level = 0.02 * weather["canopy_height"]
    errors = []
    for columns in (DRIVERS, (*DRIVERS, "canopy_height")):
        windows = towers(weather, level, columns)
        error = []
        for sites in (["S2", "S7"], ["S4", "S9"]):
            training, held_out = windows.split(sites=sites)
            levels = fit_site_levels(training, unit(training))
            truth = [float(level[weather["site"] == site].iloc[0]) for site in held_out.sites]
            error.append(np.abs(levels.predict(site_table(held_out, levels.varies)) - truth).mean())
        errors.append(np.mean(error))
    assert errors[1] < 0.6 * errors[0]
    lacking = weather.assign(canopy_height=weather["canopy_height"].where(weather["site"] != "S5"))
    windows = towers(lacking, level, (*DRIVERS, "canopy_height"))
    assert "S5" in windows.sites
    training, held_out = windows.split(sites=["S5"])
    found = LevelLearner(0, config=TREES).fit(training, held_out)
    assert np.isfinite(found).all()


def test_gpp_relative_to_the_level_is_predicted_at_another_site(weather: pd.DataFrame):
    windows = towers(weather, 0.5 + 0.4 * weather["vegetation_DBF"])
    training, held_out = windows.split(sites=["S0", "S11"])
    low, estimate, high = LevelLearner(0, config=TREES).fit(training, held_out)[-1].T
    trees = LightGBMLearner(0, TREES).fit(training, held_out)[-1, :, 1]
    assert r_squared(held_out.target, estimate) > max(0.9, r_squared(held_out.target, trees))
    assert (low <= estimate).all() and (estimate <= high).all()


def test_a_site_of_the_training_keeps_its_level(weather: pd.DataFrame):
    level = pd.Series(np.random.default_rng(1).uniform(0.4, 1.2, SITES))[weather["site"].str[1:].astype(int)]
    windows = towers(weather, level.set_axis(weather.index))
    half = windows.time < np.datetime64("2017-09-01")
    found = LevelLearner(0, config=TREES).fit(windows.select(half), windows.select(~half))[-1, :, 1]
    assert r_squared(windows.select(~half).target, found) > 0.9


@pytest.mark.parametrize("inner", ["lightgbm", "transformer"])
def test_the_state_predicts_as_before(weather: pd.DataFrame, inner: str):
    windows = towers(weather, 0.5 + 0.4 * weather["vegetation_DBF"], (*DRIVERS, "canopy_height", "PA_ERA"))
    training, held_out = windows.split(sites=["S0", "S1", "S2", "S3"])
    learner = LevelLearner(0, inner=inner, config=TREES)
    if inner == "transformer":
        learner.ratio.config = type(learner.ratio.config)(width=8, heads=2, epochs=1)
    learner.fit(training, held_out)
    learner.select_stage(0)
    restored = LevelLearner.from_state(learner.state())
    np.testing.assert_allclose(restored.predict(held_out), learner.predict(held_out), rtol=1e-4, atol=1e-4)


def test_marks_of_a_site_are_not_shown_to_the_ratio(weather: pd.DataFrame):
    windows = towers(weather, 0.5 + 0.4 * weather["vegetation_DBF"], (*DRIVERS, "PA_ERA"))
    blind, seeing = LevelLearner(0, config=TREES), LevelLearner(0, config=TREES, site_marks=True)
    for learner in (blind, seeing):
        learner.fit(*windows.split(sites=["S0"]))
    assert "PA_ERA" in SITE_MARKS
    assert len(seeing.ratio.varies) == len(blind.ratio.varies) + 1


def test_a_table_without_meteorology_has_levels_of_radiation(make_table: Callable[..., pd.DataFrame]):
    table = make_table(sites=6)
    training, held_out = make_windows(table, ["SW_IN_POT", "wet"], stride=3).split(sites=["S2"])
    ensemble = Ensemble({"level": lambda seed: LevelLearner(seed, config=TREES)}, members=3).fit(training)
    assert r_squared(held_out.target, ensemble.predict(held_out)) > 0.8
    assert np.isfinite(
        LevelLearner(0, config=TREES).fit(*make_windows(table, ["wet"], stride=3).split(sites=["S2"]))
    ).all()


def test_damaged_levels_are_refused(weather: pd.DataFrame):
    windows = towers(weather, 0.5 + 0.4 * weather["vegetation_DBF"])
    settings = fit_site_levels(windows, unit(windows)).settings()
    with pytest.raises(ValueError, match="levels of other sites"):
        SiteLevels.from_settings(settings | {"types": settings["types"][1:]})
    with pytest.raises(KeyError):
        SiteLevels.from_settings({name: value for name, value in settings.items() if name != "mean"})
    assert isinstance(LevelLearner().base, LightUseEfficiencyLearner)
