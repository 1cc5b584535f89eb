"""Optical datasets: vegetation indices by leaf area, and the magnitude of reflectance."""

import itertools

import numpy as np

from simulated_landscape import ndvi, reflectance, unclouded
from thalweg.simulate import Landscape


def test_greener_ground_has_more_ndvi_and_a_steeper_red_edge(landscape: Landscape) -> None:
    crops = np.isin(landscape.truth.land_cover.values, [1, 2, 3, 4, 5])
    clear = unclouded(landscape) & crops
    lai, index = landscape.truth.lai.values[clear], ndvi(landscape)[clear]
    edges = [0.0, 0.3, 0.8, 1.5, 2.5, 8.0]
    means = [index[(lai >= low) & (lai < high)].mean() for low, high in itertools.pairwise(edges)]
    assert (np.diff(means) > 0).all() and means[0] < 0.35 and means[-1] > 0.75
    edge = (reflectance(landscape.sentinel2, "B07") - reflectance(landscape.sentinel2, "B05"))[clear]
    assert edge[lai > 3].mean() > edge[lai < 0.3].mean() + 0.15


def test_reflectance_is_of_the_order_of_flanders(landscape: Landscape) -> None:
    # Means over clear dates of two real sites: B02 0.06, B04 0.08, B8A 0.31 to 0.36, B11 0.21, B12 0.14.
    clear = unclouded(landscape)
    bounds = {
        "B02": (0.03, 0.09),
        "B04": (0.04, 0.12),
        "B8A": (0.24, 0.42),
        "B11": (0.15, 0.28),
        "B12": (0.08, 0.2),
    }
    for band, (low, high) in bounds.items():
        assert low < reflectance(landscape.sentinel2, band)[clear].mean() < high, band
