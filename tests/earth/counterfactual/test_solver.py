"""Minimal perturbation: equal to closed forms and to a general optimizer, inside its bounds, or out of reach."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.solver import minimal_perturbation


@pytest.fixture(scope="module")
def distribution() -> EmbeddingDistribution:
    random = np.random.default_rng(1)
    return EmbeddingDistribution.from_vectors(random.normal(size=(5000, 4)) @ random.normal(size=(4, 4)) + 1, "m")


def linear(embeddings: Tensor) -> Tensor:
    return embeddings[:, :2].sum(1, keepdim=True)[..., 0, 0]


def nonlinear(embeddings: Tensor) -> Tensor:
    x = embeddings[..., 0, 0]
    return torch.stack([torch.sigmoid(x[:, 0]) + 0.2 * x[:, 1] ** 2, torch.tanh(x[:, 2] - x[:, 3])], 1)


def test_a_linear_goal_has_its_closed_form(distribution: EmbeddingDistribution) -> None:
    gradient = np.array([1.0, 1.0, 0.0, 0.0])
    start = distribution.mean
    found = minimal_perturbation(distribution, start, linear, np.array([start[:2].sum() + 0.8]), np.array([1e-3]))
    expected = distribution.covariance @ gradient * 0.8 / (gradient @ distribution.covariance @ gradient)
    np.testing.assert_allclose(found.vector - start, expected, atol=1e-5)
    assert found.reached
    assert found.plausible
    assert found.norm == pytest.approx(distribution.mahalanobis_norm(expected), rel=1e-5)


def test_a_nonlinear_goal_costs_as_little_as_with_a_general_optimizer(distribution: EmbeddingDistribution) -> None:
    start = distribution.mean.copy()
    before = nonlinear(torch.from_numpy(start).float()[None, :, None, None])[0].numpy()
    goals = before + np.array([0.15, -0.2])
    found = minimal_perturbation(distribution, start, nonlinear, goals, np.array([1e-4, 1e-4]))

    def missed(vector: np.ndarray) -> np.ndarray:
        return nonlinear(torch.from_numpy(vector)[None, :, None, None])[0].numpy() - goals

    best = minimize(
        lambda vector: float(distribution.mahalanobis_norm(vector - start)) ** 2,
        start,
        constraints={"type": "eq", "fun": missed},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.reached
    assert found.norm == pytest.approx(float(distribution.mahalanobis_norm(best.x - start)), rel=0.02)


def test_the_result_stays_inside_the_region_at_a_larger_norm(distribution: EmbeddingDistribution) -> None:
    edge = distribution.mean + distribution.factor @ np.array([0.0, 0.0, 0.98, 0.0]) * distribution.radius_quantile(
        0.95
    )
    goals = np.array([edge[:2].sum() + 1.0])
    free = minimal_perturbation(distribution, edge, linear, goals, np.array([1e-3]), level=None)
    bounded = minimal_perturbation(distribution, edge, linear, goals, np.array([1e-3]))
    assert free.reached
    assert bounded.reached
    assert bounded.plausible
    assert distribution.distance(bounded.vector) <= distribution.radius_quantile(0.95)
    assert bounded.norm >= free.norm


def test_a_start_outside_the_region_is_moved_inside(distribution: EmbeddingDistribution) -> None:
    outside = distribution.mean + distribution.factor @ np.array([0.0, 0.0, 0.0, 1.3]) * distribution.radius_quantile(
        0.95
    )
    found = minimal_perturbation(distribution, outside, linear, np.array([outside[:2].sum()]), np.array([1e-3]))
    assert found.reached
    assert found.plausible


def test_a_goal_out_of_reach_is_reported(distribution: EmbeddingDistribution) -> None:
    for goal in (1e3, -1e3):
        found = minimal_perturbation(distribution, distribution.mean, linear, np.array([goal]), np.array([1e-3]))
        assert not found.reached
        assert found.plausible
        assert found.norm <= distribution.pairwise_quantile()
        assert (found.values[0] - linear(torch.from_numpy(distribution.mean)[None, :, None, None])[0]) * goal > 0


def test_a_goal_that_is_met_needs_no_change(distribution: EmbeddingDistribution) -> None:
    goal = linear(torch.from_numpy(distribution.mean).float()[None, :, None, None])[0].double().numpy()
    found = minimal_perturbation(distribution, distribution.mean, linear, goal, np.array([1e-3]))
    assert found.reached
    assert found.norm < 1e-4
