"""Daily footprints on the pixels of a cube: shares, directions and days."""

import numpy as np
import pandas as pd
import pytest
from odc.geo.geobox import GeoBox
from pyproj import Proj

from thalweg.earth.cube.cube import Cube
from thalweg.earth.positions import LonLat, PixelIndex
from thalweg.errors import DataWarning, UsageError
from thalweg.gpp.footprint.flow_records import FlowSeries
from thalweg.gpp.footprint.footprint import Tower
from thalweg.gpp.footprint.kljun import TowerHeights, source_density
from thalweg.gpp.footprint.kljun_footprints import KljunFootprints, direction_of_north

HEIGHTS = TowerHeights(3.0, 0.3)
SPAN = (np.datetime64("2018-06-01"), np.datetime64("2018-06-30"))


def flow(directions: list[float], per_day: int = 24, length: float = -50.0, start: str = "2018-06-01") -> FlowSeries:
    """Return hours with one wind direction per day."""
    count = len(directions) * per_day
    constant = {
        "wind_speed": 2.5, "friction_velocity": 0.3, "obukhov_length": length, "crosswind_std": 0.6,
        "boundary_layer": 1000.0,
    }  # fmt: skip
    time = np.concatenate(
        [pd.date_range(day, periods=per_day, freq="h") for day in pd.date_range(start, periods=len(directions))]
    )
    return FlowSeries(
        time=time.astype("datetime64[ns]"),
        wind_from=np.repeat(directions, per_day).astype(float),
        measured=np.ones(count, bool),
        **{name: np.full(count, value) for name, value in constant.items()},
    )


def tower(cube: Cube, directions: list[float], radius: float | None = 100.0, **options: object) -> Tower:
    return Tower(PixelIndex(16, 15), radius, flow(directions, **options), HEIGHTS)


def offsets(found: KljunFootprints) -> tuple[np.ndarray, np.ndarray]:
    """Return (P,) distances of the pixels to the east and north of the tower's pixel in m."""
    rows, columns = np.nonzero(found.footprint.inside)
    window = found.footprint.window
    return (columns + window.left - 15) * 10.0, (16 - rows - window.top) * 10.0


def test_each_day_has_its_own_wind(cube: Cube):
    found = KljunFootprints.on(cube.grid, tower(cube, [0, 90, 180, 270]), "cube", SPAN)
    east, north = offsets(found)
    north_is = direction_of_north(cube.grid, tower(cube, [0]))
    for weights, direction in zip(found.weights, [0, 90, 180, 270], strict=True):
        centre = np.degrees(np.arctan2(weights @ east, weights @ north))
        assert (centre - direction - north_is + 180) % 360 - 180 == pytest.approx(0, abs=1)
    np.testing.assert_allclose(found.mean, found.weights.mean(0), rtol=1e-5)
    assert found.days.astype(str).tolist() == [f"2018-06-0{day}T00:00:00.000000000" for day in range(1, 5)]


def test_the_shares_add_up_to_the_footprint_within_the_radius(cube: Cube):
    found = KljunFootprints.on(cube.grid, tower(cube, [40.0]), "cube", SPAN)
    ((_, record), *_) = flow([40.0]).records(HEIGHTS, 45.0, 0.0)
    fine = np.arange(-100, 100, 1.0) + 0.5
    east, north = (axis.ravel() for axis in np.meshgrid(fine, fine))
    inside = np.hypot(east, north) <= 100
    expected = source_density(record, east[inside], north[inside]).sum()
    assert found.coverage == pytest.approx(expected, abs=0.02)
    assert f"{found.coverage:.0%} of the footprint" in found.describe(found.days)


def test_the_radius_holds_most_of_the_footprint(cube: Cube):
    found = KljunFootprints.on(cube.grid, tower(cube, [0, 120, 240], radius=None), "cube", SPAN)
    assert 0.72 < found.coverage < 0.85
    tall = Tower(PixelIndex(16, 15), None, flow([0, 120]), TowerHeights(30.0))
    with pytest.warns(DataWarning, match=r"cube: \d+% of the tower's footprint lies within 1\d\d m, expected 50%"):
        cut = KljunFootprints.on(cube.grid, tall, "cube", SPAN)  # the cube ends before
    assert cut.radius <= 160 and cut.coverage < 0.5


def test_days_with_few_records_take_the_mean(cube: Cube):
    few = tower(cube, [0, 90], per_day=3)
    found = KljunFootprints.on(cube.grid, few, "cube", SPAN)
    assert len(found.days) == 0
    weights = found.on_days(np.array(["2018-06-01", "2018-06-20"], "datetime64[ns]"))
    np.testing.assert_allclose(weights, np.tile(found.mean / found.mean.sum(), (2, 1)))
    own = KljunFootprints.on(cube.grid, tower(cube, [0, 90]), "cube", SPAN)
    first, other = own.on_days(np.array(["2018-06-01", "2018-06-20"], "datetime64[ns]"))
    np.testing.assert_allclose(first, own.weights[0] / own.weights[0].sum(), rtol=1e-5)
    np.testing.assert_allclose(other, own.mean / own.mean.sum())


def test_records_of_other_days_are_not_used(cube: Cube):
    with pytest.raises(UsageError, match="no half-hour from 2018-06-01 to 2018-06-30 with a measured flux"):
        KljunFootprints.on(cube.grid, tower(cube, [0], start="2011-06-01"), "cube", SPAN)


def test_records_need_heights(cube: Cube):
    with pytest.raises(UsageError, match="no measurement height"):
        Tower(PixelIndex(16, 15), None, flow([0]))


def test_true_north_differs_from_the_grid_s():
    # EPSG:3035 is centred on 10 degrees east: west of there, true north is clockwise from its y axis.
    grid = GeoBox.from_bbox((2_120_000, 2_000_000, 2_200_000, 2_080_000), crs="EPSG:3035", resolution=10)
    convergence = Proj("EPSG:3035").get_factors(-5.0, 40.0).meridian_convergence
    assert direction_of_north(grid, Tower(LonLat(-5.0, 40.0))) == pytest.approx(abs(convergence), abs=0.01)
    assert abs(convergence) > 5
    utm = GeoBox.from_bbox((500_000, 5_600_000, 501_000, 5_601_000), crs="EPSG:32631", resolution=10)
    assert direction_of_north(utm, Tower(LonLat(3.0, 50.56))) == pytest.approx(0, abs=0.01)
