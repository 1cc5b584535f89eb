import threading

import pytest

from thalweg.app.jobs import MAX_WAITING, JobQueue, RenderJob
from thalweg.errors import UnknownWords, UsageError
from thalweg.notices import warn
from waiting import HANG_SECONDS


@pytest.fixture
def queue() -> JobQueue:
    return JobQueue()


def finish(queue: JobQueue, work: object) -> RenderJob:
    done = threading.Event()
    job = queue.submit(work, lambda: None)  # type: ignore[arg-type]
    queue.submit(lambda _: done.set(), lambda: None)
    assert done.wait(HANG_SECONDS)
    return job


def test_jobs_run_in_order_and_notify_of_changes(queue: JobQueue) -> None:
    gate, order, changes = threading.Event(), [], []
    queue.submit(lambda _: gate.wait(HANG_SECONDS), lambda: None)
    first = queue.submit(lambda _: order.append(1), lambda: changes.append(first.status))
    second = queue.submit(lambda _: order.append(2), lambda: None)
    assert first.status == second.status == "waiting"
    assert queue.ahead(second) - queue.ahead(first) == 1
    gate.set()
    finish(queue, lambda _: None)
    assert (order, changes) == ([1, 2], ["running", "done"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UsageError("expected\n a thing"), "expected a thing"),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (MemoryError(), "MemoryError:"),
        (OSError("full: '/srv/work/x.png'"), "OSError: full: 'x.png'"),
    ],
)
def test_a_job_that_fails_keeps_one_line_and_the_next_one_runs(queue: JobQueue, error: Exception, reason: str) -> None:
    def fail(_: RenderJob) -> None:
        raise error

    job = finish(queue, fail)
    assert (job.status, job.reason) == ("failed", reason)
    assert finish(queue, lambda _: None).status == "done"


def test_a_job_stops_where_it_checks(queue: JobQueue) -> None:
    started, steps = threading.Event(), []

    def count(job: RenderJob) -> None:
        started.set()
        for step in range(10_000_000):
            job.check()
            steps.append(step)

    job = queue.submit(count, lambda: None)
    assert started.wait(HANG_SECONDS)
    job.stop()
    finish(queue, lambda _: None)
    assert job.status == "stopped"
    assert len(steps) < 10_000_000


def test_code_without_a_job_stops_with_the_running_job(queue: JobQueue) -> None:
    started = threading.Event()

    def render(_: RenderJob) -> None:
        started.set()
        for _ in range(10_000_000):
            queue.check()

    queue.check()  # no job runs
    job = queue.submit(render, lambda: None)
    assert started.wait(HANG_SECONDS)
    job.stop()
    assert finish(queue, lambda _: queue.check()).status == "done"
    assert job.status == "stopped"


def test_a_queue_that_is_closed_ends_its_job_and_its_thread(queue: JobQueue) -> None:
    started, begun = threading.Event(), []

    def render(_: RenderJob) -> None:
        started.set()
        for _ in range(10_000_000):
            queue.check()

    job = queue.submit(render, lambda: None)
    queue.submit(lambda _: begun.append(1), lambda: None)
    assert started.wait(HANG_SECONDS)
    queue.close(HANG_SECONDS)
    assert job.status == "stopped"
    assert not begun
    assert not any(thread.name == "thalweg-jobs" and thread is queue._thread for thread in threading.enumerate())


def test_a_job_keeps_its_warnings(queue: JobQueue) -> None:
    changes = []

    def work(_: RenderJob) -> None:
        for _ in range(2):
            warn(UnknownWords("the miniature does not know: dragon"), stacklevel=1)

    job = queue.submit(work, lambda: changes.append(list(job.notes)))
    finish(queue, lambda _: None)
    assert job.notes == ["the miniature does not know: dragon"]
    assert changes == [[], job.notes, job.notes]
    assert finish(queue, lambda _: None).notes == []


def test_a_full_queue_takes_no_more(queue: JobQueue) -> None:
    gate = threading.Event()
    try:
        with pytest.raises(UsageError, match=f"{MAX_WAITING} jobs are waiting already"):
            for _ in range(MAX_WAITING + 2):
                queue.submit(lambda _: gate.wait(HANG_SECONDS), lambda: None)
    finally:
        gate.set()
    queue.close(HANG_SECONDS)
