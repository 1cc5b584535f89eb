"""Truth of a site: maps on the dates of the optical overpasses, and daily series of the parcels."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from thalweg.simulate.land.heterogeneity import vigour
from thalweg.simulate.land.land_cover import LAND_COVER, trait
from thalweg.simulate.land.light_use_efficiency import absorbed_share, greenness, light_use
from thalweg.simulate.observations.site import SimulatedSite
from thalweg.simulate.radiative_transfer.optics import CHLOROPHYLL_STEP, MOISTURE_STEP
from thalweg.simulate.radiative_transfer.pixel_mixing import mix_units, unit_entries


def parcel_series(site: SimulatedSite) -> xr.Dataset:
    """Return the daily leaf area (m2 m-2) and production (gC m-2 d-1) of every parcel, (day, parcel_id) float32."""
    growth, shares = site.growth, site.parcels.parcel_shares
    production = light_use(site.weather, site.parcels.surfaces, growth.stress)
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


def truth_maps(site: SimulatedSite, days: NDArray) -> dict[str, Any]:
    """Return maps of land cover and parcels, and of plants, soil moisture and production on days.

    Args:
        site: Simulated site.
        days: (time,) indices of days.

    Returns:
        xarray variables by name, (y, x) or (time, y, x) float32.
    """
    parcels, heterogeneity, growth = site.parcels, site.heterogeneity, site.growth
    pixels, units = unit_entries(parcels)
    variation = trait("variation", parcels.surfaces)[units]
    tint = np.exp(CHLOROPHYLL_STEP * heterogeneity.chlorophyll.ravel()[pixels])
    dryness = np.exp(-MOISTURE_STEP * heterogeneity.drought.ravel()[pixels])
    production = light_use(site.weather, parcels.surfaces, growth.stress)
    names = ("lai", "chlorophyll", "leaf_water", "soil_moisture", "gpp", "dead_lai", "fapar")
    maps = {name: np.zeros((len(days), parcels.size, parcels.size), np.float32) for name in names}
    for date, day in enumerate(days):
        v = np.clip(vigour(heterogeneity, growth.stress[day, units], pixels), -2.5, 2.5)
        factor = np.exp(variation * v)
        lai, dead = growth.lai[day, units] * factor, growth.dead[day, units] * factor
        chlorophyll = growth.chlorophyll[day, units] * tint
        absorbed = absorbed_share(lai)
        gpp = production[day, units] * absorbed * greenness(chlorophyll)
        moisture = growth.soil_moisture[day, units] * dryness
        water = growth.leaf_water[day, units]
        stack = mix_units(parcels, np.stack([lai, lai * chlorophyll, lai * water, moisture, gpp, dead, absorbed]))
        # Leaf contents are means over leaf area, so that bare ground in the pixel does not lower them.
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
        "fapar": ("1", "share of photosynthetically active radiation absorbed by green leaves"),
    }
    truth: dict[str, Any] = {
        name: (("time", "y", "x"), maps[name], {"units": unit, "long_name": text})
        for name, (unit, text) in units_of.items()
    }
    truth["land_cover"] = (
        ("y", "x"),
        parcels.land_cover,
        {"flag_values": np.array(list(LAND_COVER), np.uint8), "flag_meanings": " ".join(LAND_COVER.values())},
    )
    truth["parcel"] = (("y", "x"), parcels.parcel_ids, {"long_name": "parcel number"})
    return truth
