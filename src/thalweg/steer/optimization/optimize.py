"""Optimization: move a prompt embedding until its images score high on a metric (2308.12059, section 4.1)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import ChainGenerator, Generator, with_suitable_threads
from thalweg.io.state import STATE, read_state
from thalweg.limits import MAX_STEPS, check_count
from thalweg.steer.gradient_choice import CANDIDATES, NOISE_CANDIDATES, choose_gradient
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.optimization.judge import half_resolution
from thalweg.steer.optimization.noise_region import NoiseRegion
from thalweg.steer.optimization.objective import Objective
from thalweg.steer.optimization.optimize_config import RADIUS, OptimizeConfig
from thalweg.steer.optimization.optimizers import CmaEs, Optimizer, PaperOptimizer, SignAscent
from thalweg.steer.optimization.restarts import Restarts
from thalweg.steer.optimization.search import SearchLoop, Step
from thalweg.steer.runs import Run
from thalweg.steer.trust_region import TrustRegion

PAPER_LOSS_SCALES = {"sharpness": 40.0, "blur": 40.0, "aesthetics": 1.0}
"""The paper optimizer's factor on the loss by metric, 10 for others. Published is 10 for the variance of images in
-1..1, which is 4 times that of images in 0..1."""
BATCH = 8
"""Images that the command line and the browser render at once; more are rendered again for their gradient."""


@dataclass(frozen=True)
class OptimizeResult:
    """Result of an optimization.

    Attributes:
        embedding: the best embedding.
        score: its mean score over the seeds.
        start_score: the start's mean score over the seeds.
        step: the step at which the best embedding was found.
        trace: every step, the start first.
        stopped: the reason why the search ended.
        failed: whether an error ended it, such as NaN; the result is the best until then.
        unseen_score: the best embedding's score on the unseen seeds; None without unseen seeds.
        unseen_start_score: the start's score on the unseen seeds.
        noise: the seeds' start noise (S, C, h, w) where it moved: `generator.latents` and `generator.decode` make the
            images of it. Unseen seeds have their own.
    """

    embedding: Embedding
    score: float
    start_score: float
    step: int
    trace: tuple[Step, ...]
    stopped: str
    failed: bool = False
    unseen_score: float | None = None
    unseen_start_score: float | None = None
    noise: Tensor | None = None


@with_suitable_threads
def optimize(
    generator: Generator,
    start: Embedding,
    config: OptimizeConfig,
    *,
    region: TrustRegion | None = None,
    basis: Tensor | None = None,
    batch: int | None = None,
    run: Run | None = None,
    progress: Callable[[Step, Tensor], None] | None = None,
) -> OptimizeResult:
    """Return the embedding near `start` whose images, over all seeds, score best on a metric.

    The gradient passes through as much of the generator as its gradient mode says: `generator.with_gradient("full")`,
    `"last_k"` or `"one_step"`.

    Args:
        generator: the model.
        start: the embedding to begin with.
        config: metric, seeds, constraint, optimizer and limits. Metrics given as text that need a scorer are made with
            `config.with_metrics(load_scorer)`.
        region: region to search instead of that of `config.radius`.
        basis: directions (d, n), float, for CMA-ES instead of random ones, in the offsets of `TrustRegion`.
        batch: images rendered at once, for less memory; None: all. It does not change the result.
        run: run folder for images, trace, the best embedding and a state. A run with a state resumes from it, with
            the same result as without the interruption.
        progress: called with every row of the trace and its images (S, 3, H, W) in 0..1.

    Raises:
        UsageError: a metric or a generator without a gradient, a metric that ignores the image, an embedding of
            another model, or a run of another configuration.
        ThalwegError: NaN at the start, or out of memory.
    """
    config = config.with_metrics()
    metric, constraint, judge = config.metric, config.keep or None, config.judge or None
    assert isinstance(metric, Metric) and not isinstance(constraint, str) and not isinstance(judge, str)
    check_count("`batch`", 1 if batch is None else batch, 1, MAX_STEPS)
    if region is None:
        region = TrustRegion(generator, start, RADIUS if config.radius is None else config.radius, config.scale)
    if config.recipe == "thalweg" and judge is None and isinstance(generator, ChainGenerator):
        judge = half_resolution(metric)
    generator, calls = _with_gradient(generator, region, config, run)
    moved = _moved(generator, region, config)
    parameters = _parameters(config, start, region, basis)
    optimizer = _optimizer(config, moved, metric, basis)
    guards = (constraint, config.retained_fraction, judge)
    objective = Objective(generator, moved, metric, config.seeds, *guards, batch)
    search = SearchLoop(objective, optimizer, parameters, run, progress, calls)
    stopped = search.run(config.steps, config.patience)
    best = start.derive(moved.tensors(search.best), "optimize", **parameters)
    found = search.trace[search.best_step]
    result = OptimizeResult(
        best, found.score, search.trace[0].score, found.step, tuple(search.trace), stopped, search.failed
    )
    if isinstance(moved, NoiseRegion):
        result = replace(result, noise=moved.noise(search.best))
    if not config.unseen:
        return result
    unseen = Objective(generator, region, metric, config.unseen, batch=batch or len(config.seeds))
    before, after = (
        float(unseen.measure(offsets, differentiable=False).scores.mean())
        for offsets in (torch.zeros_like(region.spread), search.best[: region.size])
    )
    return replace(result, unseen_score=after, unseen_start_score=before)


def _moved(generator: Generator, region: TrustRegion, config: OptimizeConfig) -> TrustRegion | NoiseRegion:
    """Return the region of what the configuration moves.

    Raises:
        UsageError: the generator has no start noise to move.
    """
    if config.move == "embedding":
        return region
    if not isinstance(generator, ChainGenerator):
        raise UsageError(f"`move={config.move}` needs a generator with start noise; use `move=embedding`")
    return NoiseRegion(generator, region, config.seeds, moves_embedding=config.move == "both")


def _with_gradient(
    generator: Generator, region: TrustRegion, config: OptimizeConfig, run: Run | None
) -> tuple[Generator, int]:
    """Return the generator in the gradient mode to use, and the denoiser calls that the choice took.

    A resumed run keeps the mode that it began with.
    """
    if not isinstance(generator, ChainGenerator):
        return generator, 0
    if config.recipe == "paper":
        return generator.with_gradient("one_step"), 0
    if generator.gradient != "auto" or config.search == "cma-es":
        return generator, 0
    if run is not None and (run.folder / STATE).exists():
        record = read_state(run.folder / STATE)[1].get("state", {})
        return generator.with_gradient(record.get("gradient", "full")), 0
    assert isinstance(config.metric, Metric)
    metric, first = config.metric, generator.calls

    def gradient(model: Generator) -> Tensor:
        moved = _moved(model, region, config)
        objective = Objective(model, moved, metric, config.seeds[:1])
        return objective.measure(torch.zeros_like(moved.spread), differentiable=True).gradient()

    choice = choose_gradient(generator, gradient, CANDIDATES if config.move == "embedding" else NOISE_CANDIDATES)
    return generator.with_gradient(choice.gradient), generator.calls - first


def _optimizer(
    config: OptimizeConfig, region: TrustRegion | NoiseRegion, metric: Metric, basis: Tensor | None
) -> Optimizer:
    if isinstance(region, TrustRegion) and config.recipe == "paper":
        loss_scale = PAPER_LOSS_SCALES.get(metric.name, 10.0)
        return PaperOptimizer(region, config.learning_rate, loss_scale, keep_moments=metric.name == "aesthetics")
    if isinstance(region, TrustRegion) and config.search == "cma-es":
        return CmaEs(region, basis, config.dimensions, config.first_step, config.search_seed)
    if config.restarts > 1:
        return Restarts(region, config.first_step, config.restarts, config.steps + 1, config.search_seed)
    return SignAscent(region, config.first_step)


def _parameters(config: OptimizeConfig, start: Embedding, region: TrustRegion, basis: Tensor | None) -> dict[str, Any]:
    """Return the parameters that the state and the result's provenance hold, under the names of their formats."""
    metric, keep = (each.name if isinstance(each, Metric) else None for each in (config.metric, config.keep))
    parameters = {
        "metric": metric,
        "keep": keep,
        "kept": config.retained_fraction,
        "seeds": list(config.seeds),
        "steps": config.steps,
        "radius": region.radius,
        "length": config.first_step,
        "patience": config.patience,
        "method": config.search,
        "recipe": config.recipe,
        "start": start.hash,
    }
    if config.recipe == "paper":
        parameters["learning_rate"] = config.learning_rate
    judge = config.judge.name if isinstance(config.judge, Metric) else None
    parameters |= {"judge": judge, "move": config.move, "restarts": config.restarts, "scale": config.scale}
    if config.restarts > 1:
        parameters["search_seed"] = config.search_seed
    if config.search == "cma-es":
        dimensions = config.dimensions if basis is None else len(basis)
        parameters |= {"dimensions": dimensions, "search_seed": config.search_seed}
    return parameters
