"""Series of a tower's footprint: the same from a cube and from its embeddings, on chosen dates, and of raw bands."""

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import PixelIndex
from thalweg.errors import UsageError
from thalweg.gpp.footprint.footprint import Footprint, Tower
from thalweg.gpp.footprint.footprint_series import (
    crop_to_footprint,
    pixels_of_cube,
    pixels_of_embeddings,
    series_of_bands,
    series_on_dates,
)


def test_a_cube_and_its_embeddings_give_the_same_series(cube: Cube, embedded: xr.Dataset, model: EarthModel):
    tower = Tower(PixelIndex(16, 15), 30)
    footprint = Footprint.on(cube.grid, tower, "cube")
    near = pixels_of_cube(cube, footprint, model, 7).average()
    whole = pixels_of_embeddings(embedded, footprint).average()
    np.testing.assert_array_equal(near.dates, whole.dates)
    for name in ("mean", "spread", "uncertainty", "share"):
        np.testing.assert_allclose(getattr(near, name), getattr(whole, name), atol=1e-5)
    assert near.names == ("e1", "e2", "e3", "e4", "e5", "e6", "e7")


def test_a_cube_and_its_embeddings_agree_near_the_edge(cube: Cube, embedded: xr.Dataset, model: EarthModel):
    tower = Tower(PixelIndex(29, 2), 20)
    footprint = Footprint.on(cube.grid, tower, "cube")
    near = pixels_of_cube(cube, footprint, model, 7).average()
    whole = pixels_of_embeddings(embedded, footprint).average()
    shared = np.isin(near.dates, whole.dates), np.isin(whole.dates, near.dates)
    assert shared[0].sum() >= 5
    np.testing.assert_allclose(near.mean[shared[0]], whole.mean[shared[1]], atol=1e-5)


def test_a_cube_is_cropped_to_the_surroundings(cube: Cube):
    near, footprint = crop_to_footprint(cube, Footprint.on(cube.grid, Tower(PixelIndex(16, 15), 10), "cube"))
    assert near.grid.shape == (17, 17)
    assert footprint.window == Window(7, 7, 3, 3)


def test_any_date_can_be_embedded(cube: Cube, embedded: xr.Dataset, model: EarthModel):
    tower = Tower(PixelIndex(16, 15), 30)
    views = {"both": ("sentinel-2", "sentinel-1"), "radar": ("sentinel-1",)}
    known = pixels_of_embeddings(embedded, Footprint.on(cube.grid, tower, "cube")).average()
    clear = known.select(known.share == 1)
    between = clear.dates + np.timedelta64(60, "h")
    found = series_on_dates(cube, tower, model, 7, np.concatenate([clear.dates, between]), views)
    np.testing.assert_allclose(found["both"].mean[: len(clear.dates)], clear.mean, atol=1e-5)
    assert np.isfinite(found["both"].mean).all()
    assert len(found["radar"].dates) == 2 * len(clear.dates)
    assert np.abs(found["radar"].mean - found["both"].mean).max() > 0.01


def test_a_view_of_the_radar_does_not_depend_on_the_optical_sensor(datasets: dict[str, xr.Dataset], model: EarthModel):
    dark = datasets["sentinel-2"].copy(deep=True)
    dark["B08"][:] = 100
    cubes = [Cube.open(datasets), Cube.open({**datasets, "sentinel-2": dark})]
    tower = Tower(PixelIndex(16, 15), 20)
    dates = cubes[0].series["sentinel-1"].dates[:6]
    one, other = (series_on_dates(cube, tower, model, 7, dates, {"radar": ("sentinel-1",)})["radar"] for cube in cubes)
    np.testing.assert_array_equal(one.mean, other.mean)


def test_a_view_of_an_absent_sensor_is_refused(datasets: dict[str, xr.Dataset], model: EarthModel):
    cube = Cube.open(datasets["sentinel-2"])
    with pytest.raises(UsageError, match="no sentinel-1, it has sentinel-2: leave the sensor out"):
        series_on_dates(
            cube, Tower(PixelIndex(16, 15), 20), model, 7, cube.reference.dates[:2], {"radar": ("sentinel-1",)}
        )


def test_bands_are_plain_means_of_clear_pixels(cube: Cube):
    tower = Tower(PixelIndex(16, 15), 20)
    found = series_of_bands(cube, tower)
    footprint = Footprint.on(cube.grid, tower, "cube")
    assert found["sentinel-1"].names == ("VV", "VH")
    for name, series in found.items():
        observed = cube.series[name].read(footprint.window)
        clear = observed.valid[:, footprint.inside].all(1)
        expected = observed.values[clear][:, :, footprint.inside].mean(-1)
        selected = np.isin(series.dates, cube.series[name].dates[clear])
        np.testing.assert_allclose(series.mean[selected], expected, rtol=1e-5)
