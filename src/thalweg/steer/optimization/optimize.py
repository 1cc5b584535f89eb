"""Tool 1: move a prompt embedding until its images score high on a metric (2308.12059, section 4.1)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import ChainGenerator, Generator
from thalweg.io.hashing import json_hash
from thalweg.io.state import STATE, check_request, read_state, write_state
from thalweg.limits import MAX_STEPS, check_count
from thalweg.seeds import check_seeds
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.optimization.objective import Objective
from thalweg.steer.optimization.optimizers import CmaEs, MomentumAscent, Optimizer, PaperOptimizer
from thalweg.steer.runs import Run, contact_sheet
from thalweg.steer.trust_region import TrustRegion

Method = Literal["gradient", "cma-es"]
Recipe = Literal["thalweg", "paper"]

BEST = "best.safetensors"
STEPS = 30
"""Places measured after the start, where nobody says how many."""


@dataclass(frozen=True)
class Step:
    """One row of the trace.

    Attributes:
        step: 0 is the start.
        score: the metric's mean over the seeds, in its unit.
        best: the best score so far.
        kept: mean of the metric to be kept; NaN where there is none.
        drift: distance from the start, see `TrustRegion`.
        calls: denoiser calls so far, those repeated in backward passes included; 0 where the generator counts none.
    """

    step: int
    score: float
    best: float
    kept: float
    drift: float
    calls: int


@dataclass(frozen=True)
class OptimizeResult:
    """What an optimisation found.

    Attributes:
        embedding: the best embedding.
        score: its score, the mean over the seeds.
        start_score: the start's.
        step: the step at which it was found.
        trace: every step, the start first.
        stopped: why it ended, in words.
        failed: whether a fault ended it, such as NaN; the best so far is kept.
        unseen_score: the best embedding's score on the unseen seeds; None where none were given.
        unseen_start_score: the start's on these.
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


def optimize(
    generator: Generator,
    start: Embedding,
    metric: Metric,
    seeds: Sequence[int],
    *,
    steps: int = STEPS,
    radius: float = 0.6,
    length: float = 0.4,
    patience: int = 8,
    keep: Metric | None = None,
    kept: float = 0.95,
    batch: int | None = None,
    unseen_seeds: Sequence[int] = (),
    method: Method = "gradient",
    recipe: Recipe = "thalweg",
    learning_rate: float = 0.01,
    dimensions: int = 16,
    basis: Tensor | None = None,
    search_seed: int = 0,
    region: TrustRegion | None = None,
    run: Run | None = None,
    progress: Callable[[Step, Tensor], None] | None = None,
) -> OptimizeResult:
    """Return the embedding near `start` whose images, over all `seeds`, score best on `metric`.

    The gradient goes through as much of the generator as its own mode says: `generator.with_gradient("full")`,
    `"last_k"` or `"one_step"`.

    Args:
        generator: the model.
        start: where to begin.
        metric: what to raise, or to lower where its direction says so.
        seeds: the images that count, together.
        steps: places measured after the start.
        radius: largest drift from the start, see `TrustRegion`.
        length: first step, as a fraction of the radius.
        patience: moves without a better score after which to stop; a generation of CMA-ES is one move.
        keep: a metric that must stay: places where it got worse than `kept` allows are never the best.
        kept: share of the start's `keep` score that must remain.
        batch: images rendered at once, for less memory; None: all. It does not change the result.
        unseen_seeds: seeds to judge the result on.
        method: "gradient", or "cma-es" for metrics without one.
        recipe: "paper" is the published optimiser as a baseline: one denoising step's gradient, no trust region.
        learning_rate: the published optimiser's.
        dimensions: number of random directions that CMA-ES searches.
        basis: directions (d, n) for CMA-ES in the place of random ones, in the offsets of `TrustRegion`.
        search_seed: of CMA-ES and its directions.
        region: where the search may go, in the place of `radius` and the start's own spread.
        run: where to write images, trace, the best embedding and a state; one that has a state goes on from it, with
            the same result as without the break.
        progress: called with every row of the trace and its images (S, 3, H, W).

    Raises:
        UsageError: a metric or a generator without gradient, a metric that ignores the image, seeds that are negative
            or repeated, an embedding of another model, a run of other settings.
        ThalwegError: NaN already at the start, or out of memory.
    """
    seeds = check_seeds(seeds)
    unseen = check_seeds(unseen_seeds) if unseen_seeds else ()
    if both := set(seeds) & set(unseen):
        raise UsageError(f"expected unseen seeds, got {min(both)} among the seeds too")
    for name, count in (("steps", steps), ("patience", patience), ("batch", 1 if batch is None else batch)):
        check_count(name, count, 1, MAX_STEPS)
    if not 0 < length <= 1 or not 0 < kept <= 1:
        raise UsageError(f"expected shares above 0 and up to 1, got length {length}, kept {kept}")
    settings = {
        "metric": metric.name,
        "keep": keep.name if keep else None,
        "kept": kept,
        "seeds": list(seeds),
        "steps": steps,
        "radius": radius if region is None else region.radius,
        "length": length,
        "patience": patience,
        "method": method,
        "recipe": recipe,
        "start": start.hash,
    }
    if recipe == "paper":
        settings["learning_rate"] = learning_rate
    if method == "cma-es":
        settings |= {"dimensions": dimensions if basis is None else len(basis), "search_seed": search_seed}
    region = TrustRegion(generator, start, radius) if region is None else region
    climber: Optimizer
    if recipe == "paper" and method == "gradient" and keep is None:
        if isinstance(generator, ChainGenerator):
            generator = generator.with_gradient("one_step")
        is_aesthetics = metric.name == "aesthetics"
        climber = PaperOptimizer(region, learning_rate, 1.0 if is_aesthetics else 10.0, keep_moments=is_aesthetics)
    elif recipe == "paper":
        raise UsageError(
            "recipe paper goes by the gradient and keeps nothing; leave out method and keep, or the recipe"
        )
    elif method == "cma-es":
        climber = CmaEs(region, basis, dimensions, length, search_seed)
    elif method == "gradient" and recipe == "thalweg":
        climber = MomentumAscent(region, length)
    else:
        raise UsageError(f"expected method gradient or cma-es and recipe thalweg or paper, got {method}, {recipe}")
    objective = Objective(generator, region, metric, keep, kept, seeds, batch)
    search = _Search(objective, climber, settings, run, progress)
    stopped = search.climb(steps, patience)
    best = start.derive(region.tensors(search.best), "optimize", **settings)
    found = search.trace[search.best_step]
    result = OptimizeResult(
        best, found.score, search.trace[0].score, found.step, tuple(search.trace), stopped, search.failed
    )
    if unseen:
        judge = Objective(generator, region, metric, None, kept, unseen, batch or len(seeds))
        before, after = (
            float(judge.measure(offsets, differentiable=False).scores.mean())
            for offsets in (torch.zeros_like(search.best), search.best)
        )
        result = replace(result, unseen_score=after, unseen_start_score=before)
    return result


class _Search:
    """The loop all climbers share: measure, keep the best, trace, save, stop."""

    def __init__(
        self,
        objective: Objective,
        climber: Optimizer,
        settings: dict[str, Any],
        run: Run | None,
        progress: Callable[[Step, Tensor], None] | None,
    ) -> None:
        self.objective = objective
        self.climber = climber
        self.settings = settings
        self.folder = run
        self.progress = progress
        self.trace: list[Step] = []
        self.best = torch.zeros_like(objective.region.spread)
        self.best_step = 0
        self.calls = 0
        self.failed = False
        if run is not None and (run.folder / STATE).exists():
            self._restore(run)

    def climb(self, steps: int, patience: int) -> str:
        """Measure up to `steps` places after the start; return why it ended."""
        for step in range(len(self.trace), steps + 1):
            if step - 1 - self.best_step >= patience * self.climber.round:
                return f"no better score in {patience} moves"
            try:
                self._take(step, is_last=step == steps)
            except ThalwegError as fault:
                if step == 0:
                    raise
                self.failed = True
                return f"step {step}: {fault}"
        return f"took {steps} steps"

    def _take(self, step: int, is_last: bool) -> None:
        """Measure one place and let the climber learn from it."""
        metric, keep, generator = self.objective.metric, self.objective.keep, self.objective.generator
        calls = _calls(generator)
        place = self.climber.ask()
        wants_gradient = not isinstance(self.climber, CmaEs) and not is_last
        measured = self.objective.measure(place, wants_gradient)
        score, kept = float(measured.scores.mean()), float(measured.kept.mean())
        if not math.isfinite(score) or (keep is not None and not math.isfinite(kept)):
            raise ThalwegError(f"expected finite scores, metric {metric.name} gives {score}")
        if keep is not None and step == 0:
            self.objective.start_kept = keep.sign * kept
        goal = metric.sign * score
        allowed = keep is None or keep.sign * kept >= self.objective.floor()
        is_best = step == 0 or (allowed and goal > metric.sign * self.trace[self.best_step].score)
        if is_best:
            self.best, self.best_step = place.detach(), step
        best = score if is_best else self.trace[self.best_step].score
        row = Step(step, score, best, kept, self.objective.region.drift(place), self.calls + _calls(generator) - calls)
        self.trace.append(row)
        if self.folder is not None:
            self._write(self.folder, row, measured.images)
        if self.progress is not None:
            self.progress(row, measured.images)
        if not is_last:
            self.climber.tell(goal, is_best, measured.gradient)
        self.calls += _calls(generator) - calls
        if self.folder is not None:
            self._save(self.folder)

    def _write(self, run: Run, row: Step, images: Tensor) -> None:
        """Write what people look at."""
        run.write_image(f"steps/{row.step:04d}.png", contact_sheet(images, columns=min(len(images), 8)))
        run.write_trace([asdict(row) for row in self.trace])
        if self.best_step == row.step:
            region = self.objective.region
            region.start.derive(region.tensors(self.best), "optimize", **self.settings).save(run.path(BEST))

    def _save(self, run: Run) -> None:
        """Write what the next step needs, as one file: a break leaves the last step's or this one's."""
        tensors, values = self.climber.state()
        record = {"settings": self.settings, "best_step": self.best_step, "calls": self.calls, "climber": values}
        record |= {"rows": len(self.trace), "trace": _trace_hash([asdict(row) for row in self.trace])}
        content = {f"climber.{name}": tensor for name, tensor in tensors.items()}
        write_state(run.folder / STATE, {**content, "best": self.best}, {"state": record})

    def _restore(self, run: Run) -> None:
        """Go on from the run's state."""
        tensors, values = read_state(run.folder / STATE, self.best.device)
        try:
            record = values["state"]
            rows = run.read_trace()[: record["rows"]]
            if _trace_hash(rows) != record["trace"]:
                raise UsageError(f"{run.folder}: its trace can't be read: it was changed; begin a new run")
            self.trace = [Step(**{name: _TYPES[name](value) for name, value in row.items()}) for row in rows]
            self.best, self.best_step, self.calls = tensors.pop("best"), record["best_step"], record["calls"]
        except ThalwegError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{run.folder}: its {STATE} or trace can't be read ({error!r}); begin a new run"
            ) from error
        check_request(run.folder, record["settings"], self.settings)
        self.climber.restore(
            {name.removeprefix("climber."): tensor for name, tensor in tensors.items()}, record["climber"]
        )
        if self.objective.keep is not None:
            self.objective.start_kept = self.objective.keep.sign * self.trace[0].kept


_TYPES: dict[str, Callable[[str], Any]] = {field.name: field.type for field in fields(Step)}  # type: ignore[misc]


def _trace_hash(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a hash of the trace as its file holds it: each value as text."""
    return json_hash([{name: str(value) for name, value in row.items()} for row in rows])


def _calls(generator: Generator) -> int:
    return generator.calls if isinstance(generator, ChainGenerator) else 0
