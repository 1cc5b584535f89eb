import numpy as np
import pytest

from thalweg.gpp.models.intervals import cross_validated_interval, exceedances, score_quantiles


def test_days_inside_their_bounds_have_negative_scores():
    bounds = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2]], np.float32)
    np.testing.assert_allclose(exceedances(bounds, np.array([1.5, 3.0, -1.0])), [-0.5, 1.0, 1.0])


def test_sites_count_equally():
    scores = np.concatenate([np.zeros(900), np.ones(100)])
    units = np.repeat(["long", "short"], [900, 100])
    quantiles = score_quantiles(scores, units)
    assert quantiles[24] == 0 and quantiles[26:].mean() > 0.9


def test_the_interval_covers_days_like_those_of_the_scores():
    random = np.random.default_rng(0)
    members = [score_quantiles(np.abs(random.normal(size=4000)), np.zeros(4000)) for _ in range(3)]
    estimate = np.zeros(5000, np.float32)
    bounds = [np.zeros((5000, 3), np.float32)] * 3
    low, middle, high = cross_validated_interval(estimate, bounds, members, 0.8).T
    truth = random.normal(size=5000)
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.8, abs=0.02)
    assert (low <= middle).all() and (middle <= high).all()
