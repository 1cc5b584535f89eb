"""Management by farmers: sowing, harvest, tillage, cover crops, mowing, grazing, irrigation."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.simulate.land.land_cover import SURFACES, crop_trait, is_surface
from thalweg.simulate.variety import NEUTRAL, Variety
from thalweg.simulate.weather.climates import ClimateSpec
from thalweg.simulate.weather.daily_weather import Weather


@dataclass(frozen=True)
class Management:
    """Management events by day and unit, and constants per unit."""

    sown: NDArray[np.bool_]  # (day, unit)
    latest: NDArray[np.bool_]  # (day, unit) last day of the harvest
    ploughed: NDArray[np.bool_]  # (day, unit) end of a cover crop
    cut: NDArray[np.float32]  # (day, unit) share of the grass removed by mowing or grazing
    delay: NDArray  # (unit,) delay of the harvest after maturity, as a share of the growing time
    tillage: NDArray  # (unit,) days from harvest to tillage
    weediness: NDArray  # (unit,) largest leaf area of weeds, m2 m-2
    cover_crop: NDArray[np.bool_]  # (unit,)
    irrigated: NDArray[np.bool_]  # (unit,)


def plan_management(
    rng: np.random.Generator, surfaces: NDArray, weather: Weather, climate: ClimateSpec, variety: Variety = NEUTRAL
) -> Management:
    """Draw the management of every unit.

    Args:
        rng: Source of randomness.
        surfaces: (unit,) index into SURFACES.
        weather: Daily weather, spin-up included.
        climate: Climate of the landscape.
        variety: Factors of the farming of the landscape.
    """
    days, units = len(weather.days), len(surfaces)
    sown, latest, ploughed = (np.zeros((days, units), bool) for _ in range(3))
    cut = np.zeros((days, units), np.float32)
    first, last = weather.days[0], weather.days[-1]
    tropics = abs(climate.latitude) < 23.4
    offset = variety.calendar_spread * rng.normal(0, 5.0, units)  # days; some farmers are always early

    def index(year: int, day_of_year: float) -> int | None:
        day = pd.Timestamp(year, 1, 1) + pd.Timedelta(days=round(day_of_year) - 1)
        return (day - first).days if first <= day <= last else None

    latest_day = crop_trait("latest", surfaces, 0.0) + variety.harvest[surfaces]
    for unit, surface in enumerate(surfaces):
        name = SURFACES[surface].name
        for year in range(first.year, last.year + 1):
            if SURFACES[surface].crop is not None:
                for season in climate.sowing[name]:
                    at = index(year, season + offset[unit] + rng.normal(0, 5.0))
                    if at is not None:
                        sown[_after_rain(weather, at) if tropics else at, unit] = True
                at = index(year, latest_day[unit] + 0.7 * offset[unit] + rng.normal(0, 6.0))
                if at is not None and not tropics:
                    latest[at, unit] = True
                at = index(year, rng.uniform(8, 85))
                if at is not None:
                    ploughed[at, unit] = True
            for day_of_year, share in _cuts(rng, name, climate, variety):
                at = index(year, day_of_year)
                if at is not None:
                    cut[at, unit] = share

    summer = crop_trait("summer", surfaces, 0.0) > 0
    cereal = is_surface(surfaces, "winter_cereal", "maize", "rapeseed")
    return Management(
        sown=sown,
        latest=latest,
        ploughed=ploughed,
        cut=cut,
        delay=rng.uniform(0.0, 0.05, units),
        tillage=np.round(rng.uniform(6, 45, units) * variety.tillage_delay),
        weediness=rng.uniform(0.15, 0.7, units) * variety.weeds,
        cover_crop=cereal & (rng.random(units) < climate.cover_crops),
        irrigated=summer & (rng.random(units) < climate.irrigation),
    )


def _cuts(rng: np.random.Generator, name: str, climate: ClimateSpec, variety: Variety) -> list[tuple[float, float]]:
    """Draw days of year and shares of mowing or grazing in one year."""
    if name == "grass_mown":
        first = 128 + rng.normal(0, 9) + variety.mowing_start
        starts = first + variety.mowing_interval * np.cumsum([0, *rng.normal(44, 8, 3)])
        most = round(int(rng.integers(3, 5)) / variety.mowing_interval)
        return [(float(day), 0.82) for day in starts[:most]]
    if name == "garden" and climate.latitude > 40:
        return [(float(day), 0.25) for day in np.arange(110 + rng.uniform(0, 15), 290, 20)]
    if name == "grass_grazed":
        season = (85.0, 310.0) if climate.latitude > 40 else (1.0, 360.0)
        turns = rng.uniform(*season) + np.cumsum(rng.uniform(22, 42, 9)) - 150
        return [(float(day), float(rng.uniform(0.25, 0.6))) for day in turns if season[0] < day < season[1]]
    return []


def _after_rain(weather: Weather, day: int) -> int:
    """Return the first day from ``day`` on after 15 mm of rain in five days, within two months."""
    sums = np.convolve(weather.rain, np.ones(5))[: len(weather.rain)]
    window = sums[day : day + 60] > 15.0
    return day + int(np.argmax(window)) if window.any() else day
