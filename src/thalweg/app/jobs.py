"""Queue of rendering jobs, run one at a time and in order; a stopped or failed job does not affect the others."""

import atexit
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from thalweg.app.security.messages import browser_message
from thalweg.errors import ThalwegWarning, UsageError
from thalweg.notices import redirect_warnings

Status = Literal["waiting", "running", "done", "stopped", "failed"]
MAX_WAITING = 256
"""Largest number of waiting jobs."""
CLOSE_WITHIN = 3.0
"""Seconds that a stopped job has to end when the process ends."""
ACTIVE: tuple[Status, ...] = ("waiting", "running")


class Stopped(Exception):  # noqa: N818 (requested by the user, no error)
    """Raised in a stopped job at its next `RenderJob.check`."""


class RenderJob:
    """Work in the queue.

    Attributes:
        status: state of the job.
        reason: reason of the failure, one line.
        notes: warnings of the work, one line each.
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
        """True while the job waits or runs."""
        return self.status in ACTIVE

    def stop(self) -> None:
        """Ask the job to stop at its next check."""
        self._asked_to_stop.set()

    def check(self) -> None:
        """Raise `Stopped` where the job was asked to stop."""
        if self._asked_to_stop.is_set():
            raise Stopped

    def run(self) -> None:
        """Do the work; an exception becomes the job's reason."""
        try:
            self._set("running")
            with redirect_warnings(self._note):
                self._work(self)
        except Stopped:
            self._set("stopped")
        except Exception as error:  # the app outlives any job
            self.reason = browser_message(error, self._workspace)
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
    """Queue that runs its jobs in order, one at a time, on its own thread."""

    def __init__(self) -> None:
        self._waiting: deque[RenderJob] = deque()
        self._changed = threading.Condition()
        self._running: RenderJob | None = None
        self._closed = False
        # A daemon thread, so that the process can end while a job runs. At a normal end the job is stopped first: a
        # thread that is cut off within a library may crash the process.
        self._thread = threading.Thread(target=self._work, name="thalweg-jobs", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def submit(
        self, work: Callable[[RenderJob], None], changed: Callable[[], None], workspace: Path | None = None
    ) -> RenderJob:
        """Add a job.

        Args:
            work: function that does the work; it calls `RenderJob.check` often.
            changed: called whenever the status changes.
            workspace: folder to which paths in the reason are relative.

        Raises:
            UsageError: too many jobs are waiting.
        """
        job = RenderJob(work, changed, workspace)
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise UsageError(f"{MAX_WAITING} jobs are waiting already: wait until some are done")
            self._waiting.append(job)
            self._changed.notify()
        return job

    def ahead(self, job: RenderJob) -> int:
        """Return the number of jobs that wait before this one."""
        with self._changed:
            return next((index for index, other in enumerate(self._waiting) if other is job), 0)

    def check(self) -> None:
        """Raise `Stopped` where the running job was asked to stop; for code that has no reference to its job."""
        if self._running is not None:
            self._running.check()

    def close(self, timeout: float = CLOSE_WITHIN) -> None:
        """Stop the running job, start no other, and wait at most `timeout` seconds for the end of the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._running is not None:
            self._running.stop()
        self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._waiting))
                if self._closed:
                    return
                job = self._running = self._waiting.popleft()
            job.run()
            self._running = None
