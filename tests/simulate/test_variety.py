"""Varied landscapes: neutral by default, reproducible, different from the standard landscape and physically bounded."""

import numpy as np
import pytest
import xarray as xr

from thalweg.simulate import Climate, Landscape, simulate
from thalweg.simulate.land.land_cover import SURFACES
from thalweg.simulate.landscape import simulate_parcels, simulate_site
from thalweg.simulate.variety import NEUTRAL, draw_variety
from thalweg.simulate.weather.climates import CLIMATES

PARTS = ("sentinel2", "sentinel1", "landsat8", "truth", "weather")


@pytest.fixture(scope="module")
def varied() -> Landscape:
    """A varied landscape with the seed of the standard landscape of these tests."""
    return simulate(seed=5, size=24, years=1, variety=1.0)


def test_no_variety_gives_the_standard_landscape() -> None:
    standard, neutral = simulate(seed=5, size=16, years=1), simulate(seed=5, size=16, years=1, variety=0.0)
    for name in PARTS:
        assert getattr(standard, name).identical(getattr(neutral, name)), name
    assert NEUTRAL.errors(3).gain == 1.0 and NEUTRAL.errors(3).shift == (0.0, 0.0) and NEUTRAL.recorded(40, 1).all()
    for spec in CLIMATES.values():
        assert NEUTRAL.climate(spec) == spec


def test_the_same_seed_gives_the_same_varied_landscape(varied: Landscape) -> None:
    again = simulate(seed=5, size=24, years=1, variety=1.0)
    for name in PARTS:
        assert getattr(varied, name).identical(getattr(again, name)), name
    assert varied.truth.attrs["variety"] == 1.0
    np.testing.assert_array_equal(simulate_parcels(5, 24, "temperate", variety=1.0).land_cover, varied.truth.land_cover)


def test_variety_changes_soils_plants_clouds_and_radar(varied: Landscape) -> None:
    standard = simulate(seed=5, size=24, years=1)
    means = {name: [_clear(item)[name].mean() for item in (standard, varied)] for name in ("B04", "B08", "B11")}
    for name, (plain, other) in means.items():
        assert abs(np.log(other / plain)) > 0.01, name
    for name in ("lai", "soil_moisture", "cloud"):
        plain, other = (float(item.truth[name].mean()) for item in (standard, varied))
        assert abs(np.log(other / plain)) > 0.005, name
    assert abs(float(varied.sentinel1.VV.median()) - float(standard.sentinel1.VV.median())) > 5


@pytest.mark.parametrize("climate", sorted(CLIMATES))
def test_varied_landscapes_are_physically_bounded(climate: Climate) -> None:
    item = simulate(seed=11, size=16, years=1, climate=climate, start="2019-08-01", variety=1.0)
    for name, values in _clear(item).items():
        assert values.min() > 0 and values.max() < 1, name
    for name, (low, high) in {
        "lai": (0, 12), "chlorophyll": (0, 110), "soil_moisture": (0, 0.55), "fapar": (0, 0.95), "cloud": (0, 1)
    }.items():  # fmt: skip
        values = item.truth[name].values
        assert np.isfinite(values).all() and low <= values.min() and values.max() <= high, name
    vegetated = item.truth.lai.values.mean((1, 2))
    absorbed = item.truth.fapar.values.mean((1, 2))
    assert np.corrcoef(vegetated, absorbed)[0, 1] > 0.8


def test_the_spread_between_landscapes_is_that_of_farmland() -> None:
    drawn = [draw_variety(np.random.SeedSequence(seed), 1.0) for seed in range(200)]
    soils = np.array([item.climate(CLIMATES["temperate"]).soil_brightness for item in drawn])
    assert 0.2 < soils.min() < 0.45 and 0.9 < soils.max() <= 1.2
    sowing = np.array([item.sowing for item in drawn])
    assert sowing.shape == (200, len(SURFACES)) and 12 < sowing.std() < 25 and np.abs(sowing).max() <= 42
    assert all((item.harvest <= item.sowing).all() for item in drawn)
    detected = np.array([item.errors(day).detected for item in drawn for day in range(20)])
    assert 0.08 < (detected < 0.6).mean() < 0.25


def test_truth_and_observations_come_from_the_same_plants() -> None:
    plain, site = (simulate_site(5, 24, 1, "temperate", variety=strength) for strength in (0.0, 1.0))
    assert not np.array_equal(plain.growth.lai, site.growth.lai)
    landscape = simulate(5, 24, 1, "temperate", variety=1.0)
    shares = site.parcels.parcel_shares
    np.testing.assert_allclose(landscape.truth.lai_daily.values, (shares @ site.growth.lai.T).T, rtol=1e-5)
    assert _green_correlation(landscape) > 0.7


def _clear(landscape: Landscape) -> dict[str, np.ndarray]:
    """Return the reflectance of clear pixels by band."""
    clear = (landscape.truth.cloud.values < 0.02) & ~landscape.truth.shadow.values
    return {name: landscape.sentinel2[name].values[clear] / 10000 for name in ("B02", "B04", "B08", "B11", "B12")}


def _green_correlation(landscape: Landscape) -> float:
    """Return the correlation of NDVI and absorbed radiation over clear land."""
    bands, clear = _clear(landscape), (landscape.truth.cloud < 0.02) & ~landscape.truth.shadow
    absorbed = landscape.truth.fapar.values[clear.values]
    dry = xr.broadcast(landscape.truth.land_cover, clear)[0].transpose(*clear.dims).values[clear.values] != 11
    ndvi = (bands["B08"] - bands["B04"]) / (bands["B08"] + bands["B04"])
    return float(np.corrcoef(ndvi[dry], absorbed[dry])[0, 1])
