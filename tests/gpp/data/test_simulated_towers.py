"""Simulated towers: where they stand, and that their GPP is that of the ground they stand on."""

import numpy as np
import pytest

from thalweg.gpp.data.daily_table import daily_table
from thalweg.gpp.data.simulated_towers import (
    CLIMATES,
    FOOTPRINT,
    SIZE,
    VEGETATION,
    Place,
    SimulatedTower,
    simulate_tower,
    tower_places,
)
from thalweg.simulate import simulate
from thalweg.simulate.land.land_cover import LAND_COVER
from thalweg.simulate.landscape import layout_of


@pytest.fixture(scope="module")
def places() -> list[Place]:
    return tower_places(5)


@pytest.fixture(scope="module")
def tower(places: list[Place]) -> SimulatedTower:
    return simulate_tower(places[3], years=1)


def near(place: Place) -> np.ndarray:
    rows, columns = np.indices((SIZE, SIZE))
    return 10 * np.hypot(rows - place.row, columns - place.column) <= FOOTPRINT


def test_every_tower_has_a_landscape_of_its_own_and_a_homogeneous_patch(places: list[Place]):
    assert len({place.seed for place in places}) == len(places)
    assert [place.vegetation for place in places] == list(VEGETATION[:5])
    assert {place.climate for place in places} == set(CLIMATES)
    for place in places:
        layout = layout_of(place.seed, SIZE, place.climate)
        code = next(code for code, name in LAND_COVER.items() if name == place.vegetation)
        assert (layout.land_cover[near(place)] == code).all()
        assert len(np.unique(layout.parcel[near(place)])) == 1


def test_places_follow_from_the_arguments(places: list[Place]):
    assert tower_places(5) == places
    assert {place.seed for place in tower_places(2, first_seed=7000)}.isdisjoint(place.seed for place in places)


def test_its_gpp_is_that_of_the_ground_it_stands_on(tower: SimulatedTower):
    place = tower.place
    landscape = simulate(seed=place.seed, size=SIZE, years=1, climate=place.climate)
    truth = landscape.truth
    assert (truth.parcel.values == layout_of(place.seed, SIZE, place.climate).parcel).all()
    np.testing.assert_array_equal(tower.cube["sentinel-2"]["B08"].values, landscape.sentinel2["B08"].values)
    gpp = tower.daily.set_index("time")["gpp"]
    at_pixels = truth.gpp.values[:, near(place)].mean(1)
    on_dates = gpp.loc[truth.time.values.astype("datetime64[D]")].to_numpy()
    assert np.corrcoef(at_pixels, on_dates)[0, 1] > 0.98  # pixels differ from their parcel's mean, not much
    assert abs(at_pixels.mean() / on_dates.mean() - 1) < 0.3


def test_it_is_a_daily_table_with_weather(tower: SimulatedTower):
    table = daily_table(tower.daily)
    assert len(table) == 365
    assert table.notna().all(axis=None)
    assert table["TA_F"].between(-40, 45).all()
    assert table["SW_IN_F"].between(0, 400).all()
    assert tower.latitude == pytest.approx(50.8, abs=0.3)
