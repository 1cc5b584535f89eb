"""Pipeline adapter of FLUX.2 klein."""

from typing import Any

import torch
from torch import Tensor

from thalweg.diffusion.pipelines.language_models.chat_text import ChatText
from thalweg.diffusion.pipelines.time_shift import even_steps
from thalweg.diffusion.sampling_config import SamplingConfig


class Flux2Klein(ChatText):
    """FLUX.2 klein: three layers of Qwen 3, padding included; the distilled models are sampled without guidance."""

    defaults = SamplingConfig(steps=50, guidance_scale=4.0)
    conditions = ("prompt",)
    thinking = False

    @property
    def guided(self) -> bool:
        """True for the base models; the distilled ones are sampled without guidance."""
        return not self.pipeline.config.is_distilled

    @property
    def latent_pixels(self) -> int:
        """Pixels per side of a latent pixel; two by two of the decoder's are one."""
        return 2 * self.pipeline.vae_scale_factor

    @property
    def latent_channels(self) -> int:
        """Number of channels of the latents, four for each of the decoder's."""
        return 4 * self.pipeline.vae.config.latent_channels

    @property
    def trained_size(self) -> tuple[int, int]:
        """Rows and columns of the latents that the model was trained for."""
        return self.pipeline.default_sample_size // 2, self.pipeline.default_sample_size // 2

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of three layers' rows."""
        return [("prompts", self.network.config.joint_attention_dim, 3 * self.pipeline.text_encoder.config.hidden_size)]

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return the rows of both texts."""
        return {
            name: self.pipeline.encode_prompt(text, self.device, max_sequence_length=self.tokens)[0]
            for name, text in (("prompt", prompt), ("negative", negative))
        }

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return evenly spaced noise levels and the pipeline's time shift, where the scheduler takes them."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        tokens = self.image_tokens(settings)
        arguments = even_steps(scheduler, settings.steps, tokens)
        if "mu" in arguments:
            arguments["mu"] = compute_empirical_mu(tokens, settings.steps)
        return arguments

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output, from rows of latent pixels and back."""
        (prompt,) = conditions
        output = self.network(
            hidden_states=self.pipeline._pack_latents(latents),
            timestep=timestep.expand(len(latents)).to(latents.dtype) / 1000,
            guidance=None,
            encoder_hidden_states=prompt,
            txt_ids=self.pipeline._prepare_text_ids(prompt).to(latents.device),
            img_ids=self.pipeline._prepare_latent_ids(latents).to(latents.device),
            return_dict=False,
        )[0]
        return output.mT.reshape(latents.shape)

    def unscale(self, latents: Tensor) -> Tensor:
        """Return latents in the units of the decoder, whose mean and variance per channel are buffers of it."""
        vae = self.pipeline.vae
        deviation = torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps)[:, None, None].to(latents)
        return self.pipeline._unpatchify_latents(latents * deviation + vae.bn.running_mean[:, None, None].to(latents))
