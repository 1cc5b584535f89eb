"""What a tool is asked, as a value: kept in its run folder, so that whoever opens the run can go on with it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import Generator, read_embedding
from thalweg.io.image_files import read_mask
from thalweg.io.json_files import read_as
from thalweg.limits import MAX_RADIUS, MAX_SEEDS, MAX_STEPS, MIN_RADIUS, check_count, check_number, check_text
from thalweg.seeds import check_seeds
from thalweg.steer.imprinting import imprint
from thalweg.steer.imprinting.aspects import vocabulary
from thalweg.steer.imprinting.stochastic_descent import DescentConfig
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.metrics.parsing import parse
from thalweg.steer.metrics.scorer import Scorer
from thalweg.steer.optimization import optimize
from thalweg.steer.runs import Run

START = "start.safetensors"
MASK = "mask.png"
IMAGES_AT_ONCE = 8
"""Images that an optimisation renders at once; of more seeds, parts are rendered again for their gradient."""
LoadScorer = Callable[[], Scorer]


@dataclass(frozen=True)
class Task:
    """What all tasks share.

    Attributes:
        prompt: a prompt, or the name of an embedding file, which is copied into the run.
    """

    operation: ClassVar[str]

    prompt: str

    def __post_init__(self) -> None:
        """Refuse what can't be done before anything is written."""
        check_text("the prompt", self.prompt)

    @classmethod
    def of(cls, run: Run) -> Self:
        """Read the task of a run.

        Raises:
            UsageError: its settings are not those of such a task.
        """
        known = {field.name for field in fields(cls)}
        if run.settings.keys() != known:
            raise UsageError(f"{run.folder}: its settings are not those of {cls.operation}; begin a new run")
        return read_as(cls, run.settings, f"{run.folder}: its settings")

    def run_in(
        self,
        folder: Path,
        generator: Generator,
        loading: Mapping[str, Any] | None = None,
        start: Embedding | None = None,
    ) -> Run:
        """Begin the task's run in a folder, or open the one that was asked the same there.

        Raises:
            UsageError: something else lies there, or `prompt` names no embedding of the model.
        """
        if start is None:
            start = read_embedding(self.prompt, generator)
        run = Run.resume_or_create(folder, self.operation, generator.model, asdict(self), loading)
        if not (run.folder / START).is_file():
            start.save(run.path(START))
        return run


def start_of(run: Run, generator: Generator) -> Embedding:
    """Return the embedding that a task's run starts from."""
    return Embedding.load(run.folder / START, generator.model)


@dataclass(frozen=True)
class OptimizeTask(Task):
    """Tool 1 with what it was asked; see `optimize.optimize`.

    Attributes:
        metric: as `metrics.parse` reads it.
        keep: a metric that must stay.
        seeds: the images that count.
        unseen: seeds to judge the result on.
        iterations: places measured after the start; None: the tool's default.
        radius: largest drift; None: the tool's default.
        search: "gradient" or "cma-es".
        recipe: "thalweg" or "paper".
    """

    operation: ClassVar[str] = "optimize"

    metric: str
    keep: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    unseen: tuple[int, ...] = tuple(range(100, 108))
    iterations: int | None = None
    radius: float | None = None
    search: optimize.Method = "gradient"
    recipe: optimize.Recipe = "thalweg"

    def __post_init__(self) -> None:
        """Refuse what can't be done before anything is written."""
        super().__post_init__()
        check_text("the metric", self.metric)
        check_text("what must stay", self.keep or "")
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        object.__setattr__(self, "unseen", check_seeds(self.unseen) if self.unseen else ())
        _check_bounds(self)

    @property
    def steps(self) -> int:
        """How many places will be measured after the start at most."""
        return optimize.STEPS if self.iterations is None else self.iterations

    def aims(self, load_scorer: LoadScorer, read_files: bool = True) -> tuple[Metric, Metric | None]:
        """Return the metric, and the one to be kept if any.

        Raises:
            UsageError: as `metrics.parse`.
        """
        keep = parse(self.keep, load_scorer, read_files) if self.keep else None
        return parse(self.metric, load_scorer, read_files), keep

    def do(
        self,
        generator: Generator,
        aims: tuple[Metric, Metric | None],
        run: Run,
        progress: Callable[[optimize.Step, Tensor], None] | None = None,
    ) -> optimize.OptimizeResult:
        """Do the task in its run, or go on with it."""
        asked: dict[str, Any] = {} if self.radius is None else {"radius": self.radius}
        return optimize.optimize(
            generator,
            start_of(run, generator),
            aims[0],
            self.seeds,
            keep=aims[1],
            unseen_seeds=self.unseen,
            steps=self.steps,
            method=self.search,
            recipe=self.recipe,
            batch=IMAGES_AT_ONCE,
            run=run,
            progress=progress,
            **asked,
        )


@dataclass(frozen=True)
class ImprintTask(Task):
    """Tool 3 with what it was asked; see `imprint.imprint`.

    Attributes:
        seed: the seed that shows what is wanted.
        keep: what of it; None: all.
        mode: "image", "token" or "paper".
        unseen: how many unseen seeds to report on.
        iterations: steps; None: the mode's default.
        radius: of the trust region; None: the mode's default.
        mask_hash: SHA-256 of the image file that says where the target is copied, hexadecimal; None: no such mask.
    """

    operation: ClassVar[str] = "imprint"

    seed: int
    keep: str | None = None
    mode: imprint.Mode = "image"
    unseen: int = 16
    iterations: int | None = None
    radius: float | None = None
    mask_hash: str | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be done before anything is written."""
        super().__post_init__()
        object.__setattr__(self, "seed", *check_seeds([self.seed]))
        unseen = check_count("the number of unseen seeds", self.unseen, 1, MAX_SEEDS)
        object.__setattr__(self, "unseen", unseen)
        _check_bounds(self)
        if self.keep:
            vocabulary(self.keep)
        if self.mode not in imprint.DEFAULTS:
            raise UsageError(f"expected a mode out of {', '.join(imprint.DEFAULTS)}, got {self.mode}")

    @property
    def settings(self) -> DescentConfig:
        """The mode's settings with those asked for in their place."""
        asked: dict[str, Any] = {"steps": self.iterations, "radius": self.radius}
        given = {name: value for name, value in asked.items() if value is not None}
        return replace(imprint.DEFAULTS[self.mode], **given)

    def do(
        self,
        generator: Generator,
        scorer: Scorer | None,
        run: Run,
        progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> imprint.ImprintResult:
        """Do the task in its run, or resume it.

        Raises:
            UsageError: the run's mask is missing or is not the one that was asked for.
        """
        return imprint.imprint(
            generator,
            start_of(run, generator),
            self.seed,
            mode=self.mode,
            keep=self.keep,
            mask=self._mask(run),
            scorer=scorer,
            unseen=self.unseen,
            settings=self.settings,
            run=run,
            progress=progress,
        )

    def _mask(self, run: Run) -> Tensor | None:
        """Return the mask that the run keeps; None where none was asked for."""
        if self.mask_hash is None:
            return None
        file = run.folder / MASK
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != self.mask_hash:
            raise UsageError(
                f"{run.folder}: its {MASK} is missing or was changed; repeat the command that began the run"
            )
        return read_mask(file)


def _check_bounds(task: "OptimizeTask | ImprintTask") -> None:
    if task.iterations is not None:
        object.__setattr__(task, "iterations", check_count("steps", task.iterations, 1, MAX_STEPS))
    if task.radius is not None:
        object.__setattr__(task, "radius", check_number("the radius", task.radius, MIN_RADIUS, MAX_RADIUS))
