"""C-band backscatter: the water-cloud model (Attema & Ulaby 1978) over rough moist soil, and speckle."""

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.land.land_cover import KIND, trait
from thalweg.simulate.land.vegetation import Growth
from thalweg.simulate.random_fields import block_mean

LOOKS = 4.4  # equivalent looks of an interferometric wide swath product at full resolution (ESA)
_REFERENCE = 38.0  # degrees of incidence to which the numbers below belong


def soil_backscatter(moisture: NDArray, roughness: NDArray, incidence: NDArray) -> NDArray:
    """Backscatter of bare soil in dB, rising with roughness and, less and less, with moisture (Ulaby 1986).

    Args:
        moisture: (...) m3 m-3.
        roughness: (...) root mean square height in cm.
        incidence: (...) degrees.

    Returns:
        (..., 2) for VV and VH.
    """
    rough = np.log(np.maximum(roughness, 0.3))
    slope = -0.14 * (incidence - _REFERENCE)
    vv = -20.8 + 23.0 * np.sqrt(moisture) + 2.0 * rough + slope
    vh = -28.8 + 20.0 * np.sqrt(moisture) + 3.2 * rough + slope
    return np.stack([vv, vh], axis=-1)


def unit_backscatter(
    rng: np.random.Generator,
    kinds: NDArray,
    growth: Growth,
    ascending: NDArray,
    incidence: NDArray,
    wind: NDArray,
) -> NDArray:
    """Backscatter of every unit at every acquisition, before speckle.

    Args:
        rng: Source of what differs between units: row direction, stand structure, walls.
        kinds: (unit,) index into COVERS.
        growth: States at the acquisitions, (time, unit).
        ascending: (time,) bool.
        incidence: (time,) degrees.
        wind: (time,) m s-1, which roughens water.

    Returns:
        (time, unit, 2) float32 intensity (linear) for VV and VH.
    """
    units = len(kinds)
    angle = np.cos(np.radians(incidence))[:, None, None]
    soil = _linear(soil_backscatter(growth.soil_moisture, growth.roughness, incidence[:, None]))
    closed = _linear(trait("canopy", kinds) + rng.normal(0, 0.5, (units, 1)) + rng.normal(0, 0.25, (units, 2)))
    # Ripe plants are dry and let the radar through.
    water = growth.leaf_water / np.maximum(trait("leaf_water", kinds), 1e-3)
    amount = (growth.lai * (0.5 + 0.5 * water) + 0.35 * growth.dead)[..., None]
    through = np.exp(-2 * trait("attenuation", kinds) * amount / angle)
    intensity = closed * angle / np.cos(np.radians(_REFERENCE)) * (1 - through) + through * soil
    rows = rng.normal(0, 0.45, (2, units))[ascending.astype(int)]
    intensity = intensity * _linear(rows)[..., None]

    # Forests keep much of their backscatter in winter: branches and stems.
    forest = np.isin(kinds, [KIND["broadleaf_forest"], KIND["needleleaf_forest"]])
    wood = closed * _linear(-0.7 + 0.25 * np.clip(growth.lai, 0, 4))[..., None]
    intensity = np.where(forest[:, None], wood, intensity)
    # Walls and ground reflect twice where a street faces the radar, which depends on the orbit.
    facing = rng.gamma(1.6, 1.6, (2, units))[ascending.astype(int)]
    walls = _linear(np.array([-7.5, -14.5])) * (0.5 + facing[..., None])
    intensity = np.where((kinds == KIND["roof"])[:, None], walls, intensity)
    flat = _linear(np.array([-13.5, -21.5]) + rng.normal(0, 1.0, (units, 1)))
    intensity = np.where((kinds == KIND["asphalt"])[:, None], flat, intensity)
    calm = _linear(np.array([-23.0, -29.5]) + np.array([1.3, 0.6]) * np.clip(wind, 0, 8)[:, None])
    return np.where((kinds == KIND["water"])[:, None], calm[:, None], intensity).astype(np.float32)


def speckle(rng: np.random.Generator, shape: tuple[int, ...], looks: float = LOOKS) -> NDArray:
    """Multiplicative gamma noise of mean 1 and variance 1 / looks, a little correlated between neighbours.

    A correlated normal field becomes a gamma one by the cube root of Wilson & Hilferty 1931.

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


def observe(rng: np.random.Generator, intensity: NDArray) -> NDArray:
    """Speckle a (..., y, x) intensity, average it to 20 m and repeat it; the result is in dB."""
    seen = block_mean(intensity * speckle(rng, intensity.shape), 2)
    return 10 * np.log10(np.maximum(seen, 1e-4))


def _linear(decibel: NDArray) -> NDArray:
    return 10 ** (np.asarray(decibel) / 10)
