"""Trust region of Earth embeddings for `steer.optimization`, measured by the Mahalanobis norm of real embeddings."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import Generator
from thalweg.steer.trust_region import TrustRegion

MAX_PROJECTIONS = 50
"""Largest number of alternating projections on the bounds of the norm and of the region."""


class MahalanobisRegion(TrustRegion):
    """Plausible embeddings near that of a pixel, for `thalweg.steer.optimize`.

    Offsets (K,) are in whitened coordinates of a distribution: 1 is a standard deviation of real embeddings in any
    direction. The drift is their root mean square, the Mahalanobis norm divided by the root of K.

    Args:
        generator: an `EarthGenerator`.
        start: the embedding of a pixel.
        distribution: distribution of real embeddings.
        level: fraction of real embeddings inside the region; a start outside of it may stay at its distance, but not
            move further away.
        pairs: fraction of pairs of real embeddings that are closer to each other than the largest change.

    Raises:
        UsageError: The embedding is that of a scene, or of another model than the distribution's, or a fraction is not
            between 0 and 1.
    """

    def __init__(
        self,
        generator: Generator,
        start: Embedding,
        distribution: EmbeddingDistribution,
        level: float = 0.95,
        pairs: float = 0.5,
    ) -> None:
        vector = start.tensors["embedding"]
        if vector.shape != (distribution.size,):
            raise UsageError(f"expected the embedding ({distribution.size},) of a pixel, got {tuple(vector.shape)}")
        distribution.check_model(generator.model.name)
        super().__init__(generator, start, distribution.pairwise_quantile(pairs) / math.sqrt(distribution.size))
        self.spread = torch.ones_like(self.spread)
        self.factor = torch.from_numpy(distribution.factor).to(vector)
        self.origin = torch.from_numpy(distribution.whiten(vector.numpy())).to(vector)
        self.max_distance = max(distribution.radius_quantile(level), float(self.origin.norm()))

    def tensors(self, offsets: Tensor) -> dict[str, Tensor]:
        """Return the changed embedding at `offsets` (K); differentiable in them."""
        return {"embedding": self.start.tensors["embedding"] + self.factor @ offsets}

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the whitened coordinates (K) of an embedding's tensors, so that differences of two are offsets."""
        return torch.linalg.solve_triangular(self.factor, tensors["embedding"][:, None], upper=False)[:, 0]

    def project(self, offsets: Tensor) -> Tensor:
        """Return the nearest offsets (K) within the bounds of the norm and of the region."""
        max_norm = self.radius * math.sqrt(self.size)
        for _ in range(MAX_PROJECTIONS):
            offsets = offsets * min(1.0, max_norm / max(float(offsets.norm()), 1e-12))
            point = self.origin + offsets
            distance = float(point.norm())
            if distance <= self.max_distance * (1 + 1e-6):
                break
            offsets = point * (self.max_distance / distance) - self.origin
        return offsets
