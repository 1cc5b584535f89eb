from . import miniature
from .generator import DiffusionGenerator
from .loading import load
from .sampling_config import SamplingConfig

__all__ = ["DiffusionGenerator", "SamplingConfig", "load", "miniature"]
