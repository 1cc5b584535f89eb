"""Pipeline adapter of Chroma."""

from typing import Any

import torch
from torch import Tensor

from thalweg.diffusion.pipelines.language_models.masked_text import MaskedText
from thalweg.diffusion.pipelines.latent_rows import PackedLatents, to_latents, to_rows
from thalweg.diffusion.pipelines.time_shift import even_steps
from thalweg.diffusion.sampling_config import SamplingConfig


class Chroma(PackedLatents, MaskedText):
    """Chroma: the rows of T5 and a mask that includes the first row of padding; flow matching with guidance."""

    defaults = SamplingConfig(steps=35, guidance_scale=5.0)
    fixed_rows = 0
    tokens = 512

    def tokenizers(self) -> list[tuple[Any, int]]:
        """Return the tokenizer with the number of tokens that the model reads."""
        return [(self.pipeline.tokenizer, self.tokens)]

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of T5's rows."""
        return [("prompts", self.network.config.joint_attention_dim, self.pipeline.text_encoder.config.d_model)]

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return T5's rows and their masks."""
        rows, _, mask, negative_rows, _, negative_mask = self.pipeline.encode_prompt(
            prompt, negative, self.device, max_sequence_length=self.tokens
        )
        masks = {"mask": mask.long(), "negative_mask": negative_mask.long()}
        return {"prompt": rows, "negative": negative_rows, **masks}

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return evenly spaced noise levels and the time shift for the image's size, where the scheduler takes them."""
        return even_steps(scheduler, settings.steps, self.image_tokens(settings))

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output, from rows of two by two latent pixels and back."""
        prompt, mask = conditions
        rows = to_rows(latents)
        positions = self.pipeline._prepare_latent_image_ids(
            len(latents), latents.shape[2] // 2, latents.shape[3] // 2, latents.device, latents.dtype
        )
        output = self.network(
            rows,
            encoder_hidden_states=prompt,
            timestep=timestep.expand(len(latents)).to(latents.dtype) / 1000,
            img_ids=positions,
            txt_ids=latents.new_zeros(prompt.shape[1], 3),
            # As in diffusers, a floating mask: it weights padding less, and does not leave it out.
            attention_mask=torch.cat([mask.to(latents), latents.new_ones(rows.shape[:2])], dim=1),
            return_dict=False,
        )[0]
        return to_latents(output, latents)
