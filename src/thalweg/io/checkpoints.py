"""Model folders: a card (`model.json`) and tensors (`weights.safetensors`), verified by hashes, never unpickled.

One `ModelFormat` describes one kind of folder. Autoencoders, fusions and GPP models are all written and read here.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from thalweg._version import __version__
from thalweg.errors import MissingPathError, UsageError
from thalweg.io.atomic import atomic_folder
from thalweg.io.hashing import content_hash
from thalweg.io.json_files import read_json
from thalweg.io.safetensors_files import read_tensors

CARD, WEIGHTS = "model.json", "weights.safetensors"
"""Names of the two files of a model folder."""

Card = TypeVar("Card", bound=BaseModel)


def bytes_hash(content: bytes) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def card_hash(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a card's JSON fields without `card_hash`, hexadecimal: declarations decide results too."""
    others = {name: value for name, value in fields.items() if name != "card_hash"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ModelFormat(Generic[Card]):
    """Layout of one kind of model folder.

    Attributes:
        card: pydantic model of `model.json`, with the fields `format`, `kind`, `content_hash` and `package_version`,
            and `card_hash` where the card itself is verified too.
        version: value of the card's `format` that this version writes and reads.
        label: name of such a folder in messages, with its article, for example `a checkpoint`.
        remedy: advice on a damaged folder, for example `get the checkpoint again`.
    """

    card: type[Card]
    version: int
    label: str
    remedy: str

    def write(
        self, folder: Path, tensors: Mapping[str, Tensor], files: Mapping[str, bytes] | None = None, /, **fields: Any
    ) -> Card:
        """Write a model folder, whole or not at all.

        Args:
            folder: must not exist.
            tensors: by name, any shapes and dtypes; they are stored contiguous and on the CPU.
            files: contents of other files by name, such as models in the format of their library; none by default.
            fields: of the card, without `format`, `content_hash`, `package_version` and `card_hash`.

        Returns:
            The card as written.

        Raises:
            UsageError: the folder exists.
            ThalwegError: it cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        card = self.card(format=self.version, content_hash=content_hash(stored), package_version=__version__, **fields)
        if "card_hash" in self.card.model_fields:
            card = card.model_copy(update={"card_hash": card_hash(json.loads(card.model_dump_json()))})
        with atomic_folder(folder, SafetensorError) as unfinished:
            save_file(stored, unfinished / WEIGHTS)
            for name, content in (files or {}).items():
                (unfinished / name).write_bytes(content)
            (unfinished / CARD).write_text(card.model_dump_json(indent=2) + "\n")
        return card

    def read_card(self, folder: Path, kind: str | None = None) -> Card:
        """Read and check the card of a model folder.

        Args:
            folder: a model folder.
            kind: expected value of the card's `kind`; any by default.

        Raises:
            MissingPathError: there is no such folder.
            UsageError: the folder holds no card, or one of another kind or version, or a damaged one.
        """
        path = folder / CARD
        if not path.is_file():
            error = UsageError if folder.exists() else MissingPathError
            raise error(f"{folder}: not {self.label}: expected {CARD} and {WEIGHTS} in it")
        fields = read_json(path)
        found = fields if isinstance(fields, dict) else {}
        if kind is not None and isinstance(found.get("kind"), str) and found["kind"] != kind:
            raise UsageError(f"{folder}: a model of kind {found['kind']}, expected {kind}")
        if isinstance(found.get("format"), int) and found["format"] != self.version:
            raise UsageError(
                f"{path}: format {found['format']}, of thalweg {found.get('package_version')}; this version reads "
                f"{self.version}: update thalweg or {self.remedy}"
            )
        try:
            card = self.card.model_validate(fields)
        except ValidationError as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"{path}: not the card of {self.label} ({reason}): {self.remedy}") from error
        written = found.get("card_hash")
        if written is not None and written != card_hash(found):
            raise UsageError(f"{path}: changed since it was written (hash differs): {self.remedy}")
        return card

    def read_tensors(self, folder: Path, expected_hash: str) -> dict[str, Tensor]:
        """Return the tensors of a model folder by name, verified by the `content_hash` of its card.

        Raises:
            UsageError: the tensors are missing, damaged, or not those of the card.
        """
        path = folder / WEIGHTS
        tensors = read_tensors(path, str(path), UsageError)
        if content_hash(tensors) != expected_hash:
            raise UsageError(f"{path}: the tensors are not those of {CARD} (hash differs): {self.remedy}")
        return tensors

    def read_file(self, folder: Path, name: str, expected_hash: str) -> bytes:
        """Return the content of another file of a model folder, verified by the hash in its card.

        Raises:
            UsageError: the name is a path, or the file is missing or not that of the card.
        """
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise UsageError(f"{path}: no such file, which {CARD} names: {self.remedy}")
        content = path.read_bytes()
        if bytes_hash(content) != expected_hash:
            raise UsageError(f"{path}: not the file of {CARD} (hash differs): {self.remedy}")
        return content


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Fill a module with tensors by name.

    Raises:
        UsageError: names or shapes are not those of the module; the message names `folder`.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UsageError(f"{folder}: weights do not fit this version's network ({reason}): retrain") from error
