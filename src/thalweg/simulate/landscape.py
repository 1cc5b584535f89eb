"""Simulation of a landscape from a seed: weather, parcels, growth and the satellites' datasets."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import xarray as xr

from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_folder
from thalweg.simulate.land.heterogeneity import draw_heterogeneity
from thalweg.simulate.land.management import plan_management
from thalweg.simulate.land.parcels import Parcels, draw_parcels
from thalweg.simulate.land.vegetation import grow
from thalweg.simulate.observations.clouds import DailyClouds
from thalweg.simulate.observations.dataset import SiteGrid, write_netcdf
from thalweg.simulate.observations.overpasses import landsat_overpasses, sentinel1_overpasses, sentinel2_overpasses
from thalweg.simulate.observations.satellites import observe_landsat8, observe_sentinel1, observe_sentinel2
from thalweg.simulate.observations.site import SimulatedSite
from thalweg.simulate.observations.truth import parcel_series
from thalweg.simulate.variety import draw_variety
from thalweg.simulate.weather.climates import CLIMATES, Climate, ClimateSpec
from thalweg.simulate.weather.daily_weather import draw_weather

_SPIN_UP = pd.Timedelta(days=400)
_FILES = {
    "s2": "sentinel2",
    "s1": "sentinel1",
    "landsat8": "landsat8",
    "truth": "truth",
    "weather": "weather",
}


@dataclass(frozen=True)
class Landscape:
    """Simulated landscape.

    The datasets have the layout of a real site's files: stored integers, with scale and fill value as attributes.

    Attributes:
        sentinel2: Ten bands and SCL (time, y, x), angles by date.
        sentinel1: VV and VH (time, y, x), orbit and incidence angle by date.
        landsat8: Six bands and ``pixel_qa`` (time, y, x).
        truth: Truth behind the observations: land cover, plants, soil, clouds and production.
        weather: Daily weather in the names and units of AgERA5.
    """

    sentinel2: xr.Dataset
    sentinel1: xr.Dataset
    landsat8: xr.Dataset
    truth: xr.Dataset
    weather: xr.Dataset

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``s2.nc``, ``s1.nc``, ``landsat8.nc``, ``truth.nc`` and ``weather.nc``, all or none.

        Args:
            folder: Folder to write; must not exist. Its parents are created.

        Returns:
            The folder.

        Raises:
            UsageError: The folder exists.
            ThalwegError: The folder cannot be written.
        """
        with atomic_folder(Path(folder)) as unfinished:
            for name, attribute in _FILES.items():
                write_netcdf(getattr(self, attribute), unfinished / f"{name}.nc")
        return Path(folder)


def simulate(
    seed: int = 7,
    size: int = 128,
    years: int = 2,
    climate: Climate = "temperate",
    start: str = "2018-01-01",
    progress: Callable[[float, str], None] | None = None,
    variety: float = 0.0,
) -> Landscape:
    """Simulate a landscape and its observations by Sentinel-2, Sentinel-1 and Landsat 8.

    Args:
        seed: Seed of the landscape; the same seed gives a bit-identical landscape.
        size: Pixels of 10 m along each side; even and at least 16.
        years: Length of the series in years.
        climate: "temperate", "continental", "mediterranean", "semiarid", "boreal" (without snow) or
            "humid_tropical"; determines the location, the weather and the crops.
        start: First day as an ISO date.
        progress: Called with the fraction done (0 to 1) and the current step.
        variety: Strength from 0 to 1 of the differences to the standard landscape of the climate in soils, plants,
            farming, atmosphere and sensors; 1 gives varied landscapes for training.

    Returns:
        The landscape.

    Raises:
        UsageError: An argument is invalid.
    """
    first = _check(seed, size, years, climate, start, variety)
    report = progress or (lambda fraction, step: None)
    seeds, generators = _random_sources(seed)

    report(0.0, "weather, parcels and growth")
    site = _draw_site(seeds, generators, size, years, CLIMATES[climate], first, variety)
    spec, days, recorded = site.climate, site.weather.days, site.variety.recorded
    report(0.15, "Sentinel-2")
    optical = sentinel2_overpasses(generators[8], spec, days)
    sentinel2, truth = observe_sentinel2(generators[7], site, optical.on(recorded(len(optical.times), 0)))
    report(0.70, "Landsat 8")
    optical = landsat_overpasses(generators[8], spec, days)
    landsat8 = observe_landsat8(generators[9], site, optical.on(recorded(len(optical.times), 1)))
    report(0.80, "Sentinel-1")
    radar = sentinel1_overpasses(generators[8], spec, days)
    sentinel1 = observe_sentinel1(generators[10], site, radar.on(recorded(len(radar.times), 2)))
    report(0.95, "truth")
    attributes: dict[str, int | float | str] = {
        "seed": seed,
        "climate": climate,
        "title": f"Simulated {climate} landscape, seed {seed}",
    }
    if variety:
        attributes["variety"] = float(variety)
    parts = (sentinel2, sentinel1, landsat8, truth.merge(parcel_series(site)), site.weather.to_dataset())
    report(1.0, "done")
    return Landscape(*(part.assign_attrs(attributes) for part in parts))


def simulate_parcels(seed: int, size: int, climate: Climate, variety: float = 0.0) -> Parcels:
    """Return the parcels of the landscape that `simulate` makes from the same arguments."""
    seeds, generators = _random_sources(seed)
    return draw_parcels(generators[1], size, draw_variety(seeds[11], variety).climate(CLIMATES[climate]))


def simulate_site(
    seed: int, size: int, years: int, climate: Climate, start: str = "2018-01-01", variety: float = 0.0
) -> SimulatedSite:
    """Return the site behind the landscape that `simulate` makes from the same arguments.

    Raises:
        UsageError: An argument is invalid.
    """
    first = _check(seed, size, years, climate, start, variety)
    return _draw_site(*_random_sources(seed), size, years, CLIMATES[climate], first, variety)


def _draw_site(
    seeds: list[np.random.SeedSequence],
    generators: list[np.random.Generator],
    size: int,
    years: int,
    spec: ClimateSpec,
    first: pd.Timestamp,
    strength: float,
) -> SimulatedSite:
    """Draw variety, weather, parcels, growth and heterogeneity, each from its own source of randomness."""
    variety = draw_variety(seeds[11], strength)
    spec = variety.climate(spec)
    last = first + pd.DateOffset(years=years) - pd.Timedelta(days=1)
    weather = draw_weather(generators[0], spec, pd.date_range(first - _SPIN_UP, last))
    parcels = draw_parcels(generators[1], size, spec)
    management = plan_management(generators[2], parcels.surfaces, weather, spec, variety)
    growth = grow(generators[3], parcels.surfaces, weather, spec, management, variety)
    return SimulatedSite(
        climate=spec,
        parcels=parcels,
        weather=weather.since(first),
        growth=growth.on(np.arange(_SPIN_UP.days, len(weather.days))),
        heterogeneity=draw_heterogeneity(generators[4], size),
        clouds=DailyClouds(seeds[5], size),
        grid=SiteGrid.around(generators[6], spec, size),
        brightness=np.exp(variety.soil_contrast * generators[6].normal(0, 0.14, len(parcels.surfaces))),
        turbidity=generators[6].beta(1.5, 2.5, len(parcels.surfaces)),
        variety=variety,
    )


def _random_sources(seed: int) -> tuple[list[np.random.SeedSequence], list[np.random.Generator]]:
    """Return independent sources of randomness, one per step of the simulation."""
    seeds = np.random.SeedSequence(seed).spawn(12)
    return seeds, [np.random.Generator(np.random.PCG64(item)) for item in seeds]


def _check(seed: int, size: int, years: int, climate: str, start: str, variety: float) -> pd.Timestamp:
    """Refuse invalid arguments and return the first day.

    Raises:
        UsageError: An argument is invalid.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"seed must be a whole number of at least 0, got {seed!r}")
    if not isinstance(size, int | np.integer) or size < 16 or size % 2:
        raise UsageError(f"size must be an even number of pixels of at least 16, got {size!r}")
    if not isinstance(years, int | np.integer) or years < 1:
        raise UsageError(f"years must be a whole number of at least 1, got {years!r}")
    if climate not in get_args(Climate):
        raise UsageError(f"climate must be one of {', '.join(get_args(Climate))}, got {climate!r}")
    if not isinstance(variety, int | float) or not 0 <= variety <= 1:
        raise UsageError(f"variety must be a number from 0 to 1, got {variety!r}")
    try:
        return pd.Timestamp(start).normalize()
    except (TypeError, ValueError) as error:
        raise UsageError(f"start must be a date such as 2018-01-01, got {start!r}") from error
