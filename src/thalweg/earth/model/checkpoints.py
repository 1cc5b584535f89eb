"""Checkpoints: a folder of `model.json` and `weights.safetensors`, proved by a content hash, never unpickled."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from thalweg._version import __version__
from thalweg.earth.sensors import Declaration, Sensor
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.hashing import content_hash

FORMAT = 1


class Card(Declaration):
    """What a checkpoint's `model.json` holds."""

    format: int = Field(description="version of this layout")
    kind: str = Field(description="autoencoder or fusion")
    sensors: tuple[Sensor, ...] = Field(description="declarations; one for an autoencoder")
    content_hash: str = Field(description="SHA-256 of the tensors: names, types, shapes and bytes")
    package_version: str = Field(description="version of thalweg that wrote it")
    training: dict[str, Any] = Field(default={}, description="seed, data and settings it was trained with")
    card_hash: str | None = Field(default=None, description="SHA-256 of all other fields; none in older cards")


def card_hash(fields: Mapping[str, Any]) -> str:
    """SHA-256 of a card's fields as JSON, `card_hash` left out, hexadecimal: declarations decide results too."""
    others = {name: value for name, value in fields.items() if name != "card_hash"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def save(
    module: nn.Module, kind: str, sensors: tuple[Sensor, ...], folder: Path, training: dict[str, Any], *, replace: bool
) -> Card:
    """Write a module's tensors and card to a folder, all or nothing; refuses an existing one unless `replace`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if folder.exists() and not replace:
        raise UsageError(f"{folder}: exists already: choose another folder or remove it")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    card = Card(
        format=FORMAT,
        kind=kind,
        sensors=sensors,
        content_hash=content_hash(tensors),
        package_version=__version__,
        training=training,
    )
    card = card.model_copy(update={"card_hash": card_hash(json.loads(card.model_dump_json()))})
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        save_file(tensors, unfinished / "weights.safetensors")
        (unfinished / "model.json").write_text(card.model_dump_json(indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            raise ThalwegError(
                f"{folder}: could not be written ({error}): free some space or choose another disk"
            ) from error
        raise
    return card


def read_card(folder: Path) -> Card:
    """Read and check a checkpoint's card."""
    path = folder / "model.json"
    if not path.is_file():
        raise UsageError(f"{folder}: not a checkpoint: expected model.json and weights.safetensors in it")
    try:
        fields = json.loads(path.read_text())
        card = Card.model_validate(fields)
    except (ValueError, OSError, RecursionError) as error:  # pydantic's and json's faults are ValueErrors
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path}: not a model card of this package ({reason})") from error
    if card.format != FORMAT:
        raise UsageError(f"{path}: format {card.format}, this version reads {FORMAT}: update thalweg")
    if card.card_hash is not None and card.card_hash != card_hash(fields):
        raise UsageError(f"{path}: changed since it was written (hash differs): get the checkpoint again")
    if not card.sensors:
        raise UsageError(f"{path}: names no sensor: get the checkpoint again")
    return card


def load_into(module: nn.Module, folder: Path, card: Card) -> None:
    """Fill a module from a checkpoint whose hash proves it whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "weights.safetensors"
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UsageError(f"{path}: truncated or damaged ({error}): get the checkpoint again") from error
    if content_hash(tensors) != card.content_hash:
        raise UsageError(f"{path}: the tensors are not those of model.json (hash differs): get the checkpoint again")
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UsageError(f"{folder}: weights do not fit this version's network ({reason}): retrain") from error
