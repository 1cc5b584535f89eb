"""One way to write a file, and one to write a folder: whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thalweg.errors import ThalwegError, UsageError


def write_whole(path: Path, content: bytes) -> Path:
    """Write `content` to `path`, its folder made where it is missing; a failure leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


@contextmanager
def new_folder(out: str | Path, *faults: type[Exception]) -> Iterator[Path]:
    """A folder to fill that gets its name when all is written, or vanishes.

    Args:
        out: its name; its parents are made.
        faults: what a library raises, besides OSError, when it can not write.

    Raises:
        UsageError: `out` exists already.
        ThalwegError: it can not be written.
    """
    out = Path(out)
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    unfinished = out.with_name(f".{out.name}.unfinished")
    failing: tuple[type[Exception], ...] = (OSError, *faults)
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(out)
    except failing as error:
        reason = " ".join(str(error).split())
        raise ThalwegError(f"{out}: could not be written ({reason}): free some space or choose another disk") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
