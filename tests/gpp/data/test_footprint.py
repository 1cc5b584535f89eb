"""A tower's footprint: which pixels, with which weights, and the same numbers whichever way it is reached."""

import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import pixel_centers
from thalweg.earth.cube.windows import Window
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import UsageError
from thalweg.gpp.data.footprint import Footprint, Tower, around, ask, average, from_bands, from_cube, from_embeddings

DATES = np.array(["2018-05-01", "2018-05-06"], "datetime64[ns]")
PAIR = Footprint(Window(0, 0, 1, 2), np.array([[True, True]]))


def tower_at(grid: GeoBox, row: int, column: int, radius: float) -> Tower:
    x, y = pixel_centers(grid)
    return Tower(float(x[column]), float(y[row]), radius)


def test_the_pixels_are_those_within_the_radius(cube: Cube):
    found = Footprint.on(cube.grid, tower_at(cube.grid, 16, 12, 20), "cube")
    assert found.window == Window(14, 10, 5, 5)
    rows, columns = np.indices((5, 5)) - 2
    np.testing.assert_array_equal(found.inside, np.hypot(rows, columns) <= 2)


def test_a_small_radius_still_has_the_nearest_pixel(cube: Cube):
    beside = Tower(float(cube.x[12]) + 3, float(cube.y[16]) - 2, 1)
    found = Footprint.on(cube.grid, beside, "cube")
    assert found.window == Window(16, 12, 1, 1)
    assert found.inside.all()


def test_degrees_and_map_coordinates_are_one_place(cube: Cube):
    in_metres = tower_at(cube.grid, 16, 12, 30)
    to_degrees = Transformer.from_crs(cube.grid.crs, "EPSG:4326", always_xy=True)
    in_degrees = Tower(*to_degrees.transform(in_metres.x, in_metres.y), 30)
    one, other = (Footprint.on(cube.grid, tower, "cube") for tower in (in_metres, in_degrees))
    assert one.window == other.window
    np.testing.assert_array_equal(one.inside, other.inside)
    assert in_metres.latitude(cube.grid) == pytest.approx(in_degrees.latitude(cube.grid))


def test_without_uncertainty_every_usable_pixel_counts_alike():
    values = np.array([[[[1.0, 3.0]]], [[[2.0, np.nan]]]])
    usable = np.array([[[True, True]], [[True, False]]])
    found = average(PAIR, DATES, ("a",), values, usable)
    np.testing.assert_allclose(found.mean[:, 0], [2, 2])
    np.testing.assert_allclose(found.spread[:, 0], [1, 0])
    np.testing.assert_allclose(found.share, [1, 0.5])
    np.testing.assert_array_equal(found.uncertainty, 0)


def test_weights_by_hand():
    values, half_width = np.array([[[[1.0, 3.0]]]]), np.array([[[[0.5, 2.0]]]])
    found = average(PAIR, DATES[:1], ("a",), values, np.ones((1, 1, 2), bool), half_width)
    # The variance between 1 and 3 is 1, so the weights are 1 / (0.25 + 1) = 0.8 and 1 / (4 + 1) = 0.2.
    assert found.mean[0, 0] == pytest.approx(0.8 * 1 + 0.2 * 3)
    assert found.spread[0, 0] == pytest.approx(np.sqrt(0.8 * 0.4**2 + 0.2 * 1.6**2))
    assert found.uncertainty[0, 0] == pytest.approx(0.8 * 0.5 + 0.2 * 2.0)


def test_a_date_on_which_little_was_seen_is_left_out():
    four = Footprint(Window(0, 0, 1, 8), np.ones((1, 8), bool))
    usable = np.zeros((2, 1, 8), bool)
    usable[0, 0, :1], usable[1, 0, :2] = True, True
    found = average(four, DATES, ("a",), np.ones((2, 1, 1, 8)), usable)
    np.testing.assert_array_equal(found.dates, DATES[1:])


@pytest.mark.parametrize("place", [(3.0, 45.0), (0.0, 0.0)])
def test_a_cube_that_does_not_cover_the_tower_is_refused(cube: Cube, place: tuple[float, float]):
    with pytest.raises(UsageError, match=r"does not cover the tower at .* take a cube around the tower") as refused:
        Footprint.on(cube.grid, Tower(*place), "site.zarr")
    assert "\n" not in str(refused.value)


def test_a_footprint_larger_than_the_cube_is_refused(cube: Cube):
    with pytest.raises(UsageError, match=r"covers 45 m around the tower .* 100 m: take a larger cube or a smaller"):
        Footprint.on(cube.grid, tower_at(cube.grid, 4, 16, 100), "site.zarr")


def test_another_reading_of_the_place_is_offered(cube: Cube):
    from pyproj import Transformer

    tower = tower_at(cube.grid, 16, 12, 20)
    degrees = Transformer.from_crs(cube.grid.crs, "EPSG:4326", always_xy=True).transform(tower.x, tower.y)
    longitude, latitude = (float(f"{value:.10g}") for value in degrees)
    for place, advice in (
        ((latitude, longitude), f"longitude comes before latitude: write {longitude:.10g} {latitude:.10g}"),
        ((longitude + 360, latitude), f"longitude goes from -180 to 180: write {longitude:.10g} {latitude:.10g}"),
        ((tower.y, tower.x), f"x comes before y: write {tower.x:.10g} {tower.y:.10g}"),
        ((200.0, 50.0), "expected longitude within 180 and latitude within 90 degrees, or map coordinates"),
        ((longitude, 95.0), "expected longitude within 180 and latitude within 90 degrees, or map coordinates"),
    ):
        with pytest.raises(UsageError) as refused:
            Footprint.on(cube.grid, Tower(*place, 20), "site.zarr")
        assert str(refused.value).endswith(advice)


@pytest.mark.parametrize(("x", "radius"), [(np.nan, 100.0), (3.0, 0.0)])
def test_a_tower_needs_a_place_and_a_radius(x: float, radius: float):
    with pytest.raises(UsageError, match="expected a place and a radius"):
        Tower(x, 50.0, radius)


def test_a_cube_and_its_embeddings_give_the_same(cube: Cube, embedded: xr.Dataset, model: EarthModel):
    tower = tower_at(cube.grid, 16, 15, 30)
    near, whole = from_cube(cube, tower, model, 7), from_embeddings(embedded, tower)
    np.testing.assert_array_equal(near.dates, whole.dates)
    for name in ("mean", "spread", "uncertainty", "share"):
        np.testing.assert_allclose(getattr(near, name), getattr(whole, name), atol=1e-5)
    assert near.names == ("e1", "e2", "e3", "e4", "e5", "e6", "e7")


def test_near_the_edge_too(cube: Cube, embedded: xr.Dataset, model: EarthModel):
    tower = tower_at(cube.grid, 29, 2, 20)
    near, whole = from_cube(cube, tower, model, 7), from_embeddings(embedded, tower)
    shared = np.isin(near.dates, whole.dates), np.isin(whole.dates, near.dates)
    assert shared[0].sum() >= 5
    np.testing.assert_allclose(near.mean[shared[0]], whole.mean[shared[1]], atol=1e-5)


def test_only_the_surroundings_are_kept(cube: Cube):
    near, footprint = around(cube, Footprint.on(cube.grid, tower_at(cube.grid, 16, 15, 10), "cube"))
    assert near.grid.shape == (17, 17)
    assert footprint.window == Window(7, 7, 3, 3)


def test_the_model_answers_on_any_date(cube: Cube, embedded: xr.Dataset, model: EarthModel):
    tower = tower_at(cube.grid, 16, 15, 30)
    views = {"both": ("sentinel-2", "sentinel-1"), "radar": ("sentinel-1",)}
    known = from_embeddings(embedded, tower)
    clear = known.select(known.share == 1)
    between = clear.dates + np.timedelta64(60, "h")
    found = ask(cube, tower, model, 7, np.concatenate([clear.dates, between]), views)
    np.testing.assert_allclose(found["both"].mean[: len(clear.dates)], clear.mean, atol=1e-5)
    assert np.isfinite(found["both"].mean).all()
    assert len(found["radar"].dates) == 2 * len(clear.dates)
    assert np.abs(found["radar"].mean - found["both"].mean).max() > 0.01


def test_radar_alone_hears_nothing_of_the_optical_sensor(datasets: dict[str, xr.Dataset], model: EarthModel):
    dark = datasets["sentinel-2"].copy(deep=True)
    dark["B08"][:] = 100
    cubes = [Cube.open(datasets), Cube.open({**datasets, "sentinel-2": dark})]
    tower = tower_at(cubes[0].grid, 16, 15, 20)
    dates = cubes[0].series["sentinel-1"].dates[:6]
    one, other = (ask(cube, tower, model, 7, dates, {"radar": ("sentinel-1",)})["radar"] for cube in cubes)
    np.testing.assert_array_equal(one.mean, other.mean)


def test_a_view_of_an_absent_sensor_is_refused(datasets: dict[str, xr.Dataset], model: EarthModel):
    cube = Cube.open(datasets["sentinel-2"])
    with pytest.raises(UsageError, match="no sentinel-1, it has sentinel-2: leave the sensor out"):
        ask(cube, tower_at(cube.grid, 16, 15, 20), model, 7, cube.reference.dates[:2], {"radar": ("sentinel-1",)})


def test_raw_bands_are_plain_means_of_clear_pixels(cube: Cube):
    tower = tower_at(cube.grid, 16, 15, 20)
    found = from_bands(cube, tower)
    footprint = Footprint.on(cube.grid, tower, "cube")
    assert found["sentinel-1"].names == ("VV", "VH")
    for name, series in found.items():
        seen = cube.series[name].read(footprint.window)
        clear = seen.valid[:, footprint.inside].all(1)
        expected = seen.values[clear][:, :, footprint.inside].mean(-1)
        kept = np.isin(series.dates, cube.series[name].dates[clear])
        np.testing.assert_allclose(series.mean[kept], expected, rtol=1e-5)
