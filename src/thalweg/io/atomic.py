"""Atomic writing of files and folders: complete under their name, or not there at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thalweg.errors import ThalwegError, UsageError


def atomic_write(path: Path, content: bytes) -> Path:
    """Write `content` to `path` and create its parents; a failure leaves an existing file unchanged.

    Raises:
        OSError: The file cannot be written.
    """
    with atomic_file(path) as unfinished:
        unfinished.write_bytes(content)
    return path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and move the file written there to `path` if the block succeeds.

    The parents of `path` are created. If the block raises, the temporary file is removed and `path` stays as it was.

    Raises:
        OSError: The file cannot be moved, or its parents cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(out: str | Path, *write_errors: type[Exception]) -> Iterator[Path]:
    """Yield a hidden folder to fill, which gets its name if the block succeeds and is removed if it raises.

    Args:
        out: Folder to write; its parents are created.
        write_errors: Exceptions that a library raises, in addition to OSError, when it cannot write.

    Raises:
        UsageError: `out` exists.
        ThalwegError: The folder cannot be written.
    """
    out = Path(out)
    refuse_existing(out)
    unfinished = unfinished_folder(out)
    shutil.rmtree(unfinished, ignore_errors=True)
    failures: tuple[type[Exception], ...] = (OSError, *write_errors)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(out)
    except ThalwegError:
        raise
    except failures as error:
        raise write_failure(out, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def unfinished_folder(out: Path) -> Path:
    """Hidden folder in which `out` is written."""
    return out.with_name(f".{out.name}.unfinished")


def refuse_existing(out: Path) -> None:
    """Refuse a path to write that exists.

    Raises:
        UsageError: `out` exists.
    """
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")


def write_failure(out: Path, reason: BaseException | str) -> ThalwegError:
    """Return the error for a file or folder that cannot be written."""
    return ThalwegError(
        f"{out}: could not be written ({' '.join(str(reason).split())}): free some space or choose another disk"
    )
