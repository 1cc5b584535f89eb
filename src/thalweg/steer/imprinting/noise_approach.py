"""Start noise on the way from the target seed's to other seeds' own: the continuation of the published imprint."""

from collections.abc import Sequence

from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.generator import ChainGenerator
from thalweg.steer.interpolation import slerp


class NoiseApproach:
    """Noise that begins near the target seed's, where all images show the target, and ends as each seed's own.

    An embedding that follows keeps what the target shows, where a descent that begins at other seeds' own images may
    end in images that resemble the target by other means.
    """

    def __init__(self, generator: ChainGenerator, target_seed: int) -> None:
        self._generator = generator
        self.target = generator.noise([target_seed])
        """The target seed's own noise (1, C, h, w)."""

    def noise(self, seeds: Sequence[int], weight: float) -> Tensor:
        """Return the noise (S, C, h, w) at `weight` on each seed's arc: 0 is the target's noise, 1 the seed's own."""
        own = self._generator.noise(seeds)
        target = self.target.expand_as(own).flatten(1)
        return slerp(target, own.flatten(1), weight).reshape(own.shape)

    def images(self, embedding: Embedding, seeds: Sequence[int], weight: float) -> Tensor:
        """Return the images (S, 3, H, W) from that noise, differentiable in the embedding."""
        return self._generator.decode(self._generator.latents(embedding, self.noise(seeds, weight)))
