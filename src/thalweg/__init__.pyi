import pathlib

import xarray as xr

from ._version import __version__
from .earth.cube.cube import Cube
from .earth.inference.compute import embed
from .earth.model.earth_model import EarthModel
from .earth.sensors import Band, Sensor, register_sensor
from .errors import ThalwegError, UsageError

__all__ = [
    "Band",
    "Cube",
    "EarthModel",
    "Sensor",
    "ThalwegError",
    "UsageError",
    "__version__",
    "embed",
    "open",
    "register_sensor",
]

def open(path: str | pathlib.Path, year: int | None = None, column: str | None = None) -> xr.Dataset: ...
