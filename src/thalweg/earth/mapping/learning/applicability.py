"""Distance of a pixel from the training pixels: the dissimilarity index of Meyer & Pebesma 2021, unweighted.

The index of a pixel is the distance of its standardised features to the nearest training pixel, relative to the mean
distance between training pixels. Its limits are quantiles of the training pixels' own index, each measured to
training pixels of other blocks.

Reference: Meyer & Pebesma 2021, Methods in Ecology and Evolution 12, 1620-1633.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_REFERENCES = 400
"""Largest number of training pixels that distances are measured to, evenly spaced over the labels."""

LIMIT_LEVELS = (0.95, 0.99)
"""Quantiles of the training pixels' own index that serve as limits."""

MIN_STD = 1e-6


@dataclass(frozen=True, eq=False)
class Applicability:
    """Dissimilarity index of pixels to training pixels.

    Attributes:
        mean: (F,), mean of the features of the training pixels.
        scale: (F,), their standard deviation, times the square root of F.
        references: (M, F), standardised features of training pixels.
        mean_distance: mean distance between them.
        limits: quantiles of their own index, of `LIMIT_LEVELS`.
    """

    mean: NDArray[np.floating]
    scale: NDArray[np.floating]
    references: NDArray[np.floating]
    mean_distance: float
    limits: tuple[float, ...]

    @classmethod
    def of(cls, features: NDArray[np.floating], groups: NDArray[np.int64]) -> "Applicability":
        """Measure training pixels.

        Args:
            features: (N, F), finite.
            groups: (N,), their blocks; at least two.
        """
        some = np.arange(0, len(features), -(-len(features) // MAX_REFERENCES))
        mean = features.mean(0)
        scale = (features.std(0) + MIN_STD) * np.sqrt(features.shape[1])
        references = ((features[some] - mean) / scale).astype(np.float32)
        distance = _distances(references, references)
        mean_distance = float(distance[np.triu_indices(len(some), 1)].mean())
        is_same = groups[some][:, None] == groups[some][None]
        own = np.where(is_same, np.inf, distance).min(1) / mean_distance
        limits = tuple(float(np.quantile(own[np.isfinite(own)], level)) for level in LIMIT_LEVELS)
        return cls(mean.astype(np.float32), scale.astype(np.float32), references, mean_distance, limits)

    def index(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the dissimilarity index (N,) of features (N, F)."""
        standardised = ((features - self.mean) / self.scale).astype(np.float32)
        return np.asarray(_distances(standardised, self.references).min(1) / self.mean_distance, np.float32)


def _distances(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the distances (N, M) between rows."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0))
