"""Resume state of an unfinished job: one safetensors file with tensors, JSON values and a hash of both."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from thalweg.errors import MissingPathError, UsageError
from thalweg.io.atomic import atomic_write
from thalweg.io.hashing import content_hash, json_hash
from thalweg.limits import shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STATE = "state.safetensors"
"""File name of a job's state within its folder."""


def write_state(path: Path, tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> Path:
    """Write everything that a job needs to resume, atomically.

    Args:
        path: the file; its folder is made where it is missing.
        tensors: tensors of any shape and type, by name.
        values: JSON values by name; no name is "hash".
    """
    from safetensors.torch import save

    # safetensors refuses tensors that share memory.
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {name: json.dumps(value) for name, value in values.items()}
    return atomic_write(path, save(stored, {**metadata, "hash": _hash(stored, values)}))


def read_state(path: Path, device: "torch.device | str" = "cpu") -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Return the tensors and the values that `write_state` wrote, the tensors on `device`.

    Raises:
        MissingPathError: there is no such file.
        UsageError: the file is damaged, or was changed after it was written.
    """
    where = f"{path.parent}: its {path.name}"
    if not path.is_file():
        raise MissingPathError(f"{where} can't be read: it is no file; begin a new run")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
        values = {name: json.loads(text) for name, text in metadata.items() if name != "hash"}
        found = _hash(tensors, values)
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{where} can't be read ({shown(reason)}); begin a new run") from error
    if metadata.get("hash") != found:
        raise UsageError(f"{where} can't be read: it was changed, or is of an earlier version; begin a new run")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, values


def check_request(folder: Path, begun: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to resume a job with other parameters than it began with.

    Args:
        folder: the job's folder, which the message names.
        begun: parameters in the job's state, as JSON values.
        asked: parameters of the call that resumes; JSON values or what JSON makes of them, such as tuples.

    Raises:
        UsageError: a parameter differs, or only one of both has it.
    """
    asked = json.loads(json.dumps(asked))
    for name in sorted(begun.keys() | asked.keys()):
        if begun.get(name) != asked.get(name):
            raise UsageError(
                f"{folder}: the run began with {name} {begun.get(name)!r}, asked for is {asked.get(name)!r}; resume "
                "it with the parameters it began with, or choose another folder"
            )


def _hash(tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> str:
    return json_hash([content_hash(tensors), dict(values)])
