"""Checkpoints of autoencoders and fusions: their card, and how a module is saved and loaded."""

from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from thalweg.earth.sensors import Declaration, Sensor
from thalweg.errors import UsageError
from thalweg.io.checkpoints import CARD, ModelFormat, load_state


class CheckpointCard(Declaration):
    """Contents of a checkpoint's `model.json`."""

    format: int = Field(description="version of this layout")
    kind: str = Field(description="autoencoder or fusion")
    sensors: tuple[Sensor, ...] = Field(description="declarations; one for an autoencoder")
    content_hash: str = Field(description="SHA-256 of the tensors: names, types, shapes and bytes")
    package_version: str = Field(description="version of thalweg that wrote it")
    training: dict[str, Any] = Field(default={}, description="seed, data and settings it was trained with")
    card_hash: str | None = Field(default=None, description="SHA-256 of all other fields; none in older cards")


CHECKPOINT = ModelFormat(CheckpointCard, version=1, label="a checkpoint", remedy="get the checkpoint again")
"""Layout of a checkpoint folder."""


def save_checkpoint(
    module: nn.Module, kind: str, sensors: tuple[Sensor, ...], folder: Path, training: dict[str, Any]
) -> CheckpointCard:
    """Write a module's tensors and card to a new folder, whole or not at all.

    Args:
        module: an autoencoder or a fusion.
        kind: `autoencoder` or `fusion`.
        sensors: declarations of its sensors, in its order.
        folder: must not exist.
        training: record of its training; JSON values only.

    Returns:
        The card as written.

    Raises:
        UsageError: the folder exists.
        ThalwegError: it cannot be written.
    """
    return CHECKPOINT.write(folder, module.state_dict(), kind=kind, sensors=sensors, training=training)


def read_checkpoint_card(folder: Path, kind: str | None = None) -> CheckpointCard:
    """Read and check a checkpoint's card; `kind` is the expected kind, any by default.

    Raises:
        MissingPathError: there is no such folder.
        UsageError: no checkpoint, or one of another kind or version, or a damaged one.
    """
    card = CHECKPOINT.read_card(folder, kind)
    if not card.sensors:
        raise UsageError(f"{folder / CARD}: names no sensor: {CHECKPOINT.remedy}")
    return card


def load_checkpoint(module: nn.Module, folder: Path, card: CheckpointCard) -> None:
    """Fill a module with a checkpoint's tensors.

    Raises:
        UsageError: the tensors are damaged, not those of the card, or do not fit the module.
    """
    load_state(module, CHECKPOINT.read_tensors(folder, card.content_hash), folder)
