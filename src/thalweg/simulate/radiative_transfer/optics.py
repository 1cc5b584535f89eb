"""Surface reflectance of every pixel: PROSAIL for each unit and date, bent within units by smooth fields."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.land.land_cover import KIND, trait
from thalweg.simulate.land.parcels import ParcelLayout
from thalweg.simulate.land.vegetation import Growth
from thalweg.simulate.overpasses import Passes
from thalweg.simulate.radiative_transfer.canopy import Bands, Leaves, ViewGeometry, canopy_reflectance, leaf_optics
from thalweg.simulate.radiative_transfer.spectra import ROOFS, material, soil_reflectance
from thalweg.simulate.random_fields import block_mean, random_field
from thalweg.simulate.weather.climates import ClimateSpec

CHLOROPHYLL_STEP = 0.15  # log chlorophyll per unit of the chlorophyll field
SOIL_STEP = 0.10  # log soil brightness per unit of the soil field
OPEN_GROUND = 0.06  # soil in view between rows and plants
MOISTURE_STEP = 0.08  # log soil moisture per unit of the drought field, the other way round
NOISE, NOISE_SHARE = 0.0012, 0.012  # standard deviation of a pixel's noise: reflectance, and share of the signal
_NODE = 1.5  # where the fields are sampled


@dataclass(frozen=True)
class Heterogeneity:
    """Smooth fields within and across units, (y, x) float32, about standard normal and cut at 2.5."""

    fertility: NDArray
    drought: NDArray  # sandy or shallow places, which suffer first
    chlorophyll: NDArray
    soil: NDArray  # brightness


def draw_heterogeneity(rng: np.random.Generator, size: int) -> Heterogeneity:
    """Draw the fields: patterns of 50 to 200 m with finer grain on top."""
    side = max(size, 32)

    def field(length: float, grain: float) -> NDArray:
        mixed = random_field(rng, side, length, 2.2) + grain * random_field(rng, side, 1.2, 2.0)
        return np.clip(mixed / np.hypot(1, grain), -2.5, 2.5)[:size, :size]

    fertility, drought, soil = field(8, 0.35), field(12, 0.25), field(10, 0.35)
    chlorophyll = np.clip(0.55 * fertility + 0.83 * field(5, 0.4), -2.5, 2.5)
    return Heterogeneity(fertility, drought, chlorophyll, soil)


def vigour(fields: Heterogeneity, stress: NDArray, pixels: NDArray) -> NDArray:
    """How leaf area deviates at ``pixels``: fertility always, drought the more the unit lacks water.

    Args:
        fields: The landscape's fields.
        stress: (n,) of the unit behind each entry, 0 to 1.
        pixels: (n,) flat pixel index of each entry.

    Returns:
        (n,) in units of the cover's ``variation`` of log leaf area.
    """
    return 0.9 * fields.fertility.ravel()[pixels] - (0.25 + 1.3 * stress) * fields.drought.ravel()[pixels]


def unit_responses(
    climate: ClimateSpec,
    bands: Bands,
    kinds: NDArray,
    brightness: NDArray,
    turbidity: NDArray,
    growth: Growth,
    passes: Passes,
) -> NDArray:
    """Band reflectance of every unit and date as a polynomial in the fields.

    PROSAIL runs at three vigours, two soil brightnesses and two chlorophyll contents; the terms of the
    polynomial are 1, v, v^2, s, s v, s v^2 and c for vigour v, soil s and chlorophyll c.

    Args:
        climate: Sets the colour of the soil.
        bands: The sensor's bands.
        kinds: (unit,) index into COVERS.
        brightness: (unit,) of the soil or material, relative.
        turbidity: (unit,) of water, 0 to 1.
        growth: States at the acquisitions, (time, unit).
        passes: Geometry of the acquisitions.

    Returns:
        (time, unit, 7, band) float32.
    """
    wavelengths = bands.wavelengths
    result = np.zeros((len(passes.times), len(kinds), 7, len(bands.names)), np.float32)
    for kind, spectra in _lifeless(wavelengths, turbidity).items():
        units = np.flatnonzero(kinds == KIND[kind])
        reflectance = bands.average(
            spectra[units] if kind == "water" else spectra[np.arange(len(units)) % len(spectra)]
        )
        if kind != "water":
            reflectance = reflectance * brightness[units, None]
        result[:, units, 0], result[:, units, 3] = reflectance, 0.06 * reflectance * (kind != "water")
    alive = np.flatnonzero(~np.isin(kinds, [KIND["roof"], KIND["asphalt"], KIND["water"]]))
    if not alive.size:
        return result

    straw, petals = material("straw", wavelengths), material("petals", wavelengths)
    variation, shade = trait("variation", kinds)[alive], trait("shade", kinds)[alive]
    angle = trait("leaf_angle", kinds)[alive]
    gaps = OPEN_GROUND * (shade == 1.0)[:, None]
    # Vigour low, middle, high; then the middle with little and much chlorophyll.
    steps = np.array([-_NODE, 0.0, _NODE, 0.0, 0.0])[:, None]
    tints = np.array([0.0, 0.0, 0.0, -_NODE, _NODE])[:, None]
    to_polynomial = np.linalg.inv(np.vander([-_NODE, 0.0, _NODE], 3, increasing=True))
    for date in range(len(passes.times)):
        state = growth.on(np.array([date]))
        lai, dead = state.lai[0, alive].astype(float), state.dead[0, alive].astype(float)
        area = (lai + dead + 0.002) * np.exp(variation * steps)
        leaves = mixed_leaves(
            kinds[alive],
            lai,
            dead,
            state.chlorophyll[0, alive] * np.exp(CHLOROPHYLL_STEP * tints),
            state.leaf_water[0, alive],
        )
        flat = Leaves(*(np.broadcast_to(value, area.shape).ravel() for value in vars(leaves).values()))
        soil = soil_reflectance(
            climate, wavelengths, brightness[alive], state.soil_moisture[0, alive], state.roughness[0, alive]
        )
        litter = state.residue[0, alive, None]
        soil = (1 - litter) * soil + litter * straw
        soils = np.tile(soil, (5, 1)) * np.exp(SOIL_STEP * np.array([-_NODE, _NODE]))[:, None, None]
        view = ViewGeometry(
            passes.sun_zenith[date],
            passes.view_zenith[date],
            passes.sun_azimuth[date] - passes.view_azimuth[date],
        )
        canopy = canopy_reflectance(*leaf_optics(flat, wavelengths), area.ravel(), np.tile(angle, 5), view, soils)
        flowers = state.petals[0, alive, None]
        canopy = (1 - gaps) * canopy.reshape(2, 5, len(alive), -1) + gaps * soils.reshape(2, 5, len(alive), -1)
        canopy = (1 - flowers) * canopy + flowers * petals
        # Low sun lengthens the shadows between crowns.
        lit = 1 - (1 - shade) * np.clip(0.75 + 0.5 * np.tan(np.radians(view.sun_zenith)) / 2, 0, 1.3)
        nodes = bands.average(canopy) * lit[:, None]
        level = np.einsum("kn,nub->ukb", to_polynomial, 0.5 * (nodes[0, :3] + nodes[1, :3]))
        tilt = np.einsum("kn,nub->ukb", to_polynomial, (nodes[1, :3] - nodes[0, :3]) / (2 * _NODE))
        tint = 0.5 * (nodes[0, 4] + nodes[1, 4] - nodes[0, 3] - nodes[1, 3]) / (2 * _NODE)
        result[date, alive] = np.concatenate([level, tilt, tint[:, None]], axis=1)
    return result


def mixed_leaves(kinds: NDArray, lai: NDArray, dead: NDArray, chlorophyll: NDArray, water: NDArray) -> Leaves:
    """The leaf that stands for green and dead leaves together, weighted by area; arrays broadcast."""
    withered = 0.05 + 0.95 * dead / (lai + dead + 0.002)
    pigment = chlorophyll * (1 - withered) + 1.0 * withered
    return Leaves(
        structure=trait("structure", kinds) + 0.5 * withered,
        chlorophyll=pigment,
        carotenoids=0.19 * pigment + 1.5,
        brown=0.08 + 0.70 * withered,
        water=water * (1 - withered) + 0.002 * withered,
        dry_matter=trait("dry_matter", kinds),
    )


def render(
    layout: ParcelLayout,
    responses: NDArray,
    fields: Heterogeneity,
    stress: NDArray,
    coarse: tuple[int, ...],
    block: int,
) -> NDArray:
    """Reflectance without noise of one date.

    Args:
        layout: Units and their shares of the pixels.
        responses: (unit, 7, band) from `unit_responses`.
        fields: The landscape's fields.
        stress: (unit,) lack of water.
        coarse: Indices of bands with larger pixels.
        block: Side of those pixels in pixels of 10 m.

    Returns:
        (band, y, x) float32.
    """
    pixels, units = entries(layout)
    basis = polynomial_terms(fields, stress[units], pixels)
    values = np.einsum("nk,nkb->nb", basis, responses[units])
    image = mix(layout, values.T)
    if coarse:
        image[list(coarse)] = block_mean(image[list(coarse)], block)
    return np.clip(image, 1e-4, 1.0)


def polynomial_terms(fields: Heterogeneity, stress: NDArray, pixels: NDArray) -> NDArray:
    """The terms by which the responses of `unit_responses` are weighted.

    Args:
        fields: The landscape's fields.
        stress: (n,) lack of water of the unit behind each entry.
        pixels: (n,) flat pixel index of each entry.

    Returns:
        (n, 7) float32.
    """
    v = np.clip(vigour(fields, stress, pixels), -2.5, 2.5)
    moisture = MOISTURE_STEP * fields.drought.ravel()[pixels]
    s = np.clip(fields.soil.ravel()[pixels] + moisture / SOIL_STEP * 0.5, -2.5, 2.5)
    c = fields.chlorophyll.ravel()[pixels]
    return np.stack([np.ones_like(v), v, v * v, s, s * v, s * v * v, c], axis=1).astype(np.float32)


def entries(layout: ParcelLayout) -> tuple[NDArray, NDArray]:
    """Pixel and unit of every stored share, in storage order."""
    return np.repeat(np.arange(layout.size**2), np.diff(layout.shares.indptr)), layout.shares.indices


def mix(layout: ParcelLayout, values: NDArray) -> NDArray:
    """Average (..., entry) values over each pixel's units by their shares: (..., y, x) float32."""
    weighted = values * layout.shares.data.astype(np.float32)
    sums = np.add.reduceat(weighted, layout.shares.indptr[:-1], axis=-1)
    return sums.reshape(*values.shape[:-1], layout.size, layout.size).astype(np.float32)


def observe(rng: np.random.Generator, image: NDArray, bands: Bands, coarse: tuple[int, ...], block: int) -> NDArray:
    """Add what calibration and atmospheric correction leave behind to a (band, y, x) image.

    A gain error per band, smooth residual haze that falls with wavelength, and noise per pixel.
    """
    size = image.shape[-1]
    gain = np.exp(rng.normal(0, 0.015, len(bands.names)) + rng.normal(0, 0.012))
    blue = (np.array(bands.centres) / 490.0) ** -1.8
    haze = rng.normal(0.003, 0.005) + 0.0012 * random_field(rng, max(size, 32), 20.0)[:size, :size]
    noise = rng.standard_normal(image.shape, np.float32) * (NOISE + NOISE_SHARE * image)
    if coarse:
        noise[list(coarse)] = 1.6 * block_mean(noise[list(coarse)], block)
    noisy = image * gain[:, None, None] + blue[:, None, None] * haze + noise
    return np.clip(noisy, 1e-4, 1.2).astype(np.float32)


def _lifeless(wavelengths: NDArray, turbidity: NDArray) -> dict[str, NDArray]:
    """Spectra of surfaces without plants: by material in turn, water by each unit's turbidity."""
    clear, turbid = material("clear_water", wavelengths), material("turbid_water", wavelengths)
    return {
        "roof": np.stack([material(name, wavelengths) for name in ROOFS]),
        "asphalt": material("asphalt", wavelengths)[None],
        "water": clear + turbidity[:, None] * (turbid - clear),
    }
