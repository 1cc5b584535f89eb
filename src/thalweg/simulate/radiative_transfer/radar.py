"""C-band backscatter: water-cloud model (Attema & Ulaby 1978) over rough moist soil, and speckle."""

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.land.land_cover import is_surface, trait
from thalweg.simulate.land.vegetation import Growth
from thalweg.simulate.radiative_transfer.pixel_mixing import block_mean
from thalweg.simulate.variety import NEUTRAL, Variety

LOOKS = 4.4
"""Equivalent looks of an interferometric wide swath product at full resolution (ESA)."""

_REFERENCE_INCIDENCE = 38.0  # degrees; incidence of the constants below


def soil_backscatter(moisture: NDArray, roughness: NDArray, incidence: NDArray) -> NDArray:
    """Return the backscatter of bare soil in dB, which rises with roughness and moisture (Ulaby 1986).

    Args:
        moisture: (...) m3 m-3.
        roughness: (...) root mean square height in cm.
        incidence: (...) degrees.

    Returns:
        (..., 2) for VV and VH.
    """
    rough = np.log(np.maximum(roughness, 0.3))
    slope = -0.14 * (incidence - _REFERENCE_INCIDENCE)
    vv = -20.8 + 23.0 * np.sqrt(moisture) + 2.0 * rough + slope
    vh = -28.8 + 20.0 * np.sqrt(moisture) + 3.2 * rough + slope
    return np.stack([vv, vh], axis=-1)


def unit_backscatter(
    rng: np.random.Generator,
    surfaces: NDArray,
    growth: Growth,
    ascending: NDArray,
    incidence: NDArray,
    wind: NDArray,
    variety: Variety = NEUTRAL,
) -> NDArray:
    """Return the backscatter of every unit at every overpass, before speckle.

    Args:
        rng: Source of the differences between units: row direction, stand structure, walls.
        surfaces: (unit,) index into SURFACES.
        growth: States at the overpasses, (time, unit).
        ascending: (time,) bool.
        incidence: (time,) degrees.
        wind: (time,) m s-1; roughens water.
        variety: Factors of the canopies of the landscape.

    Returns:
        (time, unit, 2) float32 intensity (linear) for VV and VH.
    """
    units = len(surfaces)
    angle = np.cos(np.radians(incidence))[:, None, None]
    soil = _linear(soil_backscatter(growth.soil_moisture, growth.roughness, incidence[:, None]))
    canopy = trait("canopy", surfaces) + variety.canopy_decibel[surfaces]
    closed = _linear(canopy + rng.normal(0, 0.5, (units, 1)) + rng.normal(0, 0.25, (units, 2)))
    # Ripe plants are dry and transmit the radar signal.
    water = growth.leaf_water / np.maximum(trait("leaf_water", surfaces), 1e-3)
    amount = (growth.lai * (0.5 + 0.5 * water) + 0.35 * growth.dead)[..., None]
    attenuation = trait("attenuation", surfaces) * variety.attenuation[surfaces]
    through = np.exp(-2 * attenuation * amount / angle)
    intensity = closed * angle / np.cos(np.radians(_REFERENCE_INCIDENCE)) * (1 - through) + through * soil
    rows = rng.normal(0, 0.45, (2, units))[ascending.astype(int)]
    intensity = intensity * _linear(rows)[..., None]

    # Forests keep much of their backscatter in winter: branches and stems.
    forest = is_surface(surfaces, "broadleaf_forest", "needleleaf_forest")
    wood = closed * _linear(-0.7 + 0.25 * np.clip(growth.lai, 0, 4))[..., None]
    intensity = np.where(forest[:, None], wood, intensity)
    # Walls and ground reflect twice where a street faces the radar, which depends on the orbit.
    facing = rng.gamma(1.6, 1.6, (2, units))[ascending.astype(int)]
    walls = _linear(np.array([-7.5, -14.5])) * (0.5 + facing[..., None])
    intensity = np.where(is_surface(surfaces, "roof")[:, None], walls, intensity)
    flat = _linear(np.array([-13.5, -21.5]) + rng.normal(0, 1.0, (units, 1)))
    intensity = np.where(is_surface(surfaces, "asphalt")[:, None], flat, intensity)
    calm = _linear(np.array([-23.0, -29.5]) + np.array([1.3, 0.6]) * np.clip(wind, 0, 8)[:, None])
    return np.where(is_surface(surfaces, "water")[:, None], calm[:, None], intensity).astype(np.float32)


def speckle(rng: np.random.Generator, shape: tuple[int, ...], looks: float = LOOKS) -> NDArray:
    """Draw multiplicative gamma noise of mean 1 and variance 1 / looks, weakly correlated between neighbours.

    A correlated normal field is transformed to a gamma field by the cube root of Wilson & Hilferty (1931).

    Args:
        rng: Source of randomness.
        shape: (..., y, x).
        looks: Equivalent number of looks.

    Returns:
        ``shape`` float32, above zero.
    """
    normal = rng.standard_normal(shape, np.float32)
    side = 0.5
    for axis in (-2, -1):
        normal = (normal + side * np.roll(normal, 1, axis)) / np.hypot(1, side)
    return np.maximum(1 - 1 / (9 * looks) + normal / (3 * np.sqrt(looks)), 0.05) ** 3


def observe_backscatter(rng: np.random.Generator, intensity: NDArray, looks: float = LOOKS) -> NDArray:
    """Add speckle to a (..., y, x) intensity, average it to 20 m and repeat it on the grid; return dB."""
    averaged = block_mean(intensity * speckle(rng, intensity.shape, looks), 2)
    return 10 * np.log10(np.maximum(averaged, 1e-4))


def _linear(decibel: NDArray) -> NDArray:
    return 10 ** (np.asarray(decibel) / 10)
