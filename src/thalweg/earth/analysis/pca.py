"""Principal components of embeddings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.store.subsample import evenly_spaced_dates, sample_vectors
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

MAX_VECTORS = 200_000
"""Embeddings of a store that the components are fitted to, up to a factor of two."""

NUM_DATES = 24
"""Dates of a store that the components are fitted to, up to a factor of two."""

RGB_PERCENTILES = (2, 98)
"""Percentiles of a component that are shown as black and white."""

MIN_STD = 1e-9
"""Added to standard deviations, so that a constant dimension can be standardised."""

MISSING_GREY = 0.85
"""Grey of pixels that have no embedding."""


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """Principal components of vectors, the same for all dates of a store.

    Attributes:
        mean: (K,), mean of the vectors.
        scale: (K,), divisor of each dimension: ones, or standard deviations.
        axes: (N, K), orthonormal axes in rows, that of the largest variance first. Their signs carry no meaning.
        share: (N,), share of the variance along each axis.
        low: (N,), 2nd percentile of each component.
        high: (N,), 98th percentile of each component.
    """

    mean: NDArray[np.floating]
    scale: NDArray[np.floating]
    axes: NDArray[np.floating]
    share: NDArray[np.floating]
    low: NDArray[np.floating]
    high: NDArray[np.floating]

    @classmethod
    def fit(cls, vectors: NDArray[np.floating], count: int, standardise: bool = False) -> "PrincipalComponents":
        """Fit to vectors.

        Args:
            vectors: (M, K), finite.
            count: number of components N, 1 to K.
            standardise: whether to divide each dimension by its standard deviation.

        Raises:
            UsageError: fewer than two vectors, or more components than dimensions.
        """
        size = vectors.shape[1]
        if not 1 <= count <= size:
            raise UsageError(f"{count} components: expected 1 to {size}, the dimensions of an embedding")
        if len(vectors) < 2:
            raise UsageError(f"expected at least two embeddings to fit principal components, got {len(vectors)}")
        mean = vectors.mean(0)
        scale = vectors.std(0) + MIN_STD if standardise else np.ones_like(mean)
        centred = (vectors - mean) / scale
        _, singular_values, axes = np.linalg.svd(centred, full_matrices=False)
        axes = axes[:count]
        low, high = np.percentile(centred @ axes.T, RGB_PERCENTILES, axis=0)
        share = singular_values[:count] ** 2 / (singular_values**2).sum()
        return cls(mean, scale, axes, share, low, high)

    @classmethod
    def of(cls, dataset: "xr.Dataset", count: int = 3) -> "PrincipalComponents":
        """Fit to a bounded sample of an embedding dataset, spread over the grid.

        Args:
            dataset: embeddings, dims (time, embedding, y, x).
            count: number of components, 1 to the dimensions of an embedding.

        Raises:
            UsageError: the dataset has no embedding, or fewer dimensions.
        """
        size = dataset.sizes["embedding"]
        if not 1 <= count <= size:  # before anything is read
            raise UsageError(f"{count} components: expected 1 to {size}, the dimensions of an embedding")
        vectors = sample_vectors(dataset, evenly_spaced_dates(dataset, NUM_DATES), MAX_VECTORS)
        if len(vectors) < 2:
            raise UsageError("no embedding in this part of the store: choose another")
        return cls.fit(vectors, count)

    def transform(self, vectors: NDArray[np.floating], axis: int = -3) -> NDArray[np.floating]:
        """Compute the components of vectors.

        Args:
            vectors: K dimensions along `axis`, by default embeddings (..., K, h, w).
            axis: axis of the dimensions.

        Returns:
            N components along the same axis; NaN where a vector has NaN.
        """
        centred = (np.moveaxis(vectors, axis, -1) - self.mean) / self.scale
        return np.moveaxis(centred @ self.axes.T, -1, axis)

    def to_rgb(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return three components as red, green and blue.

        Args:
            vectors: (K, h, w), embeddings of one date.

        Returns:
            (h, w, 3) in 0..1, stretched from the 2nd to the 98th percentile; grey where there is no embedding.
        """
        components = np.moveaxis(self.transform(vectors), 0, -1)
        rgb = np.clip((components - self.low) / (self.high - self.low), 0, 1)
        return np.where(np.isfinite(rgb), rgb, MISSING_GREY)
