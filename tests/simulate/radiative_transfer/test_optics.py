"""Optical signal of units: agreement of the polynomial within units with PROSAIL itself."""

import numpy as np
import pandas as pd
import pytest

from thalweg.simulate.land.land_cover import SURFACES
from thalweg.simulate.land.vegetation import Growth
from thalweg.simulate.observations.overpasses import sentinel2_overpasses
from thalweg.simulate.radiative_transfer.canopy import SENTINEL2
from thalweg.simulate.radiative_transfer.optics import CHLOROPHYLL_STEP, SOIL_STEP, unit_responses
from thalweg.simulate.weather.climates import CLIMATES


@pytest.mark.parametrize("lai", [0.0, 0.4, 1.5, 4.0])
def test_variation_within_parcels_agrees_with_prosail(lai: float) -> None:
    surfaces = np.arange(1)  # winter cereal
    overpasses = sentinel2_overpasses(
        np.random.default_rng(1), CLIMATES["temperate"], pd.date_range("2018-05-01", periods=9)
    )

    def respond(vigour: float, soil: float, tint: float) -> np.ndarray:
        variation = SURFACES[0].variation
        states = {
            "lai": lai * np.exp(variation * vigour),
            "dead": 0.1 * lai * np.exp(variation * vigour),
            "chlorophyll": 45 * np.exp(CHLOROPHYLL_STEP * tint),
            "leaf_water": 0.014,
            "petals": 0.0,
            "residue": 0.0,
            "roughness": 1.0,
            "soil_moisture": 0.2,
            "stress": 0.0,
        }
        growth = Growth(**{name: np.full((len(overpasses.times), 1), value) for name, value in states.items()})
        brightness = np.exp(np.full(1, SOIL_STEP * soil))
        return unit_responses(
            CLIMATES["temperate"], SENTINEL2, surfaces, brightness, np.zeros(1), growth, overpasses.views()
        )[0, 0]

    middle = respond(0, 0, 0)
    for v, s, c in ((0.8, -0.7, 0.5), (-1.2, 1.0, -1.0), (1.9, 1.5, 1.0), (-2.0, -1.5, 0.0)):
        approximate = np.array([1, v, v * v, s, s * v, s * v * v, c]) @ middle
        np.testing.assert_allclose(approximate, respond(v, s, c)[0], atol=0.005)
