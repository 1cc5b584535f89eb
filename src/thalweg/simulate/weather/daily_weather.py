"""Daily weather: seasonal, autocorrelated, with rain, clouds, radiation and temperature in agreement."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from thalweg.simulate.weather.climates import ClimateSpec, Monthly


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
        """Day of the year, 1 to 366."""
        return np.asarray(self.days.day_of_year)

    @property
    def vapour_pressure_deficit(self) -> NDArray:
        """Mean daytime vapour pressure deficit in kPa."""
        daytime = 0.4 * self.temperature + 0.6 * self.maximum
        return np.maximum(saturation_pressure(daytime) - saturation_pressure(self.dewpoint), 0.0) / 10.0

    @property
    def evapotranspiration(self) -> NDArray:
        """Evapotranspiration in mm d-1 (Priestley & Taylor 1972; net radiation is 0.55 of global)."""
        slope = 4098.0 * saturation_pressure(self.temperature) / 10 / (self.temperature + 237.3) ** 2
        return np.maximum(1.26 * slope / (slope + 0.066) * 0.55 * self.radiation / 2.45, 0.05)

    def since(self, day: pd.Timestamp) -> "Weather":
        """The weather from ``day`` on."""
        keep = np.asarray(self.days >= day)
        series = {name: value[keep] for name, value in vars(self).items() if name != "days"}
        return Weather(days=self.days[keep], **series)

    def to_dataset(self) -> xr.Dataset:
        """The daily weather in the names and units of AgERA5: K, mm d-1, J m-2 d-1, hPa, m s-1."""
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
    """Saturation vapour pressure in hPa over water at ``temperature`` in degC (Tetens 1930)."""
    return 6.108 * np.exp(17.27 * temperature / (temperature + 237.3))


def draw_weather(rng: np.random.Generator, climate: ClimateSpec, days: pd.DatetimeIndex) -> Weather:
    """Draw daily weather for ``days``.

    One autocorrelated latent variable, how disturbed the day is, decides on rain and cloud cover, so that
    wet days are dark and spells last some days; cloud cover dims the sun and narrows the daily temperature
    range.
    """
    count = len(days)
    disturbed = _autoregressive(rng, count, 0.55)
    rain_days = _seasonal(climate.rain_days, days)
    shape = 0.85
    amount = rng.gamma(shape, _seasonal(climate.rain_depth, days) / shape, count)
    rain = np.where(disturbed > ndtri(1 - rain_days), amount, 0.0)

    # Cover is a normal variable squeezed by its distribution function: mostly near 0 or near 1.
    spread = 0.45
    level = np.sqrt(1 + spread**2) * ndtri(_seasonal(climate.cloud, days))
    cloud = ndtr((level + 0.85 * disturbed + 0.53 * rng.standard_normal(count)) / spread)

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
    wind = climate.wind * np.exp(0.35 * _autoregressive(rng, count, 0.5) + 0.12 * (disturbed - 0.5))
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


def day_length(day_of_year: NDArray, latitude: float) -> NDArray:
    """Hours from sunrise to sunset; latitude in radians (Allen et al. 1998, eq. 34)."""
    declination = 0.409 * np.sin(2 * np.pi * day_of_year / 365.25 - 1.39)
    return 24 / np.pi * np.arccos(np.clip(-np.tan(latitude) * np.tan(declination), -1, 1))


def extraterrestrial_radiation(day_of_year: NDArray, latitude: float) -> NDArray:
    """Daily radiation above the atmosphere in MJ m-2 d-1; latitude in radians (Allen et al. 1998, eq. 21)."""
    angle = 2 * np.pi * day_of_year / 365.25
    declination = 0.409 * np.sin(angle - 1.39)
    sunset = np.arccos(np.clip(-np.tan(latitude) * np.tan(declination), -1, 1))
    distance = 1 + 0.033 * np.cos(angle)
    horizontal = sunset * np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.sin(
        sunset
    )
    return 118.1 / np.pi * distance * horizontal


def _seasonal(monthly: Monthly, days: pd.DatetimeIndex) -> NDArray:
    """Interpolate monthly values, each at the middle of its month, around the year."""
    middles = (np.arange(12) + 0.5) * 365.25 / 12
    return np.interp(np.asarray(days.day_of_year), middles, monthly, period=365.25)


def _autoregressive(rng: np.random.Generator, count: int, memory: float) -> NDArray:
    """A stationary first-order autoregressive series of variance 1."""
    shocks = rng.standard_normal(count) * np.sqrt(1 - memory**2)
    shocks[0] /= np.sqrt(1 - memory**2)
    return lfilter([1.0], [1.0, -memory], shocks)
