"""Add Landsat 8 at BE-1: train its encoder, fuse again, and leave the other encoders as they are.

encoders_unchanged: the Sentinel encoders' tensors before and after, by hash.
s2_mae_two_sensors, s2_mae_three_sensors: Sentinel-2 at the centre (reflectance) from the embedding, and l8_mae:
Landsat 8 on its nearest date, both on the east quarter of BE-1, whose pixels the fusion was not trained on.
The two fusions get the same steps, fewer than the shipped one.
"""

import tempfile
from pathlib import Path

import torch

from common import arguments, report
from thalweg.earth.model.checkpoints import read_checkpoint_card
from thalweg.earth.model.context import HALO
from thalweg.earth.model.earth_model import SHIPPED, EarthModel
from thalweg.earth.sensors import LANDSAT_8
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.fit import train_autoencoder, train_fusion
from thalweg.earth.training.tiles import TrainingSite
from thalweg.io.hashing import content_hash

ENCODER = TrainingConfig(steps=100, start_tiles=60, warm_up=20, learning_rate=1e-3)
FUSION = TrainingConfig(steps=150, start_tiles=40, learning_rate=1e-3, neighbour_weight=0.15, calibration_tiles=10)


def centre_error(model: EarthModel, site: TrainingSite, sensor: str) -> float:
    """Mean absolute error of a sensor on its nearest date, over clear pixels of the east quarter."""
    context = site.contexts[sensor]
    nearest = (context.days[None] - site.centre_days[:, None]).abs().argmin(1)
    away = (context.days[nearest] - site.centre_days)[:, None]
    with torch.inference_mode():
        values = torch.cat([model(site.contexts, days).values for days in site.centre_days.split(16)])
        rebuilt = model.decode(values, sensor, away)[:, 0]
    inner = slice(HALO, -HALO)
    target, valid = (part[nearest][..., inner, inner] for part in (context.values, context.valid))
    east = torch.zeros(site.size).index_fill(1, torch.arange(site.size[1] * 3 // 4 + HALO, site.size[1]), 1.0)
    weight = valid * east
    return float(((rebuilt - target).abs() * weight).sum() / (weight.sum() * target.shape[1]))


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
        site = TrainingSite.load(home, three.sensors)
        results = {
            "encoders_unchanged": unchanged,
            "s2_mae_two_sensors": centre_error(two, TrainingSite.load(home, two.sensors), "sentinel-2"),
            "s2_mae_three_sensors": centre_error(three, site, "sentinel-2"),
            "l8_mae": centre_error(three, site, "landsat-8"),
        }
    report(results, options.json)


if __name__ == "__main__":
    main()
