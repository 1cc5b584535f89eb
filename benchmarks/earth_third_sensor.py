"""Add Landsat 8 at BE-1: train its encoder, fuse again, and leave the other encoders as they are.

encoders_unchanged: the Sentinel encoders' tensors before and after, by hash.
s2_mae_two_sensors, s2_mae_three_sensors: Sentinel-2 at the centre (reflectance) from the embedding, and l8_mae:
Landsat 8 on its nearest date, both on the east quarter of BE-1, whose pixels the fusion was not trained on.
The two fusions get the same steps and tiles, fewer than the shipped one. processor_seconds is of the whole run.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common import arguments, report
from thalweg.earth.model.checkpoints import read_checkpoint_card
from thalweg.earth.model.context import HALO, SensorContext
from thalweg.earth.model.earth_model import SHIPPED, EarthModel
from thalweg.earth.sensors import LANDSAT_8
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.fit import train_autoencoder, train_fusion
from thalweg.earth.training.tiles import TrainingSite
from thalweg.io.hashing import content_hash

ENCODER = TrainingConfig(steps=100, start_tiles=60, warm_up=20, learning_rate=1e-3, validation_tiles=1)
FUSION = TrainingConfig(
    steps=150,
    start_tiles=40,
    encoded_tiles=100,
    learning_rate=1e-3,
    neighbour_weight=0.15,
    validation_tiles=1,
    calibration_tiles=10,
)


def east_quarter(site: TrainingSite) -> dict[str, SensorContext]:
    """Return the contexts of the pixels that share no context with those trained on, and their margin."""
    columns = slice(site.size[1] * 3 // 4 + HALO, None)
    return {
        name: replace(context, values=context.values[..., columns], valid=context.valid[..., columns])
        for name, context in site.contexts.items()
    }


def centre_errors(model: EarthModel, site: TrainingSite, sensors: Sequence[str]) -> list[float]:
    """Mean absolute error of each sensor on its nearest date, over clear pixels of the east quarter."""
    contexts = east_quarter(site)
    errors, inner = [], slice(HALO, -HALO)
    with torch.inference_mode():
        values = torch.cat([model(contexts, days).values for days in site.centre_days.split(16)])
        for sensor in sensors:
            context = contexts[sensor]
            nearest = (context.days[None] - site.centre_days[:, None]).abs().argmin(1)
            rebuilt = model.decode(values, sensor, (context.days[nearest] - site.centre_days)[:, None])[:, 0]
            target, valid = (part[nearest][..., inner, inner] for part in (context.values, context.valid))
            errors.append(float(((rebuilt - target).abs() * valid).sum() / (valid.sum() * target.shape[1])))
    return errors


def main() -> None:
    options = arguments(__doc__)
    shipped = options.model or SHIPPED
    home = options.data / "BE-1"
    data: list[str | Path] = [home, options.data / "BE-3"]
    if not home.is_dir():
        raise SystemExit(f"no real sites in {options.data}: name their folder with --data")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        encoders: list[str | Path] = [shipped / "sentinel-2", shipped / "sentinel-1"]
        two = train_fusion(encoders, data, work / "two", work / "two.run", FUSION)
        train_autoencoder(LANDSAT_8, data, work / "landsat-8", work / "landsat-8.run", ENCODER)
        three = train_fusion([*encoders, work / "landsat-8"], data, work / "three", work / "three.run", FUSION)
        unchanged = all(
            content_hash(three.autoencoder(name).state_dict()) == read_checkpoint_card(shipped / name).content_hash
            for name in ("sentinel-2", "sentinel-1")
        )
        (before,) = centre_errors(two, TrainingSite.load(home, two.sensors), ["sentinel-2"])
        after, landsat = centre_errors(three, TrainingSite.load(home, three.sensors), ["sentinel-2", "landsat-8"])
        results: dict[str, Any] = {
            "encoders_unchanged": unchanged,
            "s2_mae_two_sensors": before,
            "s2_mae_three_sensors": after,
            "l8_mae": landsat,
        }
    results["processor_seconds"] = time.process_time()
    report(results, options.json)


if __name__ == "__main__":
    main()
