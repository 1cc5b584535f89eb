"""Optimization: move a prompt embedding until its images score high on a metric (2308.12059, section 4.1)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import ChainGenerator, Generator, with_suitable_threads
from thalweg.io.hashing import json_hash
from thalweg.io.state import STATE, check_request, read_state, write_state
from thalweg.limits import MAX_STEPS, check_count
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.optimization.objective import Measurement, Objective
from thalweg.steer.optimization.optimize_config import RADIUS, OptimizeConfig
from thalweg.steer.optimization.optimizers import (
    CmaEs,
    MomentumAscent,
    Optimizer,
    PaperOptimizer,
    optimizer_state,
    restore_optimizer,
)
from thalweg.steer.runs import Run
from thalweg.steer.sheets import labelled_sheet, score_labels
from thalweg.steer.trust_region import TrustRegion

BEST = "best.safetensors"
"""File of the best embedding in a run folder."""
COLUMNS = 4
"""Images in a row of a step's sheet."""
BATCH = 8
"""Images that the command line and the browser render at once; more are rendered again for their gradient."""


@dataclass(frozen=True)
class Step:
    """One row of the trace.

    Attributes:
        step: index of the step; 0 is the start.
        score: mean score over the seeds, in the metric's unit.
        best: best score so far.
        kept: mean value of the constraint; NaN without a constraint.
        drift: distance from the start, see `TrustRegion`.
        calls: denoiser calls so far, including those repeated in backward passes; 0 where the generator counts none.
    """

    step: int
    score: float
    best: float
    kept: float
    drift: float
    calls: int


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
    metric, constraint = config.metric, config.keep or None
    assert isinstance(metric, Metric) and not isinstance(constraint, str)  # with_metrics made them
    check_count("`batch`", 1 if batch is None else batch, 1, MAX_STEPS)
    if region is None:
        region = TrustRegion(generator, start, RADIUS if config.radius is None else config.radius)
    parameters = _parameters(config, start, region, basis)
    optimizer = _optimizer(config, region, metric, basis)
    if config.recipe == "paper" and isinstance(generator, ChainGenerator):
        generator = generator.with_gradient("one_step")
    objective = Objective(generator, region, metric, config.seeds, constraint, config.retained_fraction, batch)
    search = _Search(objective, optimizer, parameters, run, progress)
    stopped = search.run(config.steps, config.patience)
    best = start.derive(region.tensors(search.best), "optimize", **parameters)
    found = search.trace[search.best_step]
    result = OptimizeResult(
        best, found.score, search.trace[0].score, found.step, tuple(search.trace), stopped, search.failed
    )
    if not config.unseen:
        return result
    unseen = Objective(generator, region, metric, config.unseen, batch=batch or len(config.seeds))
    before, after = (
        float(unseen.measure(offsets, differentiable=False).scores.mean())
        for offsets in (torch.zeros_like(search.best), search.best)
    )
    return replace(result, unseen_score=after, unseen_start_score=before)


def before_and_after(metric: Metric, seeds: Sequence[int], before: Tensor, after: Tensor) -> Tensor:
    """Return a sheet (3, H', W') of the same seeds before (above) and after (below), labelled by their scores."""
    with torch.no_grad():
        scores = [metric(images).tolist() for images in (before, after)]
    labels = [*score_labels(seeds, scores[0], "before, "), *score_labels(seeds, scores[1], "after, ")]
    return labelled_sheet(torch.cat([before, after]), len(seeds), labels)


def _optimizer(config: OptimizeConfig, region: TrustRegion, metric: Metric, basis: Tensor | None) -> Optimizer:
    if config.recipe == "paper":
        is_aesthetics = metric.name == "aesthetics"
        loss_scale = 1.0 if is_aesthetics else 10.0
        return PaperOptimizer(region, config.learning_rate, loss_scale, keep_moments=is_aesthetics)
    if config.search == "cma-es":
        return CmaEs(region, basis, config.dimensions, config.step_length, config.search_seed)
    return MomentumAscent(region, config.step_length)


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
        "length": config.step_length,
        "patience": config.patience,
        "method": config.search,
        "recipe": config.recipe,
        "start": start.hash,
    }
    if config.recipe == "paper":
        parameters["learning_rate"] = config.learning_rate
    if config.search == "cma-es":
        dimensions = config.dimensions if basis is None else len(basis)
        parameters |= {"dimensions": dimensions, "search_seed": config.search_seed}
    return parameters


class _Search:
    """The loop of every optimizer: measure a point, keep the best, trace, save, stop."""

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        parameters: dict[str, Any],
        folder: Run | None,
        progress: Callable[[Step, Tensor], None] | None,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.parameters = parameters
        self.folder = folder
        self.progress = progress
        self.trace: list[Step] = []
        self.best = torch.zeros_like(objective.region.spread)
        self.best_step = 0
        self.calls = 0
        self.failed = False
        if folder is not None and (folder.folder / STATE).exists():
            self._restore(folder)

    def run(self, steps: int, patience: int) -> str:
        """Measure up to `steps` points after the start; return the reason why it ended."""
        for step in range(len(self.trace), steps + 1):
            if step - 1 - self.best_step >= patience * self.optimizer.points_per_move:
                return f"no better score in {patience} moves"
            try:
                self._step(step, is_last=step == steps)
            except ThalwegError as error:
                if step == 0:
                    raise
                self.failed = True
                return f"step {step}: {error}"
        return f"took {steps} steps"

    def _step(self, step: int, is_last: bool) -> None:
        """Measure one point and update the optimizer with its score."""
        metric, constraint, generator = self.objective.metric, self.objective.constraint, self.objective.generator
        calls = _calls(generator)
        point = self.optimizer.ask()
        needs_gradient = not isinstance(self.optimizer, CmaEs) and not is_last
        measured = self.objective.measure(point, needs_gradient)
        score, kept = float(measured.scores.mean()), float(measured.constraint.mean())
        if not math.isfinite(score) or (constraint is not None and not math.isfinite(kept)):
            raise ThalwegError(f"expected finite scores, metric {metric.name} gives {score}")
        if constraint is not None and step == 0:
            self.objective.start_constraint = constraint.sign * kept
        value = metric.sign * score
        is_allowed = constraint is None or constraint.sign * kept >= self.objective.min_constraint()
        is_best = step == 0 or (is_allowed and value > metric.sign * self.trace[self.best_step].score)
        if is_best:
            self.best, self.best_step = point.detach(), step
        best = score if is_best else self.trace[self.best_step].score
        row = Step(step, score, best, kept, self.objective.region.drift(point), self.calls + _calls(generator) - calls)
        self.trace.append(row)
        if self.folder is not None:
            self._write(self.folder, row, measured)
        if self.progress is not None:
            self.progress(row, measured.images)
        if not is_last:
            self.optimizer.tell(value, is_best, measured.gradient)
        self.calls += _calls(generator) - calls
        if self.folder is not None:
            self._save(self.folder)

    def _write(self, run: Run, row: Step, measured: Measurement) -> None:
        """Write the step's images, the trace and the best embedding."""
        seeds = [seed for batch in self.objective.batches for seed in batch]
        labels = score_labels(seeds, measured.scores.tolist())
        run.write_image(f"steps/{row.step:04d}.png", labelled_sheet(measured.images, min(len(seeds), COLUMNS), labels))
        run.write_trace([asdict(row) for row in self.trace])
        if self.best_step == row.step:
            region = self.objective.region
            region.start.derive(region.tensors(self.best), "optimize", **self.parameters).save(run.path(BEST))

    def _save(self, run: Run) -> None:
        """Write everything that the next step needs, as one file: an interruption leaves the last or this step's."""
        tensors, values = optimizer_state(self.optimizer)
        record = {"settings": self.parameters, "best_step": self.best_step, "calls": self.calls, **values}
        record |= {"rows": len(self.trace), "trace": _trace_hash([asdict(row) for row in self.trace])}
        write_state(run.folder / STATE, {**tensors, "best": self.best}, {"state": record})

    def _restore(self, run: Run) -> None:
        """Resume from the run's state."""
        tensors, values = read_state(run.folder / STATE, self.best.device)
        try:
            record = values["state"]
            rows = run.read_trace()[: record["rows"]]
            if _trace_hash(rows) != record["trace"]:
                raise UsageError(f"{run.folder}: its trace can't be read: it was changed; begin a new run")
            self.trace = [Step(**{name: _TYPES[name](value) for name, value in row.items()}) for row in rows]
            self.best, self.best_step, self.calls = tensors["best"], record["best_step"], record["calls"]
        except ThalwegError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{run.folder}: its {STATE} or trace can't be read ({error!r}); begin a new run"
            ) from error
        check_request(run.folder, record["settings"], self.parameters)
        restore_optimizer(self.optimizer, tensors, record)
        if self.objective.constraint is not None:
            self.objective.start_constraint = self.objective.constraint.sign * self.trace[0].kept


_TYPES: dict[str, Callable[[str], Any]] = {field.name: field.type for field in fields(Step)}  # type: ignore[misc]


def _trace_hash(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a hash of the trace as its file holds it: each value as text."""
    return json_hash([{name: str(value) for name, value in row.items()} for row in rows])


def _calls(generator: Generator) -> int:
    return generator.calls if isinstance(generator, ChainGenerator) else 0
