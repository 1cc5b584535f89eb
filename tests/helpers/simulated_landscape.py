"""Quantities of a simulated landscape that several tests compare."""

import numpy as np
import xarray as xr

from thalweg.simulate import Landscape
from thalweg.simulate.land.land_cover import LAND_COVER

CODES = {name: code for code, name in LAND_COVER.items()}


def reflectance(data: xr.Dataset, band: str) -> np.ndarray:
    """Return the reflectance of a band as a fraction, (time, y, x)."""
    return data[band].values / 10000.0


def ndvi(landscape: Landscape) -> np.ndarray:
    """Return the NDVI of Sentinel-2, (time, y, x)."""
    red, near = reflectance(landscape.sentinel2, "B04"), reflectance(landscape.sentinel2, "B08")
    return (near - red) / (near + red)


def unclouded(landscape: Landscape) -> np.ndarray:
    """Return a mask of the pixels without clouds and shadows, (time, y, x)."""
    return (landscape.truth.cloud.values < 0.02) & ~landscape.truth.shadow.values


def of_class(landscape: Landscape, name: str) -> np.ndarray:
    """Return a mask of the pixels of a land cover class, (y, x)."""
    return landscape.truth.land_cover.values == CODES[name]
