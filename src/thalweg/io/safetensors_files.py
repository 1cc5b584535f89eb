"""Reading of safetensors files of any origin; an error describes the content of a file that is not one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from thalweg.errors import ThalwegError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
"""Suffix of the name of a safetensors file."""
LFS_POINTER = "it is a Git LFS pointer to the file; fetch the file itself with `git lfs pull` or `hf download`"
"""Description of the text that Git stores instead of a large file."""


@contextmanager
def open_safetensors(path: Path, label: str, error_type: type[ThalwegError] = ThalwegError) -> Iterator[Any]:
    """Open a safetensors file for reading.

    Args:
        path: file to read.
        label: name of the file in messages.
        error_type: exception to raise.

    Yields:
        The open file, as `safetensors.safe_open` returns it for torch.

    Raises:
        ThalwegError: the file is missing, damaged or not a safetensors file (`error_type`, which may be UsageError).
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except ThalwegError:
        raise
    except (SafetensorError, OSError, UnicodeError, AttributeError, TypeError, MemoryError) as error:
        # The last three are raised by torch for types and shapes that a header may state.
        reason = describe_wrong_content(path) if path.is_file() else "there is no such file"
        damaged = f"it is cut short or damaged ({' '.join(str(error).split())[:120]}); fetch or write the file again"
        raise error_type(f"{label} is not a whole safetensors file: {reason or damaged}") from error


def read_tensors(path: Path, label: str, error_type: type[ThalwegError] = ThalwegError) -> "dict[str, Tensor]":
    """Return the tensors of a safetensors file by their names; the arguments are those of `open_safetensors`.

    Raises:
        ThalwegError: the file is missing, damaged or not a safetensors file (`error_type`, which may be UsageError).
    """
    with open_safetensors(path, label, error_type) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def describe_wrong_content(path: Path) -> str | None:
    """Describe by its first bytes a file that holds neither weights nor JSON; None if the content is not recognized."""
    with path.open("rb") as file:
        start = file.read(200)
    if start.startswith(b"version https://git-lfs.github.com/spec"):
        return LFS_POINTER
    if start.lstrip()[:1] == b"<":
        return "it is a web page; fetch the file again"
    if not start.strip(b"\0"):
        return "it is empty; fetch the file again"
    return None
