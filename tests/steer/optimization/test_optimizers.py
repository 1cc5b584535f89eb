"""Steps of the optimizers."""

import math

import numpy as np
import pytest
import torch

from thalweg.steer.metrics import image_statistics
from thalweg.steer.metrics.metric import metric
from thalweg.steer.optimization.optimize import optimize
from thalweg.steer.optimization.optimize_config import OptimizeConfig
from thalweg.steer.optimization.optimizers import PaperOptimizer, SignAscent
from thalweg.steer.trust_region import TrustRegion

SEEDS = (1, 2, 3)


@pytest.fixture
def start(toy):
    return toy.embed("a red ball")


def test_the_published_step_has_a_length_of_its_own_for_each_tensor(toy, start):
    region = TrustRegion(toy, start, 1)
    optimizer = PaperOptimizer(region, learning_rate=0.01, loss_scale=1, keep_moments=False)
    prompt, negative = region.split(torch.ones(region.size))
    optimizer.tell(0.0, 1.0, lambda: torch.cat([prompt, 1e-3 * negative]) * region.spread)
    large, small = region.split(optimizer.ask() * region.spread)
    assert torch.allclose(large, torch.tensor(0.01 / (1 + 1e-3)), rtol=1e-4)
    assert torch.allclose(small, torch.tensor(0.005), rtol=1e-4)
    optimizer = PaperOptimizer(region, learning_rate=0.01, loss_scale=1, keep_moments=False)
    optimizer.tell(0.0, 1.0, lambda: torch.cat([prompt, 0 * negative]))
    assert not region.split(optimizer.ask())[1].any()


def test_the_published_recipe_takes_50_steps():
    assert (OptimizeConfig("blur", recipe="paper").steps, OptimizeConfig("blur").steps) == (50, 30)


def test_a_step_that_breaks_the_constraint_is_shortened_to_fit(toy, start):
    region = TrustRegion(toy, start, 1)
    ascent = SignAscent(region, 0.4)
    ascent.tell(1.0, 1.0, lambda: torch.ones(region.size))
    assert region.drift(ascent.ask()) == pytest.approx(0.4)
    ascent.tell(2.0, -3.0, lambda: torch.ones(region.size))
    # A loss that grows with the square of the step: 4 times the slack at 0.4, nine tenths of it at the next point.
    assert region.drift(ascent.ask()) == pytest.approx(0.4 * math.sqrt(0.9 / 4))
    ascent.tell(3.0, -math.inf, lambda: torch.ones(region.size))
    assert region.drift(ascent.ask()) == pytest.approx(0.2 * math.sqrt(0.9 / 4))


def test_the_published_step_is_as_long_as_adams_in_lions_direction(toy, start):
    region = TrustRegion(toy, start, 1)
    optimizer = PaperOptimizer(region, learning_rate=0.01, loss_scale=10, keep_moments=False)
    slope = torch.linspace(-1, 1, region.size)
    optimizer.tell(0.0, 1.0, lambda: slope * region.spread)
    step = optimizer.ask() * region.spread
    adam = 10 * slope / ((10 * slope).abs() + 1e-3)  # Adam's first step, bias corrected
    assert torch.allclose(step, 0.01 * slope.sign() * adam.norm() / slope.sign().norm(), rtol=1e-4)


def test_the_published_loss_scale_matters_where_gradients_are_small(toy, start):
    region = TrustRegion(toy, start, 1)
    lengths = []
    for scale in (1, 10):
        optimizer = PaperOptimizer(region, 0.01, scale, keep_moments=False)
        optimizer.tell(0.0, 1.0, lambda: 1e-4 * region.spread)
        lengths.append(float(optimizer.ask().norm()))
    assert lengths[1] > 4 * lengths[0]


def test_aesthetics_keeps_mean_and_deviation_in_the_published_recipe(toy, start):
    aesthetic = metric(image_statistics.contrast().score, "aesthetics")
    moved = optimize(toy, start, OptimizeConfig(aesthetic, SEEDS, iterations=8, recipe="paper")).embedding.tensors[
        "prompt"
    ][1:]
    before = start.tensors["prompt"][1:]
    assert float(moved.mean()) == pytest.approx(float(before.mean()), abs=1e-5)
    assert float(moved.std()) == pytest.approx(float(before.std()), rel=1e-4)


def test_the_published_recipe_takes_one_steps_gradient(toy, start):
    asked = []
    toy.with_gradient = lambda gradient: asked.append(gradient) or toy
    optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=1, recipe="paper"))
    assert asked == ["one_step"]


def test_cma_es_searches_in_the_given_directions_only(toy, start):
    region = TrustRegion(toy, start, 0.5)
    basis = torch.zeros(3, region.size)
    basis[0, 0] = basis[1, 7] = basis[2, 20] = 1.0
    result = optimize(
        toy,
        start,
        OptimizeConfig(image_statistics.contrast(), SEEDS, search="cma-es", iterations=40, radius=0.5),
        basis=basis,
    )
    moved = region.flatten(result.embedding.tensors) - region.flatten(start.tensors)
    assert set(moved.nonzero()[:, 0].tolist()) <= {0, 7, 20}
    assert result.score > result.start_score


def test_cma_es_draws_its_own_random_numbers(toy, start):
    results = []
    for seed in (0, 1):
        np.random.seed(seed)
        state = np.random.get_state()[1].copy()
        results.append(
            optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, search="cma-es", iterations=20))
        )
        assert np.array_equal(np.random.get_state()[1], state)
    assert results[0].embedding.hash == results[1].embedding.hash
    other = optimize(
        toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, search="cma-es", iterations=20, search_seed=1)
    )
    assert other.embedding.hash != results[0].embedding.hash
