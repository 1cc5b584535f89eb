"""The trust region of Earth embeddings: Mahalanobis distance to real ones in the place of an embedding's own spread."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import Generator
from thalweg.steer.trust_region import TrustRegion

_PROJECTIONS = 50


class MahalanobisRegion(TrustRegion):
    """The plausible embeddings near a pixel's, for `thalweg.steer.optimization.optimize`.

    Offsets (K,) are in whitened coordinates of a population: 1 is a standard deviation of real embeddings in whatever
    direction. The drift is their root mean square, Mahalanobis length over the root of K.

    Args:
        generator: an `EarthGenerator`.
        start: a pixel's embedding.
        population: real embeddings.
        level: share of real embeddings inside the region; a start outside of it may stay where it is, not go further.
        apart: share of pairs of real embeddings that lie nearer to each other than the longest change; the median.

    Raises:
        UsageError: an embedding of a scene, or of another model than the population's.
    """

    def __init__(
        self,
        generator: Generator,
        start: Embedding,
        population: EmbeddingDistribution,
        level: float = 0.95,
        apart: float = 0.5,
    ) -> None:
        vector = start.tensors["embedding"]
        if vector.shape != (population.size,):
            raise UsageError(f"expected the embedding ({population.size},) of a pixel, got {tuple(vector.shape)}")
        population.check_model(generator.model.name)
        super().__init__(generator, start, population.apart(apart) / math.sqrt(population.size))
        self.spread = torch.ones_like(self.spread)
        self.factor = torch.from_numpy(population.factor).to(vector)
        self.origin = torch.from_numpy(population.whiten(vector.numpy())).to(vector)
        self.bound = max(population.bound(level), float(self.origin.norm()))

    def tensors(self, offsets: Tensor) -> dict[str, Tensor]:
        """Return the moved embedding at `offsets` (K); differentiable in them."""
        return {"embedding": self.start.tensors["embedding"] + self.factor @ offsets}

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return whitened coordinates (K) of an embedding's tensors, so that differences of two are offsets."""
        return torch.linalg.solve_triangular(self.factor, tensors["embedding"][:, None], upper=False)[:, 0]

    def project(self, offsets: Tensor) -> Tensor:
        """Return the nearest offsets (K) that are neither too long nor lead out of the region."""
        longest = self.radius * math.sqrt(self.size)
        for _ in range(_PROJECTIONS):
            offsets = offsets * min(1.0, longest / max(float(offsets.norm()), 1e-12))
            place = self.origin + offsets
            distance = float(place.norm())
            if distance <= self.bound * (1 + 1e-6):
                break
            offsets = place * (self.bound / distance) - self.origin
        return offsets
