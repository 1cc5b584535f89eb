"""Blocks over several processes or machines with dask: independent tasks, each writing the shards it owns.

Workers get the job once, when they join, so that one that died is replaced and its blocks done again. A cube
opened from files travels as their paths, one in memory by value. Every process computes with one thread
(`embedder.one_thread`), here and there.
"""

import logging
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.earth.inference.job import Job
from thalweg.earth.store.writer import Executor, Outcome, finish_block, in_a_line
from thalweg.errors import ThalwegError, UsageError

if TYPE_CHECKING:
    from distributed import Client, Worker

LARGE = 3_000_000
"""Pixel-dates from which a local cluster is worth its start: about two minutes of one core."""

AHEAD = 3
"""Blocks a worker has waiting: enough to keep it busy, few enough for a scheduler to hold any number in all."""

_PLUGIN = "thalweg-job"
_CONNECTING = "10s"


def pixel_dates(job: Job) -> int:
    """Pixels times dates of a job."""
    rows, columns = job.cube.grid.shape
    return rows * columns * len(job.dates)


def workers_by_default(job: Job) -> int:
    """Processes for a job: one, or as many as there are cores for a cube of `LARGE` pixel-dates or more."""
    from dask import system

    return system.CPU_COUNT if pixel_dates(job) >= LARGE else 1


@contextmanager
def local_workers(count: int) -> Iterator[Executor]:
    """A cluster of `count` processes on this machine, each with one thread, for as long as the block lasts."""
    from dask import config
    from distributed import Client, LocalCluster

    settings = {"distributed.worker.daemon": True, "distributed.scheduler.allowed-failures": 3}
    with (
        config.set(settings),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # the plan keeps the budget; a worker stopped half-way would only do its block again
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield lambda job, folder, indices: _outcomes(client, job, folder, indices)


@contextmanager
def scheduler_workers(address: str) -> Iterator[Executor]:
    """The workers of a running dask scheduler; they must see the cube and the store under the same paths.

    Raises:
        UsageError: nothing answers at the address.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECTING, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"scheduler {address}: not reachable: expected the address of a running one, such as tcp://host:8786"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise UsageError(f"scheduler {address}: has no workers: start some with `dask worker {address}`")
        yield lambda job, folder, indices: _outcomes(client, job, folder, indices)


def _outcomes(client: "Client", job: Job, folder: Path, indices: Sequence[int]) -> Generator[Outcome, None, None]:
    """Hand out blocks a few at a time, and tell what became of them as they end."""
    from distributed import as_completed
    from distributed.client import FutureCancelledError

    client.register_plugin(_plugin(job), name=_PLUGIN)
    waiting = iter(indices)
    running: dict[Any, int] = {}

    def hand_out(count: int) -> list[Any]:
        some = list(islice(waiting, count))
        futures = client.map(_finish_here, some, folder=str(folder.resolve()), pure=False)
        running.update(zip(futures, some, strict=True))
        return list(futures)

    queue = as_completed(hand_out(AHEAD * len(client.scheduler_info()["workers"])), loop=client.loop)
    try:
        for future in queue:
            index = running.pop(future)
            try:
                outcome = future.result()
            except FutureCancelledError as error:
                raise ThalwegError(
                    f"the scheduler was lost ({in_a_line(error)}): run the same command again to go on"
                ) from error
            except Exception as error:  # its worker died again and again
                outcome = Outcome(index, failed=in_a_line(error))
            queue.update(hand_out(1))
            yield outcome
    finally:
        if running:
            client.cancel(list(running))
            while any(client.run(_active).values()):
                time.sleep(0.05)


def _active(dask_worker: "Worker") -> int:
    """Blocks a worker is in the middle of."""
    return len(dask_worker.active_threads)


def _plugin(job: Job) -> Any:
    """What gives each worker the job, those that join later too."""
    from distributed import WorkerPlugin

    class HoldJob(WorkerPlugin):
        def setup(self, worker: "Worker") -> None:
            worker.thalweg_job = job  # type: ignore[attr-defined]

    return HoldJob()


def _finish_here(index: int, folder: str) -> Outcome:
    """Embed and write one block in a worker."""
    from distributed import get_worker

    job: Job = get_worker().thalweg_job  # type: ignore[attr-defined]
    return finish_block(job, Path(folder), index)
