"""Embedding: the value that generators turn into images and tools move; docs/embedding-file.md describes its file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg._version import __version__
from thalweg.errors import MissingPathError, NotFiniteError, UsageError
from thalweg.io.atomic import atomic_write
from thalweg.io.hashing import content_hash
from thalweg.io.json_files import read_as
from thalweg.io.safetensors_files import SUFFIX, open_safetensors
from thalweg.limits import shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORMAT = "thalweg-embedding"
FORMAT_VERSION = 1
METADATA = ("format", "format_version", "thalweg_version", "hash", "lineage", "lineage_hash")
"""Metadata of a file; files of thalweg 0.1.0 lack the last one."""


@dataclass(frozen=True)
class ModelIdentity:
    """Identity of the model that an embedding belongs to: a readable name and hashes of the weights.

    Attributes:
        name: the model's name; a renamed model stays the same model.
        hash: hash of its weights; for image models, of the weights rounded to float16, with adapters and their
            strengths.
        bfloat16_hash: hash of the same rounded to bfloat16; empty for models with one hash only.
        former_hash: hash as thalweg 0.1.0 computed it, over the weights as they were cast; empty if not computed.
    """

    name: str
    hash: str
    bfloat16_hash: str = ""
    former_hash: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return the name with the first digits of the hash."""
        return f"{self.name} ({self.hash[:12]})"

    def matches(self, other: "ModelIdentity") -> bool:
        """Return whether both are the same model, regardless of the precision in which each was loaded."""
        if self.bfloat16_hash and other.bfloat16_hash:
            return self.hash == other.hash or self.bfloat16_hash == other.bfloat16_hash
        return bool({self.hash, self.former_hash} & {other.hash, other.former_hash} - {""})

    def record(self) -> dict[str, str]:
        """Return the identity as files hold it, as JSON values."""
        precise = {"bfloat16_hash": self.bfloat16_hash} if self.bfloat16_hash else {}
        return {"name": self.name, "hash": self.hash, **precise}


@dataclass(frozen=True)
class Lineage:
    """Provenance of an embedding.

    Attributes:
        model: the model it belongs to.
        prompt: the text it began as; empty if there was none.
        operation: the operation that made it: "embed", or a tool's name.
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
    """Named tensors and their provenance; immutable: operations return a new embedding.

    Attributes:
        tensors: for Stable Diffusion `prompt` and `negative`, each (tokens, width); other models add pooled vectors,
            masks and further encoders. Tools move floating tensors only; others (masks) are constant.
        lineage: provenance.
    """

    tensors: "Mapping[str, Tensor]"
    lineage: Lineage

    @property
    def hash(self) -> str:
        """SHA-256 of the tensors (names, types, shapes and values), hexadecimal."""
        return content_hash(self.tensors)

    @property
    def floating(self) -> "dict[str, Tensor]":
        """The floating tensors, by name."""
        return {name: tensor for name, tensor in self.tensors.items() if tensor.is_floating_point()}

    def derive(
        self, tensors: "Mapping[str, Tensor]", operation: str, *others: "Embedding", **parameters: Any
    ) -> "Embedding":
        """Return an embedding made from this one (and `others`), with `tensors` instead of those of the same name.

        Args:
            tensors: new tensors, of the same shapes.
            operation: the operation that made them, for the provenance.
            others: further parents.
            parameters: the operation's parameters, as JSON values.

        Raises:
            UsageError: a tensor has a name or a shape that this embedding does not have.
        """
        for name, tensor in tensors.items():
            if name not in self.tensors or tensor.shape != self.tensors[name].shape:
                had = {known: tuple(value.shape) for known, value in self.tensors.items()}
                raise UsageError(f"expected tensors like {had}, got {name} {tuple(tensor.shape)}")
        parents = tuple(parent.hash for parent in (self, *others))
        lineage = replace(self.lineage, operation=operation, parameters=parameters, parents=parents)
        return Embedding({**self.tensors, **tensors}, lineage)

    def to(self, device: "torch.device | str") -> "Embedding":
        """Return the same embedding with its tensors on `device`."""
        return Embedding({name: tensor.to(device) for name, tensor in self.tensors.items()}, self.lineage)

    def save(self, path: Path | str) -> Path:
        """Write one safetensors file atomically.

        Raises:
            UsageError: the name does not end in .safetensors.
            NotFiniteError: a tensor or a number of the provenance is NaN or infinity.
        """
        import torch
        from safetensors.torch import save

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
        """Read an embedding file.

        Args:
            path: the file.
            model: the model that the embedding has to belong to; None: any.

        Raises:
            MissingPathError: there is no such file.
            UsageError: not an embedding file, of another format version, damaged, or of another model.
        """
        path = Path(path)
        if path.suffix.lower() != SUFFIX:
            raise UsageError(f"expected an embedding file named *{SUFFIX}, got {path.name}; pickles (.pt) are refused")
        if not path.is_file():
            raise MissingPathError(f"expected an embedding file, found none at {path}")
        with open_safetensors(path, str(path), UsageError) as file:
            metadata = file.metadata() or {}
            # Clones, because the file's own tensors share its memory.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
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
        """Refuse another model than this embedding's.

        Raises:
            UsageError: the embedding belongs to another model than `model`.
        """
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
        """Refuse NaN and infinity.

        Raises:
            NotFiniteError: a floating tensor holds NaN or infinity.
        """
        import torch

        for name, tensor in self.floating.items():
            if not bool(torch.isfinite(tensor).all()):
                raise NotFiniteError(f"expected finite values in the embedding, tensor {name} holds NaN or infinity")


def _read_lineage(text: str, where: str) -> Lineage:
    """Return the provenance in a file's metadata.

    Raises:
        UsageError: it can't be read, or a field is missing.
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
