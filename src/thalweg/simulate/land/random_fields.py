"""Gaussian random fields with a given correlation length, for soils, crops and clouds."""

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
