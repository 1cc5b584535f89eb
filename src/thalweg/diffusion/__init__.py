"""Text-to-image models as generators, with exact gradients through the whole denoising chain."""

from thalweg.diffusion.family import Settings
from thalweg.diffusion.generator import DiffusionGenerator
from thalweg.diffusion.loading import load

__all__ = ["DiffusionGenerator", "Settings", "load"]
