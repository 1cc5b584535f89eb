"""Models of photosynthesis: published cases, a scale by plant type, and regressions on what they leave."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import Windows, make_windows
from thalweg.gpp.evaluation.scores import r_squared
from thalweg.gpp.models.physics.drivers import LIGHT_PER_RADIATION, has_drivers, read_drivers
from thalweg.gpp.models.physics.light_use_efficiency import (
    LightUseParameters,
    absorbed_efficiency,
    acclimated_temperature,
    deficit_modifier,
    fit_parameters,
    light_modifier,
    temperature_modifier,
)
from thalweg.gpp.models.physics.p_model import light_use_efficiency, potential_gpp
from thalweg.gpp.models.physics.physics_learners import LightUseEfficiencyLearner, PModelLearner
from thalweg.gpp.models.physics.pooled_scale import fit_pooled_scale
from thalweg.gpp.models.physics.residual import ResidualLearner
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMConfig

COLUMNS = ("TA_ERA", "VPD_ERA", "SW_IN_ERA", "vegetation_DBF", "vegetation_ENF")
TRUTH = LightUseParameters(saturation=0.03, threshold=-2.0, range=15.0, lag=8.0, deficit=0.4)


def weather(table: pd.DataFrame) -> pd.DataFrame:
    random = np.random.default_rng(3)
    light = table["SW_IN_POT"] * random.uniform(0.2, 0.8, len(table))
    return table.assign(
        SW_IN_ERA=light,
        TA_ERA=table["SW_IN_POT"] / 18 - 6 + random.normal(0, 3, len(table)),
        VPD_ERA=light / 25 * random.uniform(0.5, 1.5, len(table)),
        vegetation_DBF=(table["vegetation"] == "DBF").astype(float),
        vegetation_ENF=(table["vegetation"] == "ENF").astype(float),
    )


@pytest.fixture(scope="module")
def towers(make_table: Callable[..., pd.DataFrame]) -> Windows:
    """Towers whose GPP is that of the light-use-efficiency model; deciduous ones have 1.5 times as much."""
    windows = make_windows(weather(make_table(sites=6)), COLUMNS)
    possible = absorbed_efficiency(read_drivers(windows), windows, TRUTH)
    windows.target[:] = possible * np.where(windows.vegetation == "DBF", 0.9, 0.6)
    return windows


def test_the_modifiers_of_preles_at_a_summer_day():
    # Peltoniemi et al. (2015), parameters of boreal conifers: beta 0.7457 gC mol-1, 30 mol m-2 d-1, 5 hPa, 20 deg C.
    published = LightUseParameters()
    light = light_modifier(np.array(30.0), published.saturation)
    assert light == pytest.approx(1 / 2.1019, rel=1e-4)
    assert deficit_modifier(np.array(5.0), published.deficit) == pytest.approx(0.94995, rel=1e-4)
    assert temperature_modifier(np.array([-3.1, 5.797, 20.0]), published.threshold, published.range) == pytest.approx(
        [0, 0.5, 1], abs=1e-3
    )
    assert 0.7457 * 0.8 * 30 * light * 0.94995 == pytest.approx(8.089, rel=1e-3)


def test_acclimated_temperature_follows_its_recursion():
    temperature = np.random.default_rng(0).normal(10, 5, 60)
    found = acclimated_temperature(temperature, np.array([[0, 40], [40, 60]]), 10.0)
    for first, end in ((0, 40), (40, 60)):
        state = temperature[first]
        for day in range(first, end):
            state += (temperature[day] - state) / 10
            assert found[day] == pytest.approx(state)


def test_the_p_model_gives_published_values():
    # Stocker et al. (2020), package rpmodel: 20 deg C, 1000 Pa, 400 ppm, sea level, beta 146: chi 0.694.
    from pyrealm.pmodel import PModel, PModelEnvironment

    one = np.ones(1)
    environment = PModelEnvironment(tc=20 * one, vpd=1000 * one, co2=400 * one, patm=101325 * one)
    model = PModel(environment, method_kphio="fixed", reference_kphio=0.049977)
    assert model.optchi.chi == pytest.approx(0.69435, rel=1e-4)
    assert environment.gammastar == pytest.approx(3.33925, rel=1e-4)
    assert environment.kmm == pytest.approx(46.0993, rel=1e-4)
    ours = light_use_efficiency(np.array([20.0]), np.array([10.0]), np.array([101.325]), 400.0)
    assert ours == pytest.approx(PModel(environment).lue, rel=1e-6)


def test_the_p_model_stops_below_freezing():
    efficiency = light_use_efficiency(np.array([-5.0, 15.0]), np.array([2.0, 5.0]), np.array([101.0, 101.0]))
    assert efficiency[0] == 0 and 0.1 < efficiency[1] < 2


def test_drivers_are_read_in_their_units(towers: Windows):
    drivers = read_drivers(towers)
    radiation = towers.daily[:, towers.features.index("SW_IN_ERA")]
    np.testing.assert_allclose(drivers.light, radiation * LIGHT_PER_RADIATION, rtol=1e-6)
    assert (drivers.fapar == 1).all() and (drivers.pressure == 101.325).all()
    assert has_drivers(COLUMNS) and not has_drivers(COLUMNS[1:])


def test_parameters_are_found_from_the_towers(towers: Windows):
    found = fit_parameters(read_drivers(towers), towers)
    assert found.saturation == pytest.approx(TRUTH.saturation, rel=0.1)
    assert found.deficit == pytest.approx(TRUTH.deficit, rel=0.1)
    assert found.lag == pytest.approx(TRUTH.lag, rel=0.1)


@pytest.mark.parametrize("learner", [LightUseEfficiencyLearner, PModelLearner])
def test_an_unseen_tower_has_the_scale_of_its_plant_type(towers: Windows, learner: type):
    training, held_out = towers.split(sites=["S1", "S2"])
    made = learner()
    predicted = made.fit(training, held_out)[0, :, 1]
    assert r_squared(held_out.target, predicted) > (0.95 if learner is LightUseEfficiencyLearner else 0.4)
    assert made.scale.by_class["vegetation_DBF"] > 1.3 * made.scale.by_class["vegetation_ENF"]
    np.testing.assert_array_equal(learner.from_state(made.state()).predict(held_out)[:, 1], predicted)


def test_dissimilar_towers_of_a_type_are_drawn_to_the_mean(towers: Windows):
    output = np.ones(len(towers))
    towers = towers.select(slice(None))
    levels = dict(zip(towers.sites, (1.0, 3.0, 3.0, 1.0, 2.0, 2.1), strict=True))  # types do not matter
    towers.target[:] = [levels[site] for site in towers.site]
    pooled = fit_pooled_scale(towers, output)
    assert set(pooled.by_class.values()) == {pooled.mean}
    levels = dict(zip(towers.sites, (3.0, 1.0, 3.2, 1.2, 3.1, 1.1), strict=True))
    towers.target[:] = [levels[site] for site in towers.site]
    pooled = fit_pooled_scale(towers, output)
    assert pooled.by_class["vegetation_DBF"] == pytest.approx(3.1, abs=0.02)


def test_a_regression_learns_what_the_model_leaves(towers: Windows):
    extra = np.sin(towers.daily[towers.last, 0] / 2).astype(np.float32)
    windows = towers.select(slice(None))
    windows.target[:] = potential_gpp(read_drivers(towers), towers) * 0.5 + extra
    training, held_out = windows.split(sites=["S1", "S2"])
    config = LightGBMConfig(leaves=8, trees=100, bound_trees=5, rate=0.2)
    alone, residual = PModelLearner(), ResidualLearner(base="p-model", config=config)
    plain = r_squared(held_out.target, alone.fit(training, held_out)[0, :, 1])
    better = r_squared(held_out.target, residual.fit(training, held_out)[-1, :, 1])
    assert better > plain
    restored = ResidualLearner.from_state(residual.state())
    np.testing.assert_allclose(restored.predict(held_out), residual.predict(held_out), rtol=1e-4, atol=1e-4)


def test_missing_meteorology_is_named(make_table: Callable[..., pd.DataFrame]):
    windows = make_windows(make_table(sites=2), ["SW_IN_POT"])
    with pytest.raises(UsageError, match="no column TA_ERA or TA_F among the predictors"):
        LightUseEfficiencyLearner().fit(windows, windows)
