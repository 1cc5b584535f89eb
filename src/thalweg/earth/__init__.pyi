from .cube.cube import Cube
from .inference.compute import embed
from .model.earth_model import EarthModel
from .store.reader import open_store

__all__ = ["Cube", "EarthModel", "embed", "open_store"]
