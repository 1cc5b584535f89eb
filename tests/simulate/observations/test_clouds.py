"""Clouds and shadows, and the errors of the scene classification."""

import numpy as np

from thalweg.simulate import Landscape
from thalweg.simulate.observations.clouds import CloudScene, add_clouds
from thalweg.simulate.radiative_transfer.canopy import SENTINEL2


def test_shadows_darken_and_clouds_brighten() -> None:
    ground = np.full((10, 16, 16), 0.2, np.float32)
    none, half = np.zeros((16, 16), np.float32), np.full((16, 16), 0.5, np.float32)
    shaded = add_clouds(ground, CloudScene(none, none, half, 1.0), SENTINEL2)
    clouded = add_clouds(ground, CloudScene(half, none, none, 1.0), SENTINEL2)
    assert (shaded < ground).all() and (clouded > ground).all()
    assert (np.diff(shaded[:, 0, 0]) <= 0).all()  # skylight is blue


def test_scene_classification_errs_rarely_and_at_edges(landscape: Landscape) -> None:
    from scipy.ndimage import maximum_filter

    cloud, classes = landscape.truth.cloud.values, landscape.sentinel2.SCL.values
    flagged = np.isin(classes, [8, 9, 10])
    assert set(np.unique(classes)) <= {2, 3, 4, 5, 6, 7, 8, 9, 10}
    missed = (cloud > 0.15) & ~flagged
    assert 0.0005 < missed[cloud > 0.15].mean() < 0.10
    thick_nearby = np.stack([maximum_filter(image, 25) > 0.3 for image in cloud])
    assert thick_nearby[missed & (cloud > 0.25)].mean() > 0.8
    false = flagged & (cloud < 0.02)
    assert false.sum() > 0 and false[cloud < 0.02].mean() < 0.02
    shaded = landscape.truth.shadow.values & (cloud < 0.05)
    assert np.isin(classes[shaded], [2, 3]).mean() > 0.6
