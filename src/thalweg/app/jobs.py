"""One queue for all that renders: a job at a time, in order; a job that is stopped or fails leaves the others alone."""

import atexit
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from thalweg.app.messages import in_words
from thalweg.errors import ThalwegWarning, UsageError
from thalweg.notices import redirect_warnings

Status = Literal["waiting", "running", "done", "stopped", "failed"]
MAX_WAITING = 256
"""Jobs that may wait."""
CLOSE_WITHIN = 3.0
"""Seconds that a job which was asked to stop is given when the process ends."""
ACTIVE: tuple[Status, ...] = ("waiting", "running")


class Stopped(Exception):  # noqa: N818 (a person's wish, no error)
    """Raised in a job that was asked to stop, at its next `Job.check`."""


class RenderJob:
    """Something to do, once it is its turn.

    Attributes:
        status: where it stands.
        reason: why it failed, in one line.
        notes: warnings that came up on the way, one line each.
    """

    def __init__(
        self, work: "Callable[[RenderJob], None]", changed: Callable[[], None], workspace: Path | None = None
    ) -> None:
        self._work = work
        self._changed = changed
        self._workspace = workspace
        self._asked_to_stop = threading.Event()
        self.status: Status = "waiting"
        self.reason = ""
        self.notes: list[str] = []

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.status in ACTIVE

    def stop(self) -> None:
        """Ask it to stop when it next checks; what it does before its first check is done in any case."""
        self._asked_to_stop.set()

    def check(self) -> None:
        """Raise `Stopped` where it was asked to stop."""
        if self._asked_to_stop.is_set():
            raise Stopped

    def run(self) -> None:
        """Do it; whatever goes wrong is kept as its reason."""
        try:
            self._set("running")
            with redirect_warnings(self._note):
                self._work(self)
        except Stopped:
            self._set("stopped")
        except Exception as error:  # the app outlives any job
            self.reason = in_words(error, self._workspace)
            self._set("failed")
        else:
            self._set("done")

    def _note(self, warning: ThalwegWarning) -> None:
        if (text := " ".join(str(warning).split())) not in self.notes:
            self.notes.append(text)
            self._changed()

    def _set(self, status: Status) -> None:
        self.status = status
        self._changed()


class JobQueue:
    """Jobs in the order they came, one at a time, on a thread of its own."""

    def __init__(self) -> None:
        self._waiting: deque[RenderJob] = deque()
        self._some = threading.Condition()
        self._running: RenderJob | None = None
        self._closed = False
        # A daemon, so that the process can end while a job runs. Where it ends by itself, the job ends first: a thread
        # that is cut off within a library may take the process down with it.
        self._thread = threading.Thread(target=self._work, name="thalweg-jobs", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def submit(
        self, work: Callable[[RenderJob], None], changed: Callable[[], None], workspace: Path | None = None
    ) -> RenderJob:
        """Add a job.

        Args:
            work: what it does.
            changed: called whenever its status changes.
            workspace: the folder that names in its reason are relative to.

        Raises:
            UsageError: too many wait already.
        """
        job = RenderJob(work, changed, workspace)
        with self._some:
            if len(self._waiting) >= MAX_WAITING:
                raise UsageError(f"{MAX_WAITING} jobs wait already: wait until some are done")
            self._waiting.append(job)
            self._some.notify()
        return job

    def ahead(self, job: RenderJob) -> int:
        """How many jobs wait before this one."""
        with self._some:
            return next((place for place, other in enumerate(self._waiting) if other is job), 0)

    def check(self) -> None:
        """Raise `Stopped` where the job that runs was asked to stop; for what it calls and knows nothing of jobs."""
        if self._running is not None:
            self._running.check()

    def close(self, timeout: float = CLOSE_WITHIN) -> None:
        """Ask the job that runs to stop, begin no other, and wait for the thread's end for so many seconds at most."""
        with self._some:
            self._closed = True
            self._some.notify()
        if self._running is not None:
            self._running.stop()
        self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._some:
                self._some.wait_for(lambda: self._closed or bool(self._waiting))
                if self._closed:
                    return
                job = self._running = self._waiting.popleft()
            job.run()
            self._running = None
