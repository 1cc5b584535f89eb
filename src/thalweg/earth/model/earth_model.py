"""A trained set: frozen autoencoders by sensor and the fusion on top, as one thing to load and use."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from thalweg.devices import read_device
from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.checkpoints import load_checkpoint, read_checkpoint_card
from thalweg.earth.model.context import SensorContext
from thalweg.earth.model.encoder import Encoding
from thalweg.earth.model.fusion import FULL, Fused, Fusion
from thalweg.earth.sensors import sensor_by_name
from thalweg.errors import UsageError

SHIPPED = Path(__file__).parents[1] / "weights"
"""The weights that come with the package (docs/model-card.md)."""


class EarthModel(nn.Module):
    """Autoencoders and their fusion.

    A model folder holds `fusion/` and one folder a sensor, each a checkpoint of its own.
    """

    def __init__(self, autoencoders: Mapping[str, Autoencoder], fusion: Fusion) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleDict(dict(autoencoders))
        self.fusion = fusion
        self.identifier = "untrained"

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors it fuses, in its order."""
        return tuple(sensor.name for sensor in self.fusion.sensors)

    def autoencoder(self, sensor: str) -> Autoencoder:
        """The autoencoder of a sensor."""
        return cast(Autoencoder, self.autoencoders[sensor])

    def encode(self, contexts: Mapping[str, SensorContext], centre_days: Tensor) -> dict[str, Encoding]:
        """Encode each sensor's context at Q centre days."""
        return {
            name: self.autoencoder(name).encoder(context, centre_days)
            for name, context in contexts.items()
            if name in self.autoencoders
        }

    def forward(self, contexts: Mapping[str, SensorContext], centre_days: Tensor) -> Fused:
        """Contexts (T, C, H, W) by sensor at Q centre days -> embeddings (Q, 32, H-14, W-14)."""
        return self.fusion(self.encode(contexts, centre_days))

    def __call__(self, *inputs: Any, **named: Any) -> Fused:
        """See `forward`."""
        return cast(Fused, super().__call__(*inputs, **named))

    def decode(self, embedding: Tensor, sensor: str, days: Tensor, size: int = FULL) -> Tensor:
        """Rebuild what a sensor sees: (Q, 32, h, w), days from the centre (Q, K) -> (Q, K, C, h, w) in 0..1.

        Only the first `size` values are used; values beyond them may hold anything finite.
        """
        return self.autoencoder(sensor).rebuild(self.fusion.encoding(embedding, sensor, size), days)

    @classmethod
    def load(cls, folder: str | Path | None = None) -> "EarthModel":
        """Load a model folder; the shipped weights by default."""
        folder = Path(folder) if folder is not None else SHIPPED
        card = read_checkpoint_card(folder / "fusion", "fusion")
        encoders = card.training.get("encoders", {})
        if not isinstance(encoders, dict):
            raise UsageError(f"{folder / 'fusion'}: encoders {encoders!s:.40}, expected hashes by sensor: fuse again")
        autoencoders = {sensor.name: load_autoencoder(folder / sensor.name) for sensor in card.sensors}
        fusion = Fusion(card.sensors)
        load_checkpoint(fusion, folder / "fusion", card)
        model = cls(autoencoders, fusion)
        parts = [card.content_hash]
        for name in model.sensors:
            own = read_checkpoint_card(folder / name)
            expected = encoders.get(name)
            if expected is not None and expected != own.content_hash:
                raise UsageError(
                    f"{folder / name}: not the encoder the fusion was trained on (hash differs): fuse again"
                )
            parts.append(own.content_hash)
        digest = hashlib.sha256("".join(parts).encode()).hexdigest()
        model.identifier = f"thalweg-earth-{digest[:12]}"
        return model.eval().requires_grad_(False)


def load_autoencoder(folder: str | Path, sensor: str | None = None) -> Autoencoder:
    """Load a stage 1 checkpoint, frozen; `UsageError` where it is another sensor's or damaged."""
    folder = Path(folder)
    card = read_checkpoint_card(folder, "autoencoder")
    declared = card.sensors[0]
    if sensor is not None and declared.name != sensor:
        raise UsageError(f"{folder}: a checkpoint of {declared.name}, expected one of {sensor}")
    known = sensor_by_name(declared.name)
    if not known.has_same_inputs(declared):
        raise UsageError(f"{folder}: its {declared.name} has other bands than the declared sensor: retrain")
    autoencoder = Autoencoder(declared)
    load_checkpoint(autoencoder, folder, card)
    return autoencoder.eval().requires_grad_(False)


def evaluation_device(requested: str | None = None) -> torch.device:
    """The device asked for, else a GPU where there is one."""
    return read_device(requested or ("cuda" if torch.cuda.is_available() else "cpu"))
