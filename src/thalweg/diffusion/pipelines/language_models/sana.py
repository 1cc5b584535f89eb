"""Pipeline adapter of Sana."""

import inspect
from typing import Any

from torch import Tensor

from thalweg.diffusion.pipelines.language_models.masked_text import MaskedText
from thalweg.diffusion.pipelines.text_inputs import TextInput
from thalweg.diffusion.sampling_config import SamplingConfig


class Sana(MaskedText):
    """Sana: the rows of Gemma 2 after an instruction to it, of which the rows are left out; flow matching."""

    defaults = SamplingConfig(steps=20, guidance_scale=4.5)
    tokens = 300

    @property
    def patch(self) -> int:  # type: ignore[override]
        """Latent pixels per side of an image token."""
        return self.network.config.patch_size

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of Gemma's rows."""
        return [("prompts", self.network.config.caption_channels, self.pipeline.text_encoder.config.hidden_size)]

    def text_inputs(self) -> list[TextInput]:
        """Return Gemma's input; the pipeline writes texts in lower case, and there is no end token."""
        # One token less than rows: the instruction's last token has a row.
        limit = self.tokens - 1
        return [TextInput(self.pipeline.tokenizer, limit, _lower, self.vocabulary, ends=0, kept_ends=0)]

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return Gemma's rows and their masks; the negative prompt has no instruction, as in diffusers."""
        call = inspect.signature(type(self.pipeline).__call__).parameters
        found = self.pipeline.encode_prompt(
            prompt,
            negative_prompt=negative,
            device=self.device,
            max_sequence_length=self.tokens,
            complex_human_instruction=call["complex_human_instruction"].default,
        )
        return dict(zip(("prompt", "mask", "negative", "negative_mask"), found, strict=True))

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output."""
        prompt, mask = conditions
        return self.network(
            latents,
            encoder_hidden_states=prompt,
            encoder_attention_mask=mask,
            timestep=timestep.expand(len(latents)) * self.network.config.timestep_scale,
            return_dict=False,
        )[0]


def _lower(text: str, tokenizer: Any) -> str:
    """Return a text as the pipeline writes it."""
    return text.lower().strip()
