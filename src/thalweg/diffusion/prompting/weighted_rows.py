"""Rows of a text encoder for tokens with weights, by the conventions of A1111 and of Compel."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thalweg.diffusion.prompting.prompt_syntax import SyntaxName
from thalweg.diffusion.prompting.token_chunks import TokenChunk

Encoder = Callable[[Tensor, Tensor | None], Tensor]
"""`(ids (1, n), mask (1, n) of the tokens that are read, or None) -> rows (1, n, width)`."""

MIN_LOWERED = 1e-5
"""Weight that stands for 0, at which Compel's share of the prompt without a fragment would be infinite."""


def weighted_rows(
    chunks: Sequence[TokenChunk], encode: Encoder, syntax: SyntaxName | None, empty: TokenChunk
) -> Tensor:
    """Return the rows (1, chunks x n, width) of a prompt, the chunks one after the other.

    Args:
        chunks: tokens and weights.
        encode: the text encoder.
        syntax: convention of the weights. "a1111": rows are scaled by their weights, and each chunk by the number that
            restores its mean. "compel": rows move from those of the empty prompt, by their weights as factors; and for
            each fragment of a weight w below 1, the rows are averaged with those of the prompt in which the encoder
            does not see it, whose share is tan((1 - w) pi / 2) to 1. None: weights are not read.
        empty: chunk of the empty prompt.
    """
    if syntax == "compel":
        return _compel_rows(chunks, encode, empty)
    found = []
    for chunk in chunks:
        rows = encode(_ids(chunk), None)
        if syntax == "a1111" and set(chunk.weights) != {1.0}:
            scaled = rows * _column(chunk, rows)
            before, after = rows.mean(), scaled.mean()
            rows = scaled * (before / after) if bool(after) else scaled
        found.append(rows)
    return torch.cat(found, dim=1)


def _compel_rows(chunks: Sequence[TokenChunk], encode: Encoder, empty: TokenChunk) -> Tensor:
    lowered = {
        fragment: math.tan((1 - max(weight, MIN_LOWERED)) * math.pi / 2)
        for chunk in chunks
        for fragment, weight in zip(chunk.fragments, chunk.weights, strict=True)
        if weight < 1
    }
    origin = encode(_ids(empty), None)
    found = []
    for chunk in chunks:

        def moved(mask: Tensor | None, chunk: TokenChunk = chunk) -> Tensor:
            return origin + (encode(_ids(chunk), mask) - origin) * _column(chunk, origin)

        base = moved(None)
        total = base.clone()
        for fragment, share in lowered.items():
            is_seen = torch.tensor([[each != fragment for each in chunk.fragments]])
            total = total + share * (base if bool(is_seen.all()) else moved(is_seen.long()))
        found.append(total / (1 + sum(lowered.values())))
    return torch.cat(found, dim=1)


def _ids(chunk: TokenChunk) -> Tensor:
    return torch.tensor([chunk.ids])


def _column(chunk: TokenChunk, like: Tensor) -> Tensor:
    """Return a chunk's weights (n, 1)."""
    return like.new_tensor(chunk.weights)[:, None]
