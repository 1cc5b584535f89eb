"""Datasets of the satellites: Sentinel-2, Landsat 8 and Sentinel-1 as recorded over a site."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import shift

from thalweg.simulate.land.land_cover import is_surface
from thalweg.simulate.observations.clouds import add_clouds
from thalweg.simulate.observations.dataset import angle_variable, digital_numbers
from thalweg.simulate.observations.overpasses import OpticalOverpasses, RadarOverpasses
from thalweg.simulate.observations.quality_layers import landsat_pixel_qa, scene_classification
from thalweg.simulate.observations.site import SimulatedSite
from thalweg.simulate.observations.truth import truth_maps
from thalweg.simulate.radiative_transfer.canopy import LANDSAT8, SENTINEL2
from thalweg.simulate.radiative_transfer.optics import add_optical_errors, render_reflectance
from thalweg.simulate.radiative_transfer.pixel_mixing import block_mean, mix_units, unit_entries
from thalweg.simulate.radiative_transfer.radar import LOOKS, observe_backscatter, unit_backscatter
from thalweg.simulate.variety import DateErrors

_COARSE_BANDS = tuple(SENTINEL2.names.index(name) for name in ("B05", "B06", "B07", "B8A", "B11", "B12"))

_OFFSET_SINCE = pd.Timestamp("2022-01-25")
"""First date of the processing baseline that adds an offset to Sentinel-2's numbers; simulated ones have none."""


def observe_sentinel2(
    rng: np.random.Generator, site: SimulatedSite, overpasses: OpticalOverpasses
) -> tuple[xr.Dataset, xr.Dataset]:
    """Simulate Sentinel-2 L2A as recorded, and the truth on its dates.

    Args:
        rng: Source of randomness.
        site: Simulated site.
        overpasses: Overpasses of Sentinel-2.

    Returns:
        Ten bands as uint16 (reflectance times 10000, fill value 0), the scene classification and angles by date; and
        the truth.
    """
    bands, size, count = SENTINEL2, site.parcels.size, len(overpasses.times)
    days, roofs = site.days(overpasses.times), site.surface_fraction("roof")
    responses = site.ground_responses(bands, overpasses)
    numbers = np.zeros((count, len(bands.names), size, size), np.uint16)
    classes = np.zeros((count, size, size), np.uint8)
    cover = np.zeros((count, size, size), np.float32)
    shadow = np.zeros((count, size, size), bool)
    for date in range(count):
        scene = site.cloud_scene(overpasses, date)
        image = render_reflectance(
            site.parcels, responses[date], site.heterogeneity, site.growth.stress[days[date]], _COARSE_BANDS, 2
        )
        errors = site.variety.errors(int(days[date]))
        image = errors.hazy(add_clouds(_displace(image, errors), scene, bands), bands.centres)
        image = add_optical_errors(rng, image, bands, _COARSE_BANDS, 2)
        image[list(_COARSE_BANDS)] = block_mean(image[list(_COARSE_BANDS)], 2)
        classes[date] = scene_classification(rng, image, scene.scaled(errors.detected), bands, roofs)
        numbers[date] = digital_numbers(image)
        cover[date], shadow[date] = scene.cover, (scene.shadow > 0.3) & (scene.cover < 0.7)

    variables: dict[str, Any] = {}
    for index, name in enumerate(bands.names):
        repeated = ", 20 m band repeated onto the 10 m grid" if index in _COARSE_BANDS else ""
        text = f"surface reflectance x 10000 (L2A){repeated}"
        attributes = {"_FillValue": np.uint16(0), "units": "1", "long_name": text}
        variables[name] = (("time", "y", "x"), numbers[:, index], attributes)
    variables["SCL"] = (("time", "y", "x"), classes, {"long_name": "Sen2Cor scene classification"})
    for name in ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth"):
        variables[name] = angle_variable(getattr(overpasses, name))
    truth = truth_maps(site, days)
    truth["cloud"] = (
        ("time", "y", "x"),
        cover,
        {"units": "1", "long_name": "share of the signal from clouds"},
    )
    truth["shadow"] = (("time", "y", "x"), shadow, {"long_name": "cloud shadow"})
    recorded = site.grid.dataset(variables, overpasses.times)
    if (overpasses.times >= _OFFSET_SINCE).any():
        recorded = recorded.assign_attrs(boa_offset_applied=1)  # readers refuse to guess on these dates
    return recorded, site.grid.dataset(truth, overpasses.times)


def observe_landsat8(rng: np.random.Generator, site: SimulatedSite, overpasses: OpticalOverpasses) -> xr.Dataset:
    """Simulate Landsat 8 surface reflectance as recorded, 30 m pixels repeated onto the 10 m grid.

    Args:
        rng: Source of randomness.
        site: Simulated site.
        overpasses: Overpasses of Landsat 8.

    Returns:
        Six bands as uint16 (reflectance times 10000) and ``pixel_qa``.
    """
    bands, size, count = LANDSAT8, site.parcels.size, len(overpasses.times)
    days, roofs, water = site.days(overpasses.times), site.surface_fraction("roof"), site.surface_fraction("water")
    responses = site.ground_responses(bands, overpasses)
    all_bands = tuple(range(len(bands.names)))
    numbers = np.zeros((count, len(bands.names), size, size), np.uint16)
    quality = np.zeros((count, size, size), np.uint16)
    for date in range(count):
        scene = site.cloud_scene(overpasses, date)
        image = render_reflectance(
            site.parcels, responses[date], site.heterogeneity, site.growth.stress[days[date]], all_bands, 3
        )
        errors = site.variety.errors(int(days[date]))
        image = errors.hazy(add_clouds(_displace(image, errors), scene, bands), bands.centres)
        image = add_optical_errors(rng, image, bands, all_bands, 3)
        numbers[date] = digital_numbers(block_mean(image, 3))
        quality[date] = landsat_pixel_qa(rng, scene.scaled(errors.detected), water, roofs)
    variables: dict[str, Any] = {
        name: (("time", "y", "x"), numbers[:, index], {"long_name": f"Landsat 8 {name}"})
        for index, name in enumerate(bands.names)
    }
    variables["pixel_qa"] = (("time", "y", "x"), quality, {"long_name": "Landsat 8 pixel_qa"})
    return site.grid.dataset(variables, overpasses.times).assign_attrs(scale=0.0001)


def observe_sentinel1(rng: np.random.Generator, site: SimulatedSite, overpasses: RadarOverpasses) -> xr.Dataset:
    """Simulate Sentinel-1 VV and VH as recorded.

    Args:
        rng: Source of randomness.
        site: Simulated site.
        overpasses: Overpasses of Sentinel-1.

    Returns:
        Backscatter as int16 (0.01 dB, fill value -32768), with orbit and incidence angle by date.
    """
    days = site.days(overpasses.times)
    units = unit_backscatter(
        rng,
        site.parcels.surfaces,
        site.growth.on(days),
        overpasses.ascending,
        overpasses.incidence,
        site.weather.wind[days],
        site.variety,
    )
    size = site.parcels.size
    texture = _backscatter_texture(rng, site)
    _, columns = unit_entries(site.parcels)
    decibel = np.zeros((2, len(days), size, size), np.float32)
    for date in range(len(days)):
        intensity = mix_units(site.parcels, units[date].T[:, columns] * texture)
        offset = site.variety.decibel[int(overpasses.ascending[date])] + site.variety.errors(int(days[date])).decibel
        observed = observe_backscatter(rng, intensity, LOOKS * site.variety.looks)
        decibel[:, date] = observed + offset[:, None, None]
    stored = np.clip(np.round(decibel * 100), -32767, 32767).astype(np.int16)
    variables: dict[str, Any] = {
        name: (
            ("time", "y", "x"),
            stored[index],
            {
                "_FillValue": np.int16(-32768),
                "units": "dB",
                "scale_factor": 0.01,
                "long_name": "backscatter, GRD, 20 m repeated onto the 10 m grid",
            },
        )
        for index, name in enumerate(("VV", "VH"))
    }
    data = site.grid.dataset(variables, overpasses.times)
    orbit = np.where(overpasses.ascending, "ascending", "descending").astype(object)
    return data.assign_coords(orbit=("time", orbit), incidence_angle=angle_variable(overpasses.incidence))


def _displace(image: NDArray, errors: DateErrors) -> NDArray:
    """Move a (band, y, x) image by the geolocation error of its date."""
    return shift(image, (0.0, *errors.shift), order=1, mode="nearest") if any(errors.shift) else image


def _backscatter_texture(rng: np.random.Generator, site: SimulatedSite) -> NDArray:
    """Draw (entry,) float32 factors of backscatter within units: close to 1 in fields, variable in villages."""
    pixels, units = unit_entries(site.parcels)
    spread = np.where(is_surface(site.parcels.surfaces, "roof", "garden"), 0.7, 0.09)[units]
    smooth = 0.06 * site.heterogeneity.fertility.ravel()[pixels] - 0.10 * site.heterogeneity.drought.ravel()[pixels]
    return np.exp(spread * rng.standard_normal(len(units)) + smooth).astype(np.float32)
