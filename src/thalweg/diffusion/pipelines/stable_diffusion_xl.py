"""Pipeline adapter of Stable Diffusion XL."""

from torch import Tensor

from thalweg.diffusion.pipelines.image_encoding import EncodesImages
from thalweg.diffusion.pipelines.weighted_text import WeightedText
from thalweg.diffusion.sampling_config import SamplingConfig


class StableDiffusionXL(EncodesImages, WeightedText):
    """Stable Diffusion XL: concatenated rows of two encoders and a pooled vector; the image's size is an input."""

    defaults = SamplingConfig(steps=50, guidance_scale=5.0)
    denoiser = "unet"
    added_condition = "text_time"

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of both encoders' concatenated rows."""
        encoders = (self.pipeline.text_encoder, self.pipeline.text_encoder_2)
        given = sum(encoder.config.hidden_size for encoder in encoders)
        return [("prompts", self.network.config.cross_attention_dim, given)]

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return both encoders' rows and the second's pooled vector; diffusers skips layers for the prompt's rows."""
        found = self.pipeline.encode_prompt(
            prompt, device=self.device, negative_prompt=negative or None, clip_skip=clip_skip or None
        )
        return dict(zip(("prompt", "negative", "pooled", "negative_pooled"), found, strict=True))

    @property
    def has_zero_negative(self) -> bool:
        """True where an empty negative prompt stands for zeros."""
        return bool(self.pipeline.config.force_zeros_for_empty_prompt)

    def encode_tokens(
        self, encoder: str, ids: Tensor, mask: Tensor | None, clip_skip: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return the encoder's last layer but one, not normalised, and the second encoder's pooled vector."""
        found = getattr(self.pipeline, encoder)(ids, attention_mask=mask, output_hidden_states=True)
        return found.hidden_states[-2 - clip_skip], found[0] if encoder == "text_encoder_2" else None

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the UNet's output for an image that is neither scaled nor cropped."""
        prompt, pooled = conditions
        scale = self.pipeline.vae_scale_factor
        height, width = (scale * size for size in latents.shape[-2:])
        sizes = latents.new_tensor([height, width, 0, 0, height, width]).expand(len(latents), 6)
        added = {"text_embeds": pooled, "time_ids": sizes}
        guidance = self.guidance_input(settings, latents)
        return self.network(
            latents, timestep, prompt, timestep_cond=guidance, added_cond_kwargs=added, return_dict=False
        )[0]

    def unscale(self, latents: Tensor) -> Tensor:
        """Return latents in the units of the decoder; some models give a mean and a standard deviation per channel."""
        config = self.pipeline.vae.config
        found = self._statistics(latents)
        return super().unscale(latents) if found is None else latents * found[1] / config.scaling_factor + found[0]

    def scale(self, latents: Tensor) -> Tensor:
        """Return latents in the units of the chain; the inverse of `unscale`."""
        found = self._statistics(latents)
        scaling = self.pipeline.vae.config.scaling_factor
        return super().scale(latents) if found is None else (latents - found[0]) * scaling / found[1]

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the mean and the standard deviation per channel (C, 1, 1), where the model gives them."""
        given = [self.pipeline.vae.config.get(name) for name in ("latents_mean", "latents_std")]
        if None in given:
            return None
        mean, deviation = (like.new_tensor(values)[:, None, None] for values in given)
        return mean, deviation
