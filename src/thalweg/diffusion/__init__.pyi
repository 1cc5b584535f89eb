from .generator import DiffusionGenerator
from .loading import load
from .pipeline import SamplingConfig

__all__ = ["DiffusionGenerator", "SamplingConfig", "load"]
