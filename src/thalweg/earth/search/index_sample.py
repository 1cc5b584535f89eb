"""Sample of the embeddings of stores, and the scales of an index that are fitted to it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.store.subsample import evenly_spaced_dates, evenly_spaced_parts, read_parts

if TYPE_CHECKING:
    import xarray as xr

NUM_DATES = 24
"""Dates of each store that the sample is taken from, up to a factor of two."""

NORMAL_MEDIAN = 0.6745
"""Median absolute value of a normal variable of unit variance."""

MIN_SHARE = 0.01
"""Least within-scale of a dimension, as a share of its standard deviation."""

MIN_SCALE = 1e-6


@dataclass(frozen=True, eq=False)
class IndexScales:
    """Scales of an index.

    Attributes:
        mean: (K,), mean of the embeddings.
        within: (K,), within-scale: the robust standard deviation of the difference between two adjacent pixels on one
            date.
        scale: (K,), divisor in the lists: the root of the squared within-scale and of twice the squared median
            uncertainty.
    """

    mean: NDArray[np.float64]
    within: NDArray[np.float64]
    scale: NDArray[np.float64]

    def scaled(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return embeddings (..., K) as they are in the lists."""
        return np.asarray((vectors - self.mean) / self.scale, np.float32)

    def unscaled(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return embeddings (..., K) from their form in the lists."""
        return vectors * self.scale + self.mean


@dataclass(eq=False)
class IndexSample:
    """Sample of embeddings, of their uncertainty, and of differences between adjacent pixels on one date.

    Attributes:
        vectors: embeddings of each part that was read, (M, K) each.
        uncertainty: their uncertainty, (M, K) each.
        differences: differences of adjacent pixels, (L, K) each.
        found: number of embeddings in the parts that were read.
        pixels: number of pixel-dates of these parts.
    """

    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    uncertainty: list[NDArray[np.float32]] = field(default_factory=list)
    differences: list[NDArray[np.float32]] = field(default_factory=list)
    found: int = 0
    pixels: int = 0

    def read(self, dataset: "xr.Dataset", count: int, chunks: int) -> None:
        """Add embeddings of a store, evenly spaced over dates and grid.

        Args:
            dataset: embedding dataset.
            count: number of embeddings to add, at most.
            chunks: number of chunks to read, at most, unless `NUM_DATES` dates have more.
        """
        dates = evenly_spaced_dates(dataset, NUM_DATES)
        parts = evenly_spaced_parts(dataset, len(dates), chunks)
        area = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)
        step = max(1, -(-area * len(dates) // count))
        self.pixels += area * len(dates)
        values, spreads = (read_parts(dataset, name, dates, parts) for name in ("embeddings", "uncertainty"))
        for (_, vectors), (_, uncertainty) in zip(values, spreads, strict=True):
            has_embedding = np.isfinite(vectors).all(1)
            self.found += int(has_embedding.sum())
            # Copies: views would keep the whole part in memory.
            self.vectors.append(np.moveaxis(vectors, 1, -1)[has_embedding][::step].copy())
            self.uncertainty.append(np.moveaxis(uncertainty, 1, -1)[has_embedding][::step].copy())
            apart = np.moveaxis(np.diff(vectors, axis=3), 1, -1)
            self.differences.append(apart[np.isfinite(apart).all(-1)][::step].copy())

    def scales(self) -> IndexScales:
        """Fit the scales; without adjacent pixels, the within-scale is the standard deviation."""
        vectors = np.concatenate(self.vectors).astype(np.float64)
        differences = np.concatenate(self.differences).astype(np.float64)
        known = np.median(np.nan_to_num(np.concatenate(self.uncertainty).astype(np.float64)), 0)
        spread = vectors.std(0)
        within = np.median(np.abs(differences), 0) / NORMAL_MEDIAN if len(differences) else spread
        within = np.maximum(within, MIN_SHARE * spread + MIN_SCALE)
        return IndexScales(vectors.mean(0), within, np.sqrt(within**2 + 2 * known**2))
