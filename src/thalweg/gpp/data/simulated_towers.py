"""Simulated flux towers in homogeneous patches of simulated landscapes, with known daily GPP.

Every tower has its own landscape with its own weather, soil and farmers. The satellite series come from
`thalweg.simulate`; the GPP is that of the ground inside the footprint, without measurement error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from thalweg.earth.positions import LonLat
from thalweg.simulate.land.land_cover import LAND_COVER
from thalweg.simulate.land.parcels import PIXEL, Parcels
from thalweg.simulate.landscape import simulate, simulate_parcels
from thalweg.simulate.weather.climates import Climate
from thalweg.simulate.weather.daily_weather import saturation_pressure

VEGETATION = ("winter_cereal", "maize", "grass_mown", "grass_grazed", "broadleaf_forest", "needleleaf_forest")
"""Vegetation types of the towers."""

CLIMATES: tuple[Climate, ...] = ("temperate", "continental", "mediterranean")
"""Climates of the towers."""

FOOTPRINT = 30.0
"""Radius of the towers' footprint in m; the homogeneous patch around a tower is one pixel wider."""

SIZE = 64
"""Side of the landscapes in pixels."""

FIRST_SEED = 5000
"""Default of the first seed to search; the shipped weights were trained on landscapes of other seeds."""

_CODES = {name: code for code, name in LAND_COVER.items()}
_MARGIN = 12  # pixels between a tower and the landscape's edge, so that its context is complete


@dataclass(frozen=True)
class TowerSite:
    """Site of a simulated tower: a landscape and a pixel.

    Attributes:
        site: Name of the site.
        seed: Seed of the landscape.
        climate: Climate of the landscape.
        vegetation: Land cover of the patch around the tower.
        row: Row of the tower's pixel, from 0.
        column: Column of the tower's pixel, from 0.
    """

    site: str
    seed: int
    climate: Climate
    vegetation: str
    row: int
    column: int


@dataclass(frozen=True)
class SimulatedTower:
    """Simulated tower with its satellite series and its daily table.

    Attributes:
        site: Site of the tower.
        position: Position of the tower in degrees.
        cube: `sentinel-2` and `sentinel-1` datasets for `Cube.open`.
        daily: Daily table (site, time, gpp, vegetation, latitude) with the meteorology TA_F, SW_IN_F, VPD_F and P_F,
            named as in FLUXNET.
    """

    site: TowerSite
    position: LonLat
    cube: dict[str, xr.Dataset]
    daily: pd.DataFrame


def tower_sites(towers: int = 24, first_seed: int = FIRST_SEED) -> list[TowerSite]:
    """Choose the sites of towers: vegetation types and climates in turn, each in the next landscape with a large patch.

    Args:
        towers: Number of towers; 18 cover every type in every climate.
        first_seed: First seed to search.

    Returns:
        The sites; the same arguments give the same sites.
    """
    wanted = _combinations()
    seeds = count(first_seed)
    waiting = [next(wanted) for _ in range(towers)]
    sites: dict[int, TowerSite] = {}
    while len(sites) < towers:
        seed = next(seeds)
        drawn: dict[Climate, Parcels] = {}
        for index, (vegetation, climate) in enumerate(waiting):
            if index in sites:
                continue
            if climate not in drawn:
                drawn[climate] = simulate_parcels(seed, SIZE, climate)
            pixel = _centre_of_largest_patch(drawn[climate], vegetation)
            if pixel is not None:
                sites[index] = TowerSite(f"SIM-{index + 1:02d}", seed, climate, vegetation, *pixel)
                break  # one tower per seed: no two share weather or soil
    return [sites[index] for index in range(towers)]


def _combinations() -> Iterator[tuple[str, Climate]]:
    for turn in count():
        for index, vegetation in enumerate(VEGETATION):
            yield vegetation, CLIMATES[(index + turn) % len(CLIMATES)]


def _centre_of_largest_patch(parcels: Parcels, vegetation: str) -> tuple[int, int] | None:
    """Return row and column of the pixel furthest from the edge of its parcel, None if every patch is too small."""
    from scipy.ndimage import distance_transform_edt

    best, pixel = FOOTPRINT / PIXEL + 1, None
    inside = np.zeros(parcels.parcel_ids.shape, bool)
    inside[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = True
    of_type = parcels.land_cover == _CODES[vegetation]
    for parcel in np.unique(parcels.parcel_ids[of_type]):
        distance = distance_transform_edt(of_type & (parcels.parcel_ids == parcel)) * inside
        if distance.max() > best:
            best = distance.max()
            row, column = np.unravel_index(distance.argmax(), distance.shape)
            pixel = int(row), int(column)
    return pixel


def simulate_tower(site: TowerSite, years: int = 2) -> SimulatedTower:
    """Simulate the landscape of a tower and the tower's daily table.

    Args:
        site: Site from `tower_sites`.
        years: Length of the series.

    Returns:
        The tower; the same arguments give the same tower.
    """
    from pyproj import Transformer

    landscape = simulate(seed=site.seed, size=SIZE, years=years, climate=site.climate)
    truth = landscape.truth
    x, y = float(truth.x[site.column]), float(truth.y[site.row])
    crs = truth.spatial_ref.attrs["crs_wkt"]
    longitude, latitude = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    near = np.hypot(truth.x.values - x, truth.y.values[:, None] - y) <= FOOTPRINT
    parcels, pixels = np.unique(truth.parcel.values[near], return_counts=True)
    gpp = truth.gpp_daily.values[:, parcels] @ (pixels / pixels.sum())
    daily = pd.DataFrame(
        {
            "site": site.site,
            "time": truth.day.values.astype("datetime64[ns]"),
            "gpp": gpp.astype(float),
            "vegetation": site.vegetation,
            "latitude": latitude,
            **_meteorology(landscape.weather),
        }
    )
    daily.attrs["units"] = {
        "gpp": "gC m-2 d-1",
        "latitude": "degrees",
        "TA_F": "deg C",
        "SW_IN_F": "W m-2",
        "VPD_F": "hPa",
        "P_F": "mm d-1",
    }
    cube = {"sentinel-2": landscape.sentinel2, "sentinel-1": landscape.sentinel1}
    return SimulatedTower(site, LonLat(longitude, latitude), cube, daily)


def _meteorology(weather: xr.Dataset) -> dict[str, NDArray]:
    """Convert weather in the names and units of AgERA5 to a tower's measurements."""
    temperature = weather.temperature_mean.values.astype(float) - 273.15
    saturated = saturation_pressure(temperature)
    return {
        "TA_F": temperature,
        "SW_IN_F": weather.solar_radiation_flux.values.astype(float) / 86400,
        "VPD_F": np.maximum(saturated - weather.vapour_pressure.values, 0),
        "P_F": weather.precipitation_flux.values.astype(float),
    }
