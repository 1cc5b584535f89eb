"""Random fields with a chosen correlation length, the raw material of soils, crops and clouds."""

import numpy as np
from numpy.typing import NDArray


def random_field(rng: np.random.Generator, side: int, length: float, slope: float = 3.0) -> NDArray[np.float32]:
    """Draw a periodic Gaussian random field with a power-law spectrum.

    Args:
        rng: Source of randomness.
        side: Cells along each side.
        length: Correlation length in cells; the spectrum is flat beyond it.
        slope: Decay of the amplitude beyond the corner; larger is smoother.

    Returns:
        (side, side) float32, mean 0 and variance 1.
    """
    wavenumber = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    amplitude = (1.0 + (2 * np.pi * length * wavenumber) ** 2) ** (-slope / 2)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) * amplitude, s=(side, side))
    return ((field - field.mean()) / field.std()).astype(np.float32)


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
