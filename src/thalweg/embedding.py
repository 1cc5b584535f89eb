"""Embedding: the value that generators turn into images and tools move; docs/embedding-file.md has its file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from thalweg._version import __version__
from thalweg.errors import MissingPathError, NotFiniteError, UsageError
from thalweg.io.atomic import atomic_write
from thalweg.io.hashing import content_hash
from thalweg.io.json_files import read_as
from thalweg.io.safetensors_files import SUFFIX, open_safetensors
from thalweg.limits import shown

FORMAT = "thalweg-embedding"
FORMAT_VERSION = 1
METADATA = ("format", "format_version", "thalweg_version", "hash", "lineage", "lineage_hash")
"""What a file says of itself; the last is not in files of thalweg 0.1.0."""


@dataclass(frozen=True)
class ModelIdentity:
    """Which model an embedding belongs to: a readable name and hashes of the weights that give it meaning.

    Attributes:
        name: of the model; a renamed model stays the same.
        hash: of its weights; of an image model's rounded to float16, with its adapters and their strengths.
        bfloat16_hash: of the same rounded to bfloat16; empty where a model has one hash only.
        former_hash: as thalweg 0.1.0 wrote it, over the weights as they were cast; empty where nobody computed it.
    """

    name: str
    hash: str
    bfloat16_hash: str = ""
    former_hash: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return the name with the first digits of the hash."""
        return f"{self.name} ({self.hash[:12]})"

    def matches(self, other: "ModelIdentity") -> bool:
        """Return whether both are the same model, in whatever precision each was loaded."""
        if self.bfloat16_hash and other.bfloat16_hash:
            return self.hash == other.hash or self.bfloat16_hash == other.bfloat16_hash
        return bool({self.hash, self.former_hash} & {other.hash, other.former_hash} - {""})

    def record(self) -> dict[str, str]:
        """Return what files say of the model, as JSON values."""
        precise = {"bfloat16_hash": self.bfloat16_hash} if self.bfloat16_hash else {}
        return {"name": self.name, "hash": self.hash, **precise}


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
    def floating(self) -> dict[str, Tensor]:
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
            NotFiniteError: a tensor or a number of the lineage is NaN or infinity.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise UsageError(f"expected an embedding file named *{SUFFIX}, got {path.name}; pickles (.pt) are refused")
        lineage = self.lineage
        record = {
            "model": lineage.model.record(),
            "prompt": lineage.prompt,
            "operation": lineage.operation,
            "parameters": dict(lineage.parameters),
            "parents": list(lineage.parents),
        }
        for name, tensor in self.floating.items():
            values = tensor.detach()
            # A pixel of a scene (K, h, w) that has no embedding is NaN in all its values.
            missing = values.isnan().all(0) if values.ndim == 3 else values.new_zeros((), dtype=torch.bool)
            if not bool((values.isfinite() | missing).all()):
                raise NotFiniteError(f"{path}: tensor {name} holds NaN or infinity; nothing is written")
        try:
            text = json.dumps(record, ensure_ascii=False, sort_keys=True, allow_nan=False)
        except ValueError as error:
            raise NotFiniteError(f"{path}: expected finite numbers in its lineage, got NaN or infinity") from error
        metadata = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "thalweg_version": __version__,
            "hash": self.hash,
            "lineage": text,
            "lineage_hash": _text_hash(text),
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        return atomic_write(path, save(tensors, metadata))

    @classmethod
    def load(cls, path: Path | str, model: ModelIdentity | None = None) -> "Embedding":
        """Read an embedding file; with `model`, refuse one that belongs to another model.

        Raises:
            UsageError: not an embedding file, from a newer format, damaged, or of another model.
        """
        path = Path(path)
        if path.suffix.lower() != SUFFIX:
            raise UsageError(f"expected an embedding file named *{SUFFIX}, got {path.name}; pickles (.pt) are refused")
        if not path.is_file():
            raise MissingPathError(f"expected an embedding file, found none at {path}")
        with open_safetensors(path, str(path), UsageError) as file:
            metadata = file.metadata() or {}
            # Clones, because the file's own tensors change with the file.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        if metadata.get("format") != FORMAT:
            raise UsageError(
                f"{path} is a safetensors file but no Thalweg embedding: its metadata lack format={FORMAT}"
            )
        if metadata.get("format_version") != str(FORMAT_VERSION):
            raise UsageError(
                f"{path} has embedding format version {metadata.get('format_version')}, this package reads "
                f"{FORMAT_VERSION}; read it with the thalweg {metadata.get('thalweg_version')} that wrote it"
            )
        if unknown := sorted(metadata.keys() - METADATA):
            raise UsageError(f"{path}: expected metadata {', '.join(METADATA)}, got {shown(unknown[0])} as well")
        text = metadata.get("lineage", "")
        lineage = _read_lineage(text, f"{path}: the lineage in its metadata")
        if metadata.get("lineage_hash", _text_hash(text)) != _text_hash(text):
            raise UsageError(f"{path}: its lineage does not match the hash in its metadata; the file was changed")
        embedding = cls(tensors, lineage)
        if embedding.hash != metadata.get("hash"):
            raise UsageError(f"{path}: its tensors do not match the hash in its metadata; the file was changed")
        if model is not None:
            embedding.check_model(model)
        return embedding

    def check_model(self, model: ModelIdentity) -> None:
        """Raise a UsageError where this embedding belongs to another model than `model`."""
        own = self.lineage.model
        if own.matches(model):
            return
        hint = "load that model"
        if model.bfloat16_hash and not own.bfloat16_hash:
            hint = "its file says nothing about the weights' precision, as those of thalweg 0.1.0: make it again"
        elif own.name == model.name:
            hint = "the weights, the adapters or their strengths differ: load them as they were"
        raise UsageError(f"expected an embedding of {model}, got one of {own}; {hint}")

    def check_finite(self) -> None:
        """Raise a NotFiniteError where a tensor holds NaN or infinity."""
        for name, tensor in self.floating.items():
            if not bool(torch.isfinite(tensor).all()):
                raise NotFiniteError(f"expected finite values in the embedding, tensor {name} holds NaN or infinity")


def _read_lineage(text: str, where: str) -> Lineage:
    """Return the lineage in a file's metadata; nothing of it may be missing.

    Raises:
        UsageError: it can't be read.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} can't be read ({type(error).__name__})") from error
    lineage = read_as(Lineage, record, where)
    if missing := {entry.name for entry in fields(Lineage)} - record.keys():
        raise UsageError(f"{where} can't be read: it has no {min(missing)}")
    return lineage


def _text_hash(text: str) -> str:
    """Return the SHA-256 of a text, hexadecimal."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
