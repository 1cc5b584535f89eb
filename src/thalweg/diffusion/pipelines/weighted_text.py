"""Base of the pipeline adapters whose prompts may hold weights and several chunks of tokens."""

import sys
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from thalweg.diffusion.pipeline import PipelineAdapter, negative_name
from thalweg.diffusion.pipelines.text_inputs import TextInput
from thalweg.diffusion.prompting.prompt_syntax import parse_prompt, unread_syntax
from thalweg.diffusion.prompting.token_chunks import TokenChunk, chunk_tokens, empty_chunk
from thalweg.diffusion.prompting.weighted_rows import Encoder, weighted_rows
from thalweg.diffusion.sampling_config import SamplingConfig
from thalweg.errors import UsageError

MAX_CHUNKS = 64
"""Most chunks of a long prompt; 10,000 characters of prose are about 35."""


class WeightedText(PipelineAdapter):
    """CLIP encoders: each row is that of a token, and the rows of several chunks of tokens can be concatenated."""

    takes_fragments: ClassVar[bool] = True

    @abstractmethod
    def encode_tokens(
        self, encoder: str, ids: Tensor, mask: Tensor | None, clip_skip: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return an encoder's rows (1, n, width), and its pooled vector (1, width) if the denoiser takes that one.

        Args:
            encoder: name of the encoder.
            ids: tokens (1, n).
            mask: 1 for tokens (1, n) that the encoder reads, 0 for others; None: it reads all.
            clip_skip: last layers to leave out.
        """

    @property
    def has_zero_negative(self) -> bool:
        """True where an empty negative prompt stands for zeros."""
        return False

    def seen_text(self, text: str, settings: SamplingConfig, chunks: int | None) -> tuple[str, str, list[TextInput]]:
        """Return a text without its weights, with limits of the encoders that count all chunks."""
        parts = parse_prompt(text, settings.prompt_syntax)
        plain = " ".join("".join(fragment.text for fragment in part) for part in parts)
        count = chunks or (sys.maxsize if settings.long_prompts else 1)
        inputs = [replace(each, limit=count * (each.limit - 2) + 2) for each in self.text_inputs()]
        return plain, unread_syntax(text, plain, settings.prompt_syntax), inputs

    def encode_texts(
        self, prompt: str, negative: str, settings: SamplingConfig, chunks: int | None
    ) -> dict[str, Tensor]:
        """Return the pipeline's own encoding, or that of weights and chunks, where the settings have any.

        A text with fewer chunks than the other gets chunks without words. The pooled vector is that of the first chunk.
        """
        if not settings.prompt_syntax and not settings.long_prompts and (chunks or 1) == 1:
            return super().encode_texts(prompt, negative, settings, chunks)
        inputs = self.text_inputs()
        split = {
            name: [_split(text, each, settings) for each in inputs]
            for name, text in (("prompt", prompt), ("negative", negative))
        }
        longest = max(len(found) for each in split.values() for found in each)
        count = chunks or (longest if settings.long_prompts else 1)
        if count > MAX_CHUNKS:
            raise UsageError(f"expected prompts of at most {MAX_CHUNKS} chunks, got one of {count}: shorten it")
        tensors: dict[str, Tensor] = {}
        for name, of_encoders in split.items():
            clip_skip = (settings.clip_skip or 0) if name == "prompt" else 0  # as in diffusers
            rows = []
            for encoder, each, found in zip(self.encoders, inputs, of_encoders, strict=True):
                empty = empty_chunk(each.tokenizer, each.limit)
                padded = [*found[:count], *[empty] * (count - len(found))]
                encode = partial(self._encode_on_device, encoder, clip_skip=clip_skip)
                rows.append(weighted_rows(padded, _first_of(encode), settings.prompt_syntax, empty))
                pooled = encode(torch.tensor([padded[0].ids]), None)[1]
                if pooled is not None:
                    tensors["pooled" if name == "prompt" else negative_name("pooled")] = pooled
            tensors[name] = torch.cat(rows, dim=-1)
        if not negative and self.has_zero_negative:
            tensors |= {name: torch.zeros_like(tensors[name]) for name in map(negative_name, self.conditions)}
        return tensors

    def _encode_on_device(
        self, encoder: str, ids: Tensor, mask: Tensor | None, clip_skip: int
    ) -> tuple[Tensor, Tensor | None]:
        return self.encode_tokens(
            encoder, ids.to(self.device), None if mask is None else mask.to(self.device), clip_skip
        )


def _first_of(encode: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]) -> Encoder:
    """Return an encoder of rows alone."""
    return lambda ids, mask: encode(ids, mask)[0]


def _split(text: str, text_input: TextInput, settings: SamplingConfig) -> list[TokenChunk]:
    """Return the chunks of a text for one encoder."""
    parts = parse_prompt(text, settings.prompt_syntax)
    return chunk_tokens(parts, text_input.tokenizer, text_input.converted, text_input.limit)
