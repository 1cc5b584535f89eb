"""Pipeline adapter of Stable Diffusion 3."""

from typing import Any

from torch import Tensor

from thalweg.diffusion.pipelines.image_encoding import EncodesImages
from thalweg.diffusion.pipelines.time_shift import time_shift
from thalweg.diffusion.sampling_config import SamplingConfig
from thalweg.errors import UsageError


class StableDiffusion3(EncodesImages):
    """Stable Diffusion 3: the rows of two CLIP encoders, then those of T5, and a pooled vector; flow matching."""

    defaults = SamplingConfig(steps=28, guidance_scale=7.0)
    encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    optional_parts = ("text_encoder_3", "tokenizer_3")
    text_length = 256
    takes_guidance_rescale = False

    @property
    def tokens(self) -> int:
        """Number of rows of the prompt tensor."""
        return self.pipeline.tokenizer_max_length + self.text_length

    @property
    def patch(self) -> int:  # type: ignore[override]
        """Latent pixels per side of an image token."""
        return self.pipeline.patch_size

    def tokenizers(self) -> list[tuple[Any, int]]:
        """Return each tokenizer with the number of tokens its encoder takes."""
        found = super().tokenizers()
        return [*found[:2], *((tokenizer, self.text_length) for tokenizer, _ in found[2:])]

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of the CLIP encoders' concatenated pooled vectors, and of T5's rows if the model has T5."""
        config, pipeline = self.network.config, self.pipeline
        pooled = sum(encoder.config.projection_dim for encoder in (pipeline.text_encoder, pipeline.text_encoder_2))
        found = [("pooled prompts", config.pooled_projection_dim, pooled)]
        if pipeline.text_encoder_3 is not None:
            found.append(("prompts", config.joint_attention_dim, pipeline.text_encoder_3.config.d_model))
        return found

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return the three encoders' rows and the CLIP encoders' pooled vectors; diffusers skips CLIP layers."""
        found = self.pipeline.encode_prompt(
            prompt,
            None,
            None,
            self.device,
            negative_prompt=negative,
            clip_skip=clip_skip or None,
            max_sequence_length=self.text_length,
        )
        return dict(zip(("prompt", "negative", "pooled", "negative_pooled"), found, strict=True))

    def latent_shape(self, settings: SamplingConfig) -> tuple[int, int, int]:
        """Return the shape (C, h, w) of one image's latents.

        Raises:
            UsageError: a height or width that is no multiple of an image token, or beyond the table of positions.
        """
        shape = super().latent_shape(settings)
        limit = self.network.config.pos_embed_max_size
        if limit and max(shape[1:]) // self.patch > limit:
            most = limit * self.patch * self.pipeline.vae_scale_factor
            height, width = (size * self.pipeline.vae_scale_factor for size in shape[1:])
            raise UsageError(f"expected height and width of at most {most} for {self.name}, got {height} x {width}")
        return shape

    def first_step(self, settings: SamplingConfig) -> int:
        """Return the number of steps that a chain from the settings' image leaves out, rounded as in diffusers."""
        return int(settings.steps - settings.steps * settings.image_strength)

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return the time shift for the image's size, where the scheduler takes one."""
        return time_shift(scheduler, self.image_tokens(settings), longest=1.16)

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output."""
        prompt, pooled = conditions
        times = timestep.expand(len(latents))
        return self.network(latents, prompt, pooled, times, return_dict=False)[0]
