"""How embeddings are written and read: Zarr v3, one shard a block, self-describing and resumable."""

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg._version import __version__
from thalweg.earth.inference.job import Job, Progress, embed_block
from thalweg.earth.store.portable import portable
from thalweg.earth.store.schema import attributes, check_layout, create_store, write_block
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.progress_log import ProgressLog, abort
from thalweg.io.redaction import redact
from thalweg.io.zarr_chunks import with_checked_reading

if TYPE_CHECKING:
    import xarray as xr

_DAMAGED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError, RuntimeError, OSError)
"""What the libraries raise on attributes, shapes and coordinates that are not the writer's."""


@dataclass(frozen=True)
class Outcome:
    """What became of a block.

    Attributes:
        index: the block's place in `Job.windows()`.
        failed: why it could not be embedded, in a line; None where it is on disk.
        usage: whether the failure is the input's fault (`UsageError`).
        unwritable: why it could not be written; ends the job.
    """

    index: int
    failed: str | None = None
    usage: bool = False
    unwritable: str | None = None


Executor = Callable[[Job, Path, Sequence[int]], Generator[Outcome, None, None]]
"""Who embeds blocks: from a job, the store's folder and the blocks' indices to outcomes, in any order.

Once the generator is closed, nothing is written any more.
"""


def finish_block(job: Job, folder: Path, index: int) -> Outcome:
    """Embed one block and write it to its shards; never raises but for what is not an `Exception`."""
    try:
        block = embed_block(job, job.windows()[index])
    except Exception as error:  # whatever is wrong with one block, the others can be embedded
        return Outcome(index, failed=in_a_line(error), usage=isinstance(error, UsageError))
    try:
        write_block(folder, block, job.quantise)
    except OSError as error:
        return Outcome(index, unwritable=in_a_line(error))
    return Outcome(index)


def in_a_line(error: BaseException) -> str:
    """An error's message in one line, with its kind where it is not the package's own."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ThalwegError) else f"{type(error).__name__}: {message}"


def this_process(job: Job, folder: Path, indices: Sequence[int]) -> Generator[Outcome, None, None]:
    """Embed block after block here (see `Crew`)."""
    for index in indices:
        yield finish_block(job, folder, index)


def embed_to_zarr(job: Job, out: str | Path, progress: Progress | None = None, crew: Executor = this_process) -> Path:
    """Embed a cube into a Zarr store, block by block.

    The store grows beside `out` under a hidden name and gets its own when complete. A killed run goes on where
    it stopped when the same job is started again. A block that fails is recorded and the others go on; the same
    job, started again, does the failed ones only.

    Args:
        job: what is embedded with what.
        out: path of the store; must not exist.
        progress: told pixel-dates done and in all.
        crew: who does the work; this process by default, others in `earth.distributed`.

    Raises:
        UsageError: `out` exists already, or another process is writing it; no block could be embedded because of
            the input.
        ThalwegError: the store can not be written, which leaves nothing; or blocks failed, which leaves the others.
    """
    out = Path(out)
    if abort(out):
        return out
    unfinished = out.with_name(f".{out.name}.unfinished")
    refuse_existing(out)
    identity = _identity(job)  # reads the cube: what is no good is refused before anything is written
    try:
        with ProgressLog(unfinished, out) as ledger:
            if out.exists():  # another run finished it between our look and our lock
                ledger.discard()
            refuse_existing(out)
            _embed_all(job, identity, out, ledger, progress, crew)
    except OSError as error:
        raise _unwritable(out, str(error)) from error
    return out


def refuse_existing(out: Path) -> None:
    """Raise `UsageError` where there is something under the name of what is to be written."""
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")


def _unwritable(out: Path, reason: str) -> ThalwegError:
    return ThalwegError(f"{out}: could not be written ({reason}): free some space or choose another disk")


def _embed_all(
    job: Job, identity: dict[str, Any], out: Path, ledger: ProgressLog, progress: Progress | None, crew: Executor
) -> None:
    try:
        done = ledger.done(identity)
        if done is None:
            ledger.clear()
            create_store(job, ledger.folder)
            ledger.start(identity)
            done = set()
    except BaseException:
        ledger.discard()
        raise
    windows, dates = job.windows(), len(job.dates)
    done &= set(range(len(windows)))  # a damaged record may name others
    total = sum(window.height * window.width for window in windows) * dates
    counted = 0

    def count(index: int) -> None:
        nonlocal counted
        counted += windows[index].height * windows[index].width * dates
        if progress:
            progress(counted, total)

    for index in sorted(done):
        count(index)
    failed: list[Outcome] = []
    outcomes = crew(job, ledger.folder, [index for index in range(len(windows)) if index not in done])
    try:
        for outcome in outcomes:
            if outcome.unwritable:
                raise OSError(outcome.unwritable)
            if outcome.failed:
                failed.append(outcome)
                ledger.add_failed(outcome.index, outcome.failed)
            else:
                done.add(outcome.index)
                ledger.add_done(outcome.index)
            count(outcome.index)
    except OSError:  # a full disk
        outcomes.close()
        ledger.discard()
        raise
    if failed:
        raise _failure(out, ledger, failed, windows, bool(done))
    ledger.finish(out)


def _failure(
    out: Path, ledger: ProgressLog, failed: list[Outcome], windows: list[Any], some_done: bool
) -> ThalwegError:
    """The error for blocks that failed; where none was done, nothing is left."""
    first = failed[0]
    if not some_done:
        ledger.discard()
        return (UsageError if first.usage else ThalwegError)(str(first.failed))
    window = windows[first.index]
    return ThalwegError(
        f"{out}: {len(failed)} of {len(windows)} blocks failed, the first at row {window.top}, column {window.left} "
        f"({first.failed}): the others are kept, run the same command again to do these"
    )


def _identity(job: Job) -> dict[str, Any]:
    """What must be the same for a run to go on with what another left; JSON values only."""
    return {
        "model": job.model.identifier,
        "cube": job.cube.name,
        "sources": attributes(job)["thalweg:sources"],
        "modified": [_modified(part.where) for series in job.cube.series.values() for part in series.parts],
        "grid": attributes(job)["spatial:transform"],
        "dates": [str(date) for date in job.dates],
        "size": job.size,
        "block": job.block,
        "dates_at_once": job.dates_at_once,
        "quantise": job.quantise,
        "version": __version__,
    }


def _modified(where: str) -> int | None:
    """When a source's file was last written, in ns; None where it is no single file."""
    for path in (Path(where), Path(where).parent):  # a group's name follows the file's
        if path.is_file():
            return path.stat().st_mtime_ns
    return None


def holds_embeddings(path: Path) -> bool:
    """Whether a path holds a Zarr store that says it holds embeddings; `UsageError` where its metadata are damaged."""
    if not (path / "zarr.json").is_file():
        return False
    import zarr

    try:
        return "geoemb:model" in zarr.open_group(path, mode="r").attrs
    except Exception as error:  # whatever zarr raises on what is no metadata
        reason = in_a_line(error)[:160]
        raise UsageError(f"{path}: its metadata are damaged ({reason}): restore it or write it again") from error


def open_embeddings(path: str | Path) -> "xr.Dataset":
    """Open an embedding store lazily, codes as the numbers they stand for, in a form that other libraries can write.

    A chunk that is damaged costs what is read from it: a `ThalwegError` that names the store and the block.

    Raises:
        UsageError: the path holds no embedding store, or its metadata are damaged.
    """
    import xarray as xr

    path = Path(path)
    if not path.exists():
        raise UsageError(f"{redact(str(path))}: no such store")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a store without consolidated metadata is fine
            dataset = xr.open_zarr(path, chunks=None, mask_and_scale=False, decode_coords="all")
    except Exception as error:  # whatever zarr raises, the path holds no readable store
        raise UsageError(f"{path}: not a readable Zarr store: expected one written by `thalweg earth embed`") from error
    if "geoemb:model" not in dataset.attrs or "embeddings" not in dataset:
        raise UsageError(f"{path}: a Zarr store without embeddings: expected one written by `thalweg earth embed`")
    try:
        return _decoded(dataset, path)
    except _DAMAGED as error:
        reason = in_a_line(error)[:160]
        raise UsageError(f"{path}: its metadata are damaged ({reason}): restore it or embed again") from error


def _decoded(dataset: "xr.Dataset", path: Path) -> "xr.Dataset":
    """The dataset of a store with checked reading and decoded codes; raises where metadata contradict each other."""
    import xarray as xr

    check_layout(dataset)
    dataset = with_checked_reading(dataset, path)
    for name, variable in dataset.data_vars.items():
        if "scale_factor" in variable.attrs:
            for key in ("scale_factor", "add_offset"):  # as float32, else xarray decodes to float64
                variable.attrs[key] = np.float32(variable.attrs[key])
            dataset[name] = xr.conventions.decode_cf_variable(str(name), variable.variable)
    return portable(dataset)
