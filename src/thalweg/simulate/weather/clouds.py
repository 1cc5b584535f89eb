"""Clouds that hide and shade the ground, and the scene classification that gets most of them right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter, zoom
from scipy.special import ndtri

from thalweg.simulate.land.parcels import PIXEL
from thalweg.simulate.radiative_transfer.canopy import Bands
from thalweg.simulate.random_fields import block_mean, random_field

_SKY = 192  # cells along the side of the sky
_CELL = 50.0  # m

# Mean reflectance that Sen2Cor's classes 8 and 9 show over Europe, by wavelength in nm.
_CLOUD_WAVELENGTHS = (440.0, 560.0, 665.0, 865.0, 1250.0, 1610.0, 2200.0)
_CLOUD_REFLECTANCE = (0.66, 0.62, 0.61, 0.66, 0.60, 0.45, 0.37)


@dataclass(frozen=True)
class CloudScene:
    """What hangs over the ground at one acquisition; arrays are (y, x) float32."""

    opacity: NDArray  # share of the signal that comes from water clouds
    cirrus: NDArray  # share that comes from thin ice clouds
    shadow: NDArray  # share of the direct sunlight taken away
    brightness: float

    @property
    def cover(self) -> NDArray:
        """Share of the signal that comes from any cloud."""
        return 1 - (1 - self.opacity) * (1 - self.cirrus)


class Sky:
    """The clouds of every day; within a day they drift, so that two satellites see them move."""

    def __init__(self, seed: np.random.SeedSequence, size: int) -> None:
        """Take the seed of the sky and the side of the landscape in pixels."""
        self._seed = int(seed.generate_state(1, np.uint32)[0])
        self._size = size

    def scene(
        self, day: int, seconds: float, cover: float, wind: float, sun_zenith: float, sun_azimuth: float
    ) -> CloudScene:
        """The clouds over the landscape.

        Args:
            day: Number of the day; the same day gives the same clouds.
            seconds: Since 10:00 UTC, for the drift.
            cover: Share of the sky that is covered.
            wind: At the ground, m s-1; clouds drift faster.
            sun_zenith: Degrees.
            sun_azimuth: Degrees clockwise from north.
        """
        rng = np.random.Generator(np.random.PCG64([self._seed, day]))
        layered = cover > rng.uniform(0.45, 0.95)
        height = rng.uniform(400, 1500)
        length = rng.lognormal(np.log(60), 0.5) if layered else rng.lognormal(np.log(12), 0.5)
        threshold = ndtri(1 - np.clip(cover + 0.12 * rng.standard_normal(), 0.003, 0.997))
        sharpness = rng.uniform(2.5, 4.5) if layered else rng.uniform(5, 11)
        heading = rng.uniform(0, 2 * np.pi)
        drift = 1.8 * wind * seconds / _CELL * np.array([np.cos(heading), np.sin(heading)])
        depth = sharpness * np.maximum(random_field(rng, _SKY, length, 2.1) - threshold, 0)
        thin = random_field(rng, _SKY, 50.0, 2.6)
        icy = rng.random() < 0.10 + 0.30 * cover
        veil = 0.13 * rng.random() * np.clip(thin + 0.5, 0, 2) if icy else np.zeros_like(thin)

        toward = np.radians(sun_azimuth)
        reach = height * np.tan(np.radians(min(sun_zenith, 75.0))) / _CELL
        # The shadow of a cloud falls away from the sun; the cloud over the way to the sun lies towards it.
        displacement = reach * np.array([-np.cos(toward), np.sin(toward)])
        opacity = 1 - np.exp(-self._sample(depth, drift))
        shadow = 1 - np.exp(-self._sample(depth, drift + displacement))
        return CloudScene(opacity, self._sample(veil, drift), shadow, float(rng.uniform(0.82, 1.15)))

    def _sample(self, field: NDArray, offset: NDArray) -> NDArray:
        at = np.mgrid[: self._size, : self._size] * (PIXEL / _CELL) + offset[:, None, None]
        return np.maximum(map_coordinates(field, at, order=1, mode="grid-wrap"), 0).astype(np.float32)


def cover_scene(image: NDArray, scene: CloudScene, bands: Bands) -> NDArray:
    """Put shadow and clouds over a (band, y, x) image of the ground."""
    centres = np.array(bands.centres)
    # Skylight, strongest in the blue, is what a shadow leaves.
    skylight = np.clip(0.42 * (centres / 490.0) ** -0.9, 0.08, 0.6)[:, None, None]
    cloud = scene.brightness * np.interp(centres, _CLOUD_WAVELENGTHS, _CLOUD_REFLECTANCE)[:, None, None]
    ice = 0.9 * np.interp(centres, _CLOUD_WAVELENGTHS, _CLOUD_REFLECTANCE)[:, None, None]
    shaded = image * (1 - scene.shadow * (1 - skylight))
    clouded = shaded * (1 - scene.opacity) + cloud * scene.opacity
    return (clouded * (1 - scene.cirrus) + ice * scene.cirrus).astype(np.float32)


def classify(rng: np.random.Generator, image: NDArray, scene: CloudScene, bands: Bands, roofs: NDArray) -> NDArray:
    """Classify a scene as Sen2Cor would, mistakes included.

    Thin edges and haze pass for clear ground, some rims are left unclassified, deep shadows are taken for
    dark ground, and on some dates bright roofs for clouds.

    Args:
        rng: Source of the mistakes.
        image: (band, y, x) reflectance as observed.
        scene: The true clouds.
        bands: Must name B02, B04, B8A (or B05 for Landsat) and B11 (or B06).
        roofs: (y, x) share of roofs.

    Returns:
        (y, x) uint8: 2 dark, 3 shadow, 4 vegetation, 5 bare, 6 water, 7 unclassified, 8, 9 cloud, 10 cirrus.
    """
    size = image.shape[-1]
    index = {name: position for position, name in enumerate(bands.names)}
    coarse = block_mean(image, 2)
    blue, red, near = (coarse[index[name]] for name in ("B02", "B04", "B8A"))
    greenness = (near - red) / (near + red + 1e-6)

    def unsure(length: float, spread: float) -> NDArray:
        noise = random_field(rng, max(size, 32), length, 2.0)[:size, :size]
        return block_mean(spread * noise, 2)

    classes = np.where(greenness > 0.36 + unsure(2.0, 0.03), 4, 5)
    doubtful = (classes == 5) & (greenness > 0.12)
    classes = np.where(doubtful & (unsure(3.0, 1.0) + rng.normal(0, 0.5) > 0.35), 7, classes)
    classes = np.where((near < 0.09) & (coarse[index["B11"]] < 0.06), 6, classes)
    classes = np.where((near < 0.085) & (classes != 6), 2, classes)
    shadow, opacity = block_mean(scene.shadow, 2), block_mean(scene.opacity, 2)
    cirrus = block_mean(scene.cirrus, 2)
    shaded = shadow + unsure(4.0, 0.10) > 0.35
    classes = np.where(shaded, np.where(rng.random() < 0.85, 3, 2), classes)

    detected = opacity + unsure(3.0, 0.10)
    rim = maximum_filter(detected, 5) > 0.35
    classes = np.where(rim & (detected > 0.10) & (unsure(3.0, 1.0) > 0.2), 7, classes)
    classes = np.where((cirrus > 0.06) & (detected < 0.30), 10, classes)
    classes = np.where(detected > 0.30, 8, classes)
    classes = np.where(detected + (blue - 0.35) > 0.70, 9, classes)
    bright = (block_mean(roofs, 2) > 0.35) & (blue > 0.17) & (rng.random() < 0.6)
    return np.where(bright & (classes < 8), 8, classes).astype(np.uint8)


def landsat_quality(rng: np.random.Generator, scene: CloudScene, water: NDArray, roofs: NDArray) -> NDArray:
    """Landsat Collection 1 ``pixel_qa``: 322 clear, 324 water, 328 shadow, 352 cloud, 480 certain cloud.

    Args:
        rng: Source of the mistakes.
        scene: The true clouds.
        water: (y, x) share of water.
        roofs: (y, x) share of roofs.

    Returns:
        (y, x) uint16, constant over 3 x 3 pixels.
    """
    size = water.shape[0]
    noise = 0.07 * zoom(rng.standard_normal((size // 6 + 2,) * 2), 6, order=1)[:size, :size]
    opacity = block_mean(scene.cover + noise, 3)
    quality = np.where(block_mean(water, 3) > 0.6, 324, 322)
    quality = np.where(block_mean(scene.shadow - noise, 3) > 0.5, 328, quality)
    quality = np.where((block_mean(roofs, 3) > 0.5) & (rng.random() < 0.3), 352, quality)
    quality = np.where(opacity > 0.25, 352, quality)
    return np.where(opacity > 0.55, 480, quality).astype(np.uint16)
