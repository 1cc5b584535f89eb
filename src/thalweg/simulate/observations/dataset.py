"""Datasets in the layout of a real site: one UTM grid, CF-1.8, stored integers, compressed NetCDF."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from thalweg.simulate.land.parcels import PIXEL
from thalweg.simulate.weather.climates import ClimateSpec

ATTRIBUTES = {"Conventions": "CF-1.8", "source": "thalweg.simulate"}


@dataclass(frozen=True)
class SiteGrid:
    """Grid of a landscape of 10 m pixels in its UTM zone.

    Attributes:
        epsg: EPSG code of the UTM zone.
        left: Western edge in m.
        top: Northern edge in m.
        size: Pixels along each side.
    """

    epsg: int
    left: float
    top: float
    size: int

    @classmethod
    def around(cls, rng: np.random.Generator, climate: ClimateSpec, size: int) -> "SiteGrid":
        """Draw a grid within 15 km of the climate's location, aligned to 60 m."""
        from pyproj import Transformer

        to_utm = Transformer.from_crs("EPSG:4326", f"EPSG:{climate.epsg}", always_xy=True)
        x, y = to_utm.transform(climate.longitude, climate.latitude)
        left, top = (60 * round((value + rng.uniform(-15000, 15000)) / 60) for value in (x, y))
        return cls(climate.epsg, float(left), float(top), size)

    @cached_property
    def coordinates(self) -> dict[str, Any]:
        """Coordinates x and y (pixel centres, y decreasing) and the grid mapping."""
        from pyproj import CRS
        from pyproj.enums import WktVersion

        wkt = CRS.from_epsg(self.epsg).to_wkt(WktVersion.WKT1_GDAL)
        steps = (np.arange(self.size) + 0.5) * PIXEL
        mapping = {
            "crs_wkt": wkt,
            "spatial_ref": wkt,
            "GeoTransform": f"{self.left:.0f} {PIXEL:.0f} 0 {self.top:.0f} 0 -{PIXEL:.0f}",
            "grid_mapping_name": "transverse_mercator",
        }
        return {
            "y": ("y", self.top - steps, {"units": "m", "standard_name": "projection_y_coordinate"}),
            "x": ("x", self.left + steps, {"units": "m", "standard_name": "projection_x_coordinate"}),
            "spatial_ref": ((), np.int64(0), mapping),
        }

    def dataset(self, variables: dict[str, Any], times: pd.DatetimeIndex | None = None) -> xr.Dataset:
        """Return a dataset on this grid.

        Args:
            variables: xarray variables by name; those with a dimension x get the grid mapping.
            times: Coordinate of the dimension time, if there is one.
        """
        coordinates = dict(self.coordinates)
        if times is not None:
            coordinates["time"] = ("time", times.values.astype("datetime64[ns]"))
        data = xr.Dataset(variables, coords=coordinates, attrs=ATTRIBUTES)
        for variable in data.data_vars.values():
            if "x" in variable.dims:
                variable.attrs["grid_mapping"] = "spatial_ref"
        return data


def angle_variable(values: NDArray) -> tuple[str, NDArray, dict[str, str]]:
    """Return an xarray variable of one angle per date, in degrees."""
    return ("time", np.asarray(values, np.float32), {"units": "degree"})


def digital_numbers(reflectance: NDArray) -> NDArray:
    """Convert reflectance to uint16 with a scale of 1 / 10000; 0 is reserved for missing data."""
    return np.clip(np.round(reflectance * 10000), 1, 65535).astype(np.uint16)


def write_netcdf(data: xr.Dataset, path: Path) -> None:
    """Write a dataset as NetCDF-4, with compressed arrays of pixels.

    The file is created in memory, because HDF5 crashes when it closes a file on a full disk.
    """
    encoding = {
        name: {"zlib": True, "complevel": 4, "shuffle": True}
        for name, variable in data.data_vars.items()
        if variable.ndim >= 2
    }
    path.write_bytes(data.to_netcdf(None, engine="h5netcdf", encoding=encoding))
