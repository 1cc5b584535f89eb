"""Tool 3 at a desk: seeds to pick from, then one of them put into the embedding."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch

from thalweg.app.jobs import RenderJob
from thalweg.app.steering.session import Session
from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.io.json_files import read_as
from thalweg.limits import MAX_SEED, MAX_STEPS, check_count, check_text
from thalweg.seeds import check_seeds, read_seeds
from thalweg.steer.runs import Run
from thalweg.steer.tasks import ImprintTask

RESULT = "embedding.safetensors"


class SeedsSession(Session):
    """A prompt on several seeds, for a person to like one.

    Attributes:
        run: the run folder, of the operation that the command line's `generate` writes; None where none is open.
        liked: the seed that was clicked last.
    """

    operation: ClassVar[str] = "generate"

    run: Run | None = None
    liked: int | None = None
    _asked: tuple[int, ...] = ()

    def load(self, folder: Path) -> None:
        """Take up images rendered before."""
        run = self.studio.open(folder, self.operation)
        where = f"{run.folder}: its seeds"
        try:
            seeds = check_seeds(read_as(list[int], run.settings.get("seeds"), where))
        except UsageError as error:
            reason = str(error).removeprefix(f"{where} can't be read: ")
            raise UsageError(f"{where} can't be read: {reason}") from error
        self.run, self.liked, self._asked = run, None, seeds
        self.sit_at(folder)

    def start(self, text: str, seeds: str) -> None:
        """Render a prompt or an embedding file on seeds.

        Raises:
            UsageError: nothing to start from, or seeds at fault.
        """
        make_start, numbers = self.studio.start(self.person, text), read_seeds(seeds)

        def render(job: RenderJob) -> None:
            job.check()
            start = make_start()
            folder = self.atomic_folder(f"{start.lineage.prompt} seeds")
            settings = {"prompt": text.strip(), "seeds": numbers}
            run = Run.create(folder, self.operation, self.studio.generator.model, settings, asdict(self.studio.choice))
            start.save(run.path(RESULT))
            self.run, self.liked, self._asked = run, None, numbers
            self.sit_at(folder)
            for number in numbers:
                job.check()
                with torch.no_grad():
                    run.write_image(f"seed-{number}.png", self.studio.generator.render(start, [number])[0])
                self.changed()

        self.submit(render)

    def like(self, seed: int) -> None:
        """Take a liking to one of the seeds rendered."""
        if check_count("the seed", seed, 0, MAX_SEED) not in self.rendered:
            raise UsageError(f"expected one of the seeds rendered, got {seed}")
        self.liked = seed
        self.changed()

    @property
    def rendered(self) -> list[int]:
        """The seeds rendered so far."""
        if self.run is None:
            return []
        return [seed for seed in self._asked if self.file(f"seed-{seed}.png").is_file()]

    @property
    def embedding(self) -> Embedding:
        """What the images were rendered from; `UsageError` where there are none."""
        return Embedding.load(self.file(RESULT), self.studio.generator.model)


class ImprintSession(Session):
    """An imprint: unseen seeds before and after, when it is done.

    Attributes:
        run: the run folder; None where none is open.
        task: what was asked.
        trace: a row for each step since it was started or taken up.
    """

    operation: ClassVar[str] = "imprint"

    run: Run | None = None
    task: ImprintTask | None = None
    trace: tuple[dict[str, Any], ...] = ()

    def load(self, folder: Path) -> None:
        """Take up an imprint as it stands."""
        run = self.studio.open(folder, self.operation)
        self.task, self.run = ImprintTask.of(run), run
        self.trace = tuple(run.read_numbers(("step", "loss")))
        self.sit_at(folder)

    def start(self, seeds: SeedsSession, keep: str, iterations: int, unseen: int = 8) -> None:
        """Put what the seed that is liked shows into the embedding.

        Args:
            seeds: where the seed was rendered.
            keep: what of it, such as "the colour"; empty: all.
            iterations: steps.
            unseen: how many unseen seeds to show.

        Raises:
            UsageError: no seed is liked, or an unknown aspect.
        """
        liked = seeds.liked
        if liked is None:
            raise UsageError("expected a seed to imprint: render some and click the one you like")
        start = seeds.embedding
        text = start.lineage.prompt
        iterations = check_count("steps", iterations, 1, MAX_STEPS)
        task = ImprintTask(text, liked, check_text("what to keep", keep) or None, iterations=iterations, unseen=unseen)

        def begin(job: RenderJob) -> None:
            job.check()
            folder = self.atomic_folder(f"{text} seed {liked}")
            self.run, self.task = task.run_in(folder, self.studio.generator, asdict(self.studio.choice), start), task
            self.trace = ()
            self.sit_at(folder)
            self._put(job)

        self.submit(begin)

    def go_on(self) -> None:
        """Go on with the open run; `UsageError` where none is open."""
        if self.run is None:
            raise UsageError("expected an imprint: render seeds and click one, or open a run")
        self.submit(self._put)

    @property
    def result(self) -> Embedding:
        """The embedding found; `UsageError` where there is none yet."""
        return Embedding.load(self.file(RESULT), self.studio.generator.model)

    def _put(self, job: RenderJob) -> None:
        assert self.run is not None and self.task is not None  # both are set where a run is opened

        def step(row: Any) -> None:
            self.trace = (*self.trace[: row["step"] - 1], dict(row))
            self.changed()
            job.check()

        scorer = self.studio.load_scorer() if self.task.keep else None
        self.task.do(self.studio.generator, scorer, self.run, progress=step)
