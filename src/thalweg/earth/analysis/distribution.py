"""Real embeddings as a population: where they lie, how far apart, and what lies among them."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

VECTORS = 20_000
"""Most vectors that a population is made of."""
DATES, WINDOWS, SIDE = 24, 16, 64
"""Most dates and windows that are read, and a window's side in pixels: the shard of a store."""
_LEAST_A_VALUE = 10
"""Vectors that a population needs for each value of the embedding."""
_FLOOR = 1e-9
"""Share of the mean variance added to every value's, so that values that never differ can be told from noise."""


@dataclass(frozen=True, eq=False)
class EmbeddingDistribution:
    """Mean and covariance of real embeddings, and how their distances are distributed.

    Distances are Mahalanobis distances: 1 is one standard deviation in whatever direction. Embeddings are not normally
    distributed, so that a region is drawn where the sample says, not where a chi-square distribution would.

    Attributes:
        model: identifier of the Earth model that made the embeddings.
        mean: (K,), float64.
        covariance: (K, K), float64.
        distances: (N,), each vector's distance from the mean, ascending.
        separations: (M,), distances between two vectors drawn at random, ascending.
    """

    model: str
    mean: NDArray[np.floating]
    covariance: NDArray[np.floating]
    distances: NDArray[np.floating]
    separations: NDArray[np.floating]

    @classmethod
    def of(cls, dataset: "xr.Dataset", vectors: int = VECTORS, seed: int = 0) -> "EmbeddingDistribution":
        """Sample an embedding dataset; only the windows and dates that are sampled are read.

        Args:
            dataset: as `thalweg.open` gives it, or a part of one.
            vectors: how many vectors at most.
            seed: of the sample.

        Raises:
            UsageError: fewer than 10 vectors for each value of the embedding.
        """
        sample = _sample(dataset, vectors, np.random.default_rng(seed))
        return cls.from_vectors(sample, str(dataset.attrs["thalweg:model"]))

    @classmethod
    def from_vectors(cls, vectors: NDArray, model: str) -> "EmbeddingDistribution":
        """Make a population of vectors (N, K) that the Earth model `model` made; `UsageError` for too few."""
        count, size = vectors.shape
        if count < _LEAST_A_VALUE * size:
            raise UsageError(
                f"{count} embeddings: expected at least {_LEAST_A_VALUE * size} for a population of {size} values; "
                "take a larger part of the store"
            )
        vectors = vectors.astype(np.float64)
        covariance = np.cov(vectors.T)
        covariance += _FLOOR * np.trace(covariance) / size * np.eye(size)
        alone = cls(model, vectors.mean(0), covariance, np.zeros(0), np.zeros(0))
        whitened = alone.whiten(vectors)
        shuffled = whitened[np.random.default_rng(0).permutation(count)]
        separations = np.linalg.norm(whitened - shuffled, axis=1)
        distances = np.linalg.norm(whitened, axis=1)
        return cls(model, alone.mean, covariance, np.sort(distances), np.sort(separations[separations > 0]))

    @property
    def size(self) -> int:
        """Values of an embedding, K."""
        return len(self.mean)

    @cached_property
    def factor(self) -> NDArray[np.floating]:
        """(K, K), lower triangular: an embedding is the mean plus the factor times its whitened values."""
        return np.linalg.cholesky(self.covariance)

    @cached_property
    def axes(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Principal directions (K, K), one a row, and the standard deviation (K,) along each, the largest first."""
        variances, vectors = np.linalg.eigh(self.covariance)
        return vectors.T[::-1], np.sqrt(variances[::-1])

    def whiten(self, vectors: NDArray) -> NDArray[np.floating]:
        """(..., K) embeddings to values that are uncorrelated and of unit variance in the population."""
        return np.linalg.solve(self.factor, (vectors - self.mean)[..., None])[..., 0]

    def distance(self, vectors: NDArray) -> NDArray[np.floating]:
        """(..., K) embeddings to their distance (...) from the mean."""
        return np.asarray(np.linalg.norm(self.whiten(vectors), axis=-1))

    def mahalanobis_norm(self, changes: NDArray) -> NDArray[np.floating]:
        """(..., K) differences of two embeddings to their Mahalanobis length (...)."""
        return np.asarray(np.linalg.norm(np.linalg.solve(self.factor, changes[..., None])[..., 0], axis=-1))

    def radius_quantile(self, level: float) -> float:
        """The distance from the mean within which a share `level` of the population lies."""
        return _quantile(self.distances, level)

    def pairwise_quantile(self, level: float = 0.5) -> float:
        """How far two real embeddings lie apart: a share `level` of pairs is nearer; by default the median pair."""
        return _quantile(self.separations, level)

    def check_model(self, identifier: str) -> None:
        """Refuse another model's embeddings with a `UsageError`."""
        if identifier != self.model:
            raise UsageError(f"expected a population of {identifier}, got one of {self.model}; make it of this store")


def _quantile(ascending: NDArray[np.floating], level: float) -> float:
    if not 0 < level < 1:
        raise UsageError(f"expected a level between 0 and 1, got {level:g}")
    return float(np.quantile(ascending, level))


def _sample(dataset: "xr.Dataset", vectors: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(N, K) finite vectors from windows and dates spread over a dataset."""
    rows, columns, dates = (dataset.sizes[name] for name in ("y", "x", "time"))
    corners = [(top, left) for top in range(0, rows, SIDE) for left in range(0, columns, SIDE)]
    chosen = [corners[index] for index in rng.permutation(len(corners))[:WINDOWS]]
    days = np.unique(np.linspace(0, dates - 1, min(dates, DATES)).round().astype(int))
    found = []
    for top, left in chosen:
        window = dataset.embeddings.isel(y=slice(top, top + SIDE), x=slice(left, left + SIDE))
        for day in days:
            flat = window.isel(time=int(day)).values.reshape(window.sizes["embedding"], -1).T
            flat = flat[np.isfinite(flat).all(1)]
            share = -(-vectors // (len(chosen) * len(days))) * 4  # dates under clouds leave their share to others
            found.append(flat[rng.permutation(len(flat))[:share]])
    together = np.concatenate(found)
    return together[rng.permutation(len(together))[:vectors]]
