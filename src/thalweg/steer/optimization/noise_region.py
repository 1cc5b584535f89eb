"""Start noise near that of some seeds, alone or together with the embedding, as the variables of an optimization."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.generator import ChainGenerator
from thalweg.steer.trust_region import TrustRegion


class NoiseRegion:
    """Offsets (n) of an embedding, followed by those of each seed's start noise.

    Noise keeps the length it has as drawn: models know noise of unit variance only. Its offsets are in its own units,
    and its drift is bounded as the embedding's is, see `TrustRegion`.

    Args:
        generator: the model.
        region: the embeddings.
        seeds: the seeds whose noise moves.
        moves_embedding: whether the embedding moves as well.

    Attributes:
        start: the embedding at offsets of zero.
        radius: the largest drift of any tensor and of any seed's noise.
        spread: the offsets' unit (n).
    """

    def __init__(
        self, generator: ChainGenerator, region: TrustRegion, seeds: Sequence[int], moves_embedding: bool
    ) -> None:
        self._generator = generator
        self._region = region
        self._places = {seed: place for place, seed in enumerate(seeds)}
        self.moves_embedding = moves_embedding
        self._noise = generator.noise(seeds)
        self.start = region.start
        self.radius = region.radius
        self.spread = torch.cat([region.spread, torch.ones_like(self._noise).flatten().to(region.spread)])

    @property
    def size(self) -> int:
        """Number of offsets."""
        return len(self.spread)

    def _parts(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding's offsets and the noise's (S, m)."""
        words, noise = offsets.split([self._region.size, self._noise.numel()])
        return words, noise.reshape(len(self._noise), -1)

    def embedding(self, offsets: Tensor) -> Embedding:
        """Return the embedding at `offsets` (n), differentiable in them where it moves."""
        words = self._parts(offsets)[0]
        return self._region.embedding(words if self.moves_embedding else words.detach())

    def tensors(self, offsets: Tensor) -> dict[str, Tensor]:
        """Return the embedding's tensors at `offsets` (n)."""
        return self._region.tensors(self._parts(offsets)[0])

    def noise(self, offsets: Tensor) -> Tensor:
        """Return the noise (S, C, h, w) at `offsets` (n), of the length it was drawn with; differentiable."""
        drawn = self._noise.flatten(1)
        moved = drawn + self._parts(offsets)[1].to(drawn)
        return (moved * (drawn.norm(dim=1) / moved.norm(dim=1))[:, None]).reshape(self._noise.shape)

    def render(self, offsets: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return the images (S, 3, H, W) of some of the seeds, from their noise at `offsets` (n)."""
        noise = self.noise(offsets)[[self._places[seed] for seed in seeds]]
        return self._generator.decode(self._generator.latents(self.embedding(offsets), noise))

    def moves_noise(self, vector: Tensor) -> bool:
        """Return whether a vector (n) moves the noise of any seed."""
        return bool(self._parts(vector)[1].any())

    def split(self, offsets: Tensor) -> tuple[Tensor, ...]:
        """Return the part of a vector (n) that belongs to each tensor and to each seed's noise."""
        words, noise = self._parts(offsets)
        return (*self._region.split(words), *noise.unbind(0))

    def drift(self, offsets: Tensor) -> float:
        """Return the drift of the tensor, or the seed's noise, that moved furthest at `offsets` (n)."""
        return max(float(part.square().mean().sqrt()) for part in self.split(offsets))

    def project(self, offsets: Tensor) -> Tensor:
        """Return the nearest offsets (n) within the radius; what does not move has none."""
        words, noise = self._parts(offsets)
        words = self._region.project(words) if self.moves_embedding else torch.zeros_like(words)
        longest = self.radius * math.sqrt(noise.shape[1])
        lengths = noise.norm(dim=1, keepdim=True).clamp(min=longest)
        return torch.cat([words, (noise * (longest / lengths)).flatten()])
