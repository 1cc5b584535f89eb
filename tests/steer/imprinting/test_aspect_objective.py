"""Tests of the imprint's objective: parts that weigh the same, and noise that approaches the seeds' own."""

from itertools import pairwise
from typing import Any

import torch

from thalweg.steer.image_features import CELLS, POOLED_PARTS, pooled_features
from thalweg.steer.imprinting.aspect import Aspect
from thalweg.steer.imprinting.aspect_features import whole_aspect
from thalweg.steer.imprinting.aspect_objective import AspectObjective
from thalweg.steer.imprinting.imprint_config import DescentConfig, ImprintConfig
from thalweg.steer.imprinting.noise_approach import NoiseApproach

HELD_OUT = (11, 12, 13, 14)


def objective(toy: Any, aspect: Aspect, steps: int = 10) -> AspectObjective:
    start = toy.embed("a ball")
    return AspectObjective(toy, start, aspect, (3, toy.render(start, [3])[0]), HELD_OUT, DescentConfig(steps=steps))


def test_the_parts_of_pooled_features_are_colours_and_edges_of_each_grid() -> None:
    grey = torch.full((1, 3, 16, 16), 0.5)
    colours, edges = pooled_features(grey).split(list(POOLED_PARTS), dim=1)[:2]
    assert colours.shape[1] == 3 * CELLS[0] ** 2
    assert colours.std() < 1e-6 and colours.mean() > 100 * edges.mean()
    assert sum(POOLED_PARTS) == pooled_features(grey).shape[1]


def test_parts_weigh_the_same_however_large_their_values_are(toy: Any) -> None:
    def kept(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[:, 0].mean((1, 2)), 100 * images[:, 1].mean((1, 2)), 0 * images[:, 2, 0, 0]], dim=1)

    start, other = toy.embed("a ball"), toy.embed("a cube")
    one = objective(toy, Aspect("means", kept))
    each = objective(toy, Aspect("means", kept, parts=(1, 1, 1)))
    assert abs(one.evaluate(start) - 1) < 1e-5 and abs(each.evaluate(start) - 1) < 1e-5
    with torch.no_grad():
        goal = kept(toy.render(start, [3]))
        before, after = ((kept(toy.render(each, HELD_OUT)) - goal).square().mean(0) for each in (start, other))
    expected = float((after[:2] / before[:2]).mean())  # the third part is the same everywhere, and has no weight
    assert abs(each.evaluate(other) - expected) < 1e-4
    assert abs(one.evaluate(other) - expected) > 1e-3


def test_noise_approaches_from_the_targets_to_the_seeds_own(toy: Any) -> None:
    approach = NoiseApproach(toy, 3)
    torch.testing.assert_close(approach.noise([5, 6], 0), toy.noise([3]).expand(2, -1, -1, -1))
    assert torch.equal(approach.noise([5, 6], 1), toy.noise([5, 6]))
    between = approach.noise([5], 0.5).flatten()
    to_target, to_own = (torch.cosine_similarity(between, toy.noise([seed]).flatten(), dim=0) for seed in (3, 5))
    torch.testing.assert_close(to_target, to_own)
    assert to_target > 0.5


def test_without_a_rest_training_seeds_begin_near_the_target_and_end_as_themselves(toy: Any) -> None:
    start = toy.embed("a ball")
    whole = objective(toy, whole_aspect(None))
    own = whole.evaluate(start)
    losses = [float(whole.loss(start, HELD_OUT, step)) for step in range(10)]
    assert losses[0] < 0.2 * own
    assert all(first < second for first, second in pairwise(losses[:7]))
    assert all(abs(loss - own) < 1e-6 for loss in losses[6:])


def test_where_something_has_to_stay_seeds_are_themselves_from_the_first_step(toy: Any) -> None:
    halves = Aspect("half", lambda images: images[..., :8].flatten(1), lambda images: images[..., 8:].flatten(1))
    half = objective(toy, halves)
    start = toy.embed("a ball")
    assert float(half.loss(start, HELD_OUT, 0)) == half.evaluate(start)


def test_everything_is_further_away_than_an_aspect() -> None:
    assert ImprintConfig(3).descent.radius > ImprintConfig(3, keep="the colour").descent.radius
    assert ImprintConfig(3, radius=0.2).descent.radius == 0.2
