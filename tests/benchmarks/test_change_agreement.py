import numpy as np
import pytest

from change_agreement import change_agreement

PHYSICAL = np.random.default_rng(0).normal(size=(500, 3)) * [0.01, 0.05, 0.02] + [0.0, -0.05, 0.03]


def test_equal_changes_have_a_slope_and_correlations_of_one() -> None:
    slope, bands = change_agreement(PHYSICAL, PHYSICAL)
    assert slope == pytest.approx(1)
    assert [band.slope for band in bands] == pytest.approx([1, 1, 1])
    assert [band.correlation for band in bands] == pytest.approx([1, 1, 1])


def test_a_scale_of_one_band_changes_its_slope_and_no_correlation() -> None:
    scale = np.array([1.0, 0.5, 1.0])
    slope, bands = change_agreement(PHYSICAL * scale, PHYSICAL)
    assert [band.slope for band in bands] == pytest.approx(list(scale))
    assert [band.correlation for band in bands] == pytest.approx([1, 1, 1])
    squares = np.square(PHYSICAL).sum(0)
    assert slope == pytest.approx(float((scale * squares).sum() / squares.sum()))


def test_the_mean_change_everywhere_has_its_signs_and_no_correlation() -> None:
    noise = np.random.default_rng(1).normal(size=PHYSICAL.shape) * 1e-6
    slope, bands = change_agreement(np.broadcast_to(PHYSICAL.mean(0), PHYSICAL.shape) + noise, PHYSICAL)
    assert 0.3 < slope < 0.8
    assert all(abs(band.correlation) < 0.15 for band in bands)
