"""State of an unfinished run: one safetensors file, written whole, with a hash that tells whether it was changed."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.hashing import content_hash
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
