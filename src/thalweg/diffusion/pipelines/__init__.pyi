from .registry import PIPELINE_ADAPTERS
from .stable_diffusion import StableDiffusion
from .text_inputs import TextInput, Vocabulary, warn_of_text

__all__ = ["PIPELINE_ADAPTERS", "StableDiffusion", "TextInput", "Vocabulary", "warn_of_text"]
