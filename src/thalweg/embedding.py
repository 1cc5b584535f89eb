"""Embedding: the value that generators turn into images and tools move; docs/embedding-file.md has its file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thalweg._version import __version__
from thalweg.errors import ThalwegError, UsageError
from thalweg.files import write_whole
from thalweg.hashing import content_hash

FORMAT = "thalweg-embedding"
FORMAT_VERSION = 1
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ModelIdentity:
    """Which model an embedding belongs to: a readable name and a hash of the weights that give it meaning."""

    name: str
    hash: str

    def __str__(self) -> str:
        """Return the name with the first digits of the hash."""
        return f"{self.name} ({self.hash[:12]})"


@dataclass(frozen=True)
class Lineage:
    """Where an embedding came from.

    Attributes:
        model: the model it belongs to.
        prompt: the text it began as; empty where there was none.
        operation: what made it: "embed", or a tool's name.
        parameters: the operation's parameters, as JSON values.
        parents: content hashes of the embeddings it was made from.
    """

    model: ModelIdentity
    prompt: str = ""
    operation: str = "embed"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embedding:
    """Named tensors and their lineage; a value: operations return a new one.

    Attributes:
        tensors: for Stable Diffusion `prompt` and `negative`, each (tokens, width); other families add pooled
            vectors, masks and further encoders. Floating tensors may move, others (masks) stay.
        lineage: where it came from.
    """

    tensors: Mapping[str, Tensor]
    lineage: Lineage

    @property
    def hash(self) -> str:
        """Content hash over names, types, shapes and values, hexadecimal."""
        return content_hash(self.tensors)

    @property
    def moving(self) -> dict[str, Tensor]:
        """The floating tensors, by name."""
        return {name: tensor for name, tensor in self.tensors.items() if tensor.is_floating_point()}

    def derive(
        self, tensors: Mapping[str, Tensor], operation: str, *others: "Embedding", **parameters: Any
    ) -> "Embedding":
        """Return an embedding made from this one (and `others`): `tensors` replace those of the same name.

        Raises:
            UsageError: a tensor has a name or a shape this embedding does not have.
        """
        for name, tensor in tensors.items():
            if name not in self.tensors or tensor.shape != self.tensors[name].shape:
                had = {known: tuple(value.shape) for known, value in self.tensors.items()}
                raise UsageError(f"expected tensors like {had}, got {name} {tuple(tensor.shape)}")
        parents = tuple(parent.hash for parent in (self, *others))
        lineage = replace(self.lineage, operation=operation, parameters=parameters, parents=parents)
        return Embedding({**self.tensors, **tensors}, lineage)

    def to(self, device: torch.device | str) -> "Embedding":
        """Return the same embedding with its tensors on `device`."""
        return Embedding({name: tensor.to(device) for name, tensor in self.tensors.items()}, self.lineage)

    def save(self, path: Path | str) -> Path:
        """Write one safetensors file, whole or not at all.

        Raises:
            UsageError: the name does not end in .safetensors.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise UsageError(f"expected an embedding file named *{SUFFIX}, got {path.name}; pickles (.pt) are refused")
        lineage = self.lineage
        record = {
            "model": {"name": lineage.model.name, "hash": lineage.model.hash},
            "prompt": lineage.prompt,
            "operation": lineage.operation,
            "parameters": dict(lineage.parameters),
            "parents": list(lineage.parents),
        }
        metadata = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "thalweg_version": __version__,
            "hash": self.hash,
            "lineage": json.dumps(record, ensure_ascii=False, sort_keys=True),
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        return write_whole(path, save(tensors, metadata))

    @classmethod
    def load(cls, path: Path | str, model: ModelIdentity | None = None) -> "Embedding":
        """Read an embedding file; with `model`, refuse one that belongs to another model.

        Raises:
            UsageError: not an embedding file, from a newer format, damaged, or of another model.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise UsageError(f"expected an embedding file named *{SUFFIX}, got {path.name}; pickles (.pt) are refused")
        if not path.is_file():
            raise UsageError(f"expected an embedding file, found none at {path}")
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        except SafetensorError as error:
            raise UsageError(f"{path} is not a whole safetensors file ({error}); write it anew") from error
        if metadata.get("format") != FORMAT:
            raise UsageError(
                f"{path} is a safetensors file but no Thalweg embedding: its metadata lack format={FORMAT}"
            )
        if metadata.get("format_version") != str(FORMAT_VERSION):
            raise UsageError(
                f"{path} has embedding format version {metadata.get('format_version')}, this package reads "
                f"{FORMAT_VERSION}; read it with the thalweg {metadata.get('thalweg_version')} that wrote it"
            )
        try:
            record = json.loads(metadata["lineage"])
            lineage = Lineage(
                ModelIdentity(record["model"]["name"], record["model"]["hash"]),
                record["prompt"],
                record["operation"],
                record["parameters"],
                tuple(record["parents"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: the lineage in its metadata can't be read ({error!r})") from error
        embedding = cls(tensors, lineage)
        if embedding.hash != metadata.get("hash"):
            raise UsageError(f"{path}: its tensors do not match the hash in its metadata; the file was changed")
        if model is not None:
            embedding.check_model(model)
        return embedding

    def check_model(self, model: ModelIdentity) -> None:
        """Raise a UsageError where this embedding belongs to another model than `model`."""
        if self.lineage.model.hash != model.hash:
            raise UsageError(f"expected an embedding of {model}, got one of {self.lineage.model}; load that model")

    def check_finite(self) -> None:
        """Raise a ThalwegError where a tensor holds NaN or infinity."""
        for name, tensor in self.moving.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ThalwegError(f"expected finite values in the embedding, tensor {name} holds NaN or infinity")
