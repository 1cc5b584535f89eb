"""Footprint of a tower: its pixels, their weights, and positions that are refused."""

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import pixel_centers
from thalweg.earth.cube.windows import Window
from thalweg.earth.positions import LonLat, MapPoint, PixelIndex, lon_lat
from thalweg.errors import UsageError
from thalweg.gpp.footprint.footprint import Footprint, Tower, average_pixels

DATES = np.array(["2018-05-01", "2018-05-06"], "datetime64[ns]")
PAIR = Footprint(Window(0, 0, 1, 2), np.array([[True, True]]))


def tower_at(grid: GeoBox, row: int, column: int, radius: float) -> Tower:
    x, y = pixel_centers(grid)
    return Tower(MapPoint(float(x[column]), float(y[row])), radius)


def test_the_pixels_are_those_within_the_radius(cube: Cube):
    found = Footprint.on(cube.grid, tower_at(cube.grid, 16, 12, 20), "cube")
    assert found.window == Window(14, 10, 5, 5)
    rows, columns = np.indices((5, 5)) - 2
    np.testing.assert_array_equal(found.inside, np.hypot(rows, columns) <= 2)


def test_a_small_radius_still_has_the_nearest_pixel(cube: Cube):
    off_centre = Tower(MapPoint(float(cube.x[12]) + 3, float(cube.y[16]) - 2), 1)
    found = Footprint.on(cube.grid, off_centre, "cube")
    assert found.window == Window(16, 12, 1, 1)
    assert found.inside.all()


def test_degrees_map_coordinates_and_pixels_give_the_same_footprint(cube: Cube):
    in_metres = tower_at(cube.grid, 16, 12, 30)
    in_degrees = Tower(lon_lat(in_metres.position, cube.grid), 30)
    footprints = [
        Footprint.on(cube.grid, tower, "cube") for tower in (in_metres, in_degrees, Tower(PixelIndex(16, 12), 30))
    ]
    assert len({footprint.window for footprint in footprints}) == 1
    for footprint in footprints:
        np.testing.assert_array_equal(footprint.inside, footprints[0].inside)


def test_without_uncertainty_usable_pixels_have_equal_weights():
    values = np.array([[[[1.0, 3.0]]], [[[2.0, np.nan]]]])
    usable = np.array([[[True, True]], [[True, False]]])
    found = average_pixels(PAIR, DATES, ("a",), values, usable)
    np.testing.assert_allclose(found.mean[:, 0], [2, 2])
    np.testing.assert_allclose(found.spread[:, 0], [1, 0])
    np.testing.assert_allclose(found.share, [1, 0.5])
    np.testing.assert_array_equal(found.uncertainty, 0)


def test_weights_by_hand():
    values, half_width = np.array([[[[1.0, 3.0]]]]), np.array([[[[0.5, 2.0]]]])
    found = average_pixels(PAIR, DATES[:1], ("a",), values, np.ones((1, 1, 2), bool), half_width)
    # The variance between 1 and 3 is 1, so the weights are 1 / (0.25 + 1) = 0.8 and 1 / (4 + 1) = 0.2.
    assert found.mean[0, 0] == pytest.approx(0.8 * 1 + 0.2 * 3)
    assert found.spread[0, 0] == pytest.approx(np.sqrt(0.8 * 0.4**2 + 0.2 * 1.6**2))
    assert found.uncertainty[0, 0] == pytest.approx(0.8 * 0.5 + 0.2 * 2.0)


def test_a_date_with_few_usable_pixels_is_left_out():
    four = Footprint(Window(0, 0, 1, 8), np.ones((1, 8), bool))
    usable = np.zeros((2, 1, 8), bool)
    usable[0, 0, :1], usable[1, 0, :2] = True, True
    found = average_pixels(four, DATES, ("a",), np.ones((2, 1, 1, 8)), usable)
    np.testing.assert_array_equal(found.dates, DATES[1:])


@pytest.mark.parametrize("position", [LonLat(3.0, 45.0), LonLat(0.0, 0.0), MapPoint(0.0, 5_000_000.0)])
def test_a_cube_that_does_not_cover_the_tower_is_refused(cube: Cube, position: LonLat | MapPoint):
    with pytest.raises(UsageError, match=r"does not cover the tower at .* use a cube around the tower") as refused:
        Footprint.on(cube.grid, Tower(position), "site.zarr")
    assert "\n" not in str(refused.value)


def test_a_footprint_larger_than_the_cube_is_refused(cube: Cube):
    with pytest.raises(UsageError, match=r"covers 45 m around the tower .* 100 m: use a larger cube or a smaller"):
        Footprint.on(cube.grid, tower_at(cube.grid, 4, 16, 100), "site.zarr")


def test_swapped_coordinates_are_recognised(cube: Cube):
    point = MapPoint(float(cube.x[12]), float(cube.y[16]))
    degrees = lon_lat(point, cube.grid)
    longitude, latitude = (float(f"{value:.10g}") for value in (degrees.longitude, degrees.latitude))
    for position, advice in (
        (LonLat(latitude, longitude), f"longitude comes before latitude: write {longitude:.10g} {latitude:.10g}"),
        (MapPoint(point.y, point.x), f"x comes before y: write {point.x:.10g} {point.y:.10g}"),
        (MapPoint(longitude, latitude), "or write degrees as `lonlat`"),
    ):
        with pytest.raises(UsageError) as refused:
            Footprint.on(cube.grid, Tower(position, 20), "site.zarr")
        assert str(refused.value).endswith(advice)


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan, np.inf])
def test_a_tower_needs_a_radius(radius: float):
    with pytest.raises(UsageError, match="expected the radius of the tower's footprint, above 0 m"):
        Tower(LonLat(3.0, 50.0), radius)
