"""Lightning modules of both training stages: their losses, optimizer and logs."""

from abc import ABC, abstractmethod
from typing import Any

import lightning
import torch
from torch import Tensor

from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, SMALL_SIZE
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.losses import masked_mean, reconstruction_loss
from thalweg.earth.training.masking import mask_context, mask_sensors, random_gain
from thalweg.earth.training.tiles import Tile, draw_targets

SPREAD_WEIGHT = 0.1
"""Weight of the spread's likelihood in the loss of the fusion."""

MIN_SPREAD = 1e-3
"""Lower bound of a predicted spread in the likelihood, in standard deviations of the dimension."""


class StageModule(lightning.LightningModule, ABC):
    """Base of both stages: the optimizer, its schedule and the logged losses."""

    config: TrainingConfig

    @abstractmethod
    def losses(self, tile: Tile) -> dict[str, Tensor]:
        """Return the named losses (scalars) of a tile; their sum is minimised."""

    def training_step(self, tile: Tile, index: int) -> Tensor:
        """Log the losses of a tile and return their sum."""
        losses = self.losses(tile)
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=1, prog_bar=True)
        return torch.stack(list(losses.values())).sum()

    def validation_step(self, tile: Tile, index: int) -> None:
        """Log the losses of a held-out tile."""
        # The same masking at every validation, so that its curve shows the model alone.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(index)
            losses = self.losses(tile)
        self.log_dict({f"validation/{name}": value for name, value in losses.items()}, batch_size=1)

    def configure_optimizers(self) -> Any:
        """Return AdamW with warm-up and decay."""
        config = self.config
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            config.learning_rate,
            total_steps=max(config.steps, config.warm_up + 1),
            pct_start=min(0.5, config.warm_up / max(config.steps, 1)),
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Tile, device: torch.device, dataloader_idx: int) -> Tile:
        """Return a tile with all tensors on a device."""
        contexts = {name: context.to(device) for name, context in batch.contexts.items()}
        return Tile(contexts, batch.centre_days.to(device))


class AutoencoderModule(StageModule):
    """Stage 1: one sensor's autoencoder learns to encode a masked context as the full one, and to reconstruct it.

    Two losses for the full and for the masked context: the consistency loss, distance of the encoding from the linear
    encoding of the full context, trains the encoder's residual; the reconstruction loss trains the decoder.

    The encoder's linear path and its attention to neighbours stay fixed. Trained on reconstruction they become
    sharper, and similar places move apart.
    """

    def __init__(self, autoencoder: Autoencoder, config: TrainingConfig) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config
        encoder = autoencoder.encoder
        for fixed in (encoder.linear, encoder.expected, encoder.neighbours):
            fixed.requires_grad_(False)

    def losses(self, tile: Tile) -> dict[str, Tensor]:
        """Return the consistency and reconstruction losses of a tile."""
        config, encoder = self.config, self.autoencoder.encoder
        context = random_gain(tile.contexts[self.autoencoder.sensor.name], config.masking.gain)
        samples = encoder.sample(context, tile.centre_days)
        masked = encoder.encode(encoder.sample(mask_context(context, config.masking), tile.centre_days))
        with torch.no_grad():
            linear = encoder.encode(samples, with_residual=False).values
        full = encoder.encode(samples)
        targets = draw_targets(context, tile.centre_days, config.target_dates, config.neighbour_weight)
        losses = {}
        for source, encoding in (("full", full), ("masked", masked)):
            change = (encoding.values - linear)[:, : encoder.smooth_size].abs()
            losses[f"consistency/{source}"] = masked_mean(change, encoding.observed)
            losses[f"reconstruction/{source}"] = reconstruction_loss(
                self.autoencoder, encoding.values.detach(), targets, context.present, config.loss
            )
        return losses


class FusionModule(StageModule):
    """Stage 2: the fusion learns one embedding from which every frozen decoder reconstructs its context.

    The linear part stays fixed. The consistency loss trains the residual to correct for masked dates, bands and
    sensors, the likelihood trains the predicted spread, and the reconstruction losses train the heads.
    """

    def __init__(self, model: EarthModel, config: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        model.autoencoders.requires_grad_(False)
        model.fusion.linear.requires_grad_(False)

    def losses(self, tile: Tile) -> dict[str, Tensor]:
        """Return the consistency loss, the spread's likelihood and the reconstruction losses of a tile."""
        config, model = self.config, self.model
        contexts = {name: random_gain(context, config.masking.gain) for name, context in tile.contexts.items()}
        with torch.no_grad():
            encodings = model.encode(contexts, tile.centre_days)
            masked_contexts = mask_sensors(contexts, tile.centre_days, model.reference.name, config.masking)
            masked_encodings = model.encode(masked_contexts, tile.centre_days)
            linear = model.fusion.linear_embedding(*model.fusion.complete(encodings)).movedim(-1, 1)
        full, masked = model.fusion(encodings), model.fusion(masked_encodings)
        scale = model.fusion.embedding_scale[:, None, None]
        observed = torch.stack([encoding.observed for encoding in masked_encodings.values()]).amax(0)
        change = ((masked.values - full.values) / scale).detach().abs()
        spread = (masked.spread / scale).clamp(min=MIN_SPREAD)
        losses = {
            "consistency": masked_mean((masked.values - linear).abs() / scale, observed)
            + masked_mean((full.values - linear).abs() / scale, observed),
            # Laplace likelihood: the errors have heavier tails than a Gaussian.
            "spread": SPREAD_WEIGHT * masked_mean(change / spread + spread.log(), observed),
        }
        for name, context in contexts.items():
            targets = draw_targets(context, tile.centre_days, config.target_dates, config.neighbour_weight)
            for source, values in (("full", full.values.detach()), ("masked", masked.values.detach())):
                for size in (SMALL_SIZE, FULL_SIZE):
                    encoding = model.fusion.sensor_encoding(values, name, size)
                    losses[f"{name}/{source}{size}"] = reconstruction_loss(
                        model.autoencoder(name), encoding, targets, context.present, config.loss
                    )
        return losses
