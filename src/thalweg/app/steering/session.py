"""What one person does with one tool: a run folder, the job that fills it, and who watches."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar, cast

from thalweg.app.jobs import JobQueue, RenderJob
from thalweg.app.messages import in_words
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig
from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import Generator, InterruptibleGenerator
from thalweg.prompts import read_prompt
from thalweg.steer.metrics.scorer import Scorer
from thalweg.steer.runs import Run

_RENDERING = ("steps", "guidance", "scheduler")
WAIT = 10.0
"""Seconds after which a watcher looks again though nothing changed, so that a place in the queue stays true."""


@dataclass(frozen=True)
class Studio:
    """What all desks share: the model, its scorer, the queue and the workspace.

    The model and the scorer are used in jobs alone: one at a time, as their tokenizers ask.
    """

    workspace: Workspace
    jobs: JobQueue
    choice: ModelConfig
    generator: Generator
    load_scorer: Callable[[], Scorer]

    def __post_init__(self) -> None:
        """Let a job that is asked to stop end within one image."""
        if isinstance(self.generator, InterruptibleGenerator):
            object.__setattr__(self, "generator", self.generator.interruptible(self.jobs.check))

    def start(self, person: str, text: str) -> Callable[[], Embedding]:
        """Return what makes, in a job, the embedding that a prompt or the name of a file in the workspace stands for.

        Raises:
            UsageError: neither, or a file outside the workspace, in another person's run or of another model.
        """
        found = read_prompt(text, lambda name: self.workspace.readable(person, name))
        if isinstance(found, Path):
            embedding = Embedding.load(found, self.generator.model)
            return lambda: embedding
        return lambda: self.generator.embed(found)

    def open(self, folder: Path, operation: str) -> Run:
        """Open a run to go on with it.

        Raises:
            UsageError: another tool's or model's, or one that rendered otherwise than this app does.
        """
        run = Run.open(folder, operation, self.generator.model)
        for name in _RENDERING:
            here, there = getattr(self.choice, name), run.loading.get(name)
            if here != there:
                raise UsageError(
                    f"{folder.name}: the run was made with {name} {there}, this app renders with {name} {here}: "
                    "start the app as the run was, or go on with thalweg steer resume"
                )
        return run


class Session(ABC):
    """One tool's run of one person; subclasses say what can be done.

    Attributes:
        person: whose it is.
        folder: the run's folder; None where none is open.
        job: the last thing asked for.
        problem: why the last wish could not be followed, in a line.
    """

    operation: ClassVar[str]

    def __init__(self, studio: Studio, person: str) -> None:
        self.studio = studio
        self.person = person
        self.folder: Path | None = None
        self.job: RenderJob | None = None
        self.problem = ""
        self._version = 0
        self._changes = threading.Condition()
        name = studio.workspace.open_runs(person).get(self.operation)
        if name is not None:
            self.attempt(lambda: self.open(name))

    def open(self, name: str) -> None:
        """Open a run of the workspace.

        Raises:
            UsageError: there is none of that name for this person, or none of this tool and model.
        """
        folder = self.studio.workspace.run(self.person, name)
        self.stop()
        self.load(folder)

    def attempt(self, wish: Callable[[], object]) -> None:
        """Follow a wish; what is wrong with it is told as the desk's problem."""
        try:
            wish()
        except Exception as error:  # the session outlives any wish
            if not isinstance(error, ThalwegError):
                logging.getLogger(__name__).exception("could not follow a wish")
            self.problem = self.in_words(error)
            self.changed()

    def in_words(self, error: BaseException) -> str:
        """Return an error's message as the browser may see it."""
        return in_words(error, self.studio.workspace.folder)

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Take up the run in `folder`, and sit at it.

        Raises:
            UsageError: it is no run of this tool and this model.
        """

    def stop(self) -> None:
        """Ask what is under way to stop."""
        if self.job is not None:
            self.job.stop()

    def watch(self) -> Iterator[None]:
        """Yield now and after each change, until nothing is under way."""
        seen = -1
        while True:
            with self._changes:
                self._changes.wait_for(lambda: self._version != seen, timeout=WAIT)  # noqa: B023 (waited for here)
                seen = self._version
            at_rest = self.job is None or not self.job.active  # asked before the last look, not after it
            yield
            if at_rest:
                return

    def changed(self) -> None:
        """Tell those who watch."""
        with self._changes:
            self._version += 1
            self._changes.notify_all()

    @property
    def status(self) -> str:
        """What goes on, in words."""
        if self.problem:
            return self.problem
        if self.job is None:
            return ""
        if self.job.status == "waiting":
            return f"Waiting: {self.studio.jobs.ahead(self.job) + 1} before you."
        words = {"running": "Rendering ...", "failed": self.job.reason, "stopped": "Stopped.", "done": ""}
        notes = [note[0].upper() + note[1:] + "." for note in self.job.notes]
        return " ".join(filter(None, [words[self.job.status], *notes]))

    def submit(self, work: Callable[[RenderJob], None]) -> None:
        """Do `work` when it is its turn; what was under way stops."""
        self.stop()
        self.problem = ""
        self.job = self.studio.jobs.submit(work, self.changed, self.studio.workspace.folder)
        self.changed()

    def file(self, name: str) -> Path:
        """Where a file of the open run lies; `UsageError` where no run is open."""
        if self.folder is None:
            raise UsageError(f"expected an open run of {self.operation}: start one, or open one")
        return self.folder / name

    def export(self, embedding: Embedding, name: str) -> Path:
        """Save an embedding in the workspace, for the command line and the other tools.

        Raises:
            UsageError: no name for a file, or one that is taken.
        """
        return embedding.save(self.studio.workspace.writable(name))

    def atomic_folder(self, title: str) -> Path:
        """Return a folder for a run, which is not there yet."""
        return self.studio.workspace.new_run(self.person, title)

    def sit_at(self, folder: Path) -> None:
        """Make a run the one that is open, now and when the person comes back."""
        self.studio.workspace.claim(self.person, folder)
        self.folder = folder
        self.problem = ""
        self.studio.workspace.remember(self.person, self.operation, folder.name)
        self.changed()


AnyDesk = TypeVar("AnyDesk", bound=Session)


class Sessions:
    """The desks of all people, made when first asked for; idle ones are given up when many, their runs stay."""

    most = 64

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._lock = threading.Lock()
        self._desks: dict[tuple[str, type[Session]], Session] = {}

    def of(self, person: str, kind: type[AnyDesk]) -> AnyDesk:
        """Return a person's desk for one tool."""
        with self._lock:
            desk = self._desks.pop((person, kind), None) or kind(self.studio, person)
            self._desks[person, kind] = desk  # the last used comes last
            idle = [key for key, other in self._desks.items() if other.job is None or not other.job.active]
            for key in idle[: max(0, len(self._desks) - self.most)]:
                del self._desks[key]
        return cast(AnyDesk, desk)
