"""Simulated site: everything that causes the observations of a landscape."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.simulate.land.heterogeneity import Heterogeneity
from thalweg.simulate.land.land_cover import is_surface
from thalweg.simulate.land.parcels import Parcels
from thalweg.simulate.land.vegetation import Growth
from thalweg.simulate.observations.clouds import CloudScene, DailyClouds
from thalweg.simulate.observations.dataset import SiteGrid
from thalweg.simulate.observations.overpasses import OpticalOverpasses
from thalweg.simulate.radiative_transfer.canopy import SpectralBands
from thalweg.simulate.radiative_transfer.optics import unit_responses
from thalweg.simulate.variety import Variety
from thalweg.simulate.weather.climates import ClimateSpec
from thalweg.simulate.weather.daily_weather import Weather


@dataclass(frozen=True)
class SimulatedSite:
    """Everything about a landscape that does not depend on the sensors; daily states without spin-up."""

    climate: ClimateSpec
    parcels: Parcels
    weather: Weather
    growth: Growth
    heterogeneity: Heterogeneity
    clouds: DailyClouds
    grid: SiteGrid
    brightness: NDArray  # (unit,) of soil and materials, relative
    turbidity: NDArray  # (unit,) of water, 0 to 1
    variety: Variety

    def days(self, times: pd.DatetimeIndex) -> NDArray:
        """Return the index of the day of each time, (time,) integers."""
        return np.asarray((times.normalize() - self.weather.days[0]).days)

    def surface_fraction(self, name: str) -> NDArray:
        """Return (y, x) float64, the fraction of the ground with one surface."""
        shares = self.parcels.shares @ is_surface(self.parcels.surfaces, name).astype(float)
        return shares.reshape(self.parcels.size, self.parcels.size)

    def cloud_scene(self, overpasses: OpticalOverpasses, date: int) -> CloudScene:
        """Return the clouds over the site at an overpass.

        Args:
            overpasses: Overpasses of an optical sensor.
            date: Index of the overpass.
        """
        time = overpasses.times[date]
        day = int((time.normalize() - self.weather.days[0]).days)
        return self.clouds.scene(
            day,
            3600.0 * (time.hour - 10) + 60.0 * time.minute,
            float(self.weather.cloud[day]),
            float(self.weather.wind[day]),
            float(overpasses.sun_zenith[date]),
            float(overpasses.sun_azimuth[date]),
        )

    def ground_responses(self, bands: SpectralBands, overpasses: OpticalOverpasses) -> NDArray:
        """Return (time, unit, 7, band) float32 responses of the units in a sensor's bands; see `unit_responses`."""
        return unit_responses(
            self.climate,
            bands,
            self.parcels.surfaces,
            self.brightness,
            self.turbidity,
            self.growth.on(self.days(overpasses.times)),
            overpasses.views(),
            self.variety,
        )
