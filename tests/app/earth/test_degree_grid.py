"""Longitudes and latitudes that the page interpolates are those of the reference system."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from pyproj import Geod, Transformer
from scipy.interpolate import RegularGridInterpolator

from thalweg.app.earth.pixels import degree_grid


def store(side: int, west: float, north: float, epsg: int, resolution: float = 10.0) -> Any:
    """Return the grid of a store of side x side pixels."""
    places = resolution * (np.arange(side) + 0.5)
    attributes = {"geoemb:gsd": resolution, "proj:wkt2": f"EPSG:{epsg}"}
    return SimpleNamespace(
        dataset=xr.Dataset(coords={"x": west + places, "y": north - places}, attrs=attributes), shape=(side, side)
    )


@pytest.mark.parametrize(
    ("side", "north", "most"), [(4_000, 5_600_000.0, 0.1), (4_000, 7_200_000.0, 0.1), (20_000, 5_600_000.0, 3.0)]
)
def test_interpolated_degrees_are_near_the_true_ones(side: int, north: float, most: float) -> None:
    west = 400_000.0
    grid = degree_grid(store(side, west, north, 32631))
    rows, columns = np.random.default_rng(0).uniform(0, side, (2, 2000))
    found = [
        RegularGridInterpolator((grid["rows"], grid["columns"]), np.array(grid[name]))((rows, columns))
        for name in ("longitude", "latitude")
    ]
    to_degrees = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    true = to_degrees.transform(west + 10 * columns, north - 10 * rows)
    _, _, metres = Geod(ellps="WGS84").inv(*found, *true)
    assert metres.max() < most


def test_a_store_across_the_date_line_has_no_jump() -> None:
    grid = degree_grid(store(2_000, 270_000.0, 5_600_000.0, 32601, 20.0))
    longitude = np.array(grid["longitude"])
    assert np.abs(np.diff(longitude, axis=1)).max() < 0.1 and np.abs(np.diff(longitude, axis=0)).max() < 0.1
    assert longitude.min() < -180 or longitude.max() > 180
