"""Executors that embed blocks in several processes or machines with dask; each task writes the shards of its block.

A worker gets the job once, when it joins, so that a worker that died is replaced and its blocks are computed again. A
cube that was opened from files is sent as their paths, a cube in memory by value. Every process computes with one
thread (`thalweg.threads.one_thread`).
"""

import logging
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import Executor, Outcome, finish_block
from thalweg.errors import ThalwegError, UsageError, one_line

if TYPE_CHECKING:
    from distributed import Client, Worker

MIN_PIXEL_DATES = 3_000_000
"""Smallest number of pixel-dates for which a local cluster starts by default: about two minutes on one core."""

PREFETCH = 3
"""Number of submitted blocks per worker: enough to keep it busy, few enough for the scheduler at any job size."""

CONNECT_TIMEOUT = "10s"
"""Longest wait for a scheduler to answer."""

POLL_SECONDS = 0.05
"""Pause between two checks whether cancelled blocks have ended."""

_PLUGIN = "thalweg-job"


def default_workers(job: Job) -> int:
    """Return the default number of processes: one per core from `MIN_PIXEL_DATES` pixel-dates on, one below."""
    from dask import system

    return system.CPU_COUNT if job.pixel_dates() >= MIN_PIXEL_DATES else 1


@contextmanager
def local_workers(count: int) -> Iterator[Executor]:
    """Yield an executor with `count` processes on this machine, one thread each, which end with the block."""
    from dask import config
    from distributed import Client, LocalCluster

    settings = {"distributed.worker.daemon": True, "distributed.scheduler.allowed-failures": 3}
    with (
        config.set(settings),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # the memory plan keeps the budget; a worker stopped within a block would start it again
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield lambda job, folder, indices: _outcomes(client, job, folder, indices)


@contextmanager
def scheduler_workers(address: str) -> Iterator[Executor]:
    """Yield an executor with the workers of a running dask scheduler.

    The workers must reach the cube and the store under the same paths as this process.

    Args:
        address: address of the scheduler, such as tcp://host:8786.

    Raises:
        UsageError: no scheduler answers at the address, or it has no workers.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"scheduler {address}: not reachable: expected the address of a running one, such as tcp://host:8786"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise UsageError(f"scheduler {address}: has no workers: start some with `dask worker {address}`")
        yield lambda job, folder, indices: _outcomes(client, job, folder, indices)


def _outcomes(client: "Client", job: Job, folder: Path, indices: Sequence[int]) -> Generator[Outcome, None, None]:
    """Submit a few blocks at a time and yield their outcomes as they end."""
    from distributed import as_completed
    from distributed.client import FutureCancelledError

    client.register_plugin(_job_plugin(job), name=_PLUGIN)
    waiting = iter(indices)
    running: dict[Any, int] = {}

    def submit(count: int) -> list[Any]:
        some = list(islice(waiting, count))
        futures = client.map(_finish_in_worker, some, folder=str(folder.resolve()), pure=False)
        running.update(zip(futures, some, strict=True))
        return list(futures)

    queue = as_completed(submit(PREFETCH * len(client.scheduler_info()["workers"])), loop=client.loop)
    try:
        for future in queue:
            index = running.pop(future)
            try:
                outcome = future.result()
            except FutureCancelledError as error:
                raise ThalwegError(
                    f"the scheduler was lost ({one_line(error)}): run the same command again to resume"
                ) from error
            except Exception as error:  # its worker died repeatedly
                outcome = Outcome(index, failed=one_line(error))
            queue.update(submit(1))
            yield outcome
    finally:
        if running:
            client.cancel(list(running))
            while any(client.run(_active_blocks).values()):
                time.sleep(POLL_SECONDS)


def _active_blocks(dask_worker: "Worker") -> int:
    """Return the number of blocks that a worker is computing."""
    return len(dask_worker.active_threads)


def _job_plugin(job: Job) -> Any:
    """Return the plugin that gives the job to each worker, including those that join later."""
    from distributed import WorkerPlugin

    class HoldJob(WorkerPlugin):
        def setup(self, worker: "Worker") -> None:
            worker.thalweg_job = job  # type: ignore[attr-defined]

    return HoldJob()


def _finish_in_worker(index: int, folder: str) -> Outcome:
    """Embed and write one block in a worker."""
    from distributed import get_worker

    job: Job = get_worker().thalweg_job  # type: ignore[attr-defined]
    return finish_block(job, Path(folder), index)
