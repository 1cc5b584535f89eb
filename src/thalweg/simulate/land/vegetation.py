"""Daily growth and soil water of every unit, from weather and management."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.land.land_cover import crop_trait, is_surface, trait
from thalweg.simulate.land.management import Management
from thalweg.simulate.variety import NEUTRAL, Variety
from thalweg.simulate.weather.climates import ClimateSpec
from thalweg.simulate.weather.daily_weather import Weather
from thalweg.simulate.weather.sun import day_length

SATURATION, FIELD_CAPACITY, WILTING = 0.44, 0.31, 0.07  # of a loam, m3 m-3 (Rawls et al. 1982)
_TOPSOIL = 60.0  # mm, about the depth of C-band radar and of drying by the sun


@dataclass(frozen=True)
class Growth:
    """State of every unit on every day; every array is (day, unit) float32."""

    lai: NDArray  # green leaf area, m2 m-2
    dead: NDArray  # standing dead leaf area, m2 m-2
    chlorophyll: NDArray  # of green leaves, ug cm-2
    leaf_water: NDArray  # of green leaves, cm
    petals: NDArray  # fraction of ground covered by flowers
    residue: NDArray  # fraction of soil covered by straw, stubble or litter
    roughness: NDArray  # of the soil surface, cm
    soil_moisture: NDArray  # of the topsoil, m3 m-3; 0 where sealed or under water
    stress: NDArray  # water stress of the root zone, 0 none to 1

    def on(self, days: NDArray) -> "Growth":
        """Return the states on the days of these indices."""
        return Growth(**{item.name: getattr(self, item.name)[days] for item in fields(self)})


def grow(
    rng: np.random.Generator,
    surfaces: NDArray,
    weather: Weather,
    climate: ClimateSpec,
    management: Management,
    variety: Variety = NEUTRAL,
) -> Growth:
    """Simulate the growth of every unit day by day.

    Args:
        rng: Source of the vigour and the soil of each unit.
        surfaces: (unit,) index into SURFACES.
        weather: Daily weather, spin-up included.
        climate: Climate of the landscape.
        management: Management events by day.
        variety: Factors of plants and soils of the landscape.

    Returns:
        The daily states, (day, unit).
    """
    days, units = len(weather.days), len(surfaces)
    is_crop = np.isfinite(crop_trait("base", surfaces, np.nan))
    grass = is_surface(surfaces, "grass_mown", "grass_grazed", "garden", "bare_soil")
    sealed = is_surface(surfaces, "roof", "asphalt", "water")

    vigour = np.exp(rng.normal(0, 0.13, units))
    needle = is_surface(surfaces, "needleleaf_forest")
    peak = trait("lai", surfaces) * vigour * np.where(needle, 1.0, climate.productivity)
    peak = peak * variety.leaf_area[surfaces]
    greenness = trait("chlorophyll", surfaces) * np.exp(rng.normal(0, 0.09, units)) * variety.chlorophyll[surfaces]
    succulence = trait("leaf_water", surfaces) * np.exp(rng.normal(0, 0.12, units)) * variety.leaf_water[surfaces]
    base = crop_trait("base", surfaces, 0.0)
    emergence = crop_trait("emergence", surfaces, 1.0)
    maturity = crop_trait("maturity", surfaces, 1.0) * climate.cultivar * np.exp(rng.normal(0, 0.03, units))
    maturity = maturity * variety.maturity[surfaces]
    rise, rise_width = crop_trait("rise", surfaces, 0.5), crop_trait("rise_width", surfaces, 1.0)
    rise_width = rise_width * variety.canopy_closure[surfaces]
    fall, fall_width = crop_trait("fall", surfaces, 0.9), crop_trait("fall_width", surfaces, 1.0)
    rise = rise + rng.normal(0, 0.015, units)
    stubble = crop_trait("residue", surfaces, 0.0)
    bloom, petals_peak = crop_trait("flowering", surfaces, 0.5), crop_trait("petals", surfaces, 0.0)
    capacity = rng.uniform(90, 190, units)  # mm of available water in the root zone
    drained = FIELD_CAPACITY + rng.normal(0, 0.025, units) + variety.field_capacity
    seedbed = rng.uniform(0.8, 1.4, units)
    forest = forest_phenology(rng, surfaces, weather, climate)

    # Crops sown in autumn develop with long days, through vernalisation and photoperiod.
    hours = day_length(weather.day_of_year, np.radians(climate.latitude))[:, None]
    autumn_sown = is_crop & (crop_trait("summer", surfaces, 1.0) == 0)
    pace = np.where(autumn_sown, np.clip((hours - 7) / 6, 0.35, 1.0), 1.0)

    standing = np.zeros(units, bool)
    thermal, catch_crop, weeds, dead = (np.zeros(units) for _ in range(4))
    green = np.where(grass, 0.5 * peak, 0.0)
    since_harvest = np.full(units, 999.0)
    memory = np.zeros(units)
    residue = np.zeros(units)
    roughness = np.full(units, 1.2)
    water = 0.8 * capacity
    topsoil = np.full(units, 0.28)

    growth = Growth(**{item.name: np.zeros((days, units), np.float32) for item in fields(Growth)})
    evaporation, photoperiod = weather.evapotranspiration, weather.radiation / 12.0
    for day in range(days):
        temperature, rain = weather.temperature[day], weather.rain[day]
        stress = 1 - np.clip(water / (0.5 * capacity), 0, 1)
        memory += (stress - memory) / 18.0

        # Crops develop in thermal time; drought makes them ripen early.
        sown = management.sown[day]
        standing |= sown
        thermal[sown], catch_crop[sown], weeds[sown], dead[sown] = 0.0, 0.0, 0.0, 0.0
        residue[sown] = 0.4 * residue[sown]
        roughness[sown] = seedbed[sown]
        thermal += np.where(standing, pace[day] * np.clip(temperature - base, 0, 22) * (1 + 0.35 * stress), 0.0)
        stage = (thermal - emergence) / maturity
        risen = np.where(standing & (stage > 0), _logistic((stage - rise) / rise_width), 0.0)
        left = 1 - _logistic((stage - fall) / fall_width)
        chill = 1 - 0.45 * _logistic((-2.0 - temperature) / 2.0)
        crop_green = peak * risen * left * (1 - 0.5 * memory) + 0.12 * np.clip(stage * 12, 0, 1) * standing * left

        ripe = standing & ((stage > 1.0 + management.delay) | management.latest[day])
        if ripe.any():
            standing &= ~ripe
            crop_green = np.where(ripe, 0.0, crop_green)
            thermal[ripe], dead[ripe], since_harvest[ripe] = 0.0, 0.0, 0.0
            residue[ripe] = stubble[ripe]
            roughness[ripe] = 1.4
            stage = np.where(ripe, 0.0, stage)
        since_harvest += 1
        tilled = (since_harvest == management.tillage) & ~standing
        residue[tilled] *= 0.2
        roughness[tilled] = 2.6
        weeds[tilled] = 0.0
        warmth = np.clip(temperature - 3, 0, 15)
        bare = is_crop & ~standing
        weeds += np.where(
            bare, 0.004 * warmth * (1 - stress) * (0.05 + weeds) * (1 - weeds / management.weediness), 0.0
        )
        growing = bare & management.cover_crop & (since_harvest > management.tillage)
        catch_crop += np.where(growing, warmth * (1 - 0.5 * stress), 0.0)
        catch_crop[management.ploughed[day]] = 0.0
        cover = np.where(growing & (catch_crop > 0), 2.9 * _logistic((catch_crop - 420) / 80) * chill, 0.0)

        # Grass grows towards its peak, more slowly in drought and cold; mowing and grazing remove it.
        season = np.clip(temperature / 14.0, 0.05, 1.0) * np.clip(photoperiod[day], 0.1, 1.2) * (1 - 0.9 * stress)
        dying = 0.008 + 0.05 * np.maximum(memory - 0.35, 0) + 0.012 * (temperature < 0)
        grown = 0.15 * season * green * (1 - green / peak.clip(0.3)) + 0.02 * season
        green = np.where(grass, np.clip(green + grown - dying * green, 0.15 * peak, None), 0.0)
        cut = management.cut[day]
        green = np.where(cut > 0, np.minimum(green, np.maximum(green * (1 - cut), 0.16 * peak)), green)
        residue = np.where(grass & (cut > 0.6), 0.45, residue)

        lai = np.where(is_crop, crop_green + weeds * ~standing + cover, green) + forest.lai[day] * peak
        lai = np.where(is_crop & standing & (stage < 0.3), lai * chill, lai)
        # Dead leaves remain in ripe crops and dry grass until harvest or decay.
        withered = 0.42 * peak * risen * (1 - left) * standing * is_crop
        dead = np.where(is_crop, withered, 0.965 * dead + np.where(grass, dying * green, 0.0))
        residue = residue * 0.9965
        roughness -= (roughness - 0.8).clip(0) * (1 - np.exp(-rain / 120.0))

        # Soil water: a thin layer that dries by evaporation and a root zone emptied by the canopy.
        closed = 1 - np.exp(-0.6 * (lai + 0.5 * dead))
        reaching = np.maximum(rain - 0.25 * lai, 0.55 * rain)
        watered = management.irrigated & (stage > 0.05) & (stage < 0.85) & (water < 0.55 * capacity)
        reaching = reaching + np.where(watered, 22.0, 0.0)
        wetness = np.clip((topsoil - WILTING) / (drained - WILTING), 0, 1)
        drying = evaporation[day] * (0.15 + 0.85 * (1 - closed)) * wetness**1.4
        topsoil = topsoil + (reaching - 0.75 * drying - 0.15 * evaporation[day] * closed * wetness) / _TOPSOIL
        surplus = np.maximum(topsoil - drained, 0)
        topsoil = np.clip(topsoil - 0.55 * surplus, WILTING, SATURATION)
        taken = evaporation[day] * (0.2 * (1 - closed) * wetness + closed * (1 - 0.8 * stress))
        water = np.clip(water + reaching - taken, 0.02 * capacity, capacity)

        aged = np.where(is_crop & standing, 1 - 0.55 * _logistic((stage - fall + 0.02) / (1.3 * fall_width)), 1.0)
        young = np.where(is_crop & standing, 0.78 + 0.22 * np.clip(stage / 0.3, 0, 1), 0.95)
        fresh = np.where(grass, 0.82 + 0.18 * np.clip(green / peak.clip(0.3) * 1.4, 0, 1), 1.0)
        growth.lai[day] = np.where(sealed, 0.0, lai)
        growth.dead[day] = np.where(sealed, 0.0, dead + forest.dead[day] * peak)
        growth.chlorophyll[day] = greenness * aged * young * fresh * forest.chlorophyll[day] * (1 - 0.25 * memory)
        growth.leaf_water[day] = succulence * (1 - 0.35 * stress) * (0.6 + 0.4 * aged)
        growth.petals[day] = petals_peak * standing * np.exp(-0.5 * ((stage - bloom) / 0.045) ** 2) * (1 - 0.4 * memory)
        growth.residue[day] = np.where(forest.lai[day] > 0, 0.75, residue)
        growth.roughness[day] = roughness
        growth.soil_moisture[day] = np.where(sealed, 0.0, topsoil)
        growth.stress[day] = stress
    return growth


@dataclass(frozen=True)
class ForestPhenology:
    """Leaves of the forests as shares of their peak; (day, unit), zero or one outside forests."""

    lai: NDArray
    dead: NDArray
    chlorophyll: NDArray


def forest_phenology(
    rng: np.random.Generator, surfaces: NDArray, weather: Weather, climate: ClimateSpec
) -> ForestPhenology:
    """Simulate leaf area and chlorophyll of forests: spring by thermal time, autumn by date, evergreen needles."""
    units = len(surfaces)
    doy = weather.day_of_year
    warmth = np.clip(weather.temperature - 5.0, 0, None)
    heat = np.zeros(len(doy))
    for day in range(len(doy)):
        heat[day] = warmth[day] if doy[day] == 1 or day == 0 else heat[day - 1] + warmth[day]
    needs = rng.normal(215, 25, units)
    turning = rng.normal(296, 5, units)
    out = _logistic((heat[:, None] - needs) / 28.0)
    shed = _logistic((doy[:, None] - turning - 12) / 5.0)
    yellow = _logistic((doy[:, None] - turning) / 6.0)
    deciduous = out * (1 - shed)
    chlorophyll = 1 - 0.72 * yellow * (out > 0.5)
    dead = 0.30 * yellow * (1 - shed)
    if abs(climate.latitude) < 40:
        # Evergreen or drought-deciduous broadleaves: leaves follow the rain of the last two months.
        recent = np.convolve(weather.rain, np.full(60, 1 / 60))[: len(doy)]
        wet = np.clip(recent / 1.6, 0, 1)[:, None] * np.ones(units)
        deciduous = 0.55 + 0.35 * wet
        chlorophyll = 0.85 + 0.15 * wet
        dead = np.zeros_like(deciduous)
    broad = is_surface(surfaces, "broadleaf_forest")
    needle = is_surface(surfaces, "needleleaf_forest")
    shoots = 0.85 + 0.15 * np.sin(2 * np.pi * (doy[:, None] - 105) / 365.25) * np.sign(climate.latitude)
    floor = 0.10 if abs(climate.latitude) > 40 else 0.0
    return ForestPhenology(
        lai=np.where(broad, floor + (1 - floor) * deciduous, np.where(needle, shoots, 0.0)),
        dead=np.where(broad, dead + 0.10 * (1 - np.minimum(deciduous, 1)), 0.0),
        chlorophyll=np.where(broad, chlorophyll, 1.0),
    )


def _logistic(value: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-np.clip(value, -40, 40)))
