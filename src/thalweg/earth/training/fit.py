"""Training runs of both stages: `train_autoencoder` and `train_fusion`."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from thalweg.earth.declarations import Sensor
from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.checkpoints import read_checkpoint_card, save_checkpoint
from thalweg.earth.model.earth_model import EarthModel, load_autoencoder
from thalweg.earth.model.fusion import Fusion
from thalweg.earth.model.linear_baseline import fit_autoencoder, fit_fusion, fit_statistics
from thalweg.earth.training.calibration import calibrate
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.masking import mask_half
from thalweg.earth.training.modules import AutoencoderModule, FusionModule, StageModule
from thalweg.earth.training.tiles import RandomTiles, TrainingSite
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_folder, atomic_write, refuse_existing

PIXELS_PER_TILE = 200
"""Pixels of a tile, and of each of its centre dates, that the linear baseline is fitted to."""

CHECKPOINT_STEPS, VALIDATION_STEPS, LOG_STEPS = 200, 400, 20
"""Steps between two checkpoints of a run, between two validations, and between two lines of the log."""


def train_autoencoder(
    sensor: Sensor,
    data: Sequence[str | Path],
    out: str | Path,
    run: str | Path,
    config: TrainingConfig | None = None,
    assume_clear: bool = False,
) -> Autoencoder:
    """Train the autoencoder of a sensor on cubes and write its checkpoint (stage 1 of arXiv 2511.11706).

    A killed run resumes where it was.

    Args:
        sensor: a declared sensor.
        data: cubes that have it; at least one with all its bands.
        out: checkpoint folder to write; must not exist.
        run: folder of logs and of the state from which a killed run resumes.
        config: settings of the run; the defaults if None.
        assume_clear: take cubes without a cloud mask as clear everywhere.

    Returns:
        The trained autoencoder.

    Raises:
        UsageError: `out` exists, a cube cannot be read, none has all bands, or `run` belongs to another training.
        ThalwegError: the checkpoint cannot be written.
    """
    config = config or TrainingConfig()
    out, run = Path(out), Path(run)
    refuse_existing(out)
    sites = _load_sites(data, [sensor.name], assume_clear)
    if not any(bool(site.contexts[sensor.name].present.all()) for site in sites):
        raise UsageError(f"no cube has all bands of {sensor.name}: the encoder needs one that does")
    lightning.seed_everything(config.seed, verbose=False)
    autoencoder = Autoencoder(sensor)
    fit_statistics(autoencoder, (site.contexts[sensor.name] for site in sites))
    tiles = RandomTiles(sites, config.seed, config.tile, config.centres)
    fit_autoencoder(autoencoder, _sample_trajectories(autoencoder, tiles, config.linear_tiles))
    record = _training_record(config, sites)
    if config.steps:
        _fit(AutoencoderModule(autoencoder, config), sites, config, run, {"sensor": sensor.name, **record})
    save_checkpoint(autoencoder, "autoencoder", (sensor,), out, record)
    return autoencoder


def train_fusion(
    encoders: Sequence[str | Path],
    data: Sequence[str | Path],
    out: str | Path,
    run: str | Path,
    config: TrainingConfig | None = None,
    calibration: Sequence[str | Path] | None = None,
    assume_clear: bool = False,
) -> EarthModel:
    """Fuse frozen encoders and write a model folder (stage 2 of arXiv 2511.11706).

    The encoders' checkpoints are copied byte by byte. A killed run resumes where it was.

    Args:
        encoders: checkpoint folders of stage 1, that of the reference sensor among them.
        data: cubes that have the sensors; one that lacks a sensor still trains the others.
        out: model folder to write; must not exist.
        run: folder of logs and of the state from which a killed run resumes.
        config: settings of the run; the defaults if None.
        calibration: those of `data` on which the predicted spread is calibrated; all by default.
        assume_clear: take cubes without a cloud mask as clear everywhere.

    Returns:
        The model as loaded from `out`.

    Raises:
        UsageError: `out` exists, a checkpoint or a cube cannot be read, there is no reference sensor, no cube has
            all sensors, or `run` belongs to another training.
        ThalwegError: the model cannot be written.
    """
    config = config or TrainingConfig()
    out, run = Path(out), Path(run)
    refuse_existing(out)
    autoencoders = {autoencoder.sensor.name: autoencoder for autoencoder in map(load_autoencoder, encoders)}
    if len(autoencoders) < len(encoders):
        raise UsageError("two checkpoints are of the same sensor: give one of each")
    sensors = [autoencoder.sensor for autoencoder in autoencoders.values()]
    sites = _load_sites(data, list(autoencoders), assume_clear)
    lightning.seed_everything(config.seed, verbose=False)
    model = EarthModel(autoencoders, Fusion(sensors))
    complete = [site for site in sites if len(site.contexts) == len(sensors)]
    if not complete:
        raise UsageError(f"no cube has all of {', '.join(autoencoders)}: fusion needs one that does")
    fit_linear_fusion(model, RandomTiles(complete, config.seed, config.tile, config.centres), config)
    record = _training_record(config, sites)
    record["encoders"] = {
        sensor.name: read_checkpoint_card(Path(folder)).content_hash
        for sensor, folder in zip(sensors, encoders, strict=True)
    }
    if config.steps:
        _fit(FusionModule(model, config), sites, config, run, record)
    chosen = [site for site, path in zip(sites, data, strict=True) if calibration is None or path in calibration]
    held_out = RandomTiles(chosen, config.seed, config.tile, config.centres, validation=config.calibration_tiles)
    calibrate(model, held_out, config.seed)
    with atomic_folder(out) as unfinished:
        save_checkpoint(model.fusion, "fusion", tuple(sensors), unfinished / "fusion", record)
        for sensor, folder in zip(sensors, encoders, strict=True):
            shutil.copytree(folder, unfinished / sensor.name)
    return EarthModel.load(out)


@torch.no_grad()
def fit_linear_fusion(model: EarthModel, tiles: RandomTiles, config: TrainingConfig) -> None:
    """Fit the linear part of a model's fusion to tiles, with torch's global generator.

    Args:
        model: its fusion is changed in place.
        tiles: training tiles of sites that have all sensors.
        config: number of tiles and weights of the fit.
    """
    gathered, changes = [], []
    # Every date counts the same: the fractions have similar eigenvalues, and would vary with the sample.
    for tile in tiles.evenly(config.linear_tiles):
        masked_contexts = mask_half(tile.contexts, tile.centre_days, spare_centres=True)
        full, masked = (model.encode(contexts, tile.centre_days) for contexts in (tile.contexts, masked_contexts))
        full_values, masked_values = (
            torch.cat([encodings[name].values for name in model.sensors], 1).movedim(1, -1)
            for encodings in (full, masked)
        )
        observed = torch.cat([encodings[name].observed for encodings in (full, masked) for name in model.sensors], 1)
        for values, others, usable in zip(full_values, masked_values, observed.amin(1) > 0, strict=True):
            pixels = usable.nonzero()
            rows, columns = pixels[torch.randperm(len(pixels))[:PIXELS_PER_TILE]].T
            gathered.append(values[rows, columns])
            changes.append(others[rows, columns] - gathered[-1])
    decoder_weight = torch.block_diag(*[model.autoencoder(name).decoder.linear.weight for name in model.sensors])
    centre_spectrum = model.autoencoder(model.reference.name).centre_spectrum()
    fit_fusion(
        model.fusion, torch.cat(gathered), torch.cat(changes), decoder_weight, centre_spectrum, config.linear_start
    )


@torch.no_grad()
def _sample_trajectories(autoencoder: Autoencoder, tiles: RandomTiles, count: int) -> Tensor:
    """Return trajectories (N, O * C) of observed pixels of `count` tiles, with torch's global generator."""
    gathered = []
    for tile, _ in zip(tiles, range(count), strict=False):
        samples = autoencoder.encoder.sample(tile.contexts[autoencoder.sensor.name], tile.centre_days)
        pixels = samples.trajectory.movedim(1, -1)[samples.observed[:, 0] > 0]
        gathered.append(pixels[torch.randperm(len(pixels))[:PIXELS_PER_TILE]])
    return torch.cat(gathered)


def _load_sites(data: Sequence[str | Path], sensors: Sequence[str], assume_clear: bool) -> list[TrainingSite]:
    if not data:
        raise UsageError("no data: expected one or more cubes to train on")
    return [TrainingSite.load(path, sensors, assume_clear) for path in data]


def _training_record(config: TrainingConfig, sites: Sequence[TrainingSite]) -> dict[str, Any]:
    """Return what a card says of a training."""
    return {"settings": config.model_dump(), "data": [site.name for site in sites]}


def _fit(
    module: StageModule, sites: Sequence[TrainingSite], config: TrainingConfig, run: Path, record: dict[str, Any]
) -> None:
    """Train a module; resume from the run folder's last checkpoint, log as CSV and TensorBoard.

    Raises:
        UsageError: the run folder belongs to a training with another `record`.
    """
    identity, identity_file = json.dumps(record, sort_keys=True), run / "run.json"
    if identity_file.exists() and identity_file.read_text() != identity:
        raise UsageError(f"{run}: the run of another training (other data or settings): choose another folder")
    atomic_write(identity_file, identity.encode())
    checkpoint = ModelCheckpoint(
        run, filename="last", every_n_train_steps=CHECKPOINT_STEPS, save_top_k=1, enable_version_counter=False
    )
    interactive = sys.stderr.isatty()
    trainer = lightning.Trainer(
        max_steps=config.steps,
        accelerator="auto",
        devices=1,
        logger=[CSVLogger(run, name="csv", version=""), TensorBoardLogger(run, name="tensorboard", version="")],
        callbacks=[checkpoint, LearningRateMonitor(), *([RichProgressBar()] if interactive else [])],
        enable_progress_bar=interactive,
        enable_model_summary=False,
        val_check_interval=min(VALIDATION_STEPS, max(config.steps, 1)),
        num_sanity_val_steps=0,
        log_every_n_steps=LOG_STEPS,
        gradient_clip_val=1.0,
    )
    tiles = RandomTiles(sites, config.seed, config.tile, config.centres)
    held_out = RandomTiles(sites, config.seed, config.tile, config.centres, validation=config.validation_tiles)
    last = run / "last.ckpt"
    trainer.fit(
        module,
        DataLoader(tiles, batch_size=None),
        DataLoader(held_out, batch_size=None),
        ckpt_path=str(last) if last.exists() else None,
    )
