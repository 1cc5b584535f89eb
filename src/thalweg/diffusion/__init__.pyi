from . import miniature
from .adapters import add_inversions, add_loras
from .generator import DiffusionGenerator
from .loading import load
from .sampling_config import SamplingConfig

__all__ = ["DiffusionGenerator", "SamplingConfig", "add_inversions", "add_loras", "load", "miniature"]
