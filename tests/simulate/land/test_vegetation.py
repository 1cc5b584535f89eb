"""Growth and production: bounds, harvest and mowing."""

import numpy as np

from simulated_landscape import of_class
from thalweg.simulate import Landscape


def test_production_is_bounded_and_absent_on_water(landscape: Landscape) -> None:
    gpp = landscape.truth.gpp.values
    assert gpp.min() >= 0 and gpp.max() < 35
    lake = landscape.truth.lai.values.max(axis=0) == 0
    assert lake.any() and (gpp[:, lake] == 0).all()
    yearly = landscape.truth.gpp_daily.values.sum(axis=0)
    assert 300 < np.median(yearly) < 2200  # gC m-2, temperate crops and grass


def test_crops_are_harvested_and_meadows_mown(landscape: Landscape) -> None:
    lai, days = landscape.truth.lai_daily.values, landscape.truth.day.dt.dayofyear.values
    parcels = landscape.truth.parcel.values

    def of(name: str) -> np.ndarray:
        return lai[:, np.unique(parcels[of_class(landscape, name)])]

    cereals = of("winter_cereal")
    growing, after = (days > 120) & (days < 180), (days > 205) & (days < 240)
    assert np.median(cereals[growing].max(axis=0)) > 2.5 and np.median(cereals[after].min(axis=0)) < 0.5
    meadows = of("grass_mown")
    drops = (meadows[1:] < 0.55 * meadows[:-1]).sum(axis=0)
    assert np.median(drops) >= 2
