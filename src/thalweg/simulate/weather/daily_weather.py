"""Daily weather: seasonal and autocorrelated, with consistent rain, clouds, radiation and temperature."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from thalweg.simulate.weather.climates import ClimateSpec, Monthly
from thalweg.simulate.weather.sun import extraterrestrial_radiation


@dataclass(frozen=True)
class Weather:
    """Daily weather; every array is (day,) float64."""

    days: pd.DatetimeIndex
    temperature: NDArray  # mean, degC
    minimum: NDArray  # degC
    maximum: NDArray  # degC
    dewpoint: NDArray  # degC
    rain: NDArray  # mm d-1
    radiation: NDArray  # MJ m-2 d-1
    wind: NDArray  # m s-1
    cloud: NDArray  # share of the sky around the morning overpass

    @property
    def day_of_year(self) -> NDArray:
        """Day of year, (day,) 1 to 366."""
        return np.asarray(self.days.day_of_year)

    @property
    def vapour_pressure_deficit(self) -> NDArray:
        """Mean daytime vapour pressure deficit, (day,) kPa."""
        daytime = 0.4 * self.temperature + 0.6 * self.maximum
        return np.maximum(saturation_pressure(daytime) - saturation_pressure(self.dewpoint), 0.0) / 10.0

    @property
    def evapotranspiration(self) -> NDArray:
        """Evapotranspiration, (day,) mm d-1 (Priestley & Taylor 1972; net radiation is 0.55 of global)."""
        slope = 4098.0 * saturation_pressure(self.temperature) / 10 / (self.temperature + 237.3) ** 2
        return np.maximum(1.26 * slope / (slope + 0.066) * 0.55 * self.radiation / 2.45, 0.05)

    def since(self, day: pd.Timestamp) -> "Weather":
        """Return the weather from ``day`` on."""
        keep = np.asarray(self.days >= day)
        series = {name: value[keep] for name, value in vars(self).items() if name != "days"}
        return Weather(days=self.days[keep], **series)

    def to_dataset(self) -> xr.Dataset:
        """Return the daily weather in the names and units of AgERA5: K, mm d-1, J m-2 d-1, hPa, m s-1."""
        columns = {
            "dewpoint_temperature": (self.dewpoint + 273.15, "K"),
            "precipitation_flux": (self.rain, "mm d-1"),
            "solar_radiation_flux": (self.radiation * 1e6, "J m-2 d-1"),
            "temperature_max": (self.maximum + 273.15, "K"),
            "temperature_mean": (self.temperature + 273.15, "K"),
            "temperature_min": (self.minimum + 273.15, "K"),
            "vapour_pressure": (saturation_pressure(self.dewpoint), "hPa"),
            "wind_speed": (self.wind, "m s-1"),
        }
        variables = {
            name: ("time", values.astype(np.float32), {"units": units}) for name, (values, units) in columns.items()
        }
        return xr.Dataset(variables, coords={"time": self.days.values.astype("datetime64[ns]")})


def saturation_pressure(temperature: NDArray) -> NDArray:
    """Return the saturation vapour pressure in hPa over water at ``temperature`` in degC (Tetens 1930)."""
    return 6.108 * np.exp(17.27 * temperature / (temperature + 237.3))


def draw_weather(rng: np.random.Generator, climate: ClimateSpec, days: pd.DatetimeIndex) -> Weather:
    """Draw daily weather.

    One autocorrelated latent variable, the disturbance of the day, determines rain and cloud cover, so that wet days
    are dark and spells last several days. Cloud cover reduces radiation and the daily temperature range.

    Args:
        rng: Source of randomness.
        climate: Climate of the landscape.
        days: Days to simulate.
    """
    count = len(days)
    disturbance = _autoregressive(rng, count, 0.55)
    rain_days = _seasonal(climate.rain_days, days)
    shape = 0.85
    amount = rng.gamma(shape, _seasonal(climate.rain_depth, days) / shape, count)
    rain = np.where(disturbance > ndtri(1 - rain_days), amount, 0.0)

    # Cloud cover is a normal variable mapped by its distribution function: mostly near 0 or near 1.
    spread = 0.45
    level = np.sqrt(1 + spread**2) * ndtri(_seasonal(climate.cloud, days))
    cloud = ndtr((level + 0.85 * disturbance + 0.53 * rng.standard_normal(count)) / spread)

    latitude = np.radians(climate.latitude)
    top = extraterrestrial_radiation(np.asarray(days.day_of_year), latitude)
    radiation = top * np.clip(0.66 - 0.42 * cloud + 0.04 * rng.standard_normal(count), 0.08, 0.8)

    summer = (top - top.mean()) / max(top.std(), 1e-9) * (1.0 if abs(climate.latitude) > 20 else 0.3)
    anomaly = climate.anomaly * _autoregressive(rng, count, 0.78)
    # Clouds cool summer days and keep winter nights warm.
    temperature = _seasonal(climate.temperature, days) + anomaly - 1.2 * (cloud - 0.5) * summer
    spread_of_day = np.maximum(climate.diurnal * (1.25 - 0.5 * cloud) * np.exp(0.10 * rng.standard_normal(count)), 1.5)
    minimum = temperature - 0.48 * spread_of_day
    dewpoint = minimum - climate.dewpoint_gap * (1 + 0.5 * summer) * (1.4 - 0.8 * cloud) * np.exp(
        0.3 * rng.standard_normal(count)
    )
    wind = climate.wind * np.exp(0.35 * _autoregressive(rng, count, 0.5) + 0.12 * (disturbance - 0.5))
    return Weather(
        days=days,
        temperature=temperature,
        minimum=minimum,
        maximum=temperature + 0.52 * spread_of_day,
        dewpoint=np.minimum(dewpoint, temperature - 0.2),
        rain=rain,
        radiation=radiation,
        wind=wind,
        cloud=cloud,
    )


def _seasonal(monthly: Monthly, days: pd.DatetimeIndex) -> NDArray:
    """Interpolate monthly values at the middles of the months, periodic over the year."""
    middles = (np.arange(12) + 0.5) * 365.25 / 12
    return np.interp(np.asarray(days.day_of_year), middles, monthly, period=365.25)


def _autoregressive(rng: np.random.Generator, count: int, memory: float) -> NDArray:
    """Draw a stationary first-order autoregressive series of variance 1."""
    shocks = rng.standard_normal(count) * np.sqrt(1 - memory**2)
    shocks[0] /= np.sqrt(1 - memory**2)
    return lfilter([1.0], [1.0, -memory], shocks)
