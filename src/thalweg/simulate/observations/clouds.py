"""Clouds of every day, with their shadows, and their effect on optical images."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.special import ndtri

from thalweg.simulate.land.parcels import PIXEL
from thalweg.simulate.land.random_fields import random_field
from thalweg.simulate.radiative_transfer.canopy import SpectralBands

_NUM_CELLS = 192  # along each side of the periodic cloud field
_CELL_SIZE = 50.0  # m

# Mean reflectance of Sen2Cor's classes 8 and 9 over Europe, by wavelength in nm.
_CLOUD_WAVELENGTHS = (440.0, 560.0, 665.0, 865.0, 1250.0, 1610.0, 2200.0)
_CLOUD_REFLECTANCE = (0.66, 0.62, 0.61, 0.66, 0.60, 0.45, 0.37)


@dataclass(frozen=True)
class CloudScene:
    """Clouds over the ground at one overpass; arrays are (y, x) float32."""

    opacity: NDArray  # share of the signal from water clouds
    cirrus: NDArray  # share of the signal from thin ice clouds
    shadow: NDArray  # share of the direct sunlight that is blocked
    brightness: float

    @property
    def cover(self) -> NDArray:
        """Share of the signal from any cloud, (y, x) float32."""
        return 1 - (1 - self.opacity) * (1 - self.cirrus)

    def scaled(self, share: float) -> "CloudScene":
        """Return the scene with ``share`` times its clouds and shadows."""
        parts = {name: np.minimum(share * getattr(self, name), 1) for name in ("opacity", "cirrus", "shadow")}
        return replace(self, **parts)


class DailyClouds:
    """Clouds of every day, which drift within a day between the overpasses of two satellites.

    Args:
        seed: Seed of the clouds.
        size: Side of the landscape in pixels.
    """

    def __init__(self, seed: np.random.SeedSequence, size: int) -> None:
        self._seed = int(seed.generate_state(1, np.uint32)[0])
        self._size = size

    def scene(
        self, day: int, seconds: float, cover: float, wind: float, sun_zenith: float, sun_azimuth: float
    ) -> CloudScene:
        """Return the clouds over the landscape.

        Args:
            day: Index of the day; the same day gives the same clouds.
            seconds: Time since 10:00 UTC, for the drift.
            cover: Share of the sky that is covered.
            wind: Wind at the ground, m s-1; clouds drift faster.
            sun_zenith: Zenith angle of the sun, degrees.
            sun_azimuth: Azimuth of the sun, degrees clockwise from north.
        """
        rng = np.random.Generator(np.random.PCG64([self._seed, day]))
        layered = cover > rng.uniform(0.45, 0.95)
        height = rng.uniform(400, 1500)
        length = rng.lognormal(np.log(60), 0.5) if layered else rng.lognormal(np.log(12), 0.5)
        threshold = ndtri(1 - np.clip(cover + 0.12 * rng.standard_normal(), 0.003, 0.997))
        sharpness = rng.uniform(2.5, 4.5) if layered else rng.uniform(5, 11)
        heading = rng.uniform(0, 2 * np.pi)
        drift = 1.8 * wind * seconds / _CELL_SIZE * np.array([np.cos(heading), np.sin(heading)])
        depth = sharpness * np.maximum(random_field(rng, _NUM_CELLS, length, 2.1) - threshold, 0)
        thin = random_field(rng, _NUM_CELLS, 50.0, 2.6)
        icy = rng.random() < 0.10 + 0.30 * cover
        veil = 0.13 * rng.random() * np.clip(thin + 0.5, 0, 2) if icy else np.zeros_like(thin)

        toward = np.radians(sun_azimuth)
        reach = height * np.tan(np.radians(min(sun_zenith, 75.0))) / _CELL_SIZE
        # A shadow falls away from the sun: the cloud that shades a pixel lies towards the sun.
        displacement = reach * np.array([-np.cos(toward), np.sin(toward)])
        opacity = 1 - np.exp(-self._sample(depth, drift))
        shadow = 1 - np.exp(-self._sample(depth, drift + displacement))
        return CloudScene(opacity, self._sample(veil, drift), shadow, float(rng.uniform(0.82, 1.15)))

    def _sample(self, field: NDArray, offset: NDArray) -> NDArray:
        at = np.mgrid[: self._size, : self._size] * (PIXEL / _CELL_SIZE) + offset[:, None, None]
        return np.maximum(map_coordinates(field, at, order=1, mode="grid-wrap"), 0).astype(np.float32)


def add_clouds(image: NDArray, scene: CloudScene, bands: SpectralBands) -> NDArray:
    """Add shadows and clouds to an image of the ground.

    Args:
        image: (band, y, x) reflectance.
        scene: Clouds.
        bands: Bands of the image.

    Returns:
        (band, y, x) float32 reflectance.
    """
    centres = np.array(bands.centres)
    # Only skylight, strongest in the blue, reaches the ground in a shadow.
    skylight = np.clip(0.42 * (centres / 490.0) ** -0.9, 0.08, 0.6)[:, None, None]
    cloud = scene.brightness * np.interp(centres, _CLOUD_WAVELENGTHS, _CLOUD_REFLECTANCE)[:, None, None]
    ice = 0.9 * np.interp(centres, _CLOUD_WAVELENGTHS, _CLOUD_REFLECTANCE)[:, None, None]
    shaded = image * (1 - scene.shadow * (1 - skylight))
    clouded = shaded * (1 - scene.opacity) + cloud * scene.opacity
    return (clouded * (1 - scene.cirrus) + ice * scene.cirrus).astype(np.float32)
