"""From a seed to the files of a site: everything the other modules draw, put together."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import xarray as xr

from thalweg.errors import ThalwegError, UsageError
from thalweg.simulate import dataset
from thalweg.simulate.land.management import plan_management
from thalweg.simulate.land.parcels import ParcelLayout, draw_parcels
from thalweg.simulate.land.vegetation import grow
from thalweg.simulate.observations import Site, observe_landsat8, observe_sentinel1, observe_sentinel2, parcel_series
from thalweg.simulate.overpasses import landsat_passes, sentinel1_passes, sentinel2_passes
from thalweg.simulate.radiative_transfer.optics import draw_heterogeneity
from thalweg.simulate.weather.climates import CLIMATES, Climate, ClimateSpec
from thalweg.simulate.weather.clouds import Sky
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
    """A simulated site.

    The datasets hold what the files of a real site hold: stored integers, with scale and fill value as
    attributes.

    Attributes:
        sentinel2: Ten bands and SCL (time, y, x), angles by date.
        sentinel1: VV and VH (time, y, x), orbit and incidence angle by date.
        landsat8: Six bands and ``pixel_qa`` (time, y, x).
        truth: What the sensors could not see: cover, plants, soil, clouds and production.
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
            folder: Must not exist yet; its parents are made.

        Returns:
            The folder.

        Raises:
            UsageError: If the folder exists.
            ThalwegError: If it can not be written.
        """
        target = Path(folder)
        if target.exists():
            raise UsageError(f"the folder {target} exists already: choose another name or remove it first")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
                part = Path(scratch) / target.name
                part.mkdir()
                for name, attribute in _FILES.items():
                    dataset.write(getattr(self, attribute), part / f"{name}.nc")
                part.rename(target)
        except OSError as error:
            raise ThalwegError(
                f"{target}: could not be written ({error}): free some space or choose another disk"
            ) from error
        return target


def simulate(
    seed: int = 7,
    size: int = 128,
    years: int = 2,
    climate: Climate = "temperate",
    start: str = "2018-01-01",
    progress: Callable[[float, str], None] | None = None,
) -> Landscape:
    """Simulate a landscape and what three satellites see of it.

    Args:
        seed: The same seed gives the same landscape, bit for bit.
        size: Pixels of 10 m along each side; even and at least 16.
        years: Length of the record.
        climate: "temperate", "continental", "mediterranean" or "semiarid"; decides on the place, the
            weather and the crops.
        start: First day, as an ISO date.
        progress: Called with the share done (0 to 1) and what is being done.

    Returns:
        The landscape.

    Raises:
        UsageError: If an argument is not as described.
    """
    first = _check(seed, size, years, climate, start)
    tell = progress or (lambda share, what: None)
    spec = CLIMATES[climate]
    seeds, generators = _sources(seed)

    tell(0.0, "weather, layout and growth")
    site = _draw_site(seeds, generators, size, years, spec, first)
    weather = site.weather
    tell(0.15, "Sentinel-2")
    sentinel2, truth = observe_sentinel2(generators[7], site, sentinel2_passes(generators[8], spec, weather.days))
    tell(0.70, "Landsat 8")
    landsat8 = observe_landsat8(generators[9], site, landsat_passes(generators[8], spec, weather.days))
    tell(0.80, "Sentinel-1")
    sentinel1 = observe_sentinel1(generators[10], site, sentinel1_passes(generators[8], spec, weather.days))
    tell(0.95, "truth")
    described = {"seed": seed, "climate": climate, "title": f"Simulated {climate} landscape, seed {seed}"}
    parts = (sentinel2, sentinel1, landsat8, truth.merge(parcel_series(site)), weather.to_dataset())
    tell(1.0, "done")
    return Landscape(*(part.assign_attrs(described) for part in parts))


def layout_of(seed: int, size: int, climate: Climate) -> ParcelLayout:
    """Where everything is in the landscape that `simulate` makes of the same arguments, without its seasons."""
    _, generators = _sources(seed)
    return draw_parcels(generators[1], size, CLIMATES[climate])


def site_of(seed: int, size: int, years: int, climate: Climate, start: str = "2018-01-01") -> Site:
    """All that causes what the satellites see in the landscape that `simulate` makes of the same arguments."""
    first = _check(seed, size, years, climate, start)
    return _draw_site(*_sources(seed), size, years, CLIMATES[climate], first)


def _draw_site(
    seeds: list[np.random.SeedSequence],
    generators: list[np.random.Generator],
    size: int,
    years: int,
    spec: ClimateSpec,
    first: pd.Timestamp,
) -> Site:
    """Weather, layout, growth and the fields within, each from its own source."""
    last = first + pd.DateOffset(years=years) - pd.Timedelta(days=1)
    history = draw_weather(generators[0], spec, pd.date_range(first - _SPIN_UP, last))
    layout = draw_parcels(generators[1], size, spec)
    management = plan_management(generators[2], layout.kinds, history, spec)
    growth = grow(generators[3], layout.kinds, history, spec, management)
    return Site(
        climate=spec,
        layout=layout,
        weather=history.since(first),
        growth=growth.on(np.arange(_SPIN_UP.days, len(history.days))),
        fields=draw_heterogeneity(generators[4], size),
        sky=Sky(seeds[5], size),
        grid=dataset.SiteGrid.around(generators[6], spec, size),
        brightness=np.exp(generators[6].normal(0, 0.14, len(layout.kinds))),
        turbidity=generators[6].beta(1.5, 2.5, len(layout.kinds)),
    )


def _sources(seed: int) -> tuple[list[np.random.SeedSequence], list[np.random.Generator]]:
    """Independent sources of randomness, one for each step of the simulation."""
    seeds = np.random.SeedSequence(seed).spawn(12)
    return seeds, [np.random.Generator(np.random.PCG64(item)) for item in seeds]


def _check(seed: int, size: int, years: int, climate: str, start: str) -> pd.Timestamp:
    """Refuse arguments that make no landscape; return the first day."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"seed must be a whole number of at least 0, got {seed!r}")
    if not isinstance(size, int | np.integer) or size < 16 or size % 2:
        raise UsageError(f"size must be an even number of pixels of at least 16, got {size!r}")
    if not isinstance(years, int | np.integer) or years < 1:
        raise UsageError(f"years must be a whole number of at least 1, got {years!r}")
    if climate not in get_args(Climate):
        raise UsageError(f"climate must be one of {', '.join(get_args(Climate))}, got {climate!r}")
    try:
        return pd.Timestamp(start).normalize()
    except (TypeError, ValueError) as error:
        raise UsageError(f"start must be a date such as 2018-01-01, got {start!r}") from error
