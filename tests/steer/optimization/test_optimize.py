import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from thalweg.embedding import Embedding, ModelIdentity
from thalweg.errors import ThalwegError, UsageError
from thalweg.steer.metrics import image_statistics
from thalweg.steer.metrics.metric import metric
from thalweg.steer.optimization.optimize import optimize
from thalweg.steer.optimization.optimize_config import OptimizeConfig
from thalweg.steer.optimization.search import BEST, STATE
from thalweg.steer.runs import Run

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
        ({"recipe": "paper", "radius": 0.5}, "`recipe=paper` moves without a trust region; leave out `radius`"),
        ({"recipe": "paper", "step_length": 0.5}, "leave out `step_length`, or `recipe`"),
        ({"recipe": "paper", "scale": "row"}, "leave out `scale`, or `recipe`"),
        ({"search": "cma-es", "restarts": 2}, "`search=cma-es` moves the embedding from one start"),
        ({"move": "seeds"}, "expected `move` to be one of 'embedding', 'noise', 'both', got 'seeds'"),
        ({"scale": "column"}, "expected `scale` to be one of 'tensor', 'row', got 'column'"),
        ({"restarts": 0}, "`restarts` to be a whole number from 1 to 100, got 0"),
        ({"restarts": 5, "iterations": 4}, "expected at most 4 `restarts`, one per step, got 5"),
        ({"judge": "contarst"}, "did you mean contrast"),
        ({"keep": "prompt"}, "`keep=prompt` needs the words of the `prompt` that it keeps"),
        ({"keep": "prompt", "prompt": "a.safetensors"}, "`keep=prompt` needs the words of the `prompt`"),
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
