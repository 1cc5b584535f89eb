"""Supported pipelines: the adapter of each pipeline class of diffusers."""

from collections.abc import Mapping

from thalweg.diffusion.pipeline import PipelineAdapter
from thalweg.diffusion.pipelines.flux import Flux
from thalweg.diffusion.pipelines.language_models.chroma import Chroma
from thalweg.diffusion.pipelines.language_models.flux_2_klein import Flux2Klein
from thalweg.diffusion.pipelines.language_models.lumina_2 import Lumina2
from thalweg.diffusion.pipelines.language_models.qwen_image import QwenImage
from thalweg.diffusion.pipelines.language_models.sana import Sana
from thalweg.diffusion.pipelines.language_models.z_image import ZImage
from thalweg.diffusion.pipelines.stable_diffusion import StableDiffusion
from thalweg.diffusion.pipelines.stable_diffusion_3 import StableDiffusion3
from thalweg.diffusion.pipelines.stable_diffusion_xl import StableDiffusionXL

PIPELINE_ADAPTERS: Mapping[str, type[PipelineAdapter]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
    "SanaPipeline": Sana,
    "Lumina2Pipeline": Lumina2,
    "ChromaPipeline": Chroma,
    "QwenImagePipeline": QwenImage,
    "ZImagePipeline": ZImage,
    "Flux2KleinPipeline": Flux2Klein,
}
"""Adapters by the pipeline class that a model's folder names in its model_index.json."""
