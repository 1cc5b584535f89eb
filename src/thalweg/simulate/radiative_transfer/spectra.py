"""Spectra of soils, dry and wet, and of straw, petals, roofs, asphalt and water."""

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.variety import NEUTRAL, Variety
from thalweg.simulate.weather.climates import ClimateSpec

_NODES = np.array([400, 450, 500, 550, 600, 650, 700, 750, 850, 1000, 1300, 1600, 2200, 2500], float)
# Rounded from the classes of the ECOSTRESS spectral library (Meerdink et al. 2019).
# fmt: off
_MATERIALS: dict[str, list[float]] = {
    "straw": [0.07, 0.10, 0.13, 0.17, 0.22, 0.26, 0.30, 0.33, 0.38, 0.42, 0.45, 0.40, 0.29, 0.22],
    "petals": [0.04, 0.05, 0.10, 0.38, 0.46, 0.46, 0.47, 0.50, 0.55, 0.55, 0.45, 0.28, 0.16, 0.10],
    "tiles": [0.05, 0.06, 0.07, 0.10, 0.17, 0.22, 0.25, 0.26, 0.28, 0.29, 0.32, 0.34, 0.32, 0.30],
    "slate": [0.06, 0.07, 0.08, 0.08, 0.09, 0.09, 0.10, 0.10, 0.11, 0.12, 0.13, 0.15, 0.15, 0.14],
    "concrete": [0.13, 0.15, 0.17, 0.20, 0.21, 0.22, 0.23, 0.24, 0.25, 0.27, 0.29, 0.30, 0.27, 0.25],
    "metal": [0.30, 0.34, 0.36, 0.37, 0.38, 0.38, 0.38, 0.39, 0.40, 0.40, 0.39, 0.38, 0.36, 0.34],
    "asphalt": [0.07, 0.08, 0.09, 0.10, 0.11, 0.12, 0.12, 0.13, 0.14, 0.15, 0.17, 0.19, 0.18, 0.17],
    "clear_water": [0.025, 0.028, 0.027, 0.024, 0.014, 0.010, 0.008, 0.007, 0.006,
        0.004, 0.002, 0.002, 0.001, 0.001],
    "turbid_water": [0.040, 0.055, 0.075, 0.105, 0.095, 0.085, 0.080, 0.045, 0.040,
        0.015, 0.003, 0.002, 0.001, 0.001],
}
# fmt: on
ROOFS = ("tiles", "slate", "tiles", "concrete", "slate", "metal")


def material(name: str, wavelengths: NDArray) -> NDArray:
    """Return the reflectance of a material at ``wavelengths`` in nm."""
    return np.interp(wavelengths, _NODES, _MATERIALS[name])


def soil_reflectance(
    climate: ClimateSpec,
    wavelengths: NDArray,
    brightness: NDArray,
    moisture: NDArray,
    roughness: NDArray,
    variety: Variety = NEUTRAL,
) -> NDArray:
    """Return the reflectance of soils between the dry and wet spectra of prosail.

    Args:
        climate: Climate, which determines the colour of the dry soil.
        wavelengths: (wavelength,) nm.
        brightness: (...) relative to the mean of the climate.
        moisture: (...) of the topsoil, m3 m-3.
        roughness: (...) cm; clods cast shadows.
        variety: Factors of the soils of the landscape.

    Returns:
        (..., wavelength).
    """
    from prosail import spectral_lib

    grid = np.arange(400.0, 2501.0)
    dry, wet = (np.interp(wavelengths, grid, spectrum) for spectrum in spectral_lib.soil)
    colour = climate.soil_brightness * np.minimum((wavelengths / 800.0) ** climate.soil_redness, 1.08)
    colour = colour * (1 + variety.soil_infrared * np.clip((wavelengths - 1000.0) / 1200.0, 0, 1))
    # Reflectance falls with moisture and levels off towards saturation (Lobell & Asner 2002).
    excess = np.maximum(moisture - 0.05, 0) / (0.13 * variety.soil_wetness_scale)
    darkest = 0.30 * variety.soil_darkest
    dryness = darkest + (1 - darkest) * np.exp(-excess)
    clods = brightness * (1 - 0.07 * np.clip(roughness - 0.8, 0, 2))
    return clods[..., None] * colour * (dryness[..., None] * dry + (1 - dryness[..., None]) * wet)
