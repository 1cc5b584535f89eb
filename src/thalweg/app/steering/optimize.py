"""Tool 1 at a desk: toward a metric."""

from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import torch

from thalweg.app.jobs import Job, Stopped
from thalweg.app.steering.desk import Desk
from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import read_seeds
from thalweg.steer.optimize import BEST, STATE
from thalweg.steer.runs import Run, contact_sheet
from thalweg.steer.tasks import OptimizeTask, start_of

BEFORE_AFTER = "before-after.png"
RESULT_SCORES = "unseen.json"


class OptimizeDesk(Desk):
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
        make_start, numbers = self.studio.start(text), read_seeds(seeds)
        unseen = tuple(number for number in range(100, 100 + 8 + len(numbers)) if number not in numbers)[:8]
        task = OptimizeTask(text.strip(), metric, keep or None, numbers, unseen, iterations)

        def begin(job: Job) -> None:
            job.check()
            task.aims(self.studio.load_scorer, read_files=False)
            start = make_start()
            folder = self.new_folder(f"{start.lineage.prompt} {metric}")
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

    def _climb(self, job: Job) -> None:
        assert self.run is not None and self.task is not None  # both are set where a run is opened
        run, task, generator = self.run, self.task, self.studio.generator

        def step(*_: object) -> None:
            self.changed()
            job.check()

        stopped: Exception | None = None
        try:
            result = task.do(generator, task.aims(self.studio.load_scorer, read_files=False), run, step)
            scores = {"score": result.unseen_score, "start_score": result.unseen_start_score}
            run.write_json(RESULT_SCORES, scores)
            if result.failed:
                stopped = ThalwegError(f"stopped early, the best so far is kept: {result.stopped}")
        except Stopped as wish:
            if not (run.folder / STATE).is_file():
                raise
            stopped = wish
        ends = (start_of(run, generator), self.best)
        with torch.no_grad():
            images = torch.cat([generator.render(embedding, task.seeds) for embedding in ends])
        run.write_image(BEFORE_AFTER, contact_sheet(images, columns=len(task.seeds)))
        if stopped is not None:
            raise stopped
