"""Chunks of tokens with weights: what a text encoder takes at once, with start and end tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.diffusion.prompting.prompt_syntax import Fragment

NO_FRAGMENT = -1
"""Fragment of start, end and padding tokens."""


@dataclass(frozen=True)
class TokenChunk:
    """Tokens of one run of a text encoder.

    Attributes:
        ids: tokens, start and end tokens and padding included.
        weights: weight of each token; 1 for start, end and padding.
        fragments: number of the fragment that each token belongs to, from 0, in the order of the prompt.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    fragments: tuple[int, ...]


def chunk_tokens(
    parts: Sequence[Sequence[Fragment]], tokenizer: Any, convert: Callable[[str], str], length: int
) -> list[TokenChunk]:
    """Return a prompt's tokens in chunks of `length`, of which two are the start and the end token.

    Args:
        parts: fragments of the prompt, in parts that begin a new chunk.
        tokenizer: a CLIP tokenizer.
        convert: conversion of a text before tokenization, such as of learned words to their several tokens.
        length: number of tokens per chunk.
    """
    chunks: list[TokenChunk] = []
    number = 0
    for part in parts:
        tokens: list[tuple[int, float, int]] = []
        for fragment in part:
            ids = tokenizer(convert(fragment.text), add_special_tokens=False).input_ids
            tokens += [(token, fragment.weight, number) for token in ids]
            number += 1
        for first in range(0, max(1, len(tokens)), length - 2):
            chunks.append(_chunk(tokens[first : first + length - 2], tokenizer, length))
    return chunks


def empty_chunk(tokenizer: Any, length: int) -> TokenChunk:
    """Return the chunk of a prompt without words."""
    return _chunk([], tokenizer, length)


def _chunk(tokens: Sequence[tuple[int, float, int]], tokenizer: Any, length: int) -> TokenChunk:
    start, end = ((token, 1.0, NO_FRAGMENT) for token in (tokenizer.bos_token_id, tokenizer.eos_token_id))
    padding = [(tokenizer.pad_token_id, 1.0, NO_FRAGMENT)] * (length - 2 - len(tokens))
    ids, weights, fragments = zip(*[start, *tokens, end, *padding], strict=True)
    return TokenChunk(ids, weights, fragments)
