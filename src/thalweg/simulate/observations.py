"""What each sensor records of a site, date by date."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from thalweg.simulate.dataset import SiteGrid, angle, digital_numbers
from thalweg.simulate.land.land_cover import KIND, LAND_COVER, trait
from thalweg.simulate.land.light_use_efficiency import absorbed_share, greenness, light_use
from thalweg.simulate.land.parcels import ParcelLayout
from thalweg.simulate.land.vegetation import Growth
from thalweg.simulate.overpasses import Passes, RadarPasses
from thalweg.simulate.radiative_transfer import optics, radar
from thalweg.simulate.radiative_transfer.canopy import LANDSAT8, SENTINEL2, Bands
from thalweg.simulate.random_fields import block_mean
from thalweg.simulate.weather import clouds
from thalweg.simulate.weather.climates import ClimateSpec
from thalweg.simulate.weather.daily_weather import Weather

_COARSE = tuple(SENTINEL2.names.index(name) for name in ("B05", "B06", "B07", "B8A", "B11", "B12"))


@dataclass(frozen=True)
class Site:
    """Everything about a landscape that does not depend on who looks at it; daily states without spin-up."""

    climate: ClimateSpec
    layout: ParcelLayout
    weather: Weather
    growth: Growth
    fields: optics.Heterogeneity
    sky: clouds.Sky
    grid: SiteGrid
    brightness: NDArray  # (unit,) of soil and materials, relative
    turbidity: NDArray  # (unit,) of water, 0 to 1

    def days(self, times: pd.DatetimeIndex) -> NDArray:
        """Index of the day of each time."""
        return np.asarray((times.normalize() - self.weather.days[0]).days)

    def share_of(self, kind: str) -> NDArray:
        """(y, x) share of the ground that is of one kind."""
        shares = self.layout.shares @ (self.layout.kinds == KIND[kind]).astype(float)
        return shares.reshape(self.layout.size, self.layout.size)

    def clouds_at(self, passes: Passes, date: int) -> clouds.CloudScene:
        """The clouds over the site at an acquisition."""
        time = passes.times[date]
        day = int((time.normalize() - self.weather.days[0]).days)
        return self.sky.scene(
            day,
            3600.0 * (time.hour - 10) + 60.0 * time.minute,
            float(self.weather.cloud[day]),
            float(self.weather.wind[day]),
            float(passes.sun_zenith[date]),
            float(passes.sun_azimuth[date]),
        )

    def ground(self, bands: Bands, passes: Passes) -> NDArray:
        """(time, unit, 7, band) responses of the units to a sensor."""
        return optics.unit_responses(
            self.climate,
            bands,
            self.layout.kinds,
            self.brightness,
            self.turbidity,
            self.growth.on(self.days(passes.times)),
            passes,
        )


def observe_sentinel2(rng: np.random.Generator, site: Site, passes: Passes) -> tuple[xr.Dataset, xr.Dataset]:
    """Sentinel-2 L2A as recorded, and the truth on its dates."""
    bands, size, count = SENTINEL2, site.layout.size, len(passes.times)
    days, roofs = site.days(passes.times), site.share_of("roof")
    responses = site.ground(bands, passes)
    numbers = np.zeros((count, len(bands.names), size, size), np.uint16)
    classes = np.zeros((count, size, size), np.uint8)
    cover = np.zeros((count, size, size), np.float32)
    shadow = np.zeros((count, size, size), bool)
    for date in range(count):
        scene = site.clouds_at(passes, date)
        image = optics.render(site.layout, responses[date], site.fields, site.growth.stress[days[date]], _COARSE, 2)
        image = optics.observe(rng, clouds.cover_scene(image, scene, bands), bands, _COARSE, 2)
        image[list(_COARSE)] = block_mean(image[list(_COARSE)], 2)
        classes[date] = clouds.classify(rng, image, scene, bands, roofs)
        numbers[date] = digital_numbers(image)
        cover[date], shadow[date] = scene.cover, (scene.shadow > 0.3) & (scene.cover < 0.7)

    variables: dict[str, Any] = {}
    for index, name in enumerate(bands.names):
        repeated = ", 20 m band repeated onto the 10 m grid" if index in _COARSE else ""
        text = f"surface reflectance x 10000 (L2A){repeated}"
        attributes = {"_FillValue": np.uint16(0), "units": "1", "long_name": text}
        variables[name] = (("time", "y", "x"), numbers[:, index], attributes)
    variables["SCL"] = (("time", "y", "x"), classes, {"long_name": "Sen2Cor scene classification"})
    for name in ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth"):
        variables[name] = angle(getattr(passes, name))
    truth = _truth(site, days)
    truth["cloud"] = (
        ("time", "y", "x"),
        cover,
        {"units": "1", "long_name": "share of the signal from clouds"},
    )
    truth["shadow"] = (("time", "y", "x"), shadow, {"long_name": "cloud shadow"})
    return site.grid.dataset(variables, passes.times), site.grid.dataset(truth, passes.times)


def observe_landsat8(rng: np.random.Generator, site: Site, passes: Passes) -> xr.Dataset:
    """Landsat 8 surface reflectance as recorded, 30 m pixels repeated onto the 10 m grid."""
    bands, size, count = LANDSAT8, site.layout.size, len(passes.times)
    days, roofs, water = site.days(passes.times), site.share_of("roof"), site.share_of("water")
    responses = site.ground(bands, passes)
    every = tuple(range(len(bands.names)))
    numbers = np.zeros((count, len(bands.names), size, size), np.uint16)
    quality = np.zeros((count, size, size), np.uint16)
    for date in range(count):
        scene = site.clouds_at(passes, date)
        image = optics.render(site.layout, responses[date], site.fields, site.growth.stress[days[date]], every, 3)
        image = optics.observe(rng, clouds.cover_scene(image, scene, bands), bands, every, 3)
        numbers[date] = digital_numbers(block_mean(image, 3))
        quality[date] = clouds.landsat_quality(rng, scene, water, roofs)
    variables: dict[str, Any] = {
        name: (("time", "y", "x"), numbers[:, index], {"long_name": f"Landsat 8 {name}"})
        for index, name in enumerate(bands.names)
    }
    variables["pixel_qa"] = (("time", "y", "x"), quality, {"long_name": "Landsat 8 pixel_qa"})
    return site.grid.dataset(variables, passes.times).assign_attrs(scale=0.0001)


def observe_sentinel1(rng: np.random.Generator, site: Site, passes: RadarPasses) -> xr.Dataset:
    """Sentinel-1 VV and VH as recorded, in dB."""
    days = site.days(passes.times)
    units = radar.unit_backscatter(
        rng,
        site.layout.kinds,
        site.growth.on(days),
        passes.ascending,
        passes.incidence,
        site.weather.wind[days],
    )
    size = site.layout.size
    grain = _grain(rng, site)
    _, columns = optics.entries(site.layout)
    decibel = np.zeros((2, len(days), size, size), np.float32)
    for date in range(len(days)):
        intensity = optics.mix(site.layout, units[date].T[:, columns] * grain)
        decibel[:, date] = radar.observe(rng, intensity)
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
    data = site.grid.dataset(variables, passes.times)
    orbit = np.where(passes.ascending, "ascending", "descending").astype(object)
    return data.assign_coords(orbit=("time", orbit), incidence_angle=angle(passes.incidence))


def parcel_series(site: Site) -> xr.Dataset:
    """Daily leaf area and production of every parcel, (day, parcel)."""
    growth, shares = site.growth, site.layout.parcel_shares
    production = light_use(site.weather, site.layout.kinds, growth.stress)
    production = production * absorbed_share(growth.lai) * greenness(growth.chlorophyll)
    dims = ("day", "parcel_id")
    return xr.Dataset(
        {
            "gpp_daily": (dims, (shares @ production.T).T.astype(np.float32), {"units": "gC m-2 d-1"}),
            "lai_daily": (dims, (shares @ growth.lai.T).T.astype(np.float32), {"units": "m2 m-2"}),
        },
        coords={
            "day": site.weather.days.values.astype("datetime64[ns]"),
            "parcel_id": np.arange(shares.shape[0]),
        },
    )


def _grain(rng: np.random.Generator, site: Site) -> NDArray:
    """(entry,) factors of backscatter from place to place: a little in fields, much in villages."""
    pixels, units = optics.entries(site.layout)
    spread = np.where(np.isin(site.layout.kinds, [KIND["roof"], KIND["garden"]]), 0.7, 0.09)[units]
    smooth = 0.06 * site.fields.fertility.ravel()[pixels] - 0.10 * site.fields.drought.ravel()[pixels]
    return np.exp(spread * rng.standard_normal(len(units)) + smooth).astype(np.float32)


def _truth(site: Site, days: NDArray) -> dict[str, Any]:
    """Cover, parcels, and what grows and evaporates on the days of the acquisitions."""
    layout, fields, growth = site.layout, site.fields, site.growth
    pixels, units = optics.entries(layout)
    variation = trait("variation", layout.kinds)[units]
    tint = np.exp(optics.CHLOROPHYLL_STEP * fields.chlorophyll.ravel()[pixels])
    sand = np.exp(-optics.MOISTURE_STEP * fields.drought.ravel()[pixels])
    production = light_use(site.weather, layout.kinds, growth.stress)
    names = ("lai", "chlorophyll", "leaf_water", "soil_moisture", "gpp", "dead_lai")
    maps = {name: np.zeros((len(days), layout.size, layout.size), np.float32) for name in names}
    for date, day in enumerate(days):
        v = np.clip(optics.vigour(fields, growth.stress[day, units], pixels), -2.5, 2.5)
        factor = np.exp(variation * v)
        lai, dead = growth.lai[day, units] * factor, growth.dead[day, units] * factor
        chlorophyll = growth.chlorophyll[day, units] * tint
        gpp = production[day, units] * absorbed_share(lai) * greenness(chlorophyll)
        moisture = growth.soil_moisture[day, units] * sand
        water = growth.leaf_water[day, units]
        stack = optics.mix(layout, np.stack([lai, lai * chlorophyll, lai * water, moisture, gpp, dead]))
        # Leaf contents are means over leaf area, so that a bare neighbour does not bleach them.
        leaf_area = np.maximum(stack[0], 1e-6)
        stack[1], stack[2] = stack[1] / leaf_area, stack[2] / leaf_area
        for name, values in zip(names, stack, strict=True):
            maps[name][date] = values
    units_of = {
        "lai": ("m2 m-2", "green leaf area index"),
        "chlorophyll": ("ug cm-2", "chlorophyll of green leaves"),
        "leaf_water": ("cm", "water of green leaves"),
        "soil_moisture": ("m3 m-3", "soil moisture of the topsoil"),
        "gpp": ("gC m-2 d-1", "gross primary production"),
        "dead_lai": ("m2 m-2", "standing dead leaf area index"),
    }
    truth: dict[str, Any] = {
        name: (("time", "y", "x"), maps[name], {"units": unit, "long_name": text})
        for name, (unit, text) in units_of.items()
    }
    truth["land_cover"] = (
        ("y", "x"),
        layout.land_cover,
        {"flag_values": np.array(list(LAND_COVER), np.uint8), "flag_meanings": " ".join(LAND_COVER.values())},
    )
    truth["parcel"] = (("y", "x"), layout.parcel, {"long_name": "parcel number"})
    return truth
