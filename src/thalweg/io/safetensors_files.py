"""Safetensors files of any origin: read whole, or refused in a line that says what lies there instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from thalweg.errors import ThalwegError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
"""End of the name of a safetensors file."""
LFS_POINTER = "it is a Git LFS pointer to the file; fetch the file itself with `git lfs pull` or `hf download`"
"""What is said of the text that Git leaves instead of a large file."""


@contextmanager
def open_safetensors(path: Path, label: str, fault: type[ThalwegError] = ThalwegError) -> Iterator[Any]:
    """A safetensors file for reading.

    Args:
        path: the file.
        label: what a message calls it.
        fault: what is raised.

    Raises:
        ThalwegError: not a whole safetensors file, or none (`fault`, which may be a UsageError).
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError, UnicodeError, AttributeError, TypeError, MemoryError) as error:
        # The last three are what torch raises for types and shapes that a header may claim.
        reason = instead_of_file(path) if path.is_file() else "there is no such file"
        damaged = f"it is cut short or damaged ({' '.join(str(error).split())[:120]}); fetch or write the file again"
        raise fault(f"{label} is not a whole safetensors file: {reason or damaged}") from error


def read_tensors(path: Path, label: str, fault: type[ThalwegError] = ThalwegError) -> "dict[str, Tensor]":
    """Return the tensors of a safetensors file; the arguments are those of `open_safetensors`.

    Raises:
        ThalwegError: not a whole safetensors file, or none (`fault`, which may be a UsageError).
    """
    with open_safetensors(path, label, fault) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)


def instead_of_file(path: Path) -> str | None:
    """Say what lies where weights or JSON were expected, as far as the first bytes tell; None: nothing well known."""
    with path.open("rb") as file:
        start = file.read(200)
    if start.startswith(b"version https://git-lfs.github.com/spec"):
        return LFS_POINTER
    if start.lstrip()[:1] == b"<":
        return "it is a web page; fetch the file again"
    if not start.strip(b"\0"):
        return "it is empty; fetch the file again"
    return None
