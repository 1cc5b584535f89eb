"""Spatial blocks: their size from the labels' spatial autocorrelation, and folds of whole blocks."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.mapping.labels.label_pixels import LabelPixels
from thalweg.errors import UsageError

MIN_SIDE = 8
"""Smallest side of a block in pixels: embeddings of pixels within about as many pixels share their context."""

MIN_BLOCKS = 3
"""Smallest number of blocks with labels."""

WANTED_BLOCKS = 10
"""Number of blocks with labels below which the blocks are made smaller than the autocorrelation asks for."""

MAX_FOLDS = 5
"""Largest number of folds of the cross-validation."""

CORRELATION_LIMIT = 1 / math.e
"""Correlation below which labels are taken as independent."""

_SIDES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_DISTANCES = (0, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_MAX_PAIR_PIXELS, _MIN_PAIRS = 1500, 100


@dataclass(frozen=True, eq=False)
class SpatialBlocks:
    """Blocks of labelled pixels.

    Attributes:
        side: side of a block in pixels.
        reason: sentence that says why blocks have this side.
        groups: (N,), number of the block of each labelled pixel, from 0; all pixels of a feature are in one block.
    """

    side: int
    reason: str
    groups: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of blocks with labels."""
        return int(self.groups.max()) + 1

    @classmethod
    def of(cls, labels: LabelPixels, side: int | None = None) -> "SpatialBlocks":
        """Choose blocks for labels.

        The side is the distance in which the correlation of the labels falls below 1/e, or the median diameter of the
        polygons if that is larger, at least `MIN_SIDE`; smaller if fewer than `WANTED_BLOCKS` blocks had labels.

        Args:
            labels: labelled pixels.
            side: side of a block in pixels; chosen by default.

        Raises:
            UsageError: Fewer than `MIN_BLOCKS` blocks have labels.
        """
        if side is not None:
            return cls._checked(labels, side, "It was given.")
        wanted, reason = _wanted_side(labels)
        candidates = [one for one in _SIDES if one <= wanted] or [MIN_SIDE]
        enough = [one for one in candidates if _groups(labels, one).max() + 1 >= WANTED_BLOCKS]
        chosen = enough[-1] if enough else MIN_SIDE
        if chosen < candidates[-1]:
            reason += f" Larger blocks than {chosen} px would leave fewer than {WANTED_BLOCKS} of them with labels."
        return cls._checked(labels, chosen, reason)

    @classmethod
    def _checked(cls, labels: LabelPixels, side: int, reason: str) -> "SpatialBlocks":
        groups = _groups(labels, side)
        count = int(groups.max()) + 1
        if count < MIN_BLOCKS:
            raise UsageError(
                f"the labels lie in {count} block(s) of {side} px: expected at least {MIN_BLOCKS}, to test on blocks "
                "without training labels: label more places"
            )
        return cls(side, reason, groups)

    def folds(self, values: NDArray | None = None, count: int = MAX_FOLDS) -> Iterator[tuple[NDArray, NDArray]]:
        """Yield training and test indices of folds of whole blocks.

        Args:
            values: (N,), classes to spread evenly over the folds; None for numbers.
            count: largest number of folds.
        """
        yield from block_folds(self.groups, values, count)


def block_folds(
    groups: NDArray[np.int64], values: NDArray | None = None, count: int = MAX_FOLDS
) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield training and test indices of folds of whole groups; those of classes are spread evenly over the folds."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    count = min(count, len(np.unique(groups)))
    if count < 2:
        return
    empty = np.zeros((len(groups), 1))
    if values is None:
        yield from GroupKFold(count).split(empty, groups=groups)
        return
    count = min(count, int(np.unique(values, return_counts=True)[1].max()))  # a class fills at most so many folds
    if count < 2:
        return
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class with fewer pixels than folds, which the report's scores show
        folds = list(splitter.split(empty, values, groups))
    for training, test in folds:
        if len(test) and len(np.unique(values[training])) > 1:
            yield training, test


def _groups(labels: LabelPixels, side: int) -> NDArray[np.int64]:
    """Return the block of each pixel: that of the mean position of its feature."""
    _, feature = np.unique(labels.features, return_inverse=True)
    counts = np.bincount(feature)
    rows, columns = ((np.bincount(feature, axis) / counts)[feature] // side for axis in (labels.rows, labels.columns))
    return np.unique(np.column_stack([rows, columns]), axis=0, return_inverse=True)[1].ravel()


def _wanted_side(labels: LabelPixels) -> tuple[float, str]:
    """Return the side that the labels ask for in pixels, and why."""
    reach = autocorrelation_range(labels)
    diameter = float(np.median(labels.diameters)) if len(labels.diameters) else 0.0
    if reach is None:
        reason = "The labels are too few to measure how far they are correlated"
        if diameter > MIN_SIDE:
            return diameter, f"{reason}; the median polygon is {diameter:.0f} px wide."
        return MIN_SIDE, f"{reason}; {MIN_SIDE} px is the smallest side."
    reason = f"The labels are correlated over {reach:.0f} px (correlation above 1/e)"
    if diameter > max(reach, MIN_SIDE):
        return diameter, f"{reason}; the median polygon is wider, {diameter:.0f} px."
    if reach < MIN_SIDE:
        return MIN_SIDE, f"{reason}; {MIN_SIDE} px is the smallest side."
    return reach, f"{reason}."


def autocorrelation_range(labels: LabelPixels) -> float | None:
    """Return the distance in pixels in which the labels' correlation falls below 1/e; None with too few pairs.

    The correlation of classes at a distance is that of their indicators: (s - e) / (1 - e), with s the share of pairs
    of the same class and e that of all pairs, whatever their distance.
    """
    step = -(-len(labels) // _MAX_PAIR_PIXELS)
    some = labels.subset(np.arange(0, len(labels), step))
    first, second = np.triu_indices(len(some), 1)
    distance = np.hypot(some.rows[first] - some.rows[second], some.columns[first] - some.columns[second])
    if labels.classes:
        similarity = (some.values[first] == some.values[second]).astype(float)
        expected, largest = similarity.mean(), 1.0
    else:
        centred = some.values - some.values.mean()
        similarity, expected, largest = centred[first] * centred[second], 0.0, float(centred.var())
    for low, high in pairwise(_DISTANCES):
        chosen = (distance > low) & (distance <= high)
        if chosen.sum() < _MIN_PAIRS:
            continue
        if similarity[chosen].mean() - expected < CORRELATION_LIMIT * (largest - expected):
            return float(high)
    return None
