from .config import SamplingConfig
from .generator import DiffusionGenerator
from .loading import load

__all__ = ["DiffusionGenerator", "SamplingConfig", "load"]
