"""Surface reflectance of every pixel: PROSAIL for each unit and date, modified within units by random fields."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.land.heterogeneity import Heterogeneity, vigour
from thalweg.simulate.land.land_cover import is_surface, trait
from thalweg.simulate.land.parcels import Parcels
from thalweg.simulate.land.random_fields import random_field
from thalweg.simulate.land.vegetation import Growth
from thalweg.simulate.radiative_transfer.canopy import (
    LeafTraits,
    SpectralBands,
    ViewGeometry,
    canopy_reflectance,
    leaf_optics,
)
from thalweg.simulate.radiative_transfer.pixel_mixing import block_mean, mix_units, unit_entries
from thalweg.simulate.radiative_transfer.spectra import ROOFS, material, soil_reflectance
from thalweg.simulate.variety import NEUTRAL, Variety
from thalweg.simulate.weather.climates import ClimateSpec

CHLOROPHYLL_STEP = 0.15
"""Log chlorophyll per unit of the chlorophyll field."""

SOIL_STEP = 0.10
"""Log soil brightness per unit of the soil field."""

MOISTURE_STEP = 0.08
"""Decrease of log soil moisture per unit of the drought field."""

NOISE, RELATIVE_NOISE = 0.0012, 0.012
"""Standard deviation of a pixel's noise: reflectance, and share of the signal."""

_OPEN_GROUND = 0.06  # fraction of soil in view between rows and plants
_NODE = 1.5  # values of the fields at which PROSAIL runs


def unit_responses(
    climate: ClimateSpec,
    bands: SpectralBands,
    surfaces: NDArray,
    brightness: NDArray,
    turbidity: NDArray,
    growth: Growth,
    views: Sequence[ViewGeometry],
    variety: Variety = NEUTRAL,
) -> NDArray:
    """Return the band reflectance of every unit and date as a polynomial in the random fields.

    PROSAIL runs at three vigours, two soil brightnesses and two chlorophyll contents. The terms of the polynomial are
    1, v, v^2, s, s v, s v^2 and c for vigour v, soil s and chlorophyll c.

    Args:
        climate: Climate, which determines the colour of the soil.
        bands: The sensor's bands.
        surfaces: (unit,) index into SURFACES.
        brightness: (unit,) of the soil or material, relative.
        turbidity: (unit,) of water, 0 to 1.
        growth: States at the overpasses, (time, unit).
        views: (time,) geometry of the overpasses.
        variety: Factors of leaves, canopies and soils of the landscape.

    Returns:
        (time, unit, 7, band) float32.
    """
    wavelengths = bands.wavelengths
    result = np.zeros((len(views), len(surfaces), 7, len(bands.names)), np.float32)
    for name, spectra in _unvegetated_spectra(wavelengths, turbidity).items():
        units = np.flatnonzero(is_surface(surfaces, name))
        reflectance = bands.average(
            spectra[units] if name == "water" else spectra[np.arange(len(units)) % len(spectra)]
        )
        if name != "water":
            reflectance = reflectance * brightness[units, None]
        result[:, units, 0], result[:, units, 3] = reflectance, 0.06 * reflectance * (name != "water")
    alive = np.flatnonzero(~is_surface(surfaces, "roof", "asphalt", "water"))
    if not alive.size:
        return result

    straw, petals = variety.straw * material("straw", wavelengths), material("petals", wavelengths)
    variation, shade = trait("variation", surfaces)[alive], trait("shade", surfaces)[alive] ** variety.crown_shade
    angle = (trait("leaf_angle", surfaces) + variety.leaf_angle[surfaces])[alive]
    gaps = _OPEN_GROUND * variety.open_ground * (shade == 1.0)[:, None]
    # Low, middle and high vigour; then middle vigour with low and high chlorophyll.
    steps = np.array([-_NODE, 0.0, _NODE, 0.0, 0.0])[:, None]
    tints = np.array([0.0, 0.0, 0.0, -_NODE, _NODE])[:, None]
    to_polynomial = np.linalg.inv(np.vander([-_NODE, 0.0, _NODE], 3, increasing=True))
    for date, view in enumerate(views):
        state = growth.on(np.array([date]))
        lai, dead = state.lai[0, alive].astype(float), state.dead[0, alive].astype(float)
        area = (lai + dead + 0.002) * np.exp(variation * steps)
        leaves = mixed_leaves(
            surfaces[alive],
            lai,
            dead,
            state.chlorophyll[0, alive] * np.exp(CHLOROPHYLL_STEP * tints),
            state.leaf_water[0, alive],
            variety,
        )
        flat = LeafTraits(*(np.broadcast_to(value, area.shape).ravel() for value in vars(leaves).values()))
        soil = soil_reflectance(
            climate, wavelengths, brightness[alive], state.soil_moisture[0, alive], state.roughness[0, alive], variety
        )
        litter = state.residue[0, alive, None]
        soil = (1 - litter) * soil + litter * straw
        soils = np.tile(soil, (5, 1)) * np.exp(SOIL_STEP * np.array([-_NODE, _NODE]))[:, None, None]
        canopy = canopy_reflectance(*leaf_optics(flat, wavelengths), area.ravel(), np.tile(angle, 5), view, soils)
        flowers = state.petals[0, alive, None]
        canopy = (1 - gaps) * canopy.reshape(2, 5, len(alive), -1) + gaps * soils.reshape(2, 5, len(alive), -1)
        canopy = (1 - flowers) * canopy + flowers * petals
        # Shadows between crowns are longer under a low sun.
        lit = 1 - (1 - shade) * np.clip(0.75 + 0.5 * np.tan(np.radians(view.sun_zenith)) / 2, 0, 1.3)
        nodes = bands.average(canopy) * lit[:, None]
        level = np.einsum("kn,nub->ukb", to_polynomial, 0.5 * (nodes[0, :3] + nodes[1, :3]))
        tilt = np.einsum("kn,nub->ukb", to_polynomial, (nodes[1, :3] - nodes[0, :3]) / (2 * _NODE))
        tint = 0.5 * (nodes[0, 4] + nodes[1, 4] - nodes[0, 3] - nodes[1, 3]) / (2 * _NODE)
        result[date, alive] = np.concatenate([level, tilt, tint[:, None]], axis=1)
    return result


def mixed_leaves(
    surfaces: NDArray,
    lai: NDArray,
    dead: NDArray,
    chlorophyll: NDArray,
    water: NDArray,
    variety: Variety = NEUTRAL,
) -> LeafTraits:
    """Return the traits of green and dead leaves together, weighted by area; arrays broadcast."""
    withered = 0.05 + 0.95 * dead / (lai + dead + 0.002)
    pigment = chlorophyll * (1 - withered) + 1.0 * withered
    return LeafTraits(
        structure=trait("structure", surfaces) + variety.structure[surfaces] + 0.5 * withered,
        chlorophyll=pigment,
        carotenoids=0.19 * variety.carotenoids * pigment + 1.5,
        brown=0.08 + 0.70 * withered,
        water=water * (1 - withered) + 0.002 * withered,
        dry_matter=trait("dry_matter", surfaces) * variety.dry_matter[surfaces],
    )


def render_reflectance(
    parcels: Parcels,
    responses: NDArray,
    heterogeneity: Heterogeneity,
    stress: NDArray,
    coarse: tuple[int, ...],
    block: int,
) -> NDArray:
    """Render the reflectance of one date without noise.

    Args:
        parcels: Units and their shares of the pixels.
        responses: (unit, 7, band) from `unit_responses`.
        heterogeneity: Random fields of the landscape.
        stress: (unit,) water stress, 0 to 1.
        coarse: Indices of the bands with larger pixels.
        block: Side of these pixels in pixels of 10 m.

    Returns:
        (band, y, x) float32.
    """
    pixels, units = unit_entries(parcels)
    basis = polynomial_terms(heterogeneity, stress[units], pixels)
    values = np.einsum("nk,nkb->nb", basis, responses[units])
    image = mix_units(parcels, values.T)
    if coarse:
        image[list(coarse)] = block_mean(image[list(coarse)], block)
    return np.clip(image, 1e-4, 1.0)


def polynomial_terms(heterogeneity: Heterogeneity, stress: NDArray, pixels: NDArray) -> NDArray:
    """Return the terms that weight the responses of `unit_responses`.

    Args:
        heterogeneity: Random fields of the landscape.
        stress: (n,) water stress of the unit of each entry, 0 to 1.
        pixels: (n,) flat pixel index of each entry.

    Returns:
        (n, 7) float32.
    """
    v = np.clip(vigour(heterogeneity, stress, pixels), -2.5, 2.5)
    moisture = MOISTURE_STEP * heterogeneity.drought.ravel()[pixels]
    s = np.clip(heterogeneity.soil.ravel()[pixels] + moisture / SOIL_STEP * 0.5, -2.5, 2.5)
    c = heterogeneity.chlorophyll.ravel()[pixels]
    return np.stack([np.ones_like(v), v, v * v, s, s * v, s * v * v, c], axis=1).astype(np.float32)


def add_optical_errors(
    rng: np.random.Generator, image: NDArray, bands: SpectralBands, coarse: tuple[int, ...], block: int
) -> NDArray:
    """Add the residual errors of calibration and atmospheric correction to an image.

    The errors are a gain per band, smooth residual haze that decreases with wavelength, and noise per pixel.

    Args:
        rng: Source of randomness.
        image: (band, y, x) reflectance.
        bands: Bands of the image.
        coarse: Indices of the bands with larger pixels.
        block: Side of these pixels in pixels of 10 m.

    Returns:
        (band, y, x) float32 reflectance.
    """
    size = image.shape[-1]
    gain = np.exp(rng.normal(0, 0.015, len(bands.names)) + rng.normal(0, 0.012))
    blue = (np.array(bands.centres) / 490.0) ** -1.8
    haze = rng.normal(0.003, 0.005) + 0.0012 * random_field(rng, max(size, 32), 20.0)[:size, :size]
    noise = rng.standard_normal(image.shape, np.float32) * (NOISE + RELATIVE_NOISE * image)
    if coarse:
        noise[list(coarse)] = 1.6 * block_mean(noise[list(coarse)], block)
    noisy = image * gain[:, None, None] + blue[:, None, None] * haze + noise
    return np.clip(noisy, 1e-4, 1.2).astype(np.float32)


def _unvegetated_spectra(wavelengths: NDArray, turbidity: NDArray) -> dict[str, NDArray]:
    """Return the spectra of surfaces without plants: roofs by material, water by the turbidity of each unit."""
    clear, turbid = material("clear_water", wavelengths), material("turbid_water", wavelengths)
    return {
        "roof": np.stack([material(name, wavelengths) for name in ROOFS]),
        "asphalt": material("asphalt", wavelengths)[None],
        "water": clear + turbidity[:, None] * (turbid - clear),
    }
