"""Text-to-image models as generators, with exact gradients through the whole denoising chain."""

from thalweg.diffusion.generator import DiffusionGenerator
from thalweg.diffusion.loading import load
from thalweg.diffusion.pipeline import SamplingConfig

__all__ = ["DiffusionGenerator", "SamplingConfig", "load"]
