"""Session of the optimize tool: an embedding moves toward a metric."""

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
from thalweg.steer.optimization.optimize import BATCH, optimize
from thalweg.steer.optimization.optimize_config import OptimizeConfig
from thalweg.steer.optimization.report import REPORT, before_and_after, describe
from thalweg.steer.optimization.search import BEST, Step
from thalweg.steer.runs import Run
from thalweg.steer.tool_config import start_of

BEFORE_AFTER = "before-after.png"
RESULT_SCORES = "unseen.json"


class OptimizeSession(Session):
    """Optimization shown step by step; when stopped it keeps the best embedding so far and can be resumed.

    Attributes:
        run: the open run; None where none is open.
        config: the run's configuration; None where none is open.
    """

    operation: ClassVar[str] = "optimize"

    run: Run | None = None
    config: OptimizeConfig | None = None

    def load(self, folder: Path) -> None:
        """Open the run of an optimization."""
        run = self.context.open_run(folder, self.operation)
        self.config, self.run = OptimizeConfig.read(run), run
        self.attach(folder)

    def start(self, text: str, seeds: str, metric: str, keep: str, iterations: int) -> None:
        """Begin an optimization from a prompt or an embedding file; the job loads the metrics.

        Raises:
            UsageError: no prompt and no embedding file, invalid seeds, or an unknown metric.
        """
        get_start, numbers = self.context.read_start(self.user, text), read_seeds(seeds)
        iterations = check_count("steps", iterations, 1, MAX_STEPS)
        unseen = tuple(sorted(set(range(100, 100 + 8 + len(numbers))) - set(numbers)))[:8]
        config = OptimizeConfig(metric, numbers, text.strip(), keep.strip() or None, unseen, iterations)

        def begin(job: RenderJob) -> None:
            job.check()
            config.with_metrics(self.context.load_scorer, read_files=False)
            start = get_start()
            folder = self.new_run_folder(f"{start.lineage.prompt} {metric}")
            self.run = config.begin_run(folder, self.context.generator, asdict(self.context.model_config), start)
            self.config = config
            self.attach(folder)
            self._optimize(job)

        self.submit(begin)

    def resume(self) -> None:
        """Resume the open run.

        Raises:
            UsageError: no run is open.
        """
        if self.run is None:
            raise UsageError("expected an optimization: start one, or open one")
        self.submit(self._optimize)

    @property
    def best(self) -> Embedding:
        """Best embedding so far.

        Raises:
            UsageError: there is none yet.
        """
        return Embedding.load(self.file(BEST), self.context.generator.model)

    def _optimize(self, job: RenderJob) -> None:
        assert self.run is not None and self.config is not None  # set where a run is opened
        run, config, generator = self.run, self.config, self.context.generator
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
            start = start_of(run, generator)
            checked = self._interruptible(job, config)
            result = optimize(generator, start, checked, batch=BATCH, run=run, progress=step)
            scores = {"score": result.unseen_score, "start_score": result.unseen_start_score}
            run.write_json(RESULT_SCORES, scores)
            run.write_json(REPORT, describe(result, checked))
            failed = result.stopped if result.failed else ""
            if len(ends) < 2:
                with torch.no_grad():
                    before, after = start_of(run, generator), self.best
                    ends = {
                        end: generator.render(embedding, config.seeds)
                        for end, embedding in (("start", before), ("best", after))
                    }
        finally:  # a stopped optimization shows the images it has, and renders no more
            if len(ends) == 2:
                metric = config.with_metrics(self.context.load_scorer, read_files=False).metric
                assert isinstance(metric, Metric)  # with_metrics made it
                run.write_image(BEFORE_AFTER, before_and_after(metric, config.seeds, ends["start"], ends["best"]))
        if failed:
            raise ThalwegError(f"stopped early, the best so far is kept: {failed}")

    def _interruptible(self, job: RenderJob, config: OptimizeConfig) -> OptimizeConfig:
        """Return the configuration with metrics that end with the job: scoring takes time, too."""

        def interruptible(metric: str | Metric) -> Metric:
            assert isinstance(metric, Metric)  # with_metrics made it

            def score(images: Tensor) -> Tensor:
                job.check()
                return metric.score(images)

            return replace(metric, score=score)

        config = config.with_metrics(self.context.load_scorer, read_files=False)
        return replace(
            config, metric=interruptible(config.metric), keep=interruptible(config.keep) if config.keep else None
        )
