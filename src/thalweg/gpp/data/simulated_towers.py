"""Simulated flux towers: a tower in a homogeneous patch of a simulated landscape, its daily GPP known.

Every tower has a landscape, and so weather, soil and farmers, of its own. What the satellites see of it comes from
`thalweg.simulate`; its GPP is that of the ground inside the footprint, without measurement error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from thalweg.simulate.land.land_cover import LAND_COVER
from thalweg.simulate.land.parcels import PIXEL, ParcelLayout
from thalweg.simulate.landscape import Climate, layout_of, simulate
from thalweg.simulate.weather.daily_weather import saturation_pressure

VEGETATION = ("winter_cereal", "maize", "grass_mown", "grass_grazed", "broadleaf_forest", "needleleaf_forest")
"""Vegetation types of the towers."""

CLIMATES: tuple[Climate, ...] = ("temperate", "continental", "mediterranean")
"""Climates of the towers."""

FOOTPRINT = 30.0
"""Radius of the towers' footprint in m; the patch around a tower is one pixel wider."""

SIZE = 64
"""Pixels of the landscapes along each side."""

FIRST_SEED = 5000
"""Landscapes are searched from this seed on by default; the shipped weights were trained on others."""

_CODES = {name: code for code, name in LAND_COVER.items()}
_MARGIN = 12  # pixels between a tower and the landscape's edge, so that its context is whole


@dataclass(frozen=True)
class Place:
    """Where a simulated tower stands: a landscape by its seed, and a pixel of it."""

    site: str
    seed: int
    climate: Climate
    vegetation: str
    row: int
    column: int


@dataclass(frozen=True)
class SimulatedTower:
    """A tower and what is known of its surroundings.

    Attributes:
        place: where it stands.
        longitude: degrees east.
        latitude: degrees north.
        cube: `sentinel-2` and `sentinel-1` datasets, as `Cube.open` takes them.
        daily: a daily table (site, time, gpp, vegetation, latitude) with meteorology TA_F, SW_IN_F, VPD_F
            and P_F, named as in FLUXNET.
    """

    place: Place
    longitude: float
    latitude: float
    cube: dict[str, xr.Dataset]
    daily: pd.DataFrame


def tower_places(towers: int = 24, first_seed: int = FIRST_SEED) -> list[Place]:
    """Choose where towers stand: vegetation types and climates in turn, each in the next landscape that has room.

    Args:
        towers: how many; 18 make every type in every climate.
        first_seed: landscapes are searched from this seed on.

    Returns:
        The places, the same for the same arguments.
    """
    wanted = _combinations()
    seeds = count(first_seed)
    waiting = [next(wanted) for _ in range(towers)]
    places: dict[int, Place] = {}
    while len(places) < towers:
        seed = next(seeds)
        drawn: dict[Climate, ParcelLayout] = {}
        for index, (vegetation, climate) in enumerate(waiting):
            if index in places:
                continue
            if climate not in drawn:
                drawn[climate] = layout_of(seed, SIZE, climate)
            pixel = _roomiest(drawn[climate], vegetation)
            if pixel is not None:
                site = f"SIM-{index + 1:02d}"
                places[index] = Place(site, seed, climate, vegetation, *pixel)
                break  # one tower a seed: no two share weather or soil
    return [places[index] for index in range(towers)]


def _combinations() -> Iterator[tuple[str, Climate]]:
    for turn in count():
        for index, vegetation in enumerate(VEGETATION):
            yield vegetation, CLIMATES[(index + turn) % len(CLIMATES)]


def _roomiest(layout: ParcelLayout, vegetation: str) -> tuple[int, int] | None:
    """Row and column of the pixel furthest from anything but its own parcel, if far enough."""
    from scipy.ndimage import distance_transform_edt

    best, pixel = FOOTPRINT / PIXEL + 1, None
    inside = np.zeros(layout.parcel.shape, bool)
    inside[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = True
    of_type = layout.land_cover == _CODES[vegetation]
    for parcel in np.unique(layout.parcel[of_type]):
        away = distance_transform_edt(of_type & (layout.parcel == parcel)) * inside
        if away.max() > best:
            best = away.max()
            row, column = np.unravel_index(away.argmax(), away.shape)
            pixel = int(row), int(column)
    return pixel


def simulate_tower(place: Place, years: int = 2) -> SimulatedTower:
    """Simulate a tower's landscape and take its GPP.

    Args:
        place: from `tower_places`.
        years: length of the record.

    Returns:
        The tower; the same place gives the same one.
    """
    from pyproj import Transformer

    landscape = simulate(seed=place.seed, size=SIZE, years=years, climate=place.climate)
    truth = landscape.truth
    x, y = float(truth.x[place.column]), float(truth.y[place.row])
    crs = truth.spatial_ref.attrs["crs_wkt"]
    longitude, latitude = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    near = np.hypot(truth.x.values - x, truth.y.values[:, None] - y) <= FOOTPRINT
    parcels, pixels = np.unique(truth.parcel.values[near], return_counts=True)
    gpp = truth.gpp_daily.values[:, parcels] @ (pixels / pixels.sum())
    daily = pd.DataFrame(
        {
            "site": place.site,
            "time": truth.day.values.astype("datetime64[ns]"),
            "gpp": gpp.astype(float),
            "vegetation": place.vegetation,
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
    return SimulatedTower(place, longitude, latitude, cube, daily)


def _meteorology(weather: xr.Dataset) -> dict[str, NDArray]:
    """What a tower would measure, from AgERA5's names and units."""
    temperature = weather.temperature_mean.values.astype(float) - 273.15
    saturated = saturation_pressure(temperature)
    return {
        "TA_F": temperature,
        "SW_IN_F": weather.solar_radiation_flux.values.astype(float) / 86400,
        "VPD_F": np.maximum(saturated - weather.vapour_pressure.values, 0),
        "P_F": weather.precipitation_flux.values.astype(float),
    }
