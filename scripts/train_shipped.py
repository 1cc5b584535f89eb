"""Train the weights that ship with the package.

usage: python scripts/train_shipped.py SITES LANDSCAPES WORK [--leave-out NAME ...]

SITES is the folder of the real sites and of the tables of points, LANDSCAPES that of simulated landscapes
(`scripts/training_landscapes.py`), WORK that of checkpoints and logs. BE-2 and RO-NRT are never read, nor are the
regions that `benchmarks/earth_sites.py` reports: Corsica, and every fourth reference data set of the global points.

Training takes about one and a half hours on two cores: the encoders side by side (--stage sentinel-2, --stage
sentinel-1), then the fusion. A killed run resumes.
"""

import argparse
from pathlib import Path

import pandas as pd

from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.fit import train_autoencoder, train_fusion
from thalweg.earth.training.points import read_points
from thalweg.earth.training.tiles import TileSource, TrainingSite

SENSORS = (SENTINEL_2, SENTINEL_1)

SITE_WEIGHTS = {"BE-1": 3.0, "BE-3": 2.0, "TZ-1": 2.0, "FR-BOUCONNE": 1.0}
"""Real sites and the share of their tiles; all simulated landscapes together have `LANDSCAPES_WEIGHT`."""

POINT_WEIGHTS = {"global49_monthly": (1.0, 30.0), "canada_2017_monthly": (0.7, 30.0), "france_2023_dekad": (0.5, 10.0)}
"""Tables of points: the share of their tiles, and the days that a composite covers."""

POINTS_FACTOR = {"encoder": 1.0, "fusion": 2.0}
"""Factor of the weights of points, whose long gaps the fusion learns from few tiles."""

CALIBRATION = ("BE-1", "BE-3", "TZ-1")
LANDSCAPES_WEIGHT = 8.0
WITHOUT_MASK = "FR-BOUCONNE"
"""The site of cloud-free syntheses, which has no cloud mask."""

ENCODERS = {
    SENTINEL_2.name: TrainingConfig(steps=1900, tile=24, centres=10, validation_tiles=24),
    SENTINEL_1.name: TrainingConfig(steps=1800, tile=24, centres=10, validation_tiles=24),
}
FUSION = TrainingConfig(
    steps=2000,
    tile=24,
    centres=6,
    target_dates=8,
    neighbour_weight=1.0,
    validation_tiles=24,
    start_tiles=240,
    encoded_tiles=360,
    calibration_tiles=60,
)
MAX_LANDSCAPES = {"encoder": 240, "fusion": 162}
"""Landscapes that are read, the first by seed; the fusion holds both sensors in memory."""


def read_places(
    sites: Path, landscapes: Path, sensors: list[str], leave_out: list[str], stage: str
) -> tuple[list[TileSource], list[float]]:
    """Return all training places that have the sensors, and their weights."""
    places: list[TileSource] = []
    weights: list[float] = []
    for name, weight in SITE_WEIGHTS.items():
        if name not in leave_out and (name != WITHOUT_MASK or SENTINEL_2.name in sensors):
            places.append(TrainingSite.load(sites / name, sensors, assume_clear=name == WITHOUT_MASK))
            weights.append(weight)
    for name, (weight, days) in POINT_WEIGHTS.items():
        table = sites / "points" / f"{name}.parquet"
        reported = sorted(pd.read_parquet(table, columns=["ref_id"]).ref_id.unique())[::4]
        points = [
            group
            for group in read_points(table, SENSORS, days, leave_out=reported if "global" in name else ())
            if set(sensors) <= set(group.contexts)
        ]
        total = sum(len(group.places) for group in points)
        places.extend(points)
        weights.extend(POINTS_FACTOR[stage] * weight * len(group.places) / total for group in points)
    folders = [folder for folder in landscapes.iterdir() if (folder / "s2.nc").is_file()]
    folders = sorted(folders, key=lambda folder: folder.name.split("-")[-1])[: MAX_LANDSCAPES[stage]]
    places.extend(TrainingSite.load(folder, sensors) for folder in folders)
    weights.extend([LANDSCAPES_WEIGHT / len(folders)] * len(folders))
    return places, weights


def main() -> None:
    """Run the stages that are asked for; checkpoints that exist are used as they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("sites", "landscapes", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--stage", choices=[*ENCODERS, "fusion"], action="append", help="all by default")
    parser.add_argument("--leave-out", nargs="*", default=[], help="real sites to leave out, for choices")
    options = parser.parse_args()
    stages = options.stage or [*ENCODERS, "fusion"]
    for sensor in SENSORS:
        out = options.work / sensor.name
        if sensor.name in stages and not out.exists():
            places, weights = read_places(
                options.sites, options.landscapes, [sensor.name], options.leave_out, "encoder"
            )
            run = options.work / f"{sensor.name}.run"
            train_autoencoder(sensor, places, out, run, ENCODERS[sensor.name], weights=weights)
    if "fusion" in stages:
        encoders = [options.work / sensor.name for sensor in SENSORS]
        places, weights = read_places(
            options.sites,
            options.landscapes,
            [sensor.name for sensor in SENSORS],
            options.leave_out,
            "fusion",
        )
        # Embeddings of simulated scenes vary less than those of real ones: the spread is calibrated on real sites.
        real = [place for place in places if place.name in CALIBRATION]
        model = train_fusion(
            encoders, places, options.work / "model", options.work / "fusion.run", FUSION, real, weights=weights
        )
        print(f"{options.work / 'model'}: {model.identifier}")


if __name__ == "__main__":
    main()
