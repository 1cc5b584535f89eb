"""Textual inversion: a learned token vector, and its file in the format of diffusers' `load_textual_inversion`."""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import TokenGenerator
from thalweg.io.atomic import atomic_write
from thalweg.limits import MAX_RADIUS, MIN_RADIUS, check_number

FILE = "learned_embeds.safetensors"
"""File name that diffusers looks for in a folder."""


class TokenMove:
    """Embeddings of a prompt with a placeholder for a vector near that of a known word.

    Offsets (width) and drift are in units of the start vector's standard deviation, as in `TrustRegion`.

    Attributes:
        radius: the largest drift.
        spread: the offsets' unit (width).
    """

    def __init__(self, generator: TokenGenerator, prompt: str, placeholder: str, word: str, radius: float) -> None:
        """Begin at the token vector of `word`.

        Raises:
            UsageError: the radius is out of range.
        """
        check_number("`radius`", radius, MIN_RADIUS, MAX_RADIUS)
        self._generator = generator
        self._prompt = prompt
        self._placeholder = placeholder
        self._start = generator.token_vector(word).detach()
        spread = self._start.std(correction=0)
        self.radius = radius
        self.spread = torch.full_like(self._start, float(spread) or 1.0)

    def vector(self, offsets: Tensor) -> Tensor:
        """Return the token vector (width) at `offsets`."""
        return self._start + offsets * self.spread

    def embedding(self, offsets: Tensor) -> Embedding:
        """Return the prompt's embedding at `offsets`, differentiable in them."""
        return self._generator.embed_with(self._prompt, self._placeholder, self.vector(offsets))

    def drift(self, offsets: Tensor) -> float:
        """Return the root mean square of `offsets`."""
        return float(offsets.square().mean().sqrt())

    def project(self, offsets: Tensor) -> Tensor:
        """Return the nearest offsets within the radius."""
        drift = self.drift(offsets)
        return offsets * (self.radius / drift) if drift > self.radius else offsets


def save_textual_inversion(path: Path | str, token: str, vector: Tensor) -> Path:
    """Write the vector (width) of a token atomically, as one safetensors entry {token: (1, width)}.

    Raises:
        UsageError: the file is not named *.safetensors, the token is empty or holds a space, the vector has another
            shape or a value that is not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UsageError(f"expected a textual-inversion file named *.safetensors, got {path.name}")
    if not token or token.split() != [token]:
        raise UsageError(f"expected a token without spaces, got {token!r}")
    if vector.ndim != 1 or not bool(vector.isfinite().all()):
        raise UsageError(f"expected a finite vector (width), got shape {tuple(vector.shape)}")
    return atomic_write(path, save({token: vector.detach().cpu()[None].contiguous()}, {"format": "pt"}))
