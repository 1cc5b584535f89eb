"""Parameterisation of Kljun et al. (2015): published constants, the authors' own program, and what must hold."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gamma

from thalweg.errors import UsageError
from thalweg.gpp.footprint.kljun import (
    PEAK,
    FlowRecord,
    TowerHeights,
    scaled_extent,
    scaled_footprint,
    source_density,
)

UNSTABLE = FlowRecord(20.0, 30.0, 3.0, 0.4, -50.0, 0.9, 1200.0)
STABLE = FlowRecord(3.0, 250.0, 2.5, 0.25, 40.0, 0.5, 200.0)
NEUTRAL = FlowRecord(30.0, 120.0, 5.0, 0.6, 1e6, 1.2, 900.0)
NEARLY_NEUTRAL = FlowRecord(10.0, 0.0, 4.0, 0.35, -6000.0, 0.8, 800.0)
GRID = np.arange(-500.0, 501.0, 10.0)
EAST, NORTH = (axis.ravel() for axis in np.meshgrid(GRID, GRID))


def at(record: FlowRecord, east: float, north: float) -> float:
    return float(source_density(record, np.array([east]), np.array([north]))[0])


def test_the_scaled_footprint_has_the_published_peak_and_integral():
    distance = np.linspace(0.14, 5, 100_000)
    assert distance[scaled_footprint(distance).argmax()] == pytest.approx(0.87, abs=0.005)  # section 4.1 of the paper
    assert pytest.approx(0.87, abs=0.005) == PEAK
    # The integral of a (x - d)^b exp(-c / (x - d)) is a c^(b + 1) gamma(-b - 1), which the authors' parameters make 1.
    exact = 1.4524 * 1.4622 ** (1 - 1.9914) * gamma(1.9914 - 1)
    found = quad(lambda x: float(scaled_footprint(np.array([x]))[0]), 0.1359, np.inf, limit=200)[0]
    assert found == pytest.approx(exact) == pytest.approx(1, abs=2e-3)
    assert scaled_footprint(np.array([-1.0, 0.0, 0.1359])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
def test_the_extent_holds_its_share(share: float):
    found = quad(lambda x: float(scaled_footprint(np.array([x]))[0]), 0.1359, scaled_extent(share))[0]
    assert found == pytest.approx(share, abs=0.004)


@pytest.mark.parametrize(
    ("record", "total", "place", "expected"),
    [
        (UNSTABLE, 0.8529393, (50, 90), 3.426285596847849e-05),
        (UNSTABLE, 0.8529393, (20, 40), 7.830879865009512e-05),
        (UNSTABLE, 0.8529393, (0, 200), 3.0500036593178125e-06),
        (STABLE, 0.9818719, (-60, -20), 9.090216606276268e-05),
        (STABLE, 0.9818719, (-10, 0), 0.001702032590354412),
        (NEUTRAL, 0.7629399, (70, -40), 4.3266262935342257e-05),
        (NEUTRAL, 0.7629399, (150, -80), 1.9669662106452548e-05),
        (NEARLY_NEUTRAL, 0.8726074, (0, 30), 0.0002463656104497605),
        (NEARLY_NEUTRAL, 0.8726074, (50, 90), 3.4471795731272613e-06),
    ],
)
def test_the_authors_program_gives_the_same(
    record: FlowRecord, total: float, place: tuple[float, float], expected: float
):
    """Values of FFP 1.42 (N. Kljun, G. Fratini) on a grid of 10 m, without smoothing."""
    assert at(record, *place) == pytest.approx(expected, rel=1e-9)
    assert source_density(record, EAST, NORTH).sum() * 100 == pytest.approx(total, abs=2e-6)


def test_the_real_peak_follows_the_paper():
    upwind = np.arange(1.0, 300, 0.5)
    across = np.arange(-200.0, 200, 2)
    record = FlowRecord(10.0, 90.0, 4.0, 0.4, -100.0, 0.8, 1000.0)
    east, north = (axis.ravel() for axis in np.meshgrid(upwind, across))
    integrated = source_density(record, east, north).reshape(len(across), -1).sum(0) * 2
    expected = 0.87 * 10 / (1 - 10 / 1000) * 4.0 / 0.4 * 0.4  # equation 22
    assert upwind[integrated.argmax()] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("direction", [0.0, 90.0, 180.0, 270.0, 365.0])
def test_the_footprint_lies_where_the_wind_comes_from(direction: float):
    record = FlowRecord(10.0, direction, 4.0, 0.4, -100.0, 0.8, 1000.0)
    density = source_density(record, EAST, NORTH)
    centre = np.array([(density * EAST).sum(), (density * NORTH).sum()]) / density.sum()
    angle = np.degrees(np.arctan2(*centre))
    assert (angle - direction + 180) % 360 - 180 == pytest.approx(0, abs=0.5)
    assert np.hypot(*centre) > 50


def test_stable_flow_sees_further_and_narrower():
    def moments(length: float, friction: float, lateral: float) -> tuple[float, float]:
        record = FlowRecord(5.0, 0.0, 3.0, friction, length, lateral, 500.0)
        density = source_density(record, EAST, NORTH)
        mean = (density * NORTH).sum() / density.sum()
        return mean, np.sqrt((density * EAST**2).sum() / density.sum()) / mean

    (near, wide), (far, narrow) = moments(-20, 0.4, 1.2), moments(20, 0.2, 0.3)
    assert far > 1.5 * near and narrow < wide


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ((2.0, 3.0), "expected a height above 2 m, two thirds of the canopy"),
        ((-2.0,), "height of the measurement -2 m"),
        ((np.nan,), "height of the measurement nan m"),
        ((20.0, 10.0, 15.0), "expected a height above the measurement, 20 m"),
    ],
)
def test_impossible_heights_are_refused(heights: tuple[float, ...], expected: str):
    with pytest.raises(UsageError) as refused:
        TowerHeights(*heights)
    assert expected in str(refused.value) and "\n" not in str(refused.value)
