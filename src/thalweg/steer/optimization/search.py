"""Loop of every optimizer: measure a point, keep the best, trace, save, stop."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import ChainGenerator, Generator
from thalweg.io.hashing import content_hash, json_hash
from thalweg.io.safetensors_files import read_tensors
from thalweg.io.state import STATE, check_request, read_state, write_state
from thalweg.steer.optimization.noise_region import NoiseRegion
from thalweg.steer.optimization.objective import Measurement, Objective
from thalweg.steer.optimization.optimizers import CmaEs, Optimizer, optimizer_state, restore_optimizer
from thalweg.steer.runs import Run
from thalweg.steer.sheets import labelled_sheet, score_labels

BEST = "best.safetensors"
"""File of the best embedding in a run folder."""
NOISE = "noise.safetensors"
"""File of the seeds' best start noise in a run folder: a tensor `noise` (S, C, h, w), in the order of the seeds."""
COLUMNS = 4
"""Images in a row of a step's sheet."""
GUARDS = ("constraint", "judge")
"""Guards, each of which may refuse a point that scores higher."""


@dataclass(frozen=True)
class Step:
    """One row of the trace.

    Attributes:
        step: index of the step; 0 is the start.
        score: mean score over the seeds, in the metric's unit.
        best: best score so far.
        kept: mean value of the constraint; NaN without a constraint.
        judge: mean value of the judge; NaN without a judge.
        drift: distance from the start, see `TrustRegion`.
        calls: denoiser calls so far, including those repeated in backward passes; 0 where the generator counts none.
    """

    step: int
    score: float
    best: float
    kept: float
    judge: float
    drift: float
    calls: int


class SearchLoop:
    """The loop of every optimizer: measure a point, keep the best, trace, save, stop."""

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        parameters: dict[str, Any],
        folder: Run | None,
        progress: Callable[[Step, Tensor], None] | None,
        calls: int = 0,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.parameters = parameters
        self.folder = folder
        self.progress = progress
        self.trace: list[Step] = []
        self.best = torch.zeros_like(objective.region.spread)
        self.best_step = 0
        self.calls = calls
        self.failed = False
        self.refused = dict.fromkeys(GUARDS, 0)
        if folder is not None and (folder.folder / STATE).exists():
            self._restore(folder)

    def run(self, steps: int, patience: int) -> str:
        """Measure up to `steps` points after the start; return the reason why it ended."""
        for step in range(len(self.trace), steps + 1):
            if step - 1 - self.best_step >= patience * self.optimizer.points_per_move:
                return f"no better score in {patience} moves" + self._refusals()
            try:
                self._step(step, is_last=step == steps)
            except ThalwegError as error:
                if step == 0:
                    raise
                self.failed = True
                return f"step {step}: {error}"
        return f"took {steps} steps"

    def _refusals(self) -> str:
        """Return how many higher scores were refused since the best point, and by what, in words."""
        counts = [f"the {guard} refused {count}" for guard, count in self.refused.items() if count]
        return f" ({' and '.join(counts)} that scored higher)" if counts else ""

    def _step(self, step: int, is_last: bool) -> None:
        """Measure one point and update the optimizer with its score."""
        generator = self.objective.generator
        calls = _calls(generator)
        point = self.optimizer.ask()
        needs_gradient = not isinstance(self.optimizer, CmaEs) and not is_last
        measured = self.objective.measure(point, needs_gradient)
        row, value, slack = self._row(step, point, measured, calls)
        self.trace.append(row)
        if self.folder is not None:
            self._write(self.folder, row, measured)
        if self.progress is not None:
            self.progress(row, measured.images)
        if not is_last:
            self.optimizer.tell(value, slack, measured.gradient)
        self.calls += _calls(generator) - calls
        if self.folder is not None:
            self._save(self.folder)

    def _row(self, step: int, point: Tensor, measured: Measurement, calls: int) -> tuple[Step, float, float]:
        """Return the trace's row of a point, its value (more is better) and its slack; keep the best."""
        objective, metric = self.objective, self.objective.metric
        score, kept, judge = (float(scores.mean()) for scores in (measured.scores, measured.constraint, measured.judge))
        needed = [score] + [kept] * (objective.constraint is not None) + [judge] * (objective.judge is not None)
        if not all(map(math.isfinite, needed)):
            raise ThalwegError(f"expected finite scores, metric {metric.name} gives {score}")
        if step == 0:
            objective.begin(kept, judge)
        value = metric.sign * score
        slack = objective.slack(kept)
        passed = dict(zip(GUARDS, (slack >= 0, objective.convinces_judge(judge)), strict=True))
        is_better = step == 0 or value > metric.sign * self.trace[self.best_step].score
        if is_better and (all(passed.values()) or step == 0):
            self.best, self.best_step, self.refused = point.detach(), step, dict.fromkeys(GUARDS, 0)
        elif is_better:
            self.refused = {guard: count + (not passed[guard]) for guard, count in self.refused.items()}
        best = score if self.best_step == step else self.trace[self.best_step].score
        so_far = self.calls + _calls(objective.generator) - calls
        row = Step(step, score, best, kept, judge, objective.region.drift(point), so_far)
        return row, value, slack if passed["judge"] else -math.inf

    def _write(self, run: Run, row: Step, measured: Measurement) -> None:
        """Write the step's images, the trace and the best embedding."""
        seeds = [seed for batch in self.objective.batches for seed in batch]
        labels = score_labels(seeds, measured.scores.tolist())
        run.write_image(f"steps/{row.step:04d}.png", labelled_sheet(measured.images, min(len(seeds), COLUMNS), labels))
        run.write_trace([asdict(row) for row in self.trace])
        if self.best_step == row.step:
            self._write_best(run)

    def _write_best(self, run: Run) -> None:
        """Write the best embedding, and its noise where that moves; files that hold them are left as they are."""
        region = self.objective.region
        embedding = region.start.derive(region.tensors(self.best), "optimize", **self.parameters)
        noise = {"noise": region.noise(self.best).detach().cpu()} if isinstance(region, NoiseRegion) else {}
        try:
            found = Embedding.load(run.folder / BEST).hash
            found_noise = content_hash(read_tensors(run.folder / NOISE, NOISE)) if noise else ""
        except ThalwegError:
            found = found_noise = ""
        if found != embedding.hash:
            embedding.save(run.path(BEST))
        if noise and found_noise != content_hash(noise):
            run.write_bytes(NOISE, save(noise))

    def _save(self, run: Run) -> None:
        """Write everything that the next step needs, as one file: an interruption leaves the last or this step's."""
        tensors, values = optimizer_state(self.optimizer)
        record = {"settings": self.parameters, "best_step": self.best_step, "calls": self.calls, **values}
        record |= {"gradient": getattr(self.objective.generator, "gradient", None), "refused": self.refused}
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
            self.refused = record["refused"]
        except ThalwegError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{run.folder}: its {STATE} or trace can't be read ({error!r}); begin a new run"
            ) from error
        mode = getattr(self.objective.generator, "gradient", None)
        begun = mode if isinstance(self.optimizer, CmaEs) else record.get("gradient", mode)
        check_request(run.folder, {**record["settings"], "gradient": begun}, {**self.parameters, "gradient": mode})
        restore_optimizer(self.optimizer, tensors, record)
        self.objective.begin(self.trace[0].kept, self.trace[0].judge)
        self._write_best(run)  # as the state holds it, if its files were removed or changed


_TYPES: dict[str, Callable[[str], Any]] = {field.name: field.type for field in fields(Step)}  # type: ignore[misc]


def _trace_hash(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a hash of the trace as its file holds it: each value as text."""
    return json_hash([{name: str(value) for name, value in row.items()} for row in rows])


def _calls(generator: Generator) -> int:
    return generator.calls if isinstance(generator, ChainGenerator) else 0
