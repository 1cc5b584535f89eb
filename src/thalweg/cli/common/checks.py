"""Checks of paths that commands make before they load anything."""

from pathlib import Path

from thalweg.errors import MissingPathError
from thalweg.io.atomic import refuse_existing, write_failure


def check_input(path: Path, kind: str = "file or folder") -> None:
    """Raise a `MissingPathError` if there is nothing at `path`; `kind` names in the message what is expected there."""
    if not path.exists():
        raise MissingPathError(f"{path}: no such {kind}")


def check_store(path: Path) -> None:
    """Raise a `MissingPathError` if there is no embedding store at `path`."""
    check_input(path, "store")


def check_model(path: Path | None) -> None:
    """Raise a `MissingPathError` if there is no model folder at `path`; None is the shipped model."""
    if path is not None:
        check_input(path, "model folder")


def check_new(path: Path) -> None:
    """Check that a file or folder can be created at `path`.

    Raises:
        UsageError: There is something at `path`.
        ThalwegError: One of its parents is a file.
    """
    refuse_existing(path)
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raise a `ThalwegError` if one of the parents of `path`, which is to be written, is a file."""
    for parent in path.absolute().parents:
        if parent.is_dir():
            return
        if parent.exists():
            raise write_failure(path, f"{parent} is not a folder")
