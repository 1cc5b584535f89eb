"""Train the weights that ship with the package: real sites BE-1, BE-3, TZ-1 and simulated landscapes.

usage: python scripts/train_shipped.py SITES WORK

SITES is the folder of the real sites, WORK that of landscapes, checkpoints and logs. BE-2 is never read. Training takes
about a quarter of an hour on two cores; a killed run resumes.
"""

import sys
from pathlib import Path

from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.fit import train_autoencoder, train_fusion
from thalweg.simulate import simulate

REAL = ("BE-1", "BE-3", "TZ-1")
SIMULATED = (
    *(("continental", seed) for seed in (105, 106)),
    ("mediterranean", 107),
    ("semiarid", 108),
    *(("temperate", seed) for seed in (101, 102, 103, 104)),
)
STEPS = {SENTINEL_2: 100, SENTINEL_1: 100}
FUSION = TrainingConfig(steps=500, learning_rate=2e-3, neighbour_weight=0.15, linear_tiles=420, calibration_tiles=60)


def main(sites: Path, work: Path) -> None:
    """Simulate landscapes, train both encoders and fuse them; parts that exist already are used as they are."""
    data: list[str | Path] = [sites / name for name in REAL]
    for climate, seed in SIMULATED:
        folder = work / "landscapes" / f"{climate}-{seed}"
        if not folder.exists():
            simulate(seed=seed, size=64, climate=climate).write(folder)  # type: ignore[arg-type]
        data.append(folder)
    encoders = []
    for sensor, steps in STEPS.items():
        out = work / sensor.name
        if not out.exists():
            config = TrainingConfig(steps=steps, linear_tiles=60, warm_up=20, learning_rate=1e-3)
            train_autoencoder(sensor, data, out, work / f"{sensor.name}.run", config)
        encoders.append(out)
    # Embeddings of simulated scenes vary less than those of real ones: the spread is calibrated on the real sites.
    real = data[: len(REAL)]
    model = train_fusion(encoders, data, work / "model", work / "fusion.run", FUSION, calibration=real)
    print(f"{work / 'model'}: {model.identifier}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
