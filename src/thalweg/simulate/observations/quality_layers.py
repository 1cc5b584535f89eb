"""Quality layers as the ground segments produce them, with their errors: Sen2Cor's classes and Landsat's bits."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, zoom

from thalweg.simulate.land.random_fields import random_field
from thalweg.simulate.observations.clouds import CloudScene
from thalweg.simulate.radiative_transfer.canopy import SpectralBands
from thalweg.simulate.radiative_transfer.pixel_mixing import block_mean


def scene_classification(
    rng: np.random.Generator, image: NDArray, scene: CloudScene, bands: SpectralBands, roofs: NDArray
) -> NDArray:
    """Classify a scene like Sen2Cor, with its errors.

    Thin edges and haze are classified as clear ground, some edges stay unclassified, deep shadows are classified as
    dark ground, and on some dates bright roofs as clouds.

    Args:
        rng: Source of the errors.
        image: (band, y, x) reflectance as observed.
        scene: True clouds.
        bands: Bands of the image, with B02, B04, B8A and B11.
        roofs: (y, x) fraction of roofs.

    Returns:
        (y, x) uint8: 2 dark, 3 shadow, 4 vegetation, 5 bare, 6 water, 7 unclassified, 8, 9 cloud, 10 cirrus.
    """
    size = image.shape[-1]
    index = {name: position for position, name in enumerate(bands.names)}
    coarse = block_mean(image, 2)
    blue, red, near = (coarse[index[name]] for name in ("B02", "B04", "B8A"))
    greenness = (near - red) / (near + red + 1e-6)

    def perturbation(length: float, spread: float) -> NDArray:
        noise = random_field(rng, max(size, 32), length, 2.0)[:size, :size]
        return block_mean(spread * noise, 2)

    classes = np.where(greenness > 0.36 + perturbation(2.0, 0.03), 4, 5)
    doubtful = (classes == 5) & (greenness > 0.12)
    classes = np.where(doubtful & (perturbation(3.0, 1.0) + rng.normal(0, 0.5) > 0.35), 7, classes)
    classes = np.where((near < 0.09) & (coarse[index["B11"]] < 0.06), 6, classes)
    classes = np.where((near < 0.085) & (classes != 6), 2, classes)
    shadow, opacity = block_mean(scene.shadow, 2), block_mean(scene.opacity, 2)
    cirrus = block_mean(scene.cirrus, 2)
    shaded = shadow + perturbation(4.0, 0.10) > 0.35
    classes = np.where(shaded, np.where(rng.random() < 0.85, 3, 2), classes)

    detected = opacity + perturbation(3.0, 0.10)
    rim = maximum_filter(detected, 5) > 0.35
    classes = np.where(rim & (detected > 0.10) & (perturbation(3.0, 1.0) > 0.2), 7, classes)
    classes = np.where((cirrus > 0.06) & (detected < 0.30), 10, classes)
    classes = np.where(detected > 0.30, 8, classes)
    classes = np.where(detected + (blue - 0.35) > 0.70, 9, classes)
    bright = (block_mean(roofs, 2) > 0.35) & (blue > 0.17) & (rng.random() < 0.6)
    return np.where(bright & (classes < 8), 8, classes).astype(np.uint8)


def landsat_pixel_qa(rng: np.random.Generator, scene: CloudScene, water: NDArray, roofs: NDArray) -> NDArray:
    """Return ``pixel_qa`` of Landsat Collection 1: 322 clear, 324 water, 328 shadow, 352 cloud, 480 certain cloud.

    Args:
        rng: Source of the errors.
        scene: True clouds.
        water: (y, x) fraction of water.
        roofs: (y, x) fraction of roofs.

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
