"""The smallest change: against closed forms and brute force, inside its bounds, or said to be out of reach."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.solver import minimal_perturbation


@pytest.fixture(scope="module")
def population() -> EmbeddingDistribution:
    random = np.random.default_rng(1)
    return EmbeddingDistribution.from_vectors(random.normal(size=(5000, 4)) @ random.normal(size=(4, 4)) + 1, "m")


def linear(embeddings: Tensor) -> Tensor:
    return embeddings[:, :2].sum(1, keepdim=True)[..., 0, 0]


def bent(embeddings: Tensor) -> Tensor:
    x = embeddings[..., 0, 0]
    return torch.stack([torch.sigmoid(x[:, 0]) + 0.2 * x[:, 1] ** 2, torch.tanh(x[:, 2] - x[:, 3])], 1)


def test_a_linear_goal_has_its_closed_form(population: EmbeddingDistribution) -> None:
    slope = np.array([1.0, 1.0, 0.0, 0.0])
    start = population.mean
    found = minimal_perturbation(population, start, linear, np.array([start[:2].sum() + 0.8]), np.array([1e-3]))
    expected = population.covariance @ slope * 0.8 / (slope @ population.covariance @ slope)
    np.testing.assert_allclose(found.vector - start, expected, atol=1e-5)
    assert found.reached
    assert found.plausible
    assert found.distance == pytest.approx(population.mahalanobis_norm(expected), rel=1e-5)


def test_a_bent_goal_is_as_small_as_a_general_optimiser_finds(population: EmbeddingDistribution) -> None:
    start = population.mean.copy()
    before = bent(torch.from_numpy(start).float()[None, :, None, None])[0].numpy()
    goals = before + np.array([0.15, -0.2])
    found = minimal_perturbation(population, start, bent, goals, np.array([1e-4, 1e-4]))

    def missed(vector: np.ndarray) -> np.ndarray:
        return bent(torch.from_numpy(vector)[None, :, None, None])[0].numpy() - goals

    best = minimize(
        lambda vector: float(population.mahalanobis_norm(vector - start)) ** 2,
        start,
        constraints={"type": "eq", "fun": missed},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.reached
    assert found.distance == pytest.approx(float(population.mahalanobis_norm(best.x - start)), rel=0.02)


def test_the_result_stays_inside_and_takes_the_longer_way_for_it(population: EmbeddingDistribution) -> None:
    edge = population.mean + population.factor @ np.array([0.0, 0.0, 0.98, 0.0]) * population.radius_quantile(0.95)
    goals = np.array([edge[:2].sum() + 1.0])
    free = minimal_perturbation(population, edge, linear, goals, np.array([1e-3]), level=None)
    kept = minimal_perturbation(population, edge, linear, goals, np.array([1e-3]))
    assert free.reached
    assert kept.reached
    assert kept.plausible
    assert population.distance(kept.vector) <= population.radius_quantile(0.95)
    assert kept.distance >= free.distance


def test_a_start_outside_is_led_back(population: EmbeddingDistribution) -> None:
    outside = population.mean + population.factor @ np.array([0.0, 0.0, 0.0, 1.3]) * population.radius_quantile(0.95)
    found = minimal_perturbation(population, outside, linear, np.array([outside[:2].sum()]), np.array([1e-3]))
    assert found.reached
    assert found.plausible


def test_a_goal_out_of_reach_is_said_to_be(population: EmbeddingDistribution) -> None:
    for goal in (1e3, -1e3):
        found = minimal_perturbation(population, population.mean, linear, np.array([goal]), np.array([1e-3]))
        assert not found.reached
        assert found.plausible
        assert found.distance <= population.pairwise_quantile()
        assert (found.values[0] - linear(torch.from_numpy(population.mean)[None, :, None, None])[0]) * goal > 0


def test_a_goal_that_is_met_costs_nothing(population: EmbeddingDistribution) -> None:
    goal = linear(torch.from_numpy(population.mean).float()[None, :, None, None])[0].double().numpy()
    found = minimal_perturbation(population, population.mean, linear, goal, np.array([1e-3]))
    assert found.reached
    assert found.distance < 1e-4
