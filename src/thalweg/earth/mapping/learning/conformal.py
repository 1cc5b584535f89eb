"""Conformal prediction: sets of plausible classes, and intervals of numbers, from cross-validated predictions.

The score of a class at a pixel is one minus its probability; a class is plausible if its score is not above a
threshold. The threshold is a quantile of the scores of the labelled pixels' own classes, each predicted without its
block (cross-conformal prediction; Vovk 2015, Barber et al. 2021). Classes count by their share of the map, because
labels are often collected evenly over the classes (Podkopaev & Ramdas 2021). The correction of the quantile for the
number of labels is left out: the learners of the folds have fewer labels than the final one, so that their scores are
high, and with the correction the sets held more than they say (site BE-1).
"""

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.9
"""Probability with which a set holds the pixel's class, or an interval its number."""

MIN_SHARE = 1e-6
"""Lower bound of the share of a class, so that its labels have a weight."""


def label_weights(values: NDArray[np.int64], shares: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the weight (N,) of each labelled pixel: together, those of a class weigh as much as its share.

    Args:
        values: (N,), class of each pixel.
        shares: (C,), share of each class on the map; taken as at least `MIN_SHARE`.
    """
    number = np.bincount(values, minlength=len(shares))
    return np.asarray((np.maximum(shares, MIN_SHARE) / np.maximum(number, 1))[values])


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


def interval_half_width(errors: NDArray[np.floating], level: float = LEVEL) -> float:
    """Return the half-width of the interval around a predicted number.

    Args:
        errors: (N,), of labelled pixels, each predicted without its block.
        level: probability with which an interval is to hold the number.
    """
    return weighted_quantile(np.abs(errors), np.ones(len(errors)), level)


def weighted_quantile(scores: NDArray[np.floating], weights: NDArray[np.floating], level: float) -> float:
    """Return the score that `level` of all weights do not exceed; a score lies in the middle of its weight (Hazen)."""
    order = np.argsort(scores, kind="stable")
    ordered = weights[order]
    cumulative = np.cumsum(ordered)
    return float(np.interp(level * cumulative[-1], cumulative - ordered / 2, scores[order]))


def plausible_classes(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Return which classes (..., C) are plausible: by their score, and always the most probable one."""
    plausible = 1 - probabilities <= threshold
    top = probabilities.argmax(-1)
    return np.asarray(plausible | (np.arange(probabilities.shape[-1]) == top[..., None]))
