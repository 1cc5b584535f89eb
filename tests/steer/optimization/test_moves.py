"""Several starts, moved start noise, and the choice of a gradient mode."""

import math
from typing import ClassVar

import pytest
import torch
from safetensors import safe_open

from pipelines import generator as tiny_pipeline
from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.steer.metrics import image_statistics
from thalweg.steer.optimization.optimize import optimize
from thalweg.steer.optimization.optimize_config import OptimizeConfig
from thalweg.steer.optimization.restarts import Restarts
from thalweg.steer.optimization.search import BEST, NOISE
from thalweg.steer.runs import Run
from thalweg.steer.trust_region import TrustRegion

SEEDS = (1, 2, 3)


@pytest.fixture
def start(toy):
    return toy.embed("a red ball")


def test_restarts_are_seeded_and_share_the_steps(toy, start):
    def trace(seed, restarts=3):
        config = OptimizeConfig("contrast", SEEDS, iterations=11, restarts=restarts, search_seed=seed)
        return optimize(toy, start, config).trace

    first, again, other, single = trace(0), trace(0), trace(1), trace(0, restarts=1)
    assert repr(first) == repr(again)
    assert [row.score for row in first[:4]] == [row.score for row in single[:4]] == [row.score for row in other[:4]]
    # The 5th and the 9th of the 12 points are random ones, half the radius away.
    assert [first[place].drift for place in (4, 8)] == pytest.approx([0.5, 0.5], abs=0.1)
    assert len({first[4].score, first[8].score, other[4].score, other[8].score}) > 2


@pytest.mark.parametrize(("points", "starts"), [(31, 30), (31, 20), (31, 12), (31, 4), (11, 8), (5, 4), (3, 1)])
def test_there_are_as_many_restarts_as_asked_for(toy, start, points, starts):
    restarts = Restarts(TrustRegion(toy, start, 1.0), 0.1, starts, points, seed=0)
    lengths = [1]
    for _ in range(points - 1):
        restarts.tell(1.0, 1.0, lambda: torch.ones_like(restarts.ask()))
        is_new = restarts.state()[1]["value"] == -math.inf
        lengths = [*lengths, 1] if is_new else [*lengths[:-1], lengths[-1] + 1]
    assert len(lengths) == starts
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("gradient", "move"),
    [("last_k", "noise"), ("last_k", "both"), ("one_step", "noise"), ("one_step", "both"), ("random", "noise")],
)
def test_a_gradient_that_does_not_reach_the_noise_is_refused(gradient, move):
    model = tiny_pipeline("sd").with_settings(gradient=gradient, last_k=1)
    config = OptimizeConfig("contrast", (1,), iterations=2, move=move)
    with pytest.raises(UsageError, match=rf"mode {gradient} does not reach the start noise; set `gradient=full`"):
        optimize(model, model.embed("red"), config)


@pytest.mark.parametrize("gradient", ["full", "shortcut", "auto"])
def test_the_other_gradients_move_the_noise(gradient):
    model = tiny_pipeline("sd").with_settings(gradient=gradient, last_k=1)
    result = optimize(model, model.embed("red"), OptimizeConfig("contrast", (1,), iterations=1, move="noise"))
    assert result.trace[1].drift == pytest.approx(0.1, rel=1e-3)


def test_a_resumed_restart_with_random_gradients_gives_the_same_result(tmp_path):
    model = tiny_pipeline("sd").with_gradient("random")
    config = OptimizeConfig("contrast", (1,), prompt="red", iterations=6, restarts=3, move="both")

    def break_off(row, images):
        if row.step == 4:  # the second point of the second start
            raise KeyboardInterrupt

    whole = optimize(model, model.embed("red"), config)
    run = config.begin_run(tmp_path / "run", model)
    with pytest.raises(KeyboardInterrupt):
        optimize(model, model.embed("red"), config, run=run, progress=break_off)
    resumed = optimize(model, model.embed("red"), config, run=run)
    assert repr(resumed.trace) == repr(whole.trace)
    assert torch.equal(resumed.noise, whole.noise)
    with pytest.raises(UsageError, match="began with gradient 'random', asked for is 'full'"):
        optimize(model.with_gradient("full"), model.embed("red"), config, run=run)


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_resumed_run_writes_its_best_files_again(toy, start, tmp_path, damage):
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})
    config = OptimizeConfig("contrast", SEEDS, iterations=3, move="both")
    result = optimize(toy, start, config, run=run)
    files = [run.folder / BEST, run.folder / NOISE]
    for file in files:
        if damage == "removed":
            file.unlink()
        else:
            file.write_bytes(b"other")
    again = optimize(toy, start, config, run=run)
    assert Embedding.load(files[0]).hash == result.embedding.hash
    with safe_open(str(files[1]), framework="pt") as file:
        assert torch.equal(file.get_tensor("noise"), again.noise)


@pytest.mark.parametrize("move", ["noise", "both"])
def test_start_noise_moves(toy, start, tmp_path, move):
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})
    config = OptimizeConfig("contrast", SEEDS, iterations=8, move=move, unseen=(7, 8))
    result = optimize(toy, start, config, run=run)
    drawn = toy.noise(SEEDS)
    images = toy.decode(toy.latents(result.embedding, result.noise))
    assert float(image_statistics.contrast()(images).mean()) == pytest.approx(result.score, rel=1e-5)
    assert result.score > result.start_score
    assert torch.allclose(result.noise.flatten(1).norm(dim=1), drawn.flatten(1).norm(dim=1), rtol=1e-5)
    assert not torch.allclose(result.noise, drawn, atol=0.01)
    with safe_open(str(run.folder / NOISE), framework="pt") as file:
        assert torch.equal(file.get_tensor("noise"), result.noise)
    is_moved = not torch.equal(result.embedding.tensors["prompt"], start.tensors["prompt"])
    assert is_moved == (move == "both")
    assert (result.unseen_score == result.unseen_start_score) == (move == "noise")


@pytest.mark.parametrize("batch", [1, 2])
def test_moved_noise_does_not_depend_on_batches(toy, start, batch):
    config = OptimizeConfig("contrast", SEEDS, iterations=5, move="both")
    whole, parts = optimize(toy, start, config), optimize(toy, start, config, batch=batch)
    assert parts.score == pytest.approx(whole.score, rel=1e-5)


def test_a_resumed_run_keeps_moved_noise(toy, start, tmp_path):
    def break_off(row, images):
        if row.step == 3:
            raise KeyboardInterrupt

    config = OptimizeConfig("contrast", SEEDS, iterations=6, move="both")
    whole = optimize(toy, start, config)
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})
    with pytest.raises(KeyboardInterrupt):
        optimize(toy, start, config, run=run, progress=break_off)
    resumed = optimize(toy, start, config, run=run)
    assert torch.equal(resumed.noise, whole.noise)
    assert resumed.embedding.hash == whole.embedding.hash


def test_a_generator_without_start_noise_moves_none(toy, start):
    class Plain:
        model, render, trainable_masks, embed = toy.model, toy.render, toy.trainable_masks, toy.embed

    with pytest.raises(UsageError, match="`move=both` needs a generator with start noise"):
        optimize(Plain(), start, OptimizeConfig("contrast", SEEDS, iterations=2, move="both"))


class Moded:
    """The toy with gradient modes: "one_step" is wrong, "shortcut" nearly right, "full" right and expensive."""

    errors: ClassVar = {"full": 0.0, "last_k": 0.0, "one_step": 30.0, "shortcut": 0.1}
    costs: ClassVar = {"full": 20, "last_k": 20, "one_step": 1, "shortcut": 2}

    def __init__(self, toy, gradient, log):
        self._toy, self.gradient, self._log = toy, gradient, log

    def __getattr__(self, name):
        return getattr(self._toy, name)

    def with_gradient(self, gradient):
        self._log.append(gradient)
        return Moded(self._toy, gradient, self._log)

    def render(self, embedding, seeds):
        images = self._toy.render(embedding, seeds)
        if images.requires_grad and self.gradient != "auto":
            self._toy.calls += self.costs[self.gradient]
            aside = torch.sin(torch.arange(embedding.tensors["prompt"].numel()) * 7.0)
            wrong = (embedding.tensors["prompt"].flatten() * aside).sum() * self.errors[self.gradient]
            images = images + (wrong - wrong.detach()) * torch.linspace(-1, 1, images.shape[3])
        return images


def test_auto_chooses_by_cosine_and_calls(toy, start, tmp_path):
    log = []
    model = Moded(toy, "auto", log)
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})

    def break_off(row, images):
        if row.step == 2:
            raise KeyboardInterrupt

    config = OptimizeConfig("contrast", SEEDS, iterations=4)
    whole = optimize(model, start, config)
    assert log == ["full", "last_k", "one_step", "shortcut", "shortcut"]
    # One image in each mode, 4 steps each, and the calls that the modes cost; then the start.
    assert whole.trace[0].calls == 4 * 4 + 20 + 20 + 1 + 2 + 4 * len(SEEDS) + 2
    with pytest.raises(KeyboardInterrupt):
        optimize(model, start, config, run=run, progress=break_off)
    log.clear()
    resumed = optimize(model, start, config, run=run)
    assert log == ["shortcut"]
    assert repr(resumed.trace) == repr(whole.trace)
