"""Sessions of the imprint tool: images of a prompt on several seeds, then an imprint of one of them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from thalweg.app.jobs import RenderJob
from thalweg.app.steering.session import Session
from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import render_points
from thalweg.io.json_files import read_as
from thalweg.limits import MAX_SEED, MAX_STEPS, check_count, check_text
from thalweg.seeds import check_seeds, read_seeds
from thalweg.steer.imprinting.imprint import imprint
from thalweg.steer.imprinting.imprint_config import ImprintConfig
from thalweg.steer.runs import Run
from thalweg.steer.tool_config import start_of

RESULT = "embedding.safetensors"


class SeedsSession(Session):
    """Images of a prompt on several seeds, of which the user selects one.

    Attributes:
        run: run of `generate`, as the command line writes it; None where none is open.
        selected: seed that was clicked last; None where none was.
    """

    operation: ClassVar[str] = "generate"

    run: Run | None = None
    selected: int | None = None
    _seeds: tuple[int, ...] = ()

    def load(self, folder: Path) -> None:
        """Open a run of images."""
        run = self.context.open_run(folder, self.operation)
        where = f"{run.folder}: its seeds"
        try:
            seeds = check_seeds(read_as(list[int], run.settings.get("seeds"), where))
        except UsageError as error:
            reason = str(error).removeprefix(f"{where} can't be read: ")
            raise UsageError(f"{where} can't be read: {reason}") from error
        self.run, self.selected, self._seeds = run, None, seeds
        self.attach(folder)

    def start(self, text: str, seeds: str) -> None:
        """Render a prompt or an embedding file on seeds.

        Raises:
            UsageError: no prompt and no embedding file, or invalid seeds.
        """
        get_start, numbers = self.context.read_start(self.user, text), read_seeds(seeds)

        def render(job: RenderJob) -> None:
            job.check()
            start = get_start()
            folder = self.new_run_folder(f"{start.lineage.prompt} seeds")
            settings = {"prompt": text.strip(), "seeds": numbers}
            run = Run.create(
                folder, self.operation, self.context.generator.model, settings, asdict(self.context.model_config)
            )
            start.save(run.path(RESULT))
            self.run, self.selected, self._seeds = run, None, numbers
            self.attach(folder)
            points = [(start, [number]) for number in numbers]
            for number, image in zip(numbers, render_points(self.context.generator, points), strict=True):
                job.check()
                run.write_image(f"seed-{number}.png", image[0])
                self.changed()

        self.submit(render)

    def select(self, seed: int) -> None:
        """Select one of the rendered seeds.

        Raises:
            UsageError: the seed is not rendered.
        """
        if check_count("the seed", seed, 0, MAX_SEED) not in self.rendered:
            raise UsageError(f"expected one of the rendered seeds, got {seed}")
        self.selected = seed
        self.changed()

    @property
    def rendered(self) -> list[int]:
        """Seeds rendered so far."""
        if self.run is None:
            return []
        return [seed for seed in self._seeds if self.file(f"seed-{seed}.png").is_file()]

    @property
    def embedding(self) -> Embedding:
        """Embedding of the images.

        Raises:
            UsageError: no run is open.
        """
        return Embedding.load(self.file(RESULT), self.context.generator.model)


class ImprintSession(Session):
    """Imprint of the selected seed, with unseen seeds before and after it.

    Attributes:
        run: the open run; None where none is open.
        config: the run's configuration; None where none is open.
        trace: one row per step.
    """

    operation: ClassVar[str] = "imprint"

    run: Run | None = None
    config: ImprintConfig | None = None
    trace: tuple[dict[str, Any], ...] = ()

    def load(self, folder: Path) -> None:
        """Open the run of an imprint."""
        run = self.context.open_run(folder, self.operation)
        self.config, self.run = ImprintConfig.read(run), run
        self.trace = tuple(run.read_numbers(("step", "loss")))
        self.attach(folder)

    def start(self, seeds: SeedsSession, keep: str, iterations: int, unseen: int = 8) -> None:
        """Imprint the selected seed's image on the embedding.

        Args:
            seeds: session in which the seed is selected.
            keep: aspect of the image, such as "the colour"; empty: the whole image.
            iterations: number of steps.
            unseen: number of unseen seeds to show.

        Raises:
            UsageError: no seed is selected, or an unknown aspect.
        """
        seed = seeds.selected
        if seed is None:
            raise UsageError("expected a seed to imprint: render some and click one")
        start = seeds.embedding
        text = start.lineage.prompt
        iterations = check_count("steps", iterations, 1, MAX_STEPS)
        keep = check_text("the aspect", keep)
        config = ImprintConfig(seed, prompt=text, keep=keep or None, iterations=iterations, unseen=unseen)

        def begin(job: RenderJob) -> None:
            job.check()
            folder = self.new_run_folder(f"{text} seed {seed}")
            self.run = config.begin_run(folder, self.context.generator, asdict(self.context.model_config), start)
            self.config = config
            self.trace = ()
            self.attach(folder)
            self._imprint(job)

        self.submit(begin)

    def resume(self) -> None:
        """Resume the open run.

        Raises:
            UsageError: no run is open.
        """
        if self.run is None:
            raise UsageError("expected an imprint: render seeds and click one, or open a run")
        self.submit(self._imprint)

    @property
    def result(self) -> Embedding:
        """Embedding of the imprint.

        Raises:
            UsageError: there is none yet.
        """
        return Embedding.load(self.file(RESULT), self.context.generator.model)

    def _imprint(self, job: RenderJob) -> None:
        assert self.run is not None and self.config is not None  # set where a run is opened

        def step(row: Any) -> None:
            self.trace = (*self.trace[: row["step"] - 1], dict(row))
            self.changed()
            job.check()

        run, generator = self.run, self.context.generator
        scorer = self.context.load_scorer() if self.config.keep else None
        imprint(generator, start_of(run, generator), self.config, scorer=scorer, run=run, progress=step)
