import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors import safe_open

from thalweg.embedding import Embedding, ModelIdentity
from thalweg.errors import ThalwegError, UsageError
from thalweg.steer.metrics import image_statistics
from thalweg.steer.metrics.metric import metric
from thalweg.steer.optimization.judge import half_resolution
from thalweg.steer.optimization.optimize import optimize
from thalweg.steer.optimization.optimize_config import OptimizeConfig
from thalweg.steer.optimization.optimizers import PaperOptimizer, SignAscent
from thalweg.steer.optimization.report import describe
from thalweg.steer.optimization.search import BEST, NOISE, STATE
from thalweg.steer.runs import Run
from thalweg.steer.trust_region import TrustRegion

SEEDS = (1, 2, 3)
RECIPES = {
    "thalweg": {"iterations": 12},
    "keep": {"iterations": 12, "keep": image_statistics.colour("#808080"), "retained_fraction": 0.9},
    "paper": {"iterations": 12, "recipe": "paper"},
    "cma-es": {"iterations": 40, "search": "cma-es"},
    "restarts": {"iterations": 12, "restarts": 2},
    "rows": {"iterations": 12, "scale": "row"},
}


@pytest.fixture
def start(toy):
    return toy.embed("a red ball")


def changing_at(step, value):
    """Return the metric contrast, whose scores change after `step` calls."""
    calls = []

    def score(images):
        if not images.requires_grad:
            calls.append(1)
        scores = image_statistics.contrast()(images)
        return scores * value if len(calls) > step else scores

    return metric(score, "contrast")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_best_is_kept_and_traced(toy, start, recipe):
    result = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, **RECIPES[recipe]))
    scores = [row.score for row in result.trace]
    assert result.score > 1.1 * result.start_score
    assert result.start_score == scores[0]
    assert result.score == scores[result.step] == result.trace[-1].best
    assert [row.step for row in result.trace] == list(range(len(scores)))
    assert all(row.best >= before.best for row, before in zip(result.trace[1:], result.trace, strict=False))
    again = image_statistics.contrast()(toy.render(result.embedding, SEEDS)).mean()
    assert again == pytest.approx(result.score, rel=1e-5)
    assert torch.equal(result.embedding.tensors["prompt"][0], start.tensors["prompt"][0])


@pytest.mark.parametrize("recipe", ["thalweg", "cma-es"])
def test_drift_stays_within_the_radius(toy, start, recipe):
    result = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, **RECIPES[recipe], radius=0.05))
    assert max(row.drift for row in result.trace) == pytest.approx(0.05, rel=1e-3)
    spread = start.tensors["prompt"][1:].std(correction=0)
    moved = (result.embedding.tensors["prompt"] - start.tensors["prompt"])[1:]
    assert moved.square().mean().sqrt() / spread <= 0.05 * 1.001


def test_the_provenance_holds_the_parameters(toy, start):
    result = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=3))
    lineage = result.embedding.lineage
    assert (lineage.operation, lineage.parents, lineage.prompt) == ("optimize", (start.hash,), "a red ball")
    assert lineage.parameters["seeds"] == list(SEEDS)
    assert lineage.parameters["metric"] == "contrast"


def test_a_metric_to_be_minimised_decreases(toy, start):
    result = optimize(toy, start, OptimizeConfig(image_statistics.blur(), SEEDS, iterations=8))
    assert result.score < 0.95 * result.start_score


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_metrics_scale_does_not_matter(toy, start, factor):
    plain = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=8))
    scaled = optimize(toy, start, OptimizeConfig(factor * image_statistics.contrast(), SEEDS, iterations=8))
    assert scaled.score == pytest.approx(factor * plain.score, rel=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_make_no_difference(toy, start, batch):
    whole = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=6))
    parts = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=6), batch=batch)
    assert parts.score == pytest.approx(whole.score, rel=1e-5)


def test_the_result_is_evaluated_on_unseen_seeds(toy, start):
    result = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=6, unseen=(7, 8)))
    for embedding, score in ((result.embedding, result.unseen_score), (start, result.unseen_start_score)):
        assert image_statistics.contrast()(toy.render(embedding, (7, 8))).mean() == pytest.approx(score, rel=1e-5)
    assert result.unseen_score > result.unseen_start_score


def test_calls_are_counted_up_to_each_score(toy, start):
    result = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=4))
    assert [row.calls for row in result.trace] == [toy.steps * len(SEEDS) * count for count in range(1, 6)]


def test_progress_sees_every_step(toy, start):
    seen = []
    result = optimize(
        toy,
        start,
        OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=3),
        progress=lambda *step: seen.append(step),
    )
    assert [row for row, _ in seen] == list(result.trace)
    assert all(images.shape == (3, 3, 16, 16) for _, images in seen)


def test_patience(toy, start):
    # A metric with its top at the start: nothing can be gained.
    images = toy.render(start, SEEDS)
    near = metric(lambda shown: -(shown - images[: len(shown)] + 1e-3).square().mean((1, 2, 3)), "near")
    result = optimize(toy, start, OptimizeConfig(near, SEEDS, iterations=50, step_length=1, patience=3, radius=2))
    assert result.stopped == "no better score in 3 moves"
    assert len(result.trace) == result.step + 4


def test_the_constraint_is_fulfilled(toy, start):
    keep = image_statistics.colourfulness()
    free = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=25, radius=2))
    bound = optimize(
        toy,
        start,
        OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=25, radius=2, keep=keep, retained_fraction=0.9),
    )
    level = float(keep(toy.render(start, SEEDS)).mean())
    assert float(keep(toy.render(free.embedding, SEEDS)).mean()) < 0.9 * level
    assert float(keep(toy.render(bound.embedding, SEEDS)).mean()) >= 0.9 * level * 0.999
    assert bound.score > 0.9 * free.score
    strict = optimize(
        toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=4, keep=keep, retained_fraction=1)
    )
    assert float(keep(toy.render(strict.embedding, SEEDS)).mean()) >= level * 0.9999
    assert bound.trace[0].kept == pytest.approx(level)


# Run folders


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("break_at", [0, 5, 6, 11])
def test_a_resumed_run_gives_the_same_result(toy, start, tmp_path, recipe, break_at):
    def create(name):
        return Run.create(tmp_path / name, "optimize", toy.model, {})

    def break_off(row, images):
        if row.step == break_at:
            raise KeyboardInterrupt

    options = {**RECIPES[recipe], "unseen": (7, 8)}
    whole = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, **options), run=create("whole"))
    with pytest.raises(KeyboardInterrupt):
        optimize(
            toy,
            start,
            OptimizeConfig(image_statistics.contrast(), SEEDS, **options),
            run=create("parts"),
            progress=break_off,
        )
    resumed = optimize(
        toy,
        start,
        OptimizeConfig(image_statistics.contrast(), SEEDS, **options),
        run=Run.open(tmp_path / "parts", "optimize", toy.model),
    )
    assert resumed.embedding.hash == whole.embedding.hash
    assert resumed.embedding.lineage == whole.embedding.lineage
    assert repr(resumed.trace) == repr(whole.trace)  # NaN is not equal to itself
    assert (resumed.unseen_score, resumed.stopped) == (whole.unseen_score, whole.stopped)
    assert resumed.trace[-1].calls == whole.trace[-1].calls
    whole_file, parts_file = (tmp_path / name / "trace.csv" for name in ("whole", "parts"))
    assert whole_file.read_bytes() == parts_file.read_bytes()
    assert Embedding.load(tmp_path / "parts" / BEST).hash == whole.embedding.hash


def test_a_run_folder_holds_images_trace_and_best_embedding(toy, start, tmp_path):
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})
    result = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=4), run=run)
    assert sorted(path.name for path in (run.folder / "steps").iterdir()) == [f"{step:04d}.png" for step in range(5)]
    rows = run.read_trace()
    assert [float(row["score"]) for row in rows] == [row.score for row in result.trace]
    assert Embedding.load(run.folder / BEST, toy.model).hash == result.embedding.hash
    with safe_open(str(run.folder / STATE), framework="pt") as file:
        assert "best" in set(file.keys())


def test_a_finished_run_is_not_continued(toy, start, tmp_path):
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})
    first = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=4), run=run)
    calls = toy.calls
    again = optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=4), run=run)
    assert toy.calls == calls
    assert repr(again) == repr(first)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"radius": 0.9}, "radius 1.0, asked for is 0.9"), ({"iterations": 5}, "steps 4, asked for is 5")],
)
def test_a_run_of_other_settings_is_refused(toy, start, tmp_path, change, says):
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})
    optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=4), run=run)
    with pytest.raises(UsageError, match=says):
        optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, **{"iterations": 4, **change}), run=run)
    with pytest.raises(UsageError, match="the run began with start"):
        optimize(
            toy, toy.embed("a blue cube"), OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=4), run=run
        )


def test_a_damaged_state_is_refused(toy, start, tmp_path):
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})
    optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=2), run=run)
    run.write_bytes(STATE, b"nothing")
    with pytest.raises(UsageError, match="can't be read"):
        optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=2), run=run)


# Guards


def test_the_judge_refuses_what_raises_the_score_alone(toy, start):
    contrast = image_statistics.contrast()
    fooled = metric(lambda images: -contrast(images), "its opposite")
    result = optimize(toy, start, OptimizeConfig(contrast, SEEDS, iterations=20, patience=3, judge=fooled))
    assert result.step == 0
    assert result.stopped == "no better score in 3 moves (the judge refused 3 that scored higher)"
    assert all(row.judge == pytest.approx(-row.score) for row in result.trace)


def test_single_pixels_do_not_convince_the_default_judge():
    flat = torch.full((1, 3, 16, 16), 0.5)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    edge = (torch.arange(16) > 7).float().expand(1, 3, 16, 16)
    judge = half_resolution(image_statistics.sharpness())
    checked, edged = flat + 0.2 * (board - 0.5), flat + 0.2 * (edge - 0.5)
    assert image_statistics.sharpness()(checked) > 10 * image_statistics.sharpness()(edged)
    assert float(judge(checked)) < 1e-6 < float(judge(edged))
    assert judge.name == "sharpness at half resolution"


def test_the_judge_is_the_metric_at_half_resolution_by_default(toy, start):
    contrast = image_statistics.contrast()
    result = optimize(toy, start, OptimizeConfig(contrast, SEEDS, iterations=3))
    assert result.trace[0].judge == pytest.approx(float(half_resolution(contrast)(toy.render(start, SEEDS)).mean()))
    paper = optimize(toy, start, OptimizeConfig(contrast, SEEDS, iterations=3, recipe="paper"))
    assert math.isnan(paper.trace[0].judge)


class Scorer:
    """Texts as colours: the cosine of an image's mean colour with that of a word."""

    def embed_text(self, text):
        return torch.nn.functional.normalize(torch.tensor([1.0, 0.0, 0.0]) if "red" in text else torch.ones(3), dim=0)

    def embed_images(self, images):
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)


def test_the_prompts_own_text_score_is_a_constraint(toy, start):
    config = OptimizeConfig("contrast", SEEDS, prompt="a red ball, + 2", keep="prompt", iterations=3)
    made = config.with_metrics(Scorer)
    assert made.keep.name == "text: a red ball, + 2"
    result = optimize(toy, start, made)
    assert result.trace[0].kept == pytest.approx(float(made.keep(toy.render(start, SEEDS)).mean()))
    for change, says in (({"prompt": ""}, "needs the `prompt`"), ({}, "needs a scorer of texts")):
        with pytest.raises(UsageError, match=says):
            replace(config, **change).with_metrics()


def test_a_result_in_words(toy, start):
    keep = image_statistics.colourfulness()
    config = OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=25, radius=2, keep=keep, unseen=(7, 8))
    result = optimize(toy, start, config)
    score, unseen, drift, lost, judge = describe(result, config)
    assert score.startswith(f"contrast: {result.start_score:.4g} -> {result.score:.4g} at step {result.step} (")
    assert unseen.endswith("of the gain holds there")
    assert drift == f"drift: {result.trace[result.step].drift:.2g}, far from the prompt"
    assert lost.startswith("lost of colourfulness: little (54.2 -> ")
    assert judge.startswith("judge, which was not optimized, contrast at half resolution: 0.0")
    first = replace(result, trace=result.trace[:1], step=0, score=result.start_score, unseen_score=0.0)
    sentences = describe(first, config)
    assert "nothing of the gain holds there" in sentences[1]
    assert sentences[2:4] == ["drift: 0, next to the prompt", "lost of colourfulness: nothing (54.2 -> 54.2)"]
    free = replace(config, keep=None)
    assert any("lost: not measured" in line for line in describe(optimize(toy, start, free), free))


# Several starts, start noise, gradient modes


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


# Bad input


@pytest.mark.parametrize("recipe", RECIPES)
def test_nan_in_the_metric_stops_and_keeps_the_best(toy, start, tmp_path, recipe):
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})
    judge = None if recipe == "paper" else image_statistics.contrast()
    config = OptimizeConfig(changing_at(6, math.nan), SEEDS, **RECIPES[recipe], judge=judge)
    result = optimize(toy, start, config, run=run)
    assert result.stopped == "step 6: expected finite scores, metric contrast gives nan"
    assert len(result.trace) == 6
    assert result.score == max(row.score for row in result.trace)
    assert torch.isfinite(result.embedding.tensors["prompt"]).all()
    assert Embedding.load(run.folder / BEST).hash == result.embedding.hash


def test_nan_in_the_gradient_stops_and_keeps_the_best(toy, start, tmp_path):
    run = Run.create(tmp_path / "run", "optimize", toy.model, {})
    calls = []

    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx, images):
            return images.clone()

        @staticmethod
        def backward(ctx, slope):
            calls.append(1)
            return slope * math.nan if len(calls) > 4 else slope

    spoiled = metric(lambda images: image_statistics.contrast()(Spoil.apply(images)), "contrast")
    result = optimize(toy, start, OptimizeConfig(spoiled, SEEDS, iterations=12), run=run)
    assert "the gradient of metric contrast holds NaN or infinity" in result.stopped
    assert result.step == len(result.trace) - 1  # scored, and better, before its gradient failed
    assert result.score == max(row.score for row in result.trace)
    assert Embedding.load(run.folder / BEST).hash == result.embedding.hash


def test_nan_at_the_start_is_an_error(toy, start):
    with pytest.raises(ThalwegError, match="expected finite scores, metric contrast gives nan"):
        optimize(toy, start, OptimizeConfig(changing_at(0, math.nan), SEEDS))


@pytest.mark.parametrize("recipe", ["thalweg", "paper"])
def test_a_metric_that_ignores_the_image(toy, start, recipe):
    constant = metric(lambda images: torch.ones(len(images), requires_grad=True) * 3, "constant")
    with pytest.raises(UsageError, match="metric constant ignores the image"):
        optimize(toy, start, OptimizeConfig(constant, SEEDS, recipe=recipe))


def test_a_metric_without_gradient_is_refused_with_a_hint_at_cma_es(toy, start):
    count = metric(lambda images: (images > 0.55).float().mean((1, 2, 3)), "bright pixels")
    with pytest.raises(UsageError, match="metric bright pixels has no gradient; search without one: `search=cma-es`"):
        optimize(toy, start, OptimizeConfig(count, SEEDS))
    result = optimize(toy, start, OptimizeConfig(count, SEEDS, search="cma-es", iterations=30))
    assert result.score > result.start_score


def test_a_generator_without_gradient(toy, start):
    toy.render = torch.no_grad()(toy.render)
    with pytest.raises(UsageError, match="the generator renders without gradient"):
        optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS))


def test_images_that_do_not_depend_on_the_embedding(toy, start):
    render = toy.render
    toy.render = lambda embedding, seeds: render(start, seeds) + 0 * embedding.tensors["prompt"].sum()
    with pytest.raises(UsageError, match="the images do not change with the embedding"):
        optimize(toy, start, OptimizeConfig(image_statistics.contrast(), SEEDS))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seeds": ()}, "at least one seed, got none"),
        ({"seeds": (-1,)}, "seeds of 0 or more, got -1"),
        ({"seeds": (1, 1)}, "distinct seeds, got 1 more than once"),
        ({"unseen": (2, 9)}, "expected unseen seeds, got 2 among the seeds too"),
        ({"iterations": 0}, "`iterations` to be a whole number from 1 to 100,000, got 0"),
        ({"step_length": 1.5}, "`step_length` to be above 0 and at most 1, got 1.5"),
        ({"patience": 0}, "`patience` to be a whole number from 1 to 100,000, got 0"),
        ({"radius": -1}, "`radius` to be a number from 1e-06 to 1e[+]06, got -1"),
        ({"radius": math.nan}, "`radius` to be a number from 1e-06 to 1e[+]06, got nan"),
        ({"radius": math.inf}, "`radius` to be a number from 1e-06 to 1e[+]06, got inf"),
        ({"retained_fraction": math.nan}, "`retained_fraction` to be above 0 and at most 1, got nan"),
        ({"step_length": math.inf}, "`step_length` to be above 0 and at most 1, got inf"),
        ({"retained_fraction": 2}, "`retained_fraction` to be above 0 and at most 1, got 2"),
        ({"search": "newton"}, "expected `search` to be one of 'gradient', 'cma-es', got 'newton'"),
        ({"recipe": "lion"}, "expected `recipe` to be one of 'thalweg', 'paper', got 'lion'"),
        ({"recipe": "paper", "learning_rate": 0}, "`learning_rate` to be a number from 1e-09 to 1000, got 0"),
        ({"recipe": "paper", "learning_rate": math.inf}, "`learning_rate` to be a number from 1e-09 to 1000, got inf"),
        (
            {"recipe": "paper", "keep": image_statistics.contrast()},
            "`recipe=paper` uses the gradient and takes no constraint",
        ),
        ({"recipe": "paper", "judge": "blur"}, "`recipe=paper` uses the gradient and takes no constraint and no judge"),
        ({"recipe": "paper", "move": "both"}, "`recipe=paper` moves the embedding from one start"),
        ({"search": "cma-es", "restarts": 2}, "`search=cma-es` moves the embedding from one start"),
        ({"move": "seeds"}, "expected `move` to be one of 'embedding', 'noise', 'both', got 'seeds'"),
        ({"scale": "column"}, "expected `scale` to be one of 'tensor', 'row', got 'column'"),
        ({"restarts": 0}, "`restarts` to be a whole number from 1 to 100, got 0"),
        ({"restarts": 5, "iterations": 4}, "expected at most 4 `restarts`, one per step, got 5"),
        ({"judge": "contarst"}, "did you mean contrast"),
        ({"keep": "prompt"}, "`keep=prompt` needs the `prompt` that it keeps"),
        ({"search": "cma-es", "dimensions": 1}, "at least 2 directions to search, got 1"),
    ],
)
def test_invalid_options(toy, start, options, says):
    with pytest.raises(UsageError, match=says):
        optimize(toy, start, OptimizeConfig(image_statistics.contrast(), **{"seeds": SEEDS, **options}))


@pytest.mark.parametrize(
    ("metric", "hint"),
    [("contarst", "contrast"), ("2*blur + sharpnes", "sharpness"), ("colorfullness", "colourfulness")],
)
@pytest.mark.parametrize("name", ["metric", "keep"])
def test_a_misspelt_metric_is_refused_before_any_model(metric, hint, name):
    with pytest.raises(UsageError, match=rf"did you mean {hint}\?"):
        OptimizeConfig(**{"metric": "contrast", name: metric})


def test_invalid_arguments(toy, start):
    config = OptimizeConfig(image_statistics.contrast(), SEEDS, search="cma-es")
    with pytest.raises(UsageError, match="`batch` to be a whole number from 1 to 100,000, got 0"):
        optimize(toy, start, config, batch=0)
    with pytest.raises(UsageError, match=r"expected a basis \(d, 48\), got \(3, 5\)"):
        optimize(toy, start, config, basis=torch.zeros(3, 5))


def test_a_metric_is_given_as_text_or_as_a_metric(toy, start):
    text, made = (
        optimize(toy, start, OptimizeConfig(metric, SEEDS, iterations=3))
        for metric in ("contrast", image_statistics.contrast())
    )
    assert text.embedding.hash == made.embedding.hash
    assert text.embedding.lineage == made.embedding.lineage


def test_an_embedding_of_another_model(toy, start):
    other = replace(start, lineage=replace(start.lineage, model=ModelIdentity("other", "1" * 64)))
    with pytest.raises(UsageError, match=r"expected an embedding of toy \(0000"):
        optimize(toy, other, OptimizeConfig(image_statistics.contrast(), SEEDS))


# The optimizers


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
