"""Pipeline adapter of Z-Image and Z-Image Turbo."""

from typing import Any

import torch
from torch import Tensor

from thalweg.diffusion.pipelines.language_models.chat_text import ChatText
from thalweg.diffusion.pipelines.language_models.masked_text import padded
from thalweg.diffusion.pipelines.time_shift import even_steps
from thalweg.diffusion.sampling_config import SamplingConfig


class ZImage(ChatText):
    """Z-Image: the rows of Qwen 3 for a prompt as a chat; a guidance scale of 0 is none, as Z-Image Turbo takes it."""

    defaults = SamplingConfig(steps=50, guidance_scale=5.0)
    patch = 2
    thinking = True
    unguided_scale = 0.0

    @property
    def trained_size(self) -> tuple[int, int]:
        """Rows and columns of the latents of an image of 1024 px, the pipeline's default."""
        side = 1024 // self.pipeline.vae_scale_factor
        return side, side

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of the encoder's rows."""
        given = self.pipeline.text_encoder.config.get_text_config().hidden_size
        return [("prompts", self.network.config.cap_feat_dim, given)]

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return the encoder's rows, padded with zeros, and their masks."""
        (rows,), (negative_rows,) = self.pipeline.encode_prompt(
            prompt, self.device, negative_prompt=negative, max_sequence_length=self.tokens
        )
        return padded("prompt", rows[None], self.tokens) | padded("negative", negative_rows[None], self.tokens)

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return evenly spaced noise levels and the time shift for the image's size, where the scheduler takes them."""
        return even_steps(scheduler, settings.steps, self.image_tokens(settings))

    def guide(self, settings: SamplingConfig, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the guided output; the pipeline's guidance scale is smaller by 1 than that of other models."""
        return positive + settings.guidance_scale * (positive - negative)

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output; its time runs from noise to the image."""
        prompt, mask = conditions
        output = self.network(
            list(latents[:, :, None]),
            (1000 - timestep.expand(len(latents))) / 1000,
            [rows[read.bool()] for rows, read in zip(prompt, mask, strict=True)],
            return_dict=False,
        )[0]
        return -torch.stack(output)[:, :, 0]
