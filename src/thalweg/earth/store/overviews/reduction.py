"""Reduction of maps by squares of pixels: means of embeddings, of their uncertainty and of colours, lowest flags."""

import numpy as np
from numpy.typing import NDArray


def renormalized_means(vectors: NDArray[np.floating], factor: int) -> NDArray[np.float32]:
    """Average embeddings over `factor` x `factor` pixels and keep their length.

    The mean of vectors in different directions is shorter than the vectors and would be similar to other pixels; it
    is therefore scaled to their mean length.

    Args:
        vectors: embeddings (K, H, W), NaN where there is none.
        factor: side of the averaged squares in pixels.

    Returns:
        Float32 (K, ceil(H / factor), ceil(W / factor)), NaN where no pixel has an embedding.
    """
    blocks = _squares(vectors.astype(np.float64), factor, np.nan)
    has_embedding = np.isfinite(blocks).all(0)
    number = has_embedding.sum((1, 3))
    known = np.where(has_embedding, blocks, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, length = known.sum((2, 4)) / number, np.linalg.norm(known, axis=0).sum((1, 3)) / number
        shrunk = np.linalg.norm(mean, axis=0)
        scaled = mean * np.where(shrunk > 0, length / shrunk, 1)
    return np.where(number > 0, scaled, np.nan).astype(np.float32)


def means(values: NDArray[np.floating], factor: int) -> NDArray[np.float32]:
    """Average numbers (..., H, W) over `factor` x `factor` pixels without NaN; NaN where all are NaN."""
    blocks = _squares(values.astype(np.float64), factor, np.nan)
    known = np.isfinite(blocks)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(known, blocks, 0).sum((-3, -1)) / known.sum((-3, -1))).astype(np.float32)


def lowest_flags(flags: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return the lowest flag (..., H, W) of `factor` x `factor` pixels: the best quality among them."""
    return np.asarray(_squares(flags, factor, np.iinfo(np.uint8).max).min((-3, -1)), np.uint8)


def color_means(colors: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average colours (3, H, W) over `factor` x `factor` pixels; black is no measurement and does not count."""
    measured = np.where((colors > 0).any(0), colors.astype(np.float32), np.nan)
    return np.asarray(np.rint(np.nan_to_num(means(measured, factor))), np.uint8)


def _squares(values: NDArray, factor: int, fill: float) -> NDArray:
    """Return maps (..., H, W) as squares (..., H', factor, W', factor), those at the edges padded with `fill`."""
    *leading, rows, columns = values.shape
    missing = [(0, 0)] * len(leading) + [(0, -rows % factor), (0, -columns % factor)]
    padded = np.pad(values, missing, constant_values=fill)
    return padded.reshape(*leading, padded.shape[-2] // factor, factor, padded.shape[-1] // factor, factor)
