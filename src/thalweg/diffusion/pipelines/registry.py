"""Supported pipelines: the adapter of each pipeline class of diffusers."""

from collections.abc import Mapping

from thalweg.diffusion.pipeline import PipelineAdapter
from thalweg.diffusion.pipelines.flux import Flux
from thalweg.diffusion.pipelines.stable_diffusion import StableDiffusion
from thalweg.diffusion.pipelines.stable_diffusion_3 import StableDiffusion3
from thalweg.diffusion.pipelines.stable_diffusion_xl import StableDiffusionXL

PIPELINE_ADAPTERS: Mapping[str, type[PipelineAdapter]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
}
"""Adapters by the pipeline class that a model's folder names in its model_index.json."""
