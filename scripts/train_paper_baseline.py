"""Train the `paper` baseline on the real training sites and simulated landscapes.

usage: python scripts/train_paper_baseline.py SITES LANDSCAPES WORK --seconds N

SITES is the folder of the real sites, LANDSCAPES that of simulated landscapes ({climate}-{seed}). WORK gets the state
of the run and the model in WORK/model. A killed run resumes with the data that it began with. BE-2 and RO-NRT are
never read. The real sites together give a third of the samples. N counts processor time of this process, whatever else
runs. Landscapes that cannot be read are left out with a line.

The method needs ten bands. At BE-3 and TZ-1, which have six, the others are filled by their mean over the training data
and do not count in the loss. FR-BOUCONNE, with 7 dates, gives no sample of 11 dates within 200 days and is left out by
that rule.
"""

import argparse
import json
from pathlib import Path
from typing import get_args

from thalweg.earth.model.paper_baseline import BOTTLENECKS
from thalweg.earth.training.paper_fit import PaperTrainingConfig, train_paper_baseline
from thalweg.earth.training.paper_sampling import keep_usable_dates
from thalweg.earth.training.tiles import TrainingSite
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_write
from thalweg.simulate import Climate

REAL = ("BE-1", "BE-3", "TZ-1", "FR-BOUCONNE")
UNMASKED = ("FR-BOUCONNE",)
"""Sites of cloud-free syntheses, without a mask."""

REAL_SHARE = 1 / 3
LEARNING_RATE = 5e-4
"""Five times the published rate, for a budget far below the published one."""


def training_folders(sites: Path, landscapes: Path, work: Path, count: int) -> list[Path]:
    """Return the folders to train on; those of the first call for a `work` folder are kept in it."""
    listed = work / "data.json"
    if not listed.exists():
        found = [path for climate in get_args(Climate) for path in sorted(landscapes.glob(f"{climate}-*"))]
        # In the order of the seeds the climates take turns.
        found.sort(key=lambda path: int(path.name.rsplit("-", 1)[1]))
        folders = [*(sites / name for name in REAL), *found[:count]]
        atomic_write(listed, json.dumps([str(folder) for folder in folders], indent=1).encode())
    return [Path(folder) for folder in json.loads(listed.read_text())]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the `paper` baseline.")
    parser.add_argument("sites", type=Path, help="folder of the real sites")
    parser.add_argument("landscapes", type=Path, help="folder of simulated landscapes")
    parser.add_argument("work", type=Path, help="folder of the run's state and of the model")
    parser.add_argument("--seconds", type=float, required=True, help="budget of processor time")
    parser.add_argument("--landscapes-used", type=int, default=96, help="number of landscapes at most")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folders = training_folders(options.sites, options.landscapes, options.work, options.landscapes_used)
    sites = []
    for folder in folders:
        try:
            site = TrainingSite.load(folder, list(BOTTLENECKS), assume_clear=folder.name in UNMASKED)
        except UsageError as error:
            if folder.name in REAL:
                raise
            print(f"left out: {error}", flush=True)
            continue
        sites.append(keep_usable_dates(site))
    simulated = len(sites) - len(REAL)
    weights = [REAL_SHARE / len(REAL) if site.name in REAL else (1 - REAL_SHARE) / simulated for site in sites]
    print(f"{len(sites)} places, {simulated} of them simulated", flush=True)
    config = PaperTrainingConfig(seed=options.seed, seconds=options.seconds, learning_rate=options.learning_rate)

    def report(line: str) -> None:
        print(line, flush=True)

    model = train_paper_baseline(sites, options.work / "model", options.work / "run", config, weights, report)
    print(f"{options.work / 'model'}: {model.identifier}")


if __name__ == "__main__":
    main()
