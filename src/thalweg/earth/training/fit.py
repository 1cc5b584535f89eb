"""Training runs of both stages: `train_autoencoder` and `train_fusion`."""

import json
import shutil
import sys
from collections.abc import Sequence
from itertools import compress, islice
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, IterableDataset

from thalweg.earth.declarations import Sensor
from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.checkpoints import read_checkpoint_card, save_checkpoint
from thalweg.earth.model.earth_model import EarthModel, load_autoencoder
from thalweg.earth.model.fusion import FULL_SIZE, SMALL_SIZE, TRAITS, Fusion
from thalweg.earth.training.calibration import calibrate
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.modules import AutoencoderModule, EncodedTiles, FusionModule, Sample, StageModule
from thalweg.earth.training.start import fit_statistics, mean_and_scale, start_autoencoder, start_fusion
from thalweg.earth.training.tiles import RandomTiles, TileShape, TileSource, TrainingSite
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_folder, atomic_write, refuse_existing

CHECKPOINT_STEPS, VALIDATION_STEPS, LOG_STEPS = 200, 400, 20
"""Steps between two checkpoints of a run, between two validations, and between two lines of the log."""


def train_autoencoder(
    sensor: Sensor,
    data: Sequence[str | Path | TileSource],
    out: str | Path,
    run: str | Path,
    config: TrainingConfig | None = None,
    assume_clear: bool = False,
    weights: Sequence[float] | None = None,
) -> Autoencoder:
    """Train the autoencoder of a sensor on cubes and write its checkpoint (stage 1 of arXiv 2511.11706).

    A killed run resumes where it was.

    Args:
        sensor: a declared sensor.
        data: cubes that have it, or places in memory; at least one with all its bands.
        out: checkpoint folder to write; must not exist.
        run: folder of logs and of the state from which a killed run resumes.
        config: settings of the run; the defaults if None.
        assume_clear: take cubes without a cloud mask as clear everywhere.
        weights: relative probability that a tile comes from each of `data`; equal by default.

    Returns:
        The trained autoencoder.

    Raises:
        UsageError: `out` exists, a cube cannot be read, none has all bands, or `run` belongs to another training.
        ThalwegError: the checkpoint cannot be written.
    """
    config = config or TrainingConfig()
    out, run = Path(out), Path(run)
    refuse_existing(out)
    sites = [source.centred_on(sensor.name) for source in _load_sites(data, [sensor.name], assume_clear)]
    if not any(bool(site.contexts[sensor.name].present.all()) for site in sites):
        raise UsageError(f"no cube has all bands of {sensor.name}: the encoder needs one that does")
    lightning.seed_everything(config.seed, verbose=False)
    autoencoder = Autoencoder(sensor)
    shares = [1.0] * len(sites) if weights is None else [weight / max(weights) for weight in weights]
    fit_statistics(
        autoencoder, [(site.contexts[sensor.name], share) for site, share in zip(sites, shares, strict=True)]
    )
    start_autoencoder(autoencoder, islice(_tiles(sites, shares, config), config.start_tiles))
    record = _training_record(config, sites, weights)
    if config.steps:
        module, identity = AutoencoderModule(autoencoder, config), {"sensor": sensor.name, **record}
        _fit(module, _tiles(sites, shares, config), _held_out(sites, shares, config), config, run, identity)
    save_checkpoint(autoencoder, "autoencoder", (sensor,), out, record)
    return autoencoder


def train_fusion(
    encoders: Sequence[str | Path],
    data: Sequence[str | Path | TileSource],
    out: str | Path,
    run: str | Path,
    config: TrainingConfig | None = None,
    calibration: Sequence[str | Path | TileSource] | None = None,
    assume_clear: bool = False,
    weights: Sequence[float] | None = None,
) -> EarthModel:
    """Fuse frozen encoders and write a model folder (stage 2 of arXiv 2511.11706).

    The encoders' checkpoints are copied byte by byte. A killed run resumes where it was.

    Args:
        encoders: checkpoint folders of stage 1, that of the reference sensor among them.
        data: cubes that have the sensors, or places in memory; one that lacks a sensor still trains the others.
        out: model folder to write; must not exist.
        run: folder of logs and of the state from which a killed run resumes.
        config: settings of the run; the defaults if None.
        calibration: those of `data` on which the predicted spread is calibrated; all by default.
        assume_clear: take cubes without a cloud mask as clear everywhere.
        weights: relative probability that a tile comes from each of `data`; equal by default.

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
    shares = [1.0] * len(sites) if weights is None else list(weights)
    complete = [len(site.contexts) == len(sensors) for site in sites]
    if not any(complete):
        raise UsageError(f"no cube has all of {', '.join(autoencoders)}: fusion needs one that does")
    start_fusion(model, islice(_tiles(*_those(complete, sites, shares), config), config.start_tiles))
    for name in TRAITS:
        mean, scale = mean_and_scale([site.truth[name] for site in sites if name in site.truth])
        for size in (SMALL_SIZE, FULL_SIZE):
            head = model.fusion.trait_head(name, size)
            head.mean.copy_(mean)
            head.scale.copy_(scale)
    record = _training_record(config, sites, weights)
    record["encoders"] = {
        sensor.name: read_checkpoint_card(Path(folder)).content_hash
        for sensor, folder in zip(sensors, encoders, strict=True)
    }
    if config.steps:
        held_out = _held_out(sites, shares, config)
        samples = EncodedTiles(model, _tiles(sites, shares, config), config, config.encoded_tiles, endless=True)
        validation = EncodedTiles(model, held_out, config, config.validation_tiles, endless=False)
        _fit(FusionModule(model, config), samples, validation, config, run, record)
    chosen = [calibration is None or path in calibration for path in data]
    held_out = _tiles(*_those(chosen, sites, shares), config, config.calibration_tiles)
    calibrate(model, held_out, config.seed)
    with atomic_folder(out) as unfinished:
        save_checkpoint(model.fusion, "fusion", tuple(sensors), unfinished / "fusion", record)
        for sensor, folder in zip(sensors, encoders, strict=True):
            shutil.copytree(folder, unfinished / sensor.name)
    return EarthModel.load(out)


def _load_sites(
    data: Sequence[str | Path | TileSource], sensors: Sequence[str], assume_clear: bool
) -> list[TileSource]:
    if not data:
        raise UsageError("no data: expected one or more cubes to train on")
    return [
        TrainingSite.load(source, sensors, assume_clear) if isinstance(source, str | Path) else source
        for source in data
    ]


def _those(
    chosen: Sequence[bool], sites: Sequence[TileSource], weights: Sequence[float]
) -> tuple[list[TileSource], list[float]]:
    """Return the sites that are chosen, and their weights."""
    return list(compress(sites, chosen)), list(compress(weights, chosen))


def _tiles(
    sites: Sequence[TileSource], weights: Sequence[float], config: TrainingConfig, validation: int | None = None
) -> RandomTiles:
    """Return tiles of a configuration's seed and shape."""
    shape = TileShape(config.tile, config.stride, config.centres)
    return RandomTiles(sites, config.seed, shape, weights, validation)


def _held_out(sites: Sequence[TileSource], weights: Sequence[float], config: TrainingConfig) -> RandomTiles:
    return _tiles(sites, weights, config, config.validation_tiles)


def _training_record(
    config: TrainingConfig, sites: Sequence[TileSource], weights: Sequence[float] | None
) -> dict[str, Any]:
    """Return what a card says of a training."""
    record: dict[str, Any] = {"settings": config.model_dump(), "data": [site.name for site in sites]}
    return record if weights is None else {**record, "weights": list(weights)}


def _fit(
    module: StageModule[Sample],
    samples: IterableDataset[Sample],
    held_out: IterableDataset[Sample],
    config: TrainingConfig,
    run: Path,
    record: dict[str, Any],
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
        accumulate_grad_batches=config.tiles,
        val_check_interval=min(VALIDATION_STEPS, max(config.steps, 1)) * config.tiles,
        num_sanity_val_steps=0,
        log_every_n_steps=LOG_STEPS,
        gradient_clip_val=1.0,
    )
    last = run / "last.ckpt"
    trainer.fit(
        module,
        DataLoader(samples, batch_size=None),
        DataLoader(held_out, batch_size=None),
        ckpt_path=str(last) if last.exists() else None,
    )
