import pytest
import torch

from thalweg.steer.diverse_subset import max_min_subset, smallest_distance


def test_the_smallest_distance_is_larger_than_in_random_subsets():
    points = torch.randn(200, 6, generator=torch.Generator().manual_seed(3))
    distances = torch.cdist(points, points)
    chosen = max_min_subset(points, 5)
    assert len(set(chosen)) == 5
    random = [torch.randperm(200, generator=torch.Generator().manual_seed(draw))[:5].tolist() for draw in range(300)]
    assert smallest_distance(distances, chosen) > max(smallest_distance(distances, draw) for draw in random)
    assert max_min_subset(points, 5, required=17)[0] == 17


def test_the_best_subset_of_few_points_is_found():
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [4.1]])
    assert smallest_distance(torch.cdist(points, points), max_min_subset(points, 3)) == pytest.approx(2.0, abs=0.06)
    assert sorted(max_min_subset(points, 9)) == list(range(6))
