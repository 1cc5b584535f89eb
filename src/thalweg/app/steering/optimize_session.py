"""Tool 1 at a desk: toward a metric."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from thalweg.app.jobs import RenderJob
from thalweg.app.steering.session import Session
from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import MAX_STEPS, check_count
from thalweg.seeds import read_seeds
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.optimization.optimize import BEST, Step
from thalweg.steer.runs import Run, contact_sheet
from thalweg.steer.tasks import OptimizeTask, start_of

BEFORE_AFTER = "before-after.png"
RESULT_SCORES = "unseen.json"


class OptimizeSession(Session):
    """An optimisation, seen step by step; stopped, it keeps the best so far and can go on.

    Attributes:
        run: the run folder; None where none is open.
        task: what was asked.
    """

    operation: ClassVar[str] = "optimize"

    run: Run | None = None
    task: OptimizeTask | None = None

    def load(self, folder: Path) -> None:
        """Take up an optimisation as it stands."""
        run = self.studio.open(folder, self.operation)
        self.task, self.run = OptimizeTask.of(run), run
        self.sit_at(folder)

    def start(self, text: str, seeds: str, metric: str, keep: str, iterations: int) -> None:
        """Begin an optimisation from a prompt or an embedding file.

        Raises:
            UsageError: nothing to start from, or seeds at fault. Metrics are read in the job.
        """
        make_start, numbers = self.studio.start(self.person, text), read_seeds(seeds)
        iterations = check_count("steps", iterations, 1, MAX_STEPS)
        unseen = tuple(sorted(set(range(100, 100 + 8 + len(numbers))) - set(numbers)))[:8]
        task = OptimizeTask(text.strip(), metric, keep or None, numbers, unseen, iterations)

        def begin(job: RenderJob) -> None:
            job.check()
            task.aims(self.studio.load_scorer, read_files=False)
            start = make_start()
            folder = self.atomic_folder(f"{start.lineage.prompt} {metric}")
            self.run, self.task = task.run_in(folder, self.studio.generator, asdict(self.studio.choice), start), task
            self.sit_at(folder)
            self._climb(job)

        self.submit(begin)

    def go_on(self) -> None:
        """Go on with the open run; `UsageError` where none is open."""
        if self.run is None:
            raise UsageError("expected an optimisation: start one, or open one")
        self.submit(self._climb)

    @property
    def best(self) -> Embedding:
        """The best embedding so far; `UsageError` where there is none yet."""
        return Embedding.load(self.file(BEST), self.studio.generator.model)

    def _climb(self, job: RenderJob) -> None:
        assert self.run is not None and self.task is not None  # both are set where a run is opened
        run, task, generator = self.run, self.task, self.studio.generator
        ends: dict[str, Tensor] = {}

        def step(row: Step, images: Tensor) -> None:
            if row.step == 0:
                ends["start"] = images
            if row.score == row.best:
                ends["best"] = images
            self.changed()
            job.check()

        failed = ""
        try:
            result = task.do(generator, self._aims(job, task), run, step)
            scores = {"score": result.unseen_score, "start_score": result.unseen_start_score}
            run.write_json(RESULT_SCORES, scores)
            failed = result.stopped if result.failed else ""
            if len(ends) < 2:
                with torch.no_grad():
                    before, after = start_of(run, generator), self.best
                    ends = {
                        end: generator.render(embedding, task.seeds)
                        for end, embedding in (("start", before), ("best", after))
                    }
        finally:  # one that is asked to stop shows what it has, and renders nothing more
            if len(ends) == 2:
                both = torch.cat([ends["start"], ends["best"]])
                run.write_image(BEFORE_AFTER, contact_sheet(both, columns=len(task.seeds)))
        if failed:
            raise ThalwegError(f"stopped early, the best so far is kept: {failed}")

    def _aims(self, job: RenderJob, task: OptimizeTask) -> tuple[Metric, Metric | None]:
        """The task's metrics, which end with the job: scoring takes its time too."""

        def ending(metric: Metric) -> Metric:
            def score(images: Tensor) -> Tensor:
                job.check()
                return metric.score(images)

            return replace(metric, score=score)

        metric, keep = task.aims(self.studio.load_scorer, read_files=False)
        return ending(metric), None if keep is None else ending(keep)
