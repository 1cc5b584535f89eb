"""Lightning modules of both training stages: their losses, optimizer and logs."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, Protocol, Self, TypeVar

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from thalweg.earth.declarations import Sensor
from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.context import HALO, SAME_DAY
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, SMALL_SIZE, FusionOutput
from thalweg.earth.model.sensor_encoding import Encoding
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.losses import masked_mean, reconstruction_loss
from thalweg.earth.training.masking import disturb, mask_context, mask_sensors
from thalweg.earth.training.start import STATE_DIMENSIONS
from thalweg.earth.training.tiles import Tile, draw_targets

SPREAD_WEIGHT, CONSISTENCY_WEIGHT, PROBE_WEIGHT, TRAIT_WEIGHT = 0.05, 0.1, 0.3, 0.05
"""Weights in the loss of the fusion; the reconstruction of each sensor from each size has 1."""

ANCHOR_WEIGHT = 2.0
"""Weight of the departure of the context's dimensions from their closed-form start."""

SMALL_NEIGHBOUR_WEIGHT = 0.1
"""Weight of other dates in the reconstruction from the first 7 dimensions, relative to that from all."""

AUXILIARY_WEIGHTS = {SMALL_SIZE: 0.1, FULL_SIZE: 0.4}
"""Weight of the reconstruction of a sensor that is not the reference, by the size of the embedding."""

NDVI_WEIGHT = 6.0
"""Weight of NDVI among the linear probes, relative to a band."""

TRAIT_SPREAD_WEIGHT = 0.2
"""Weight of the likelihood of a trait's spread, relative to the error of the trait."""

MAX_PROBE_DAYS = 6.0
"""Largest distance in days of an auxiliary sensor's date that a linear probe reads at a centre date."""

NDVI_SCALE = 4.0
"""Factor that gives NDVI about the variance of a standardised band."""

MIN_SCHEDULED_STEPS = 4
"""Steps that the schedule of the learning rate needs to rise and fall."""

MIN_SPREAD = 1e-3
"""Lower bound of a predicted spread in the likelihood, in standard deviations of the dimension."""


class OnDevice(Protocol):
    """Sample that can be moved to a device."""

    def to(self, device: torch.device | str) -> Self:
        """Return the sample on a device."""


Sample = TypeVar("Sample", bound=OnDevice)


class StageModule(lightning.LightningModule, ABC, Generic[Sample]):
    """Base of both stages: the optimizer, its schedule and the logged losses."""

    config: TrainingConfig

    @abstractmethod
    def losses(self, sample: Sample) -> dict[str, Tensor]:
        """Return the named losses (scalars) of a sample; their sum is minimised."""

    def training_step(self, sample: Sample, index: int) -> Tensor:
        """Log the losses of a sample and return their sum."""
        losses = self.losses(sample)
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=1, prog_bar=True)
        return torch.stack(list(losses.values())).sum()

    def validation_step(self, sample: Sample, index: int) -> None:
        """Log the losses of a held-out sample."""
        # The same masking at every validation, so that its curve shows the model alone.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(index)
            losses = self.losses(sample)
        self.log_dict({f"validation/{name}": value for name, value in losses.items()}, batch_size=1)

    def configure_optimizers(self) -> Any:
        """Return AdamW with warm-up and decay."""
        config = self.config
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay)
        steps = max(config.steps, config.warm_up + 1, MIN_SCHEDULED_STEPS)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            config.learning_rate,
            total_steps=steps,
            pct_start=min(0.5, (config.warm_up + 1) / steps),  # the first step counts
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Sample, device: torch.device, dataloader_idx: int) -> Sample:
        """Return a sample with all tensors on a device."""
        return batch.to(device)


class AutoencoderModule(StageModule[Tile]):
    """Stage 1: one sensor's autoencoder reconstructs the centre dates and other dates from a masked context."""

    def __init__(self, autoencoder: Autoencoder, config: TrainingConfig) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config

    def losses(self, sample: Tile) -> dict[str, Tensor]:
        """Return the reconstruction loss of a tile."""
        config, tile = self.config, sample
        context = disturb(tile.contexts[self.autoencoder.sensor.name], config.masking)
        masked = mask_context(context, tile.centre_days, config.masking)
        encoding = self.autoencoder.encoder(masked, tile.centre_days, tile.stride)
        targets = draw_targets(context, tile.centre_days, config.target_dates, config.neighbour_weight, tile.stride)
        loss = reconstruction_loss(self.autoencoder, encoding.values, targets, context.present, config.loss)
        return {"reconstruction": loss}


@dataclass(frozen=True)
class EncodedTile:
    """A tile as the frozen encoders see it.

    Attributes:
        tile: the tile, disturbed.
        full: its encodings by sensor name.
        masked: the encodings of its masked contexts.
    """

    tile: Tile
    full: dict[str, Encoding]
    masked: dict[str, Encoding]

    def to(self, device: torch.device | str) -> "EncodedTile":
        """Return the encoded tile on a device."""
        full, masked = (
            {name: encoding.to(device) for name, encoding in encodings.items()}
            for encodings in (self.full, self.masked)
        )
        return EncodedTile(self.tile.to(device), full, masked)


class EncodedTiles(IterableDataset[EncodedTile]):
    """Tiles that frozen encoders have encoded once: an endless stream of random ones for training, or all in turn.

    The encoders take most of the time of a step of the fusion; its own networks are small and see each tile often.

    Args:
        model: its encoders are used, in evaluation mode.
        tiles: tiles to encode.
        config: masking, and the seed of the order.
        count: number of tiles to encode, all of `tiles` at most.
        endless: whether to draw random tiles for ever.
    """

    def __init__(
        self, model: EarthModel, tiles: Iterable[Tile], config: TrainingConfig, count: int, endless: bool
    ) -> None:
        super().__init__()
        self.seed = config.seed
        self.endless = endless
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(config.seed)
            self.encoded = [self._encode(model, tile, config) for tile in islice(tiles, count)]

    @staticmethod
    def _encode(model: EarthModel, tile: Tile, config: TrainingConfig) -> EncodedTile:
        contexts = {name: disturb(context, config.masking) for name, context in tile.contexts.items()}
        masked = mask_sensors(contexts, tile.centre_days, model.reference.name, config.masking)
        full_encodings, masked_encodings = (
            model.encode(views, tile.centre_days, tile.stride) for views in (contexts, masked)
        )
        return EncodedTile(replace(tile, contexts=contexts), full_encodings, masked_encodings)

    def __iter__(self) -> Iterator[EncodedTile]:
        if not self.endless:
            yield from self.encoded
            return
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            for index in torch.randperm(len(self.encoded), generator=generator).tolist():
                yield self.encoded[index]


class FusionModule(StageModule[EncodedTile]):
    """Stage 2: the fusion learns one embedding from which every frozen decoder reconstructs its context.

    Both sizes reconstruct, from the full and from a masked context: the first 7 dimensions the centre date, all
    dimensions other dates too. Linear probes of bands, their logarithms and indices keep the embedding readable by
    linear models. On simulated landscapes the traits are learned too, with a small weight.
    """

    def __init__(self, model: EarthModel, config: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        model.autoencoders.requires_grad_(False)
        fusion = model.fusion
        count = len(fusion.band_mean) + len(fusion.log_mean) + (ndvi_bands(model.reference) is not None)
        self.start = deepcopy(fusion.linear).requires_grad_(False)
        self.probes = nn.ModuleDict({str(size): nn.Linear(size, count) for size in (SMALL_SIZE, FULL_SIZE)})

    def losses(self, sample: EncodedTile) -> dict[str, Tensor]:
        """Return the losses of an encoded tile."""
        config, model, tile = self.config, self.model, sample.tile
        full, masked = model.fusion(sample.full), model.fusion(sample.masked)
        masked_encodings, contexts = sample.masked, tile.contexts
        observed = torch.stack([encoding.observed for encoding in masked_encodings.values()]).amax(0)
        scale = model.fusion.embedding_scale[:, None, None]
        change = (masked.values - full.values.detach()).abs() / scale
        spread = (masked.spread / scale).clamp(min=MIN_SPREAD)
        losses = {
            "consistency": CONSISTENCY_WEIGHT * masked_mean(change, observed),
            # Laplace likelihood: the errors have heavier tails than a Gaussian.
            "spread": SPREAD_WEIGHT * masked_mean(change.detach() / spread + spread.log(), observed),
        }
        for name, context in contexts.items():
            for size, auxiliary_weight in AUXILIARY_WEIGHTS.items():
                weight = 1.0 if name == model.reference.name else auxiliary_weight
                near = config.neighbour_weight * (SMALL_NEIGHBOUR_WEIGHT if size == SMALL_SIZE else 1.0)
                targets = draw_targets(context, tile.centre_days, config.target_dates, near, tile.stride)
                for source, fused in (("full", full), ("masked", masked)):
                    encoding = model.fusion.sensor_encoding(fused.values, name, size)
                    losses[f"{name}/{source}{size}"] = weight * reconstruction_loss(
                        model.autoencoder(name), encoding, targets, context.present, config.loss
                    )
        losses["anchor"] = ANCHOR_WEIGHT * self.anchor_loss(full, sample.full)
        losses["probes"] = PROBE_WEIGHT * self.probe_loss(full, tile)
        for name, truth in tile.truth.items():
            if model.fusion.trait_head(name).is_trained:
                losses[f"trait/{name}"] = TRAIT_WEIGHT * self.trait_loss(full, name, truth)
        return losses

    def anchor_loss(self, fused: FusionOutput, encodings: Mapping[str, Encoding]) -> Tensor:
        """Return the departure of the context's dimensions from their closed-form start."""
        fusion = self.model.fusion
        completed, _ = fusion.complete(encodings)
        start = fusion.bounded(self.start(fusion.inputs(completed))).movedim(-1, 1)
        of_context = slice(SMALL_SIZE + STATE_DIMENSIONS, None)
        change = ((fused.values - start) / fusion.embedding_scale[:, None, None])[:, of_context]
        observed = torch.stack([encoding.observed for encoding in encodings.values()]).amax(0)
        return masked_mean(change.square(), observed)

    def probe_loss(self, fused: FusionOutput, tile: Tile) -> Tensor:
        """Return the error of linear probes of what the sensors show at each centre date."""
        fusion = self.model.fusion
        targets, known = centre_targets(self.model, tile)
        errors = [
            masked_mean((self.probes[str(size)](fusion.standardised(fused.values, size)) - targets).abs(), known)
            for size in (SMALL_SIZE, FULL_SIZE)
        ]
        return torch.stack(errors).sum()

    def trait_loss(self, fused: FusionOutput, name: str, truth: Tensor) -> Tensor:
        """Return the error of a trait from both sizes, and the Laplace likelihood of its spread."""
        losses = []
        known = truth.isfinite()
        for size in (SMALL_SIZE, FULL_SIZE):
            head = self.model.fusion.trait_head(name, size)
            value, half_width = head(self.model.fusion.standardised(fused.values, size))
            error = ((value - truth.nan_to_num()) / head.scale).abs()
            spread = (half_width / head.scale).clamp(min=MIN_SPREAD)
            likelihood = error.detach() / spread + spread.log()
            losses.append(masked_mean(error + TRAIT_SPREAD_WEIGHT * likelihood, known.to(error.dtype)))
        return torch.stack(losses).sum()


def ndvi_bands(sensor: Sensor) -> tuple[int, int] | None:
    """Return the positions of a sensor's red and near-infrared band, None if it lacks one of them."""
    red, infrared = sensor.band_by_common_name("red"), sensor.band_by_common_name("nir")
    infrared = infrared or sensor.band_by_common_name("nir08")
    return None if red is None or infrared is None else (sensor.bands.index(red), sensor.bands.index(infrared))


def centre_targets(model: EarthModel, tile: Tile) -> tuple[Tensor, Tensor]:
    """Return what linear probes read at the centre dates, standardised, and where it is known.

    Returns:
        (Q, h, w, P) each: the bands of all sensors on their nearest date (at most `MAX_PROBE_DAYS` away), the
        logarithms of the reflectance bands, and the reference sensor's NDVI if it has the bands. The second tensor
        weighs them, 0 where unknown.
    """
    fusion = model.fusion
    inner = slice(HALO, -HALO, tile.stride)
    rows, columns = next(iter(tile.contexts.values())).valid[0, 0, inner, inner].shape
    values, known = {}, {}
    for sensor in fusion.sensors:
        context = tile.contexts.get(sensor.name)
        if context is None or not len(context.days):
            empty = tile.centre_days.new_zeros(len(tile.centre_days), rows, columns, len(sensor.bands))
            values[sensor.name] = known[sensor.name] = empty
            continue
        distance = (context.days[None] - tile.centre_days[:, None]).abs()
        near = distance.amin(1) < (SAME_DAY if sensor.is_reference else MAX_PROBE_DAYS)
        nearest = distance.argmin(1)
        values[sensor.name] = context.values[nearest][..., inner, inner].movedim(1, -1)
        usable = context.valid[nearest][..., inner, inner].movedim(1, -1) * near[:, None, None, None]
        known[sensor.name] = usable * context.present
    bands, bands_known = (torch.cat(list(parts.values()), -1) for parts in (values, known))
    targets = [(bands - fusion.band_mean) / fusion.band_scale]
    targets.append(fusion.logarithms(bands[..., fusion.log_positions]))
    all_known = [bands_known, bands_known[..., fusion.log_positions]]
    if (pair := ndvi_bands(model.reference)) is not None:
        here = values[model.reference.name]
        red, infrared = here[..., pair[0]], here[..., pair[1]]
        targets.append((NDVI_SCALE * (infrared - red) / (infrared + red).clamp(min=0.01))[..., None])
        all_known.append(NDVI_WEIGHT * known[model.reference.name][..., list(pair)].amin(-1, keepdim=True))
    return torch.cat(targets, -1), torch.cat(all_known, -1)
