"""Mixing of units within pixels, and averaging over coarse pixels."""

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.land.parcels import Parcels


def unit_entries(parcels: Parcels) -> tuple[NDArray, NDArray]:
    """Return pixel and unit of every stored share, each (entry,), in storage order."""
    return np.repeat(np.arange(parcels.size**2), np.diff(parcels.shares.indptr)), parcels.shares.indices


def mix_units(parcels: Parcels, values: NDArray) -> NDArray:
    """Average (..., entry) values over the units of each pixel by their shares: (..., y, x) float32."""
    weighted = values * parcels.shares.data.astype(np.float32)
    sums = np.add.reduceat(weighted, parcels.shares.indptr[:-1], axis=-1)
    return sums.reshape(*values.shape[:-1], parcels.size, parcels.size).astype(np.float32)


def block_mean(values: NDArray, factor: int) -> NDArray:
    """Average the last two axes over blocks and repeat the mean back onto the grid.

    Args:
        values: (..., y, x); the border is padded where the last two are no multiples of ``factor``.
        factor: Block side in pixels.

    Returns:
        (..., y, x), constant within each block.
    """
    height, width = values.shape[-2:]
    pad = [(0, 0)] * (values.ndim - 2) + [(0, -height % factor), (0, -width % factor)]
    padded = np.pad(values, pad, mode="edge")
    shape = (*values.shape[:-2], padded.shape[-2] // factor, factor, padded.shape[-1] // factor, factor)
    means = padded.reshape(shape).mean(axis=(-3, -1))
    return means.repeat(factor, axis=-2).repeat(factor, axis=-1)[..., :height, :width]
