"""PROSAIL for many canopies at once, at the few wavelengths that a sensor's bands need.

Leaf constants, interfaces, leaf angles and the hot spot come from the ``prosail`` package. The final formulas of
PROSPECT and 4SAIL are implemented here over whole arrays, because the package computes one canopy and 2101 wavelengths
per call. The tests compare this module with the package.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HOTSPOT = 0.08
"""Leaf size over canopy height."""

_GAUSS_POINTS, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(4)


@dataclass(frozen=True)
class SpectralBands:
    """Spectral bands by centre and width in nm, each sampled at four Gauss-Legendre points."""

    names: tuple[str, ...]
    centres: tuple[float, ...]
    widths: tuple[float, ...]

    @property
    def wavelengths(self) -> NDArray:
        """Wavelengths of the samples, (band * 4,) nm."""
        centres, widths = np.array(self.centres), np.array(self.widths)
        return (centres[:, None] + 0.5 * widths[:, None] * _GAUSS_POINTS).ravel()

    def average(self, spectra: NDArray) -> NDArray:
        """Average spectra (..., band * 4) at `wavelengths` over each band: (..., band)."""
        return spectra.reshape(*spectra.shape[:-1], len(self.names), _GAUSS_POINTS.size) @ (_GAUSS_WEIGHTS / 2)


# Central wavelengths and bandwidths of Sentinel-2A MSI: ESA, Sentinel-2 Spectral Response Functions (2017).
SENTINEL2 = SpectralBands(
    ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    (492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 1613.7, 2202.4),
    (66.0, 36.0, 31.0, 15.0, 15.0, 20.0, 106.0, 21.0, 91.0, 175.0),
)
# Operational Land Imager: USGS, Landsat 8 Data Users Handbook, table 2-1 (band limits).
LANDSAT8 = SpectralBands(
    ("B02", "B03", "B04", "B05", "B06", "B07"),
    (482.0, 561.5, 654.5, 865.0, 1608.5, 2200.5),
    (60.0, 57.0, 37.0, 28.0, 85.0, 187.0),
)


@dataclass(frozen=True)
class LeafTraits:
    """Leaf traits of PROSPECT; arrays of one common shape (...)."""

    structure: NDArray
    chlorophyll: NDArray  # ug cm-2
    carotenoids: NDArray  # ug cm-2
    brown: NDArray  # brown pigments, relative
    water: NDArray  # cm
    dry_matter: NDArray  # g cm-2


@dataclass(frozen=True)
class ViewGeometry:
    """Geometry of an overpass in degrees."""

    sun_zenith: float
    view_zenith: float
    relative_azimuth: float


def leaf_optics(leaves: LeafTraits, wavelengths: NDArray) -> tuple[NDArray, NDArray]:
    """Return reflectance and transmittance of leaves, each (..., wavelength): PROSPECT-D (Feret et al. 2017)."""
    from prosail import spectral_lib
    from prosail.prospect_d import refl_trans_one_layer
    from scipy.special import exp1

    constants = spectral_lib.prospectd
    grid = np.arange(400.0, 2501.0)

    def at(spectrum: NDArray) -> NDArray:
        return np.interp(wavelengths, grid, spectrum)

    layers = np.asarray(leaves.structure)[..., None]
    absorption = np.maximum(
        sum(
            np.asarray(amount)[..., None] * at(spectrum)
            for amount, spectrum in (
                (leaves.chlorophyll, constants.kab),
                (leaves.carotenoids, constants.kcar),
                (leaves.brown, constants.kbrown),
                (leaves.water, constants.kw),
                (leaves.dry_matter, constants.km),
            )
        )
        / layers,
        1e-6,
    )
    plate = (1 - absorption) * np.exp(-absorption) + absorption**2 * exp1(absorption)
    r, t, top_r, top_t, _ = refl_trans_one_layer(40.0, at(constants.nr), plate)

    # A stack of layers - 1 plates below the top one (Stokes 1862).
    root = np.sqrt(np.maximum((1 + r + t) * (1 + r - t) * (1 - r + t) * (1 - r - t), 1e-12))
    a = (1 + r**2 - t**2 + root) / (2 * r)
    power = ((1 - r**2 + t**2 + root) / (2 * t)) ** (layers - 1)
    pile = a**2 * power**2 - 1
    pile_r, pile_t = a * (power**2 - 1) / pile, power * (a**2 - 1) / pile
    closing = 1 - pile_r * r
    return top_r + top_t * pile_r * t / closing, top_t * pile_t / closing


def canopy_reflectance(
    reflectance: NDArray,
    transmittance: NDArray,
    lai: NDArray,
    leaf_angle: NDArray,
    view: ViewGeometry,
    soils: NDArray,
) -> NDArray:
    """Return the bidirectional reflectance of canopies over soils: 4SAIL (Verhoef et al. 2007).

    Args:
        reflectance: (canopy, wavelength) of the leaves.
        transmittance: (canopy, wavelength) of the leaves.
        lai: (canopy,) m2 m-2, above zero.
        leaf_angle: (canopy,) mean leaf inclination in degrees, ellipsoidal distribution (Campbell 1990).
        view: Geometry of sun and sensor.
        soils: (soil, canopy, wavelength) reflectance of the soils.

    Returns:
        (soil, canopy, wavelength).
    """
    from prosail.FourSAIL import campbell, hotspot_calculations, weighted_sum_over_lidf

    angles, which = np.unique(leaf_angle, return_inverse=True)
    geometry = (
        float(view.sun_zenith),
        float(view.view_zenith),
        abs((view.relative_azimuth + 180) % 360 - 180),
    )
    ks, ko, bf, sob, sof = np.array(
        [weighted_sum_over_lidf(campbell(float(angle), 18), *geometry) for angle in angles]
    )[which].T[..., None]
    depth = lai[:, None]
    rho, tau = reflectance, transmittance

    back, forward = 0.5 * (1 + bf), 0.5 * (1 - bf)
    sigma_back, sigma_forward = back * rho + forward * tau, forward * rho + back * tau
    attenuation = 1 - sigma_forward
    m = np.sqrt(attenuation**2 - sigma_back**2)
    sun_back, sun_forward = (
        0.5 * (ks + bf) * rho + 0.5 * (ks - bf) * tau,
        0.5 * (ks - bf) * rho + 0.5 * (ks + bf) * tau,
    )
    eye_back, eye_forward = (
        0.5 * (ko + bf) * rho + 0.5 * (ko - bf) * tau,
        0.5 * (ko - bf) * rho + 0.5 * (ko + bf) * tau,
    )

    e1 = np.exp(-m * depth)
    r_inf = (attenuation - m) / sigma_back
    bounce = r_inf * e1
    denominator = 1 - bounce**2
    j1_sun, j1_eye = _j1(ks, m, depth), _j1(ko, m, depth)
    j2_sun, j2_eye = _j2(ks, m, depth), _j2(ko, m, depth)
    p_sun, q_sun = (sun_forward + sun_back * r_inf) * j1_sun, (sun_forward * r_inf + sun_back) * j2_sun
    p_eye, q_eye = (eye_forward + eye_back * r_inf) * j1_eye, (eye_forward * r_inf + eye_back) * j2_eye
    rdd = r_inf * (1 - e1**2) / denominator
    tsd = (p_sun - bounce * q_sun) / denominator
    tdo = (p_eye - bounce * q_eye) / denominator
    rdo = (q_eye - bounce * p_eye) / denominator
    tss, too = np.exp(-ks * depth), np.exp(-ko * depth)
    z = _j2(ks, ko, depth)
    g1, g2 = (z - j1_sun * too) / (ko + m), (z - j1_eye * tss) / (ks + m)
    multiple = (
        (eye_forward * r_inf + eye_back) * g1 * (sun_forward + sun_back * r_inf)
        + (eye_forward + eye_back * r_inf) * g2 * (sun_forward * r_inf + sun_back)
        - (rdo * q_sun + tdo * p_sun) * r_inf
    ) / (1 - r_inf**2)

    sun, eye, azimuth = np.radians(geometry)
    apart = np.sqrt(np.tan(sun) ** 2 + np.tan(eye) ** 2 - 2 * np.tan(sun) * np.tan(eye) * np.cos(azimuth))
    both, single = np.array(
        [
            hotspot_calculations(max(apart / HOTSPOT * 2 / (s + o), 1e-6), layer, o, s)
            for s, o, layer in zip(ks[:, 0], ko[:, 0], np.asarray(lai, float), strict=True)
        ]
    ).T[..., None]
    canopy = (sob * rho + sof * tau) * depth * single + multiple
    soil_path = (tss + tsd) * tdo + tsd * too
    return canopy + both * soils + (soil_path + tss * soils * rdd * too) * soils / (1 - soils * rdd)


def _j1(k: NDArray, m: NDArray, depth: NDArray) -> NDArray:
    """Integrate exp(-k x - m (L - x)) over the canopy, smoothly where k equals m."""
    difference = (k - m) * depth
    near = np.abs(difference) < 1e-3
    safe = np.where(near, 1.0, k - m)
    exact = (np.exp(-m * depth) - np.exp(-k * depth)) / safe
    series = 0.5 * depth * (np.exp(-k * depth) + np.exp(-m * depth)) * (1 - difference**2 / 12)
    return np.where(near, series, exact)


def _j2(k: NDArray, m: NDArray, depth: NDArray) -> NDArray:
    """Integrate exp(-(k + m) x) over the canopy."""
    return (1 - np.exp(-(k + m) * depth)) / (k + m)
