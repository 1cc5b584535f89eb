"""Session: one user's work with one tool, that is its run folder, the job that fills it, and notice of changes."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar, cast

from thalweg.app.jobs import JobQueue, RenderJob
from thalweg.app.security.messages import browser_message
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig
from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import Generator, InterruptibleGenerator
from thalweg.prompts import read_prompt
from thalweg.steer.metrics.scorer import Scorer
from thalweg.steer.runs import Run

MAX_SESSIONS = 64
"""Sessions that are kept in memory, unless more are active."""
REFRESH_EVERY = 10.0
"""Seconds after which a view is drawn again without a change, so that its place in the queue is current."""
_RENDERING = (
    *("steps", "guidance", "scheduler", "guidance_rescale", "width", "height", "clip_skip", "negative"),
    *("prompt_syntax", "long_prompts", "image", "strength", "image_mask", "image_hash", "true_cfg_scale"),
)


@dataclass(frozen=True)
class SteeringContext:
    """Model, scorer, queue and workspace, which all sessions share.

    Only jobs use the model and the scorer, one job at a time, since their tokenizers are not thread-safe.

    Attributes:
        workspace: folder of runs and embedding files.
        jobs: queue of the jobs.
        model_config: config that the model was loaded with.
        generator: the model.
        load_scorer: function that returns the scorer of image-text metrics.
    """

    workspace: Workspace
    jobs: JobQueue
    model_config: ModelConfig
    generator: Generator
    load_scorer: Callable[[], Scorer]

    def __post_init__(self) -> None:
        """Make the model interruptible, so that a job which is asked to stop ends within one image."""
        if isinstance(self.generator, InterruptibleGenerator):
            object.__setattr__(self, "generator", self.generator.interruptible(self.jobs.check))

    def read_start(self, user: str, text: str) -> Callable[[], Embedding]:
        """Return a function for a job that returns the embedding of a prompt, or in a file of the workspace.

        Raises:
            UsageError: neither a prompt nor a file, or a file outside the workspace, in another user's run or of
                another model.
        """
        found = read_prompt(text, lambda name: self.workspace.readable(user, name))
        if isinstance(found, Path):
            embedding = Embedding.load(found, self.generator.model)
            return lambda: embedding
        return lambda: self.generator.embed(found)

    def open_run(self, folder: Path, operation: str) -> Run:
        """Open a run to resume it.

        Raises:
            UsageError: a run of another tool or model, or one with other sampling settings than this app.
        """
        run = Run.open(folder, operation, self.generator.model)
        for name in _RENDERING:
            here, there = getattr(self.model_config, name), run.loading.get(name)
            if here != there:
                raise UsageError(
                    f"{folder.name}: the run was made with {name} {there}, this app renders with {name} {here}: "
                    "start the app with the run's settings, or resume it with thalweg steer resume"
                )
        return run


class Session(ABC):
    """One user's work with one tool; subclasses define its actions.

    Attributes:
        user: secret of the user's browser.
        folder: the run's folder; None where none is open.
        job: the last job; None before the first.
        problem: message about the last action, where it failed.
    """

    operation: ClassVar[str]

    def __init__(self, context: SteeringContext, user: str) -> None:
        self.context = context
        self.user = user
        self.folder: Path | None = None
        self.job: RenderJob | None = None
        self.problem = ""
        self._version = 0
        self._changes = threading.Condition()
        name = context.workspace.open_runs(user).get(self.operation)
        if name is not None:
            self.attempt(lambda: self.open(name))

    def open(self, name: str) -> None:
        """Open a run of the workspace.

        Raises:
            UsageError: the user has no run of that name, or it belongs to another tool or model.
        """
        folder = self.context.workspace.run(self.user, name)
        self.stop()
        self.load(folder)

    def attempt(self, action: Callable[[], object]) -> None:
        """Run an action; an error becomes the session's problem."""
        try:
            action()
        except Exception as error:  # the session outlives any action
            if not isinstance(error, ThalwegError):
                logging.getLogger(__name__).exception("an action failed")
            self.problem = self.browser_message(error)
            self.changed()

    def browser_message(self, error: BaseException) -> str:
        """Return the message of an error for the browser."""
        return browser_message(error, self.context.workspace.folder)

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Open the run in `folder`, and attach the session to it.

        Raises:
            UsageError: it is no run of this tool and this model.
        """

    def stop(self) -> None:
        """Ask the current job to stop."""
        if self.job is not None:
            self.job.stop()

    def watch(self) -> Iterator[None]:
        """Yield now and after each change, until no job is active."""
        seen = -1
        while True:
            with self._changes:
                self._changes.wait_for(lambda: self._version != seen, timeout=REFRESH_EVERY)  # noqa: B023 (called now)
                seen = self._version
            is_idle = self.job is None or not self.job.active  # read before the last yield, not after it
            yield
            if is_idle:
                return

    def changed(self) -> None:
        """Notify watchers of a change."""
        with self._changes:
            self._version += 1
            self._changes.notify_all()

    @property
    def status(self) -> str:
        """State of the session as a sentence; empty where it is idle without a problem."""
        if self.problem:
            return self.problem
        if self.job is None:
            return ""
        if self.job.status == "waiting":
            return f"Waiting: {self.context.jobs.ahead(self.job) + 1} before you."
        texts = {"running": "Rendering ...", "failed": self.job.reason, "stopped": "Stopped.", "done": ""}
        notes = [note[0].upper() + note[1:] + "." for note in self.job.notes]
        return " ".join(filter(None, [texts[self.job.status], *notes]))

    def submit(self, work: Callable[[RenderJob], None]) -> None:
        """Add `work` to the queue and stop the current job.

        Raises:
            UsageError: too many jobs are waiting.
        """
        self.stop()
        self.problem = ""
        self.job = self.context.jobs.submit(work, self.changed, self.context.workspace.folder)
        self.changed()

    def file(self, name: str) -> Path:
        """Return the path of a file of the open run.

        Raises:
            UsageError: no run is open.
        """
        if self.folder is None:
            raise UsageError(f"expected an open run of {self.operation}: start one, or open one")
        return self.folder / name

    def export(self, embedding: Embedding, name: str) -> Path:
        """Save an embedding in the workspace, for the command line and the other tools.

        Raises:
            UsageError: an invalid file name, or one that exists already.
        """
        return embedding.save(self.context.workspace.writable(name))

    def new_run_folder(self, title: str) -> Path:
        """Return the path of a new run's folder, which does not exist yet."""
        return self.context.workspace.new_run(self.user, title)

    def attach(self, folder: Path) -> None:
        """Make a run the session's open run, now and when the user returns."""
        self.context.workspace.claim(self.user, folder)
        self.folder = folder
        self.problem = ""
        self.context.workspace.remember(self.user, self.operation, folder.name)
        self.changed()


AnySession = TypeVar("AnySession", bound=Session)


class Sessions:
    """Sessions of all users, created at first use; where there are many, idle ones are dropped and their runs stay."""

    def __init__(self, context: SteeringContext) -> None:
        self.context = context
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, type[Session]], Session] = {}

    def of(self, user: str, session_type: type[AnySession]) -> AnySession:
        """Return a user's session for one tool."""
        key: tuple[str, type[Session]] = (user, session_type)
        with self._lock:
            session = self._sessions.pop(key, None) or session_type(self.context, user)
            self._sessions[key] = session  # the last used comes last
            idle = [key for key, other in self._sessions.items() if other.job is None or not other.job.active]
            for idle_key in idle[: max(0, len(self._sessions) - MAX_SESSIONS)]:
                del self._sessions[idle_key]
        return cast(AnySession, session)
