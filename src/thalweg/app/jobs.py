"""One queue for all that renders: a job at a time, in order; a job that is stopped or fails leaves the others alone."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from thalweg.errors import ThalwegError

Status = Literal["waiting", "running", "done", "stopped", "failed"]
ACTIVE: tuple[Status, ...] = ("waiting", "running")


class Stopped(Exception):  # noqa: N818 (a person's wish, no error)
    """Raised in a job that was asked to stop, at its next `Job.check`."""


class Job:
    """Something to do, once it is its turn.

    Attributes:
        status: where it stands.
        reason: why it failed, in one line.
    """

    def __init__(self, work: "Callable[[Job], None]", changed: Callable[[], None]) -> None:
        self._work = work
        self._changed = changed
        self._asked_to_stop = threading.Event()
        self.status: Status = "waiting"
        self.reason = ""

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
            self._work(self)
        except Stopped:
            self._set("stopped")
        except Exception as error:  # the app outlives any job
            message = " ".join(str(error).split())
            self.reason = message if isinstance(error, ThalwegError) else f"{type(error).__name__}: {message}"
            self._set("failed")
        else:
            self._set("done")

    def _set(self, status: Status) -> None:
        self.status = status
        self._changed()


class JobQueue:
    """Jobs in the order they came, one at a time, on a thread of its own."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._some = threading.Condition()
        threading.Thread(target=self._work, name="thalweg-jobs", daemon=True).start()

    def submit(self, work: Callable[[Job], None], changed: Callable[[], None]) -> Job:
        """Add a job; `changed` is called whenever its status changes."""
        job = Job(work, changed)
        with self._some:
            self._waiting.append(job)
            self._some.notify()
        return job

    def ahead(self, job: Job) -> int:
        """How many jobs wait before this one."""
        with self._some:
            return next((place for place, other in enumerate(self._waiting) if other is job), 0)

    def _work(self) -> None:
        while True:
            with self._some:
                self._some.wait_for(lambda: bool(self._waiting))
                job = self._waiting.popleft()
            job.run()
