"""Radar signal: soil moisture, speckle, water and villages."""

import numpy as np
import pandas as pd
import pytest

from simulated_landscape import of_class
from thalweg.simulate import Landscape
from thalweg.simulate.radiative_transfer.radar import LOOKS, soil_backscatter, speckle


def test_wetter_bare_soil_scatters_more(landscape: Landscape) -> None:
    moisture = np.linspace(0.08, 0.4, 9)
    backscatter = soil_backscatter(moisture, np.full(9, 1.0), np.full(9, 38.0))
    assert (np.diff(backscatter, axis=0) > 0).all() and (backscatter[:, 0] > backscatter[:, 1]).all()

    truth, radar = landscape.truth, landscape.sentinel1
    spring = (radar.orbit == "ascending").values & np.isin(pd.DatetimeIndex(radar.time).month, [3, 4, 5])
    heterogeneity = of_class(landscape, "potato") | of_class(landscape, "maize") | of_class(landscape, "beet")
    vv = 0.01 * radar.VV.values[spring][:, heterogeneity].mean(axis=1)
    wet = truth.soil_moisture.values[:, heterogeneity].mean(axis=1)
    nearest = np.interp(pd.DatetimeIndex(radar.time[spring]).asi8, pd.DatetimeIndex(truth.time).asi8, wet)
    assert np.corrcoef(vv, nearest)[0, 1] > 0.5


def test_speckle_has_the_declared_number_of_looks() -> None:
    noise = speckle(np.random.default_rng(1), (4, 400, 400))
    assert noise.mean() == pytest.approx(1.0, abs=0.01)
    assert (noise.mean() / noise.std()) ** 2 == pytest.approx(LOOKS, rel=0.06)
    neighbours = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    assert 0.1 < neighbours < 0.6


def test_water_is_dark_and_villages_bright_to_radar(landscape: Landscape) -> None:
    vv = 0.01 * landscape.sentinel1.VV.values.mean(axis=0)
    heterogeneity = np.isin(landscape.truth.land_cover.values, [1, 2, 3, 4, 7])
    assert vv[of_class(landscape, "water")].mean() < vv[heterogeneity].mean() - 2
    assert vv[of_class(landscape, "built_up")].mean() > vv[heterogeneity].mean() + 1.5
