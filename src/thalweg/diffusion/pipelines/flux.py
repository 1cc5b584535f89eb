"""Pipeline adapter of FLUX.1."""

from typing import Any

import torch
from torch import Tensor

from thalweg.diffusion.pipeline import negative_name
from thalweg.diffusion.pipelines.image_encoding import EncodesImages
from thalweg.diffusion.pipelines.latent_rows import PackedLatents, to_latents, to_rows
from thalweg.diffusion.pipelines.time_shift import even_steps
from thalweg.diffusion.sampling_config import SamplingConfig


class Flux(EncodesImages, PackedLatents):
    """FLUX: the rows of T5 and CLIP's pooled vector; flow matching.

    Guidance is distilled, an input of the model. Negative tensors belong to true guidance alone, a setting of its own.
    """

    defaults = SamplingConfig(steps=28, guidance_scale=3.5)
    half = torch.bfloat16
    fixed_rows = 0
    guided = False
    clip_encoders = ()
    takes_guidance_rescale = False
    takes_true_cfg_scale = True

    def has_negative(self, settings: SamplingConfig) -> bool:
        """Return whether embeddings have negative tensors: with true guidance."""
        return self.is_guided(settings)

    def is_guided(self, settings: SamplingConfig) -> bool:
        """Return whether the denoiser runs for the negative prompt as well: with true guidance."""
        return (settings.true_cfg_scale or 0) > 1

    def guide(self, settings: SamplingConfig, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the output of true guidance."""
        return negative + (settings.true_cfg_scale or 1) * (positive - negative)

    @property
    def takes_guidance(self) -> bool:
        """True where the guidance scale is an input of the model; FLUX.1 schnell has none."""
        return bool(self.network.config.guidance_embeds)

    @property
    def tokens(self) -> int:
        """Number of rows of the prompt tensor: the length the model was trained with."""
        return 512 if self.takes_guidance else 256

    def tokenizers(self) -> list[tuple[Any, int]]:
        """Return T5's tokenizer; CLIP's takes only the beginning of the prompt, by design."""
        return [(self.pipeline.tokenizer_2, self.tokens)]

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of T5's rows and of CLIP's pooled vector."""
        config, pipeline = self.network.config, self.pipeline
        return [
            ("prompts", config.joint_attention_dim, pipeline.text_encoder_2.config.d_model),
            ("pooled prompts", config.pooled_projection_dim, pipeline.text_encoder.config.hidden_size),
        ]

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return T5's rows and CLIP's pooled vector of both texts."""
        tensors: dict[str, Tensor] = {}
        for name, text in (("prompt", prompt), ("negative", negative)):
            rows, pooled, _ = self.pipeline.encode_prompt(text, device=self.device, max_sequence_length=self.tokens)
            tensors |= {name: rows, "pooled" if name == "prompt" else negative_name("pooled"): pooled}
        return tensors

    def first_step(self, settings: SamplingConfig) -> int:
        """Return the number of steps that a chain from the settings' image leaves out, rounded as in diffusers."""
        return int(settings.steps - settings.steps * settings.image_strength)

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return evenly spaced noise levels and the time shift for the image's size, where the scheduler takes them."""
        return even_steps(scheduler, settings.steps, self.image_tokens(settings))

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output, from rows of two by two latent pixels and back."""
        prompt, pooled = conditions
        count, _, height, width = latents.shape
        positions = torch.cartesian_prod(torch.zeros(1), torch.arange(height // 2.0), torch.arange(width // 2.0))
        guidance = None
        if self.takes_guidance:
            guidance = torch.full((count,), settings.guidance_scale, dtype=torch.float32, device=latents.device)
        output = self.network(
            to_rows(latents),
            encoder_hidden_states=prompt,
            pooled_projections=pooled,
            timestep=timestep.expand(count).to(latents.dtype) / 1000,
            img_ids=positions.to(latents),
            txt_ids=latents.new_zeros(prompt.shape[1], 3),
            guidance=guidance,
            return_dict=False,
        )[0]
        return to_latents(output, latents)
