"""Distribution of real embeddings: mean and covariance, Mahalanobis distances, principal directions."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.store.subsample import evenly_spaced_dates, sample_vectors
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

MAX_VECTORS = 20_000
"""Embeddings that a distribution is estimated from."""

NUM_DATES = 24
"""Dates of a store that are sampled, up to a factor of two."""

CHUNK_READS = 16 * NUM_DATES
"""Chunks of a store that are read at most."""

MIN_VECTORS_PER_DIMENSION = 10
"""Embeddings that are needed per dimension."""

VARIANCE_FLOOR = 1e-9
"""Share of the mean variance that is added to every variance, so that a constant dimension can be inverted."""


@dataclass(frozen=True, eq=False)
class EmbeddingDistribution:
    """Mean and covariance of real embeddings, and the distribution of their distances.

    Distances are Mahalanobis distances: 1 is one standard deviation in any direction. Embeddings are not normally
    distributed; the radius of a region is therefore a quantile of the sample, not of a chi-square distribution.

    Attributes:
        model: identifier of the Earth model that made the embeddings.
        mean: (K,), float64.
        covariance: (K, K), float64.
        distances: (N,), distance of each sampled embedding from the mean, ascending.
        separations: (M,), distances between random pairs of sampled embeddings, ascending.
    """

    model: str
    mean: NDArray[np.floating]
    covariance: NDArray[np.floating]
    distances: NDArray[np.floating]
    separations: NDArray[np.floating]

    @classmethod
    def of(cls, dataset: "xr.Dataset", vectors: int = MAX_VECTORS) -> "EmbeddingDistribution":
        """Estimate the distribution from a bounded sample of an embedding dataset, spread over grid and dates.

        Args:
            dataset: embeddings as `thalweg.open` returns them, or a part of them, dims (time, embedding, y, x).
            vectors: number of embeddings at most.

        Raises:
            UsageError: fewer than 10 embeddings per dimension.
        """
        sample = sample_vectors(dataset, evenly_spaced_dates(dataset, NUM_DATES), vectors, CHUNK_READS)
        if len(sample) > vectors:
            sample = sample[np.linspace(0, len(sample) - 1, vectors).round().astype(int)]
        return cls.from_vectors(sample, str(dataset.attrs["thalweg:model"]))

    @classmethod
    def from_vectors(cls, vectors: NDArray[np.floating], model: str) -> "EmbeddingDistribution":
        """Estimate the distribution from embeddings.

        Args:
            vectors: (N, K), finite.
            model: identifier of the Earth model that made them.

        Raises:
            UsageError: fewer than 10 embeddings per dimension.
        """
        count, size = vectors.shape
        if count < MIN_VECTORS_PER_DIMENSION * size:
            raise UsageError(
                f"{count} embeddings: expected at least {MIN_VECTORS_PER_DIMENSION * size} for a distribution in "
                f"{size} dimensions; take a larger part of the store"
            )
        vectors = vectors.astype(np.float64)
        covariance = np.cov(vectors.T)
        covariance += VARIANCE_FLOOR * np.trace(covariance) / size * np.eye(size)
        moments = cls(model, vectors.mean(0), covariance, np.zeros(0), np.zeros(0))
        whitened = moments.whiten(vectors)
        shuffled = whitened[np.random.default_rng(0).permutation(count)]
        separations = np.linalg.norm(whitened - shuffled, axis=1)
        distances = np.linalg.norm(whitened, axis=1)
        return cls(model, moments.mean, covariance, np.sort(distances), np.sort(separations[separations > 0]))

    @property
    def size(self) -> int:
        """Dimensions of an embedding, K."""
        return len(self.mean)

    @cached_property
    def factor(self) -> NDArray[np.floating]:
        """Cholesky factor (K, K), lower triangular: an embedding is mean + factor @ whitened embedding."""
        return np.linalg.cholesky(self.covariance)

    @cached_property
    def axes(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Principal directions (K, K), in rows, and the standard deviation (K,) along each, the largest first."""
        variances, vectors = np.linalg.eigh(self.covariance)
        return vectors.T[::-1], np.sqrt(variances[::-1])

    def whiten(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Whiten embeddings (..., K): uncorrelated and of unit variance in the distribution, (..., K), float64."""
        return np.linalg.solve(self.factor, (vectors - self.mean)[..., None])[..., 0]

    def distance(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the Mahalanobis distances (...) of embeddings (..., K) from the mean."""
        return np.asarray(np.linalg.norm(self.whiten(vectors), axis=-1))

    def mahalanobis_norm(self, changes: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the Mahalanobis norms (...) of differences (..., K) between two embeddings."""
        return np.asarray(np.linalg.norm(np.linalg.solve(self.factor, changes[..., None])[..., 0], axis=-1))

    def radius_quantile(self, level: float) -> float:
        """Return the distance from the mean within which a share `level` of real embeddings lies.

        Raises:
            UsageError: `level` is not between 0 and 1.
        """
        return _quantile(self.distances, level)

    def pairwise_quantile(self, level: float = 0.5) -> float:
        """Return the distance within which a share `level` of random pairs lies; the median pair by default.

        Raises:
            UsageError: `level` is not between 0 and 1.
        """
        return _quantile(self.separations, level)

    def check_model(self, identifier: str) -> None:
        """Check that the model `identifier` made the embeddings.

        Raises:
            UsageError: another model did.
        """
        if identifier != self.model:
            raise UsageError(
                f"expected a distribution of embeddings of {identifier}, got one of {self.model}: make it of this store"
            )


def _quantile(ascending: NDArray[np.floating], level: float) -> float:
    if not 0 < level < 1:
        raise UsageError(f"expected a level between 0 and 1, got {level:g}")
    return float(np.quantile(ascending, level))
