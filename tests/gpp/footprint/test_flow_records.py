"""Stability, boundary layer and lateral wind from what a tower measures."""

import numpy as np
import pytest

from thalweg.gpp.footprint.flow_records import (
    FlowSeries,
    boundary_layer_height,
    crosswind_std,
    obukhov_length,
)
from thalweg.gpp.footprint.kljun import TowerHeights


def flow(**changes: object) -> FlowSeries:
    values = {
        "time": np.array(["2018-06-01T12:00"], "datetime64[ns]"),
        "wind_from": np.array([350.0]), "wind_speed": np.array([3.0]), "friction_velocity": np.array([0.4]),
        "obukhov_length": np.array([-50.0]), "crosswind_std": np.array([np.nan]), "boundary_layer": np.array([np.nan]),
        "measured": np.array([True]),
    }  # fmt: skip
    return FlowSeries(**(values | changes))


def test_the_obukhov_length_by_hand():
    # rho = 101.3e3 / (287.05 * 288.15) = 1.2247 kg m-3; L = -0.4^3 * 288.15 * 1.2247 * 1005 / (0.4 * 9.81 * 100)
    found = obukhov_length(
        np.array([0.4, 0.4, 0.4]), np.array([100.0, -100.0, 0.0]), np.full(3, 15.0), np.full(3, 101.3)
    )
    np.testing.assert_allclose(found[:2], [-57.84, 57.84], rtol=1e-3)
    assert np.isinf(found[2])


def test_the_boundary_layer_by_hand():
    # f = 2 * 7.2921e-5 * sin(50 deg) = 1.1172e-4; stable: 20 / 3.8 * (sqrt(1 + 2.28 * 0.2 / (f * 20)) - 1)
    heights = boundary_layer_height(np.array([0.2, 0.3, 0.3]), np.array([20.0, 1e6, -30.0]), 50.0)
    np.testing.assert_allclose(heights, [70.13, 0.3 * 0.3 / 1.1172e-4, 1500], rtol=1e-3)
    assert np.isfinite(boundary_layer_height(np.array([0.3]), np.array([np.inf]), 0.0)).all()


def test_the_lateral_wind_by_hand():
    found = crosswind_std(np.array([0.3, 0.3]), np.array([50.0, -100.0]), np.array([200.0, 1500.0]))
    np.testing.assert_allclose(found, [0.3 * 1.92, 0.3 * (12 + 7.5) ** (1 / 3)])


def test_measured_values_replace_estimates():
    heights = TowerHeights(10.0, 6.0)
    ((_, estimated),) = flow().records(heights, 50.0, 2.0)
    assert (estimated.height, estimated.wind_from, estimated.boundary_layer) == (6.0, 352.0, 1500.0)
    known = flow(crosswind_std=np.array([0.7]), boundary_layer=np.array([800.0]))
    ((_, measured),) = known.records(heights, 50.0, 0.0)
    assert (measured.crosswind_std, measured.boundary_layer) == (0.7, 800.0)
    ((_, given),) = known.records(TowerHeights(10.0, 6.0, 1000.0), 50.0, 0.0)
    assert given.boundary_layer == 1000.0


@pytest.mark.parametrize(
    "change",
    [
        {"friction_velocity": np.array([0.09])},
        {"friction_velocity": np.array([np.nan])},
        {"wind_speed": np.array([0.0])},
        {"wind_from": np.array([np.nan])},
        {"obukhov_length": np.array([-0.3])},
        {"obukhov_length": np.array([np.nan])},
        {"boundary_layer": np.array([7.0])},
        {"measured": np.array([False])},
    ],
)
def test_records_outside_of_the_parameterisation_are_left_out(change: dict[str, np.ndarray]):
    assert flow(**change).records(TowerHeights(10.0, 6.0), 50.0, 0.0) == []
