"""Hashes of tensors and of JSON values, as checkpoints, embedding files, run folders and states hold them."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def content_hash(tensors: "Mapping[str, Tensor]") -> str:
    """Return the SHA-256 of tensors (names, types, shapes and bytes, in the order of names), hexadecimal."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def json_hash(value: Any) -> str:
    """Return the SHA-256 of a JSON value, hexadecimal; the order of its names does not matter."""
    as_read = json.loads(json.dumps(value))  # names that are numbers sort differently from their texts
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_uri(text: str) -> str:
    """Return the `ni` URI (RFC 6920) of a text: an address that needs no host and names one content."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return "ni:///sha-256;" + digest.decode().rstrip("=")
