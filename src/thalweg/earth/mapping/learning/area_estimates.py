"""Area per class with its confidence interval: the stratified estimator of Olofsson et al. 2014, over blocks.

The strata are the classes of the map. Within each, the labelled pixels, as they were predicted in cross-validation,
say which share belongs to which class. The estimator is unbiased if the labelled pixels of a stratum are a probability
sample of it; labels that were chosen where they were at hand bias it, by an amount that no interval shows.

Reference: Olofsson et al. 2014, Remote Sensing of Environment 148, 42-57, equations 9 to 11.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.9
"""Probability of the stated intervals."""

PSEUDO_PIXELS = 1.5
"""Pixels that are added to each stratum for the variance of independent pixels."""


@dataclass(frozen=True, eq=False)
class AreaEstimates:
    """Shares of the mapped area per class.

    Attributes:
        mapped: (C,), share of the map.
        shares: (C,), estimated share.
        half_widths: (C,), half-width of the interval that holds the share with probability `LEVEL`.
    """

    mapped: NDArray[np.floating]
    shares: NDArray[np.floating]
    half_widths: NDArray[np.floating]

    @property
    def low(self) -> NDArray[np.floating]:
        """Lower ends of the intervals, (C,)."""
        return np.clip(self.shares - self.half_widths, 0, 1)

    @property
    def high(self) -> NDArray[np.floating]:
        """Upper ends of the intervals, (C,)."""
        return np.clip(self.shares + self.half_widths, 0, 1)


def area_estimates(
    mapped: NDArray[np.floating], predicted: NDArray[np.int64], truth: NDArray[np.int64], groups: NDArray[np.int64]
) -> AreaEstimates:
    """Estimate the shares of the area per class.

    The variance is that between blocks (linearised), or that of independent pixels if it is larger. The latter is
    computed with `PSEUDO_PIXELS` more in each stratum, spread evenly over the classes, so that a stratum without
    errors among few pixels is not taken as free of errors.

    Args:
        mapped: (C,), shares of the classes on the map; their sum is 1.
        predicted: (N,), class of each labelled pixel on a map that was made without its block.
        truth: (N,), its class.
        groups: (N,), its block.
    """
    from scipy.stats import t as student

    count = len(mapped)
    table = np.zeros((count, count))
    np.add.at(table, (predicted, truth), 1)
    size = table.sum(1)
    overall = np.bincount(truth, minlength=count) / len(truth)
    # A stratum without labels: half of it may be what the map says, the rest is as the labels are.
    unseen = 0.5 * np.eye(count) + 0.5 * overall
    rates = np.where(size[:, None] > 0, table / np.maximum(size[:, None], 1), unseen)
    shares = mapped @ rates
    smoothed = (table + PSEUDO_PIXELS / count) / (size[:, None] + PSEUDO_PIXELS)
    independent = (mapped[:, None] ** 2 * smoothed * (1 - smoothed) / np.maximum(size[:, None], 1)).sum(0)
    influence = (mapped / np.maximum(size, 1))[predicted, None] * (np.eye(count)[truth] - rates[predicted])
    blocks = np.unique(groups, return_inverse=True)[1]
    by_block = np.zeros((blocks.max() + 1, count))
    np.add.at(by_block, blocks, influence)
    freedom = max(len(by_block) - 1, 1)
    clustered = len(by_block) / freedom * (by_block**2).sum(0)
    factor = float(student.ppf((1 + LEVEL) / 2, freedom))
    return AreaEstimates(mapped, shares, factor * np.sqrt(np.maximum(clustered, independent)))


def mean_estimate(mapped: float, errors: NDArray[np.floating], groups: NDArray[np.int64]) -> tuple[float, float]:
    """Estimate the mean of a mapped number: that of the map, corrected by the mean error on the labelled pixels.

    Args:
        mapped: mean of the map.
        errors: (N,), truth minus prediction of each labelled pixel, predicted without its block.
        groups: (N,), its block.

    Returns:
        The mean, and the half-width of the interval that holds it with probability `LEVEL`.
    """
    from scipy.stats import t as student

    correction = float(errors.mean())
    blocks = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(blocks, errors - correction)
    freedom = max(len(sums) - 1, 1)
    variance = len(sums) / freedom * float((sums**2).sum()) / len(errors) ** 2
    return mapped + correction, float(student.ppf((1 + LEVEL) / 2, freedom)) * float(np.sqrt(variance))
