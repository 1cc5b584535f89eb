"""Lightning modules for both stages, and the two functions that run them."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader

from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.checkpoints import read_checkpoint_card, save_checkpoint
from thalweg.earth.model.context import SensorContext
from thalweg.earth.model.earth_model import EarthModel, load_autoencoder
from thalweg.earth.model.fusion import FULL, QUANTILE_LEVELS, SMALL, Fusion, LinearStart
from thalweg.earth.sensors import Declaration, Sensor
from thalweg.earth.training.losses import (
    LossWeights,
    absolute_error,
    masked_mean,
    spectral_angle,
    structural_dissimilarity,
)
from thalweg.earth.training.tiles import (
    Masking,
    RandomTiles,
    Targets,
    Tile,
    TrainingSite,
    mask_context,
    random_gain,
    targets,
)
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_folder


class TrainingConfig(Declaration):
    """Everything a training run depends on besides its data."""

    seed: int = Field(default=0, description="seed of initialisation, tiles and hiding")
    steps: int = Field(default=2000, ge=0, description="optimiser steps")
    tile: int = Field(default=24, ge=1, description="centre pixels of a step, each way")
    centres: int = Field(default=3, ge=1, description="centre dates of a step")
    target_dates: int = Field(default=6, ge=1, description="dates rebuilt around each centre date")
    learning_rate: float = Field(default=5e-4, gt=0, description="peak of the AdamW learning rate")
    weight_decay: float = Field(default=0.05, ge=0, description="AdamW weight decay")
    warm_up: int = Field(default=100, ge=1, description="steps of linear warm-up")
    neighbour_weight: float = Field(
        default=0.5, ge=0, le=1, description="weight of neighbouring dates and pixels in the loss; the centre has 1"
    )
    loss: LossWeights = Field(default=LossWeights(), description="weights of the losses")
    hiding: Masking = Field(default=Masking(), description="what is hidden in training")
    linear_start: LinearStart = Field(default=LinearStart(), description="how the fusion's fractions begin")
    validation_tiles: int = Field(default=16, ge=1, description="held-out tiles of each validation")
    calibration_tiles: int = Field(default=60, ge=1, description="held-out tiles that calibrate the spread")
    linear_tiles: int = Field(default=400, ge=1, description="tiles from which the linear start is fitted")


def context_loss(
    autoencoder: Autoencoder, encoding: Tensor, wanted: Targets, present: Tensor, weights: LossWeights
) -> Tensor:
    """The stage 1 loss of an encoding (Q, E, h, w) against its targets, over the bands that are present."""
    rebuilt = autoencoder.rebuild(encoding, wanted.days)[:, :, present]
    target = wanted.values[:, :, present]
    scale = autoencoder.encoder.scale[present][:, None, None]
    loss = weights.absolute_error * absolute_error(rebuilt / scale, target / scale, wanted.weight)
    if autoencoder.sensor.units == "reflectance" and int(present.sum()) > 1:
        loss = loss + weights.spectral_angle * spectral_angle(rebuilt, target, wanted.weight)
    if weights.structure and min(target.shape[-2:]) >= 7:
        loss = loss + weights.structure * structural_dissimilarity(
            rebuilt.flatten(0, 1), target.flatten(0, 1), wanted.weight.flatten(0, 1)
        )
    return loss


class _Stage(lightning.LightningModule):
    """What both stages share: the optimiser, its schedule and the logged losses."""

    settings: TrainingConfig

    def losses(self, tile: Tile) -> dict[str, Tensor]:
        """Named losses of a tile; their sum is minimised."""
        raise TypeError("a stage says its losses")

    def training_step(self, tile: Tile, index: int) -> Tensor:
        """Losses of one tile, logged and summed."""
        losses = self.losses(tile)
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=1, prog_bar=True)
        return torch.stack(list(losses.values())).sum()

    def validation_step(self, tile: Tile, index: int) -> None:
        """The same losses on held-out tiles."""
        # The same parts hidden at every validation, so that its curve shows the model alone.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(index)
            losses = self.losses(tile)
        self.log_dict({f"validation/{name}": value for name, value in losses.items()}, batch_size=1)

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and decay."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.settings.learning_rate, weight_decay=self.settings.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self.settings.learning_rate,
            total_steps=max(self.settings.steps, self.settings.warm_up + 1),
            pct_start=min(0.5, self.settings.warm_up / max(self.settings.steps, 1)),
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Tile, device: torch.device, dataloader_idx: int) -> Tile:
        """Tiles hold tensors in dictionaries: move each."""
        return Tile(
            {name: context.to(device) for name, context in batch.contexts.items()}, batch.centre_days.to(device)
        )


class AutoencoderStage(_Stage):
    """Stage 1: encode what is left of a context as if it were whole, and rebuild the whole from the encoding.

    The linear path and the smoothing over neighbours are fixed: trained to rebuild pixels they grow sharper, and
    places that are alike drift apart (docs/model-card.md).
    """

    def __init__(self, autoencoder: Autoencoder, settings: TrainingConfig) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.settings = settings
        encoder = autoencoder.encoder
        for fixed in (encoder.linear, encoder.expected, encoder.neighbours):
            fixed.requires_grad_(False)

    def losses(self, tile: Tile) -> dict[str, Tensor]:
        """Losses of staying where the whole context puts the encoding, and of rebuilding the whole from it."""
        settings, encoder = self.settings, self.autoencoder.encoder
        context = random_gain(tile.contexts[self.autoencoder.sensor.name], settings.hiding.gain)
        whole = encoder.sample(context, tile.centre_days)
        partial = encoder.encode(encoder.sample(mask_context(context, settings.hiding), tile.centre_days))
        with torch.no_grad():
            target = encoder.encode(whole, repaired=False).values
        full = encoder.encode(whole)
        wanted = targets(context, tile.centre_days, settings.target_dates, settings.neighbour_weight)
        losses = {}
        for source, encoding in (("whole", full), ("partial", partial)):
            moved = (encoding.values - target)[:, : encoder.smooth_size].abs()
            losses[f"staying/{source}"] = masked_mean(moved, encoding.seen)
            losses[f"rebuild/{source}"] = context_loss(
                self.autoencoder, encoding.values.detach(), wanted, context.present, settings.loss
            )
        return losses


class FusionStage(_Stage):
    """Stage 2: one embedding from which every frozen decoder rebuilds its context.

    What was fitted is fixed. The residual learns to undo what hidden dates, bands and sensors do to it; the heads
    learn to lead back to the decoders.
    """

    def __init__(self, model: EarthModel, settings: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        model.autoencoders.requires_grad_(False)
        model.fusion.linear.requires_grad_(False)

    def visible(self, contexts: Mapping[str, SensorContext], centre_days: Tensor) -> dict[str, SensorContext]:
        """Contexts with parts hidden, at least one sensor left; at times a single centre date and nothing else."""
        reference = self.model.fusion.reference.name
        if reference in contexts and torch.rand(()) < self.settings.hiding.context:
            day = centre_days[torch.randint(len(centre_days), ())]
            return {reference: contexts[reference].hide((contexts[reference].days - day).abs() >= 0.5)}
        kept = {name: mask_context(context, self.settings.hiding) for name, context in contexts.items()}
        for name in list(kept):
            if len(kept) > 1 and torch.rand(()) < self.settings.hiding.sensors:
                del kept[name]
        return kept

    def losses(self, tile: Tile) -> dict[str, Tensor]:
        """Losses of staying where the whole context puts the embedding, of its spread, and of rebuilding."""
        settings, model = self.settings, self.model
        contexts = {name: random_gain(context, settings.hiding.gain) for name, context in tile.contexts.items()}
        with torch.no_grad():
            whole = model.encode(contexts, tile.centre_days)
            partial = model.encode(self.visible(contexts, tile.centre_days), tile.centre_days)
            target = model.fusion.base(*model.fusion.join(whole)).movedim(-1, 1)
        full, fused = model.fusion(whole), model.fusion(partial)
        scale = model.fusion.embedding_scale[:, None, None]
        seen = torch.stack([encoding.seen for encoding in partial.values()]).amax(0)
        moved = ((fused.values - full.values) / scale).detach().abs()
        spread = (fused.spread / scale).clamp(min=1e-3)
        losses = {
            "staying": masked_mean((fused.values - target).abs() / scale, seen)
            + masked_mean((full.values - target).abs() / scale, seen),
            # Laplace likelihood: the errors have heavier tails than a Gaussian.
            "spread": 0.1 * masked_mean(moved / spread + spread.log(), seen),
        }
        for name, context in contexts.items():
            wanted = targets(context, tile.centre_days, settings.target_dates, settings.neighbour_weight)
            for source, values in (("whole", full.values.detach()), ("partial", fused.values.detach())):
                for size in (SMALL, FULL):
                    encoding = model.fusion.encoding(values, name, size)
                    autoencoder = model.autoencoder(name)
                    rebuilt = context_loss(autoencoder, encoding, wanted, context.present, settings.loss)
                    losses[f"{name}/{source}{size}"] = rebuilt
        return losses


def _fit(
    stage: _Stage, sites: Sequence[TrainingSite], settings: TrainingConfig, run: Path, record: dict[str, Any]
) -> None:
    """Train a stage; resumes from the run folder's last checkpoint, logs as CSV and TensorBoard."""
    identity, found = json.dumps(record, sort_keys=True), run / "run.json"
    if found.exists() and found.read_text() != identity:
        raise UsageError(f"{run}: the run of another training (other data or settings): choose another folder")
    run.mkdir(parents=True, exist_ok=True)
    found.write_text(identity)
    checkpoint = ModelCheckpoint(
        run, filename="last", every_n_train_steps=200, save_top_k=1, enable_version_counter=False
    )
    interactive = sys.stderr.isatty()
    trainer = lightning.Trainer(
        max_steps=settings.steps,
        accelerator="auto",
        devices=1,
        logger=[CSVLogger(run, name="csv", version=""), TensorBoardLogger(run, name="tensorboard", version="")],
        callbacks=[checkpoint, LearningRateMonitor(), *([RichProgressBar()] if interactive else [])],
        enable_progress_bar=interactive,
        enable_model_summary=False,
        val_check_interval=min(400, max(settings.steps, 1)),
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        gradient_clip_val=1.0,
    )
    tiles = RandomTiles(sites, settings.seed, settings.tile, settings.centres)
    held_out = RandomTiles(sites, settings.seed, settings.tile, settings.centres, validation=settings.validation_tiles)
    last = run / "last.ckpt"
    trainer.fit(
        stage,
        DataLoader(tiles, batch_size=None),
        DataLoader(held_out, batch_size=None),
        ckpt_path=str(last) if last.exists() else None,
    )


def _new_folder(out: str | Path) -> Path:
    if Path(out).exists():
        raise UsageError(f"{out}: exists already: choose another folder or remove it")
    return Path(out)


def _load_sites(data: Sequence[str | Path], sensors: Sequence[str], assume_clear: bool) -> list[TrainingSite]:
    if not data:
        raise UsageError("no data: expected one or more cubes to train on")
    return [TrainingSite.load(path, sensors, assume_clear) for path in data]


@torch.no_grad()
def _trajectories(autoencoder: Autoencoder, tiles: RandomTiles, count: int) -> Tensor:
    """Trajectories (N, samples) of well-supported pixels of `count` tiles."""
    gathered = []
    for tile, _ in zip(tiles, range(count), strict=False):
        samples = autoencoder.encoder.sample(tile.contexts[autoencoder.sensor.name], tile.centre_days)
        pixels = samples.trajectory.movedim(1, -1)[samples.seen[:, 0] > 0]
        gathered.append(pixels[torch.randperm(len(pixels))[:200]])
    return torch.cat(gathered)


def train_autoencoder(
    sensor: Sensor,
    data: Sequence[str | Path],
    out: str | Path,
    run: str | Path,
    settings: TrainingConfig | None = None,
    assume_clear: bool = False,
) -> Autoencoder:
    """Stage 1: train a sensor's autoencoder on cubes and write its checkpoint to `out`.

    Args:
        sensor: a declared sensor.
        data: cubes that hold it; at least one with all its bands.
        out: checkpoint folder to write; must not exist.
        run: folder of logs and of the state from which a killed run resumes.
        settings: seed, steps, losses and what is hidden.
        assume_clear: take cubes without a mask of clouds as clear everywhere.
    """
    settings = settings or TrainingConfig()
    out, run = _new_folder(out), Path(run)
    sites = _load_sites(data, [sensor.name], assume_clear)
    if not any(bool(site.contexts[sensor.name].present.all()) for site in sites):
        raise UsageError(f"no cube has all bands of {sensor.name}: the encoder needs one that does")
    lightning.seed_everything(settings.seed, verbose=False)
    autoencoder = Autoencoder(sensor)
    autoencoder.fit_statistics(site.contexts[sensor.name] for site in sites)
    tiles = RandomTiles(sites, settings.seed, settings.tile, settings.centres)
    autoencoder.fit_linear(_trajectories(autoencoder, tiles, settings.linear_tiles))
    record = _training_record(settings, sites)
    if settings.steps:
        _fit(AutoencoderStage(autoencoder, settings), sites, settings, run, {"sensor": sensor.name, **record})
    save_checkpoint(autoencoder, "autoencoder", (sensor,), out, record)
    return autoencoder


def train_fusion(
    encoders: Sequence[str | Path],
    data: Sequence[str | Path],
    out: str | Path,
    run: str | Path,
    settings: TrainingConfig | None = None,
    calibration: Sequence[str | Path] | None = None,
    assume_clear: bool = False,
) -> EarthModel:
    """Stage 2: fuse frozen encoders and write a model folder to `out`, the encoders copied bit for bit.

    Args:
        encoders: stage 1 checkpoint folders, the sensor that sets the dates among them.
        data: cubes that hold the sensors; one that lacks a sensor still teaches the others.
        out: model folder to write; must not exist.
        run: folder of logs and of the state from which a killed run resumes.
        settings: seed, steps, losses and what is hidden.
        calibration: those of `data` on which the predicted spread is calibrated; all by default.
        assume_clear: take cubes without a mask of clouds as clear everywhere.
    """
    import shutil

    settings = settings or TrainingConfig()
    out, run = _new_folder(out), Path(run)
    autoencoders = {a.sensor.name: a for a in map(load_autoencoder, encoders)}
    if len(autoencoders) < len(encoders):
        raise UsageError("two checkpoints are of the same sensor: give one of each")
    sensors = [autoencoder.sensor for autoencoder in autoencoders.values()]
    sites = _load_sites(data, list(autoencoders), assume_clear)
    lightning.seed_everything(settings.seed, verbose=False)
    model = EarthModel(autoencoders, Fusion(sensors))
    complete = [site for site in sites if len(site.contexts) == len(sensors)]
    if not complete:
        raise UsageError(f"no cube has all of {', '.join(autoencoders)}: fusion needs one that does")
    tiles = RandomTiles(complete, settings.seed, settings.tile, settings.centres)
    fit_linear_fusion(model, tiles, settings)
    record = _training_record(settings, sites)
    record["encoders"] = {
        sensor.name: read_checkpoint_card(Path(folder)).content_hash
        for sensor, folder in zip(sensors, encoders, strict=True)
    }
    if settings.steps:
        _fit(FusionStage(model, settings), sites, settings, run, record)
    chosen = [site for site, path in zip(sites, data, strict=True) if calibration is None or path in calibration]
    held_out = RandomTiles(
        chosen, settings.seed, settings.tile, settings.centres, validation=settings.calibration_tiles
    )
    calibrate(model, held_out, settings)
    with atomic_folder(out) as unfinished:
        save_checkpoint(model.fusion, "fusion", tuple(sensors), unfinished / "fusion", record)
        for sensor, folder in zip(sensors, encoders, strict=True):
            shutil.copytree(folder, unfinished / sensor.name)
    return EarthModel.load(out)


def _training_record(settings: TrainingConfig, sites: Sequence[TrainingSite]) -> dict[str, Any]:
    return {"settings": settings.model_dump(), "data": [site.name for site in sites]}


@torch.no_grad()
def fit_linear_fusion(model: EarthModel, tiles: RandomTiles, settings: TrainingConfig) -> None:
    """Begin the fusion as minimum noise fractions of the contexts the decoders rebuild, and the centre's colours."""
    gathered, moved = [], []
    # Every date counts alike: the fractions lie close together, and turn with the sample.
    for tile in tiles.evenly(settings.linear_tiles):
        whole, part = (
            model.encode(contexts, tile.centre_days)
            for contexts in (tile.contexts, _half_hidden(tile, but_centres=True))
        )
        full, hidden = (
            torch.cat([encodings[name].values for name in model.sensors], 1).movedim(1, -1)
            for encodings in (whole, part)
        )
        seen = torch.cat([encodings[name].seen for encodings in (whole, part) for name in model.sensors], 1).amin(1) > 0
        for values, others, chosen in zip(full, hidden, seen, strict=True):
            pixels = chosen.nonzero()
            rows, columns = pixels[torch.randperm(len(pixels))[:200]].T
            gathered.append(values[rows, columns])
            moved.append(others[rows, columns] - gathered[-1])
    rebuild = torch.block_diag(*[model.autoencoder(name).decoder.linear.weight for name in model.sensors])
    spectrum = model.autoencoder(model.fusion.reference.name).centre_spectrum()
    model.fusion.fit_linear(torch.cat(gathered), torch.cat(moved), rebuild, spectrum, settings.linear_start)


def _half_hidden(tile: Tile, but_centres: bool = False) -> dict[str, SensorContext]:
    """A tile's contexts with half of the dates hidden, the centre dates spared if asked."""
    hidden = {}
    for name, context in tile.contexts.items():
        chosen = torch.rand(len(context.days)) < 0.5
        if but_centres:
            chosen &= ((context.days[:, None] - tile.centre_days).abs() >= 0.5).all(1)
        hidden[name] = context.hide(chosen)
    return hidden


@torch.no_grad()
def calibrate(model: EarthModel, tiles: RandomTiles, settings: TrainingConfig) -> None:
    """Set the scale of each value's spread and the factors to intervals, on held-out tiles with dates hidden."""
    ratios = []
    torch.manual_seed(settings.seed)
    for tile in tiles:
        full = model(tile.contexts, tile.centre_days)
        partial = model(_half_hidden(tile), tile.centre_days)
        ratios.append(((full.values - partial.values).abs() / partial.spread).movedim(1, -1).flatten(0, -2)[::7])
    moves = torch.cat(ratios)[:60_000]
    # Each value's spread is set right at one level, and the other levels are common to all values.
    typical = moves.quantile(0.68, 0).clamp(min=1e-6)
    model.fusion.spread_scale.mul_(typical)
    model.fusion.quantiles.copy_((moves / typical).flatten().quantile(torch.tensor(QUANTILE_LEVELS)))
