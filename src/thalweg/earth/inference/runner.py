"""Embedding of a cube into a store: blocks by an executor, progress that survives a kill, failures recorded."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg._version import __version__
from thalweg.earth.inference.compute import embed_block
from thalweg.earth.inference.job import Job, Progress
from thalweg.earth.store.overviews.pyramid import write_overviews
from thalweg.earth.store.schema import STORE_LAYOUT, StoreSchema
from thalweg.earth.store.writer import create_store, write_block
from thalweg.errors import ThalwegError, UsageError, one_line
from thalweg.io.atomic import refuse_existing, write_failure
from thalweg.io.progress_log import ProgressLog, complete_finalize


@dataclass(frozen=True)
class Outcome:
    """Outcome of a block.

    Attributes:
        index: index of the block in its job.
        failed: reason on one line if it could not be embedded; None if it is on disk.
        usage: whether the input is the cause of the failure (`UsageError`).
        unwritable: reason if it could not be written, which ends the job.
    """

    index: int
    failed: str | None = None
    usage: bool = False
    unwritable: str | None = None


Executor = Callable[[Job, Path, Sequence[int]], Generator[Outcome, None, None]]
"""Function that embeds blocks: takes a job, the store's folder and indices, and yields outcomes in any order.

Once its generator is closed, nothing is written any more.
"""


def finish_block(job: Job, folder: Path, index: int) -> Outcome:
    """Embed one block and write it to its shards; no `Exception` is raised, the outcome holds it."""
    try:
        block = embed_block(job, job.window(index))
    except Exception as error:  # one failed block does not prevent the others
        return Outcome(index, failed=one_line(error), usage=isinstance(error, UsageError))
    try:
        write_block(folder, block, job.quantize)
    except OSError as error:
        return Outcome(index, unwritable=one_line(error))
    return Outcome(index)


def run_in_process(job: Job, folder: Path, indices: Sequence[int]) -> Generator[Outcome, None, None]:
    """Embed one block after the other in this process (an `Executor`)."""
    for index in indices:
        yield finish_block(job, folder, index)


def embed_to_zarr(
    job: Job, out: str | Path, progress: Progress | None = None, executor: Executor = run_in_process
) -> Path:
    """Embed a cube into a Zarr store, block by block.

    The store is written next to `out` under a hidden name and renamed when it is complete. If the same job is started
    again after a kill, it resumes. If a block fails, the failure is recorded and the others are embedded; the same
    job, started again, embeds the failed blocks only.

    Args:
        job: cube and model.
        out: path of the store; must not exist.
        progress: callback with the number of finished pixel-dates and their total.
        executor: embeds the blocks; one after the other in this process by default, in several processes with
            `dask_backend`.

    Returns:
        The path of the store.

    Raises:
        UsageError: `out` exists, or another process is writing it, or no block could be embedded because of the input.
        ThalwegError: the store cannot be written, which leaves nothing; or blocks failed, which leaves the others.
    """
    out = Path(out)
    if complete_finalize(out):
        return out
    refuse_existing(out)
    schema = job.schema()  # reads the cube: unusable input is refused before anything is written
    try:
        with ProgressLog(out) as log:
            _embed_all(job, schema, out, log, progress, executor)
    except ThalwegError:
        raise
    except OSError as error:
        raise write_failure(out, error) from error
    return out


def _embed_all(
    job: Job, schema: StoreSchema, out: Path, log: ProgressLog, progress: Progress | None, executor: Executor
) -> None:
    identity = _identity(job, schema)
    try:
        done = log.done(identity)
        if done is None:
            log.clear()
            create_store(schema, log.folder)
            log.start(identity)
            done = set()
    except BaseException:
        log.abort()
        raise
    done = {index for index in done if 0 <= index < job.block_count}  # a damaged log may hold others
    dates, total, finished = len(schema.dates), job.pixel_dates(), 0

    def count(index: int) -> None:
        nonlocal finished
        window = job.window(index)
        finished += window.height * window.width * dates
        if progress:
            progress(finished, total)

    for index in sorted(done):
        count(index)
    failed: list[Outcome] = []
    outcomes = executor(job, log.folder, [index for index in range(job.block_count) if index not in done])
    try:
        for outcome in outcomes:
            if outcome.unwritable:
                raise OSError(outcome.unwritable)
            if outcome.failed:
                failed.append(outcome)
                log.add_failed(outcome.index, outcome.failed)
            else:
                done.add(outcome.index)
                log.add_done(outcome.index)
            count(outcome.index)
    except UsageError:
        raise
    except OSError:  # a full disk
        outcomes.close()
        log.abort()
        raise
    if failed:
        raise _failure(job, out, log, failed, bool(done))
    write_overviews(log.folder)
    log.finalize()


def _failure(job: Job, out: Path, log: ProgressLog, failed: list[Outcome], some_done: bool) -> ThalwegError:
    """Return the error for failed blocks; if none was finished, the unfinished store is removed."""
    first = failed[0]
    if not some_done:
        log.abort()
        return (UsageError if first.usage else ThalwegError)(str(first.failed))
    window = job.window(first.index)
    return ThalwegError(
        f"{out}: {len(failed)} of {job.block_count} blocks failed, the first at row {window.top}, column {window.left} "
        f"({first.failed}): the others are kept, run the same command again to do these"
    )


def _identity(job: Job, schema: StoreSchema) -> dict[str, Any]:
    """Return the values that must be equal for a job to resume an unfinished store, as JSON values."""
    attributes = schema.attributes()
    return {
        "model": job.model.identifier,
        "cube": job.cube.name,
        "sources": attributes["thalweg:sources"],
        "modified": [_modified(part.where) for series in job.cube.series.values() for part in series.parts],
        "grid": attributes["spatial:transform"],
        "dates": [str(date) for date in schema.dates],
        "calendar": job.calendar is not None,
        "size": job.size,
        "block": job.block,
        "dates_at_once": job.dates_at_once,
        "quantise": job.quantize,
        "version": __version__,
        "layout": STORE_LAYOUT,
    }


def _modified(where: str) -> int | None:
    """Return when a source's file was last written, in ns; None if it is not a single file."""
    for path in (Path(where), Path(where).parent):  # a group's name follows the name of its file
        if path.is_file():
            return path.stat().st_mtime_ns
    return None
