from .cube.cube import Cube
from .inference.job import embed
from .model.earth_model import EarthModel
from .store.writer import open_embeddings

__all__ = ["Cube", "EarthModel", "embed", "open_embeddings"]
