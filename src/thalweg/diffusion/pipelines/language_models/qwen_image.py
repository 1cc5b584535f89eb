"""Pipeline adapter of Qwen-Image."""

from typing import Any

from torch import Tensor

from thalweg.diffusion.pipelines.language_models.masked_text import MaskedText, padded, trimmed
from thalweg.diffusion.pipelines.latent_rows import PackedLatents, to_latents, to_rows
from thalweg.diffusion.pipelines.text_inputs import TextInput
from thalweg.diffusion.pipelines.time_shift import even_steps
from thalweg.diffusion.sampling_config import SamplingConfig


class QwenImage(PackedLatents, MaskedText):
    """Qwen-Image: the rows of Qwen 2.5 VL for a prompt in a template, without those of the template's beginning."""

    defaults = SamplingConfig(steps=50, guidance_scale=4.0)
    fixed_rows = 0
    tokens = 512

    @property
    def latent_channels(self) -> int:
        """Number of channels of the decoder's latents."""
        return self.pipeline.vae.config.z_dim

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of the encoder's rows."""
        given = self.pipeline.text_encoder.config.get_text_config().hidden_size
        return [("prompts", self.network.config.joint_attention_dim, given)]

    def text_inputs(self) -> list[TextInput]:
        """Return the encoder's input: the template with the text, of which the beginning has no rows."""
        template, tokenizer = self.pipeline.prompt_template_encode, self.pipeline.tokenizer
        limit = self.pipeline.prompt_template_encode_start_idx + self.tokens
        ends = len(tokenizer(template.partition("{}")[2]).input_ids)

        def filled(text: str, tokenizer: Any) -> str:
            return template.format(text)

        return [TextInput(tokenizer, limit, filled, self.vocabulary, ends=ends, kept_ends=0)]

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return the encoder's rows, padded with zeros, and their masks."""
        tensors: dict[str, Tensor] = {}
        for name, text in (("prompt", prompt), ("negative", negative)):
            rows, _ = self.pipeline.encode_prompt(text, self.device, max_sequence_length=self.tokens)
            tensors |= padded(name, rows, self.tokens)
        return tensors

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return evenly spaced noise levels and the time shift for the image's size, where the scheduler takes them."""
        return even_steps(scheduler, settings.steps, self.image_tokens(settings))

    def guide(self, settings: SamplingConfig, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the guided output, each image token scaled to its length in the output for the prompt."""
        combined = to_rows(super().guide(settings, positive, negative))
        lengths = to_rows(positive).norm(dim=-1, keepdim=True) / combined.norm(dim=-1, keepdim=True)
        return to_latents(combined * lengths, positive)

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output, from rows of two by two latent pixels and back."""
        prompt, mask = trimmed(*conditions)
        count, _, height, width = latents.shape
        output = self.network(
            to_rows(latents),
            encoder_hidden_states=prompt,
            encoder_hidden_states_mask=mask,
            timestep=timestep.expand(count).to(latents.dtype) / 1000,
            img_shapes=[[(1, height // 2, width // 2)]] * count,
            return_dict=False,
        )[0]
        return to_latents(output, latents)

    def unscale(self, latents: Tensor) -> Tensor:
        """Return latents in the units of the decoder, which gives a mean and a standard deviation per channel."""
        config = self.pipeline.vae.config
        mean, deviation = (latents.new_tensor(config[name])[:, None, None] for name in ("latents_mean", "latents_std"))
        return latents * deviation + mean

    def pixels(self, latents: Tensor) -> Tensor:
        """Return the only frame of the decoder, which is one of videos."""
        return super().pixels(latents[:, :, None])[:, :, 0]
