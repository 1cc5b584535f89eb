"""Conformal prediction: sets of plausible classes, and intervals of numbers, from cross-validated predictions.

The score of a class at a pixel is one minus its probability; a class is plausible if its score is not above a
threshold. The thresholds are quantiles of the scores of the labelled pixels' own classes, each predicted without its
block (cross-conformal prediction; Vovk 2015, Barber et al. 2021). Blocks count equally, because the pixels of one
block repeat each other (Dunn et al. 2022), and classes by their share of the map, because labels are often collected
evenly over the classes (Tibshirani et al. 2019, Podkopaev & Ramdas 2021).
"""

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.9
"""Probability with which a set holds the pixel's class, or an interval its number."""


def label_weights(
    values: NDArray[np.int64], groups: NDArray[np.int64], shares: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return the weight (N,) of each labelled pixel; their sum is the number of pairs of a block and a class.

    Args:
        values: (N,), class of each pixel.
        groups: (N,), its block.
        shares: (C,), share of each class on the map.
    """
    pairs, index, counts = np.unique(np.column_stack([groups, values]), axis=0, return_inverse=True, return_counts=True)
    number = np.bincount(pairs[:, 1], minlength=len(shares))
    present = np.where(number > 0, shares, 0)
    by_class = present / max(present.sum(), 1e-9) * len(pairs) / np.maximum(number, 1)
    return np.asarray(by_class[values] / counts[index.ravel()])


def set_threshold(
    probabilities: NDArray[np.floating],
    values: NDArray[np.int64],
    weights: NDArray[np.floating],
    level: float = LEVEL,
) -> float:
    """Return the largest score of a plausible class.

    Args:
        probabilities: (N, C), of labelled pixels, each predicted without its block.
        values: (N,), their classes.
        weights: (N,), `label_weights`.
        level: probability with which a set is to hold the class.
    """
    scores = 1 - probabilities[np.arange(len(values)), values]
    return weighted_quantile(scores, weights, level)


def interval_half_width(errors: NDArray[np.floating], groups: NDArray[np.int64], level: float = LEVEL) -> float:
    """Return the half-width of the interval around a predicted number.

    Args:
        errors: (N,), of labelled pixels, each predicted without its block.
        groups: (N,), their blocks, which count equally.
        level: probability with which an interval is to hold the number.
    """
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return weighted_quantile(np.abs(errors), 1 / counts[index], level)


def weighted_quantile(scores: NDArray[np.floating], weights: NDArray[np.floating], level: float) -> float:
    """Return the smallest score that `level` of all weights, and of one more at infinity, do not exceed.

    Linear between scores, so that few labels do not give sets that are larger than the level asks for; the largest
    score if even that is not enough.
    """
    order = np.argsort(scores, kind="stable")
    cumulative = np.cumsum(weights[order])
    total = cumulative[-1] + 1.0
    return float(np.interp(level * total, cumulative, scores[order]))


def plausible_classes(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Return which classes (..., C) are plausible: by their score, and always the most probable one."""
    plausible = 1 - probabilities <= threshold
    top = probabilities.argmax(-1)
    return np.asarray(plausible | (np.arange(probabilities.shape[-1]) == top[..., None]))
