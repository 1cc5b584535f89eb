from .cube.cube import Cube
from .inference.compute import embed
from .model.earth_model import EarthModel
from .positions import LonLat, MapPoint, PixelIndex
from .sensors import Band, Sensor, register_sensor
from .store.reader import open_store

__all__ = [
    "Band",
    "Cube",
    "EarthModel",
    "LonLat",
    "MapPoint",
    "PixelIndex",
    "Sensor",
    "embed",
    "open_store",
    "register_sensor",
]
