import pytest
import torch

from thalweg.steer.navigation.preferences import Preferences


@pytest.fixture(scope="module")
def points():
    return torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def learned(points):
    """A user who likes the first coordinate compared ten pairs."""
    pairs = [(2 * index, 2 * index + 1) for index in range(10)]
    ordered = [pair if points[pair[0], 0] > points[pair[1], 0] else pair[::-1] for pair in pairs]
    return Preferences(points[:20], ordered)


def test_preferred_points_have_more_utility(points, learned):
    utility = learned.utility(points[:20])
    better = [utility[2 * i] > utility[2 * i + 1] for i in range(10)]
    liked = [points[2 * i, 0] > points[2 * i + 1, 0] for i in range(10)]
    assert sum(one == other for one, other in zip(better, liked, strict=True)) >= 9


def test_preferences_carry_over_to_points_never_shown(points, learned):
    utility = learned.utility(points[20:])
    assert torch.corrcoef(torch.stack([utility, points[20:, 0]]))[0, 1] > 0.6


def test_a_batch_has_more_expected_utility_than_random_ones_and_no_duplicates(points, learned):
    chosen = learned.best_batch(points[20:], 5, points[:1], seed=0)
    assert len(set(chosen)) == 5
    assert points[20:][chosen, 0].max() >= points[20:, 0].topk(3).values.min()


def test_the_same_seed_gives_the_same_batch(points, learned):
    assert learned.best_batch(points, 5, points[:1], seed=3) == learned.best_batch(points, 5, points[:1], seed=3)


def test_equal_points_and_contradictions_are_learned_from(points):
    twice = torch.cat([points[:4], points[:4]])
    utility = Preferences(twice, [(0, 1), (5, 4), (2, 3), (0, 5)]).utility(points[:4])
    assert torch.isfinite(utility).all()
    assert utility[2] > utility[3]
