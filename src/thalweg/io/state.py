"""State of an unfinished run: one safetensors file, written whole, with a hash that tells whether it was changed."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thalweg.errors import ThalwegError, UsageError
from thalweg.io.hashing import content_hash
from thalweg.limits import shown
from thalweg.steer.runs import Run, json_hash

STATE = "state.safetensors"


def write_state(run: Run, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write all that resuming needs: tensors and JSON values by name."""
    # The file's format takes no tensors that share memory.
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {name: json.dumps(value) for name, value in values.items()}
    run.write_bytes(STATE, save(stored, {**metadata, "hash": _hash(stored, values)}))


def read_state(run: Run, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what `write_state` wrote, the tensors on `device`.

    Raises:
        UsageError: it can't be read, or was changed.
    """
    if not (run.folder / STATE).is_file():
        raise UsageError(f"{run.folder}: its {STATE} can't be read: it is no file; begin a new run")
    try:
        with safe_open(str(run.folder / STATE), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        values = {name: json.loads(text) for name, text in metadata.items() if name != "hash"}
        said = _hash(tensors, values)
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{run.folder}: its {STATE} can't be read ({shown(reason)}); begin a new run") from error
    if metadata.get("hash") != said:
        raise UsageError(
            f"{run.folder}: its {STATE} can't be read: it was changed, or is of an earlier version; begin a new run"
        )
    return {name: tensor.to(device) for name, tensor in tensors.items()}, values


def _hash(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> str:
    return json_hash([content_hash(tensors), dict(values)])


@contextmanager
def removed_if_failed(folder: Path) -> Iterator[None]:
    """Remove a run that fails within the block, where it began there and holds nothing yet to resume from."""
    was_there = folder.exists()
    begins = not was_there or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except (ThalwegError, OSError):
        if begins and folder.is_dir() and not _can_resume(folder):
            for entry in folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            if not was_there:
                folder.rmdir()
        raise


def _can_resume(folder: Path) -> bool:
    """Whether a search has a state, or a navigation a node after its first."""
    return (folder / STATE).is_file() or len(list(folder.glob("nodes/*"))) > 1
