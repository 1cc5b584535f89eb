"""Train the weights that ship with the package: real sites BE-1, BE-3, TZ-1 and simulated landscapes.

usage: python scripts/train_shipped.py SITES WORK      about an hour on two cores; resumes where it was killed

SITES is the folder of the real sites, WORK holds landscapes, checkpoints and logs. BE-2 is never read.
"""

import sys
from pathlib import Path

from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.earth.simulate import simulate
from thalweg.earth.training import Settings, train_autoencoder, train_fusion

REAL = ("BE-1", "BE-3", "TZ-1")
SIMULATED = {
    101: "temperate", 102: "temperate", 103: "temperate", 104: "temperate",
    105: "continental", 106: "continental", 107: "mediterranean", 108: "semiarid",
}  # fmt: skip
STEPS = {SENTINEL_2: 2000, SENTINEL_1: 1200}
FUSION = Settings(steps=2400, learning_rate=1e-3, neighbour_weight=0.15, linear_tiles=120, tile=24, weight_decay=0.02)


def main(sites: Path, work: Path) -> None:
    """Simulate, train both encoders, fuse; each part only where it is not there yet."""
    data: list[str | Path] = [sites / name for name in REAL]
    for seed, climate in SIMULATED.items():
        folder = work / "landscapes" / f"{climate}-{seed}"
        if not folder.exists():
            simulate(seed=seed, size=64, climate=climate).write(folder)  # type: ignore[arg-type]
        data.append(folder)
    encoders = []
    for sensor, steps in STEPS.items():
        out = work / sensor.name
        if not out.exists():
            train_autoencoder(sensor, data, out, work / f"{sensor.name}.run", Settings(steps=steps, linear_tiles=80))
        encoders.append(out)
    model = train_fusion(encoders, data, work / "model", work / "fusion.run", FUSION)
    print(f"{work / 'model'}: {model.identifier}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
