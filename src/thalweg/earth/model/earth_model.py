"""Earth model: the frozen autoencoders of several sensors and their fusion, to load, embed with and decode with."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from thalweg.devices import read_device
from thalweg.earth.declarations import Sensor
from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.checkpoints import load_checkpoint, read_checkpoint_card, save_checkpoint
from thalweg.earth.model.context import SensorContext
from thalweg.earth.model.fusion import FULL_SIZE, SMALL_SIZE, TRAITS, Fusion, FusionOutput
from thalweg.earth.model.sensor_encoding import Encoding
from thalweg.earth.sensors import sensor_by_name
from thalweg.errors import UsageError, unknown_name
from thalweg.io.atomic import atomic_folder
from thalweg.io.hashing import hash_uri

if TYPE_CHECKING:
    import xarray as xr

SHIPPED = Path(__file__).parents[1] / "weights"
"""Folder of the weights that ship with the package (docs/model-card.md)."""


class EarthModel(nn.Module):
    """Autoencoders of several sensors and their fusion.

    A model folder has one checkpoint per sensor, in a folder of its name, and that of the fusion in `fusion/`.

    Attributes:
        autoencoders: by sensor name.
        fusion: fusion of their encodings.
        identifier: `thalweg-earth-` and 12 digits of the hash of all tensors; `untrained` before it is saved.
        uri: URI of the model, its whole hash (RFC 6920); of a model that was not loaded, the hash of its identifier.

    Example:
        >>> model = EarthModel.load()
        >>> model.sensors
        ('sentinel-2', 'sentinel-1')
    """

    def __init__(self, autoencoders: Mapping[str, Autoencoder], fusion: Fusion) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleDict(dict(autoencoders))
        self.fusion = fusion
        self.identifier = "untrained"
        self._training: dict[str, dict[str, Any]] = {}
        self.uri = hash_uri(self.identifier)

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors, in the order of the fusion."""
        return tuple(sensor.name for sensor in self.fusion.sensors)

    @property
    def reference(self) -> Sensor:
        """Sensor whose dates the embeddings have."""
        return self.fusion.reference

    def autoencoder(self, sensor: str) -> Autoencoder:
        """Return the autoencoder of a sensor.

        Raises:
            UsageError: the model does not have the sensor.
        """
        if sensor not in self.autoencoders:
            raise UsageError(f"sensor {sensor!r}: the model knows {', '.join(self.sensors)}")
        return cast(Autoencoder, self.autoencoders[sensor])

    def check_made(self, dataset: "xr.Dataset") -> None:
        """Check that this model made the embeddings of a dataset.

        Raises:
            UsageError: another model did, or the dataset holds no embeddings.
        """
        made_by = dataset.attrs.get("thalweg:model")
        if made_by is None:
            raise UsageError("not a dataset of embeddings: open one with thalweg.open(path)")
        if made_by != self.identifier:
            raise UsageError(
                f"embeddings of {made_by}, model {self.identifier}: embed the cube again with this model, or name the "
                "folder of the former as `model`"
            )

    def encode(
        self, contexts: Mapping[str, SensorContext], centre_days: Tensor, stride: int = 1
    ) -> dict[str, Encoding]:
        """Encode the contexts of some or all sensors; those of other sensors are ignored.

        Args:
            contexts: contexts (T, C, H, W) by sensor name.
            centre_days: (Q,), float32, days since 2015-01-01.
            stride: encode every so many pixels in each direction only.

        Returns:
            Encodings (Q, E, H - 14, W - 14) by sensor name, fewer rows and columns with a stride.
        """
        return {
            name: self.autoencoder(name).encoder(context, centre_days, stride)
            for name, context in contexts.items()
            if name in self.autoencoders
        }

    def forward(self, contexts: Mapping[str, SensorContext], centre_days: Tensor) -> FusionOutput:
        """Embed contexts.

        Args:
            contexts: contexts (T, C, H, W) of some or all sensors, by sensor name.
            centre_days: (Q,), float32, days since 2015-01-01.

        Returns:
            Embeddings and their spread, both (Q, 32, H - 14, W - 14), float32.
        """
        return self.fusion(self.encode(contexts, centre_days))

    def __call__(self, *inputs: Any, **named: Any) -> FusionOutput:
        """Embed contexts; see `forward`."""
        return cast(FusionOutput, super().__call__(*inputs, **named))

    def decode(self, embeddings: Tensor, sensor: str, days: Tensor | float = 0.0, size: int | None = None) -> Tensor:
        """Decode embeddings to the measurements of a sensor, in its units.

        Args:
            embeddings: (Q, K, h, w), K 7 or 32, float32; finite.
            sensor: name of one of the model's sensors.
            days: days from the date of each embedding to the date of the measurement: one number for all, or (Q, D).
            size: number of dimensions to decode from, 7 or 32, all by default; further dimensions have no influence.

        Returns:
            (Q, C, h, w) for one number of days, (Q, D, C, h, w) otherwise: reflectance as a fraction or backscatter
            in dB, float32, differentiable.

        Raises:
            UsageError: the model does not have the sensor, or `size` is neither 7 nor 32.
        """
        autoencoder = self.autoencoder(sensor)
        size = _checked_size(embeddings, size)
        encoding = self.fusion.sensor_encoding(embeddings, sensor, size)
        low, high = autoencoder.sensor.value_range
        if isinstance(days, Tensor):
            return autoencoder.reconstruct(encoding, days) * (high - low) + low
        decoded = autoencoder.reconstruct(encoding, embeddings.new_full((len(embeddings), 1), days))
        return decoded[:, 0] * (high - low) + low

    def decode_trait(
        self, embeddings: Tensor, name: str, size: int | None = None, bounded: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Decode embeddings to a trait, such as leaf area, with an interval.

        The traits were learned on simulated landscapes (docs/model-card.md).

        Args:
            embeddings: (Q, K, h, w), K 7 or 32, float32; finite.
            name: one of `TRAITS`.
            size: number of dimensions to decode from, 7 or 32, all by default.
            bounded: cut the trait to the values it can have; its gradient is zero where that happens.

        Returns:
            The trait and the half-width of its 68 % interval, (Q, h, w) each, float32, differentiable.

        Raises:
            UsageError: there is no such trait, the model was trained without it, or `size` is neither 7 nor 32.
        """
        if name not in TRAITS:
            raise unknown_name("trait", name, list(TRAITS))
        size = _checked_size(embeddings, size)
        if not self.fusion.trait_head(name, size).is_trained:
            raise UsageError(f"{name}: this model was trained without it: train on simulated landscapes too")
        return self.fusion.trait(embeddings, name, size, bounded)

    @classmethod
    def load(cls, folder: str | Path | None = None) -> "EarthModel":
        """Load a model, frozen and in evaluation mode.

        Args:
            folder: a model folder; the shipped weights by default.

        Raises:
            MissingPathError: the folder, or one of its checkpoints, does not exist.
            UsageError: a checkpoint is damaged, or an encoder is not the one that the fusion was trained on.
        """
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
        model._training["fusion"] = card.training
        for name in model.sensors:
            own = read_checkpoint_card(folder / name)
            expected = encoders.get(name)
            if expected is not None and expected != own.content_hash:
                raise UsageError(
                    f"{folder / name}: not the encoder the fusion was trained on (hash differs): fuse again"
                )
            parts.append(own.content_hash)
            model._training[name] = own.training
        text = "".join(parts)
        model.identifier = f"thalweg-earth-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        model.uri = hash_uri(text)
        return model.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, cache: str | Path | None = None, offline: bool = False
    ) -> "EarthModel":
        """Load a model from a repository of the Hugging Face hub, or from a folder, frozen and in evaluation mode.

        Only cards and safetensors are downloaded, and their hashes are verified as `load` does.

        Args:
            name: `OWNER/NAME` of a repository, or a folder that `save_pretrained` wrote.
            revision: branch, tag or commit of a repository; the main branch by default.
            cache: folder of the hub's cache; the hub's own by default.
            offline: whether to take only what the cache holds.

        Raises:
            MissingPathError: there is neither such a folder nor such a repository.
            UsageError: it holds no model, or a damaged one.
            ThalwegError: the hub cannot be reached.
        """
        from thalweg.earth.hub.model_repository import repository_folder

        return cls.load(repository_folder(name, revision, cache, offline))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a model folder with a model card, whole or not at all; tensors and identifier stay the same.

        Args:
            folder: must not exist.

        Raises:
            UsageError: the folder exists.
            ThalwegError: it cannot be written.
        """
        from thalweg.earth.hub.hub_card import CARD_FILE, HubCard

        folder = Path(folder)
        with atomic_folder(folder) as unfinished:
            hashes = {}
            for name in self.sensors:
                own = self.autoencoder(name)
                training = self._training.get(name, {})
                hashes[name] = save_checkpoint(
                    own, "autoencoder", (own.sensor,), unfinished / name, training
                ).content_hash
            training = {**self._training.get("fusion", {}), "encoders": dict(hashes)}
            fusion = save_checkpoint(self.fusion, "fusion", self.fusion.sensors, unfinished / "fusion", training)
            written = EarthModel.load(unfinished)
            titles = {sensor.name: sensor.title for sensor in self.fusion.sensors}
            hashes["fusion"] = fusion.content_hash
            card = HubCard(written.identifier, titles, (SMALL_SIZE, FULL_SIZE), hashes)
            (unfinished / CARD_FILE).write_text(card.text(), "utf-8")
        return folder

    def push_to_hub(self, name: str, private: bool = False, message: str | None = None) -> str:
        """Upload the model with its card to a repository of the Hugging Face hub, which is created if need be.

        Args:
            name: `OWNER/NAME` of the repository.
            private: whether a new repository is private.
            message: title of the commit.

        Returns:
            URL of the commit.

        Raises:
            UsageError: `name` is not of that form.
            ThalwegError: the hub cannot be reached or refuses.
        """
        from thalweg.earth.hub.model_repository import upload_folder

        with tempfile.TemporaryDirectory() as scratch:
            return upload_folder(self.save_pretrained(Path(scratch) / "model"), name, private, message)


def _checked_size(embeddings: Tensor, size: int | None) -> int:
    """Return the number of dimensions to decode from, by default all of (Q, K, h, w).

    Raises:
        UsageError: it is neither 7 nor 32, or the embeddings have fewer.
    """
    size = embeddings.shape[1] if size is None else size
    if size not in (SMALL_SIZE, FULL_SIZE) or embeddings.shape[1] < size:
        raise UsageError(
            f"embeddings of {embeddings.shape[1]} dimensions, decoded from {size}: expected {SMALL_SIZE} or "
            f"{FULL_SIZE} of them"
        )
    return size


def load_autoencoder(folder: str | Path, sensor: str | None = None) -> Autoencoder:
    """Load the autoencoder of one sensor, frozen and in evaluation mode.

    Args:
        folder: checkpoint folder of stage 1.
        sensor: name of the expected sensor; any by default.

    Raises:
        MissingPathError: there is no such folder.
        UsageError: the checkpoint is damaged, of another sensor, or of other bands than the declared sensor has.
    """
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
    """Return the requested device (`cpu`, `cuda`, `cuda:1`, ...); by default a GPU if there is one.

    Raises:
        UsageError: there is no such device.
    """
    return read_device(requested or ("cuda" if torch.cuda.is_available() else "cpu"))
