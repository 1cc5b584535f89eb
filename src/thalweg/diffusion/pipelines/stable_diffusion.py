"""Pipeline adapter of Stable Diffusion 1 and 2."""

import copy
import re
from typing import Any

import torch
from torch import Tensor

from thalweg.diffusion.checkpoints.library_logging import quiet
from thalweg.diffusion.pipelines.image_encoding import EncodesImages
from thalweg.diffusion.pipelines.text_inputs import TextInput, warn_of_text
from thalweg.diffusion.pipelines.weighted_text import WeightedText
from thalweg.diffusion.sampling_config import SamplingConfig
from thalweg.errors import UsageError

PLACEHOLDER_TOKEN = "<thalweg>"
"""Token at whose positions a given vector replaces the token's own; in no model's vocabulary."""


class StableDiffusion(EncodesImages, WeightedText):
    """Stable Diffusion 1 and 2: one text encoder."""

    defaults = SamplingConfig(steps=50, guidance_scale=7.5)
    conditions = ("prompt",)
    encoders = ("text_encoder",)
    clip_encoders = ("text_encoder",)
    unread_layers = 0
    denoiser = "unet"
    _tokenizer_copy: Any = None

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of the encoder's rows."""
        return [("prompts", self.network.config.cross_attention_dim, self.pipeline.text_encoder.config.hidden_size)]

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return the encoder's last layer for both texts; as in diffusers, layers are skipped for the prompt only."""
        positive_rows, negative_rows = self.pipeline.encode_prompt(prompt, self.device, 1, True, negative)
        if clip_skip:  # diffusers 0.42 looks for a part of the encoder that transformers 5 has renamed
            text = self.text_inputs()[0].converted(prompt)
            positive_rows = self._rows(*self._ids(self._tokens(self.pipeline.tokenizer, text)), clip_skip)
        return {"prompt": positive_rows, "negative": negative_rows}

    def encode_tokens(
        self, encoder: str, ids: Tensor, mask: Tensor | None, clip_skip: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return the encoder's rows; the denoiser takes no pooled vector."""
        return self._rows(ids, mask, clip_skip), None

    def _tokens(self, tokenizer: Any, text: str) -> Any:
        """Return the ids and the attention mask of a text, (1, tokens) each, cut and padded to the encoder's length."""
        return tokenizer(text, padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt").to(
            self.device
        )

    def _ids(self, inputs: Any) -> tuple[Tensor, Tensor | None]:
        """Return the ids of a text, and their mask if the encoder was trained with one."""
        is_masked = getattr(self.pipeline.text_encoder.config, "use_attention_mask", False)
        return inputs.input_ids, inputs.attention_mask if is_masked else None

    def _rows(self, ids: Tensor, mask: Tensor | None, clip_skip: int) -> Tensor:
        """Return the encoder's rows (1, tokens, width), normalised after the last but `clip_skip` layers."""
        encoder = self.pipeline.text_encoder
        found = encoder(ids, attention_mask=mask, output_hidden_states=bool(clip_skip))
        if not clip_skip:
            return found[0]
        return getattr(encoder, "text_model", encoder).final_layer_norm(found.hidden_states[-1 - clip_skip])

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the UNet's output."""
        guidance = self.guidance_input(settings, latents)
        return self.network(latents, timestep, conditions[0], timestep_cond=guidance, return_dict=False)[0]

    def token_vector(self, word: str) -> Tensor:
        """Return the mean input vector (width) of the tokens of `word`."""
        ids = self.pipeline.tokenizer(word, add_special_tokens=False).input_ids
        if not ids:
            raise UsageError(f"expected a word with at least one token, got {word!r}")
        return self.pipeline.text_encoder.get_input_embeddings().weight[ids].mean(0).to(self.precision)

    @property
    def _tokenizer_with_placeholder(self) -> Any:
        """The pipeline's tokenizer with one more token; copied again where words were added to the pipeline's."""
        if self._tokenizer_copy is None or len(self._tokenizer_copy) != len(self.pipeline.tokenizer) + 1:
            self._tokenizer_copy = copy.deepcopy(self.pipeline.tokenizer)
            self._tokenizer_copy.add_tokens([PLACEHOLDER_TOKEN])
        return self._tokenizer_copy

    def embed_with(self, prompt: str, placeholder: str, vector: Tensor, settings: SamplingConfig) -> dict[str, Tensor]:
        """Return the tensors for `prompt` with `vector` at each `placeholder` in it; differentiable in `vector`."""
        for name in ("prompt_syntax", "long_prompts"):
            if getattr(settings, name):
                raise UsageError(
                    f"expected no `{name}` for a prompt with a vector in it, got {getattr(settings, name)}"
                )
        text, count = re.subn(rf"(?<!\w){re.escape(placeholder)}(?!\w)", PLACEHOLDER_TOKEN, prompt)
        if not placeholder or not count:
            raise UsageError(f"expected the placeholder {placeholder!r} in the prompt, got {prompt!r}")
        tokenizer, encoder = self._tokenizer_with_placeholder, self.pipeline.text_encoder
        width = encoder.get_input_embeddings().embedding_dim
        if vector.shape != (width,):
            raise UsageError(f"expected a vector of shape {(width,)}, got {tuple(vector.shape)}")
        convert = getattr(self.pipeline, "maybe_convert_prompt", None)
        text_input = TextInput(tokenizer, self.tokens, convert, self.vocabulary)
        with quiet():
            warn_of_text(text, [text_input], stacklevel=3)
            text = text_input.converted(text)
        inputs = self._tokens(tokenizer, text)
        positions = inputs.input_ids == tokenizer.convert_tokens_to_ids(PLACEHOLDER_TOKEN)
        if not positions.any():
            raise UsageError(
                f"expected the placeholder {placeholder!r} within its first {self.tokens} tokens, got {prompt!r}"
            )
        inputs["input_ids"] = inputs.input_ids.masked_fill(positions, 0)

        def insert_vector(module: torch.nn.Module, arguments: Any, output: Tensor) -> Tensor:
            return torch.where(positions[..., None], vector.to(output), output)

        hook = encoder.get_input_embeddings().register_forward_hook(insert_vector)
        try:
            encoded = self._rows(*self._ids(inputs), settings.clip_skip or 0)
        finally:
            hook.remove()
        return {**self.embed("", settings.negative, settings), "prompt": encoded[0].to(self.precision)}
