"""Simulated towers: their sites, and their GPP compared with the ground around them."""

import numpy as np
import pytest

from thalweg.gpp.data.simulated_towers import (
    CLIMATES,
    FOOTPRINT,
    SIZE,
    VEGETATION,
    SimulatedTower,
    TowerSite,
    simulate_tower,
    tower_sites,
)
from thalweg.gpp.tables.daily_table import daily_table
from thalweg.simulate import simulate
from thalweg.simulate.land.land_cover import LAND_COVER
from thalweg.simulate.landscape import simulate_parcels


@pytest.fixture(scope="module")
def sites() -> list[TowerSite]:
    return tower_sites(5)


@pytest.fixture(scope="module")
def tower(sites: list[TowerSite]) -> SimulatedTower:
    return simulate_tower(sites[3], years=1)


def near(site: TowerSite) -> np.ndarray:
    rows, columns = np.indices((SIZE, SIZE))
    return 10 * np.hypot(rows - site.row, columns - site.column) <= FOOTPRINT


def test_every_tower_has_a_landscape_of_its_own_and_a_homogeneous_patch(sites: list[TowerSite]):
    assert len({site.seed for site in sites}) == len(sites)
    assert [site.vegetation for site in sites] == list(VEGETATION[:5])
    assert {site.climate for site in sites} == set(CLIMATES)
    for site in sites:
        parcels = simulate_parcels(site.seed, SIZE, site.climate)
        code = next(code for code, name in LAND_COVER.items() if name == site.vegetation)
        assert (parcels.land_cover[near(site)] == code).all()
        assert len(np.unique(parcels.parcel_ids[near(site)])) == 1


def test_sites_follow_from_the_arguments(sites: list[TowerSite]):
    assert tower_sites(5) == sites
    assert {site.seed for site in tower_sites(2, first_seed=7000)}.isdisjoint(site.seed for site in sites)


def test_gpp_is_that_of_the_ground_around_the_tower(tower: SimulatedTower):
    site = tower.site
    landscape = simulate(seed=site.seed, size=SIZE, years=1, climate=site.climate)
    truth = landscape.truth
    assert (truth.parcel.values == simulate_parcels(site.seed, SIZE, site.climate).parcel_ids).all()
    np.testing.assert_array_equal(tower.cube["sentinel-2"]["B08"].values, landscape.sentinel2["B08"].values)
    gpp = tower.daily.set_index("time")["gpp"]
    at_pixels = truth.gpp.values[:, near(site)].mean(1)
    on_dates = gpp.loc[truth.time.values.astype("datetime64[D]")].to_numpy()
    assert np.corrcoef(at_pixels, on_dates)[0, 1] > 0.98  # pixels differ little from the mean of their parcel
    assert abs(at_pixels.mean() / on_dates.mean() - 1) < 0.3


def test_a_tower_has_a_daily_table_with_weather(tower: SimulatedTower):
    table = daily_table(tower.daily)
    assert len(table) == 365
    assert table.notna().all(axis=None)
    assert table["TA_F"].between(-40, 45).all()
    assert table["SW_IN_F"].between(0, 400).all()
    assert tower.position.latitude == pytest.approx(50.8, abs=0.3)
