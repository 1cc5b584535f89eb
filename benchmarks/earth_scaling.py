"""Error on unseen scenes of the Sentinel-2 autoencoder after training on 4, 16, 64 and 256 scenes.

A scene is a simulated landscape of 480 m x 480 m and one year, as `scripts/training_landscapes.py` makes them: other
soils, plants, farming, atmosphere and months for each. The first 256 train, the next 12, two per climate, are held out.
The training sets are nested and their climates balanced. Settings, optimizer steps and tiles per step are the same for
all; a set's statistics and closed-form start come from its own scenes.

Errors in reflectance, over the bands and the clear pixels of the middle 16 x 16 px of a scene; the mean over a scene's
hidden dates, then over the scenes. The rules were fixed before the first training:

- `error_N`: every third clear date without haze (`haze`) is hidden and decoded from the encoding of that day; it counts
  at the pixels that were clear on a date before and one after it (`gap_filling`).
- `context_error_N`: the dates within 100 days of the hidden one, which were not hidden, decoded from the same encoding.
- `linear_error`, `linear_context_error`: the network before its first step, started on the largest set. It then
  interpolates linearly in time at the hidden date, and is a principal component analysis of smooth trajectories
  elsewhere.
- `interpolation_error`: linear interpolation in time, computed on its own (`gap_filling`).
- `paper_error`: the paper's baseline (`--paper`), which sees Sentinel-1 too; trained apart, on other places and steps.
- `gain_4_to_256`, `context_gain_4_to_256`: mean difference of error_4 and error_256 over the scenes, and that of the
  dates around; `_stderr`: their standard errors; the same for the smallest and largest of other `--scenes`.

Several `--seeds` draw other sets, initial weights and tiles each; errors are their mean, `error_N_range` their range.
Figures depend on `--steps`: the default is too short for a claim and only shows that the benchmark runs. Landscapes
that `--landscapes` lacks are simulated; trainings that `--runs` holds are used as they are, unfinished ones resume.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common import report
from embedded_site import OPTICAL, RADAR
from gap_filling import baseline_errors, hidden_dates, hidden_rows, hide_centre
from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.context import HALO, SensorContext
from thalweg.earth.model.earth_model import load_autoencoder
from thalweg.earth.model.paper_baseline import PaperModel
from thalweg.earth.sensors import SENTINEL_2
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.fit import train_autoencoder
from thalweg.earth.training.losses import absolute_error
from thalweg.earth.training.tiles import MAX_TARGET_DAYS, TrainingSite
from thalweg.errors import DataWarning

SIMULATION = Path(__file__).parents[1] / "scripts" / "training_landscapes.py"
SCENES, NUM_HELD_OUT = (4, 16, 64, 256), 12
MEASURED_SIZE = 16
"""Pixels each way of a held-out scene that are measured."""

TRAINING = TrainingConfig(tile=16, centres=6, tiles=2, start_tiles=60, validation_tiles=12)
DEFAULT_STEPS = 40

Reconstruct = Callable[[dict[str, SensorContext], Tensor, Tensor], Tensor]
"""Contexts, centre date (1,) and days (1, D) from it -> Sentinel-2 (D, C, h, w) in 0..1."""


@dataclass(frozen=True)
class SceneErrors:
    """Mean absolute errors of a scene in reflectance.

    Attributes:
        hidden: of the hidden dates.
        context: of the dates around them.
    """

    hidden: float
    context: float


def simulated_folders(landscapes: Path, workers: int) -> tuple[list[Path], list[Path]]:
    """Return the folders of the training and of the held-out scenes, after simulating those that are missing."""
    count = max(SCENES) + NUM_HELD_OUT
    command = [sys.executable, str(SIMULATION), str(landscapes), "--count", str(count), "--workers", str(workers)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    folders = sorted(landscapes.glob("*-[0-9]*"), key=_seed)[:count]
    return folders[: max(SCENES)], folders[max(SCENES) :]


def _seed(folder: Path) -> int:
    return int(folder.name.rsplit("-", 1)[1])


def balanced_order(folders: Sequence[Path], seed: int) -> list[Path]:
    """Return scenes ({climate}-{seed}) in a random order of which every first N hold the climates equally often.

    The numbers of scenes of two climates differ by one at most, as long as no climate runs out of scenes.
    """
    generator = np.random.default_rng(seed)
    climates = generator.permutation(sorted({folder.name.rsplit("-", 1)[0] for folder in folders}))
    members = {
        climate: sorted((folder for folder in folders if folder.name.rsplit("-", 1)[0] == climate), key=_seed)
        for climate in climates
    }
    shuffled = [[own[index] for index in generator.permutation(len(own))] for own in members.values()]
    return [folder for turn in zip_longest(*shuffled) for folder in turn if folder is not None]


@cache
def read_training_scene(folder: Path) -> TrainingSite:
    """Read the Sentinel-2 series of a scene."""
    return replace(_read(folder / "s2.nc", (OPTICAL,)), name=folder.name)


def read_held_out_scene(folder: Path) -> TrainingSite:
    """Read the middle of a scene, Sentinel-1 too; its clear dates of Sentinel-2 are the centre dates."""
    return middle(replace(_read(folder, (OPTICAL, RADAR)), truth={}, parcels=None))


def _read(path: Path, sensors: Sequence[str]) -> TrainingSite:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # files that hold no bands, and deserts brighter than most
        return TrainingSite.load(path, sensors)


def middle(scene: TrainingSite, size: int = MEASURED_SIZE) -> TrainingSite:
    """Return the middle `size` pixels each way of a scene, with their surroundings."""
    rows, columns = (slice(start, start + size + 2 * HALO) for start in ((side - size) // 2 for side in scene.size))
    contexts = {
        name: replace(context, values=context.values[..., rows, columns], valid=context.valid[..., rows, columns])
        for name, context in scene.contexts.items()
    }
    return replace(scene, contexts=contexts, size=(size, size))


def scene_errors(scene: TrainingSite, reconstruct: Reconstruct) -> SceneErrors:
    """Return the errors of a model on a scene, each hidden date hidden on its own."""
    hidden_errors, context_errors = [], []
    rows = hidden_rows(scene)
    inner = slice(HALO, -HALO)
    for row, hidden in zip(rows, hidden_dates(scene, rows), strict=True):
        if not hidden.where.any():
            continue
        day = scene.centre_days[row : row + 1]
        contexts = hide_centre(scene.contexts, day)
        seen = contexts[OPTICAL]
        around = seen.select(((seen.days - day).abs() <= MAX_TARGET_DAYS) & (seen.valid.amax((1, 2, 3)) > 0))
        days = torch.cat([torch.zeros(1), around.days - day])[None]
        decoded = reconstruct(contexts, day, days)
        hidden_errors.append(float(np.abs(decoded[0].numpy()[:, hidden.where] - hidden.truth).mean()))
        target, valid = around.values[..., inner, inner], around.valid[..., inner, inner]
        context_errors.append(float(absolute_error(decoded[1:], target, valid)))
    return SceneErrors(float(np.mean(hidden_errors)), float(np.mean(context_errors)))


def by_autoencoder(autoencoder: Autoencoder) -> Reconstruct:
    """Return the reconstruction of an autoencoder."""

    @torch.inference_mode()
    def reconstruct(contexts: dict[str, SensorContext], day: Tensor, days: Tensor) -> Tensor:
        encoding = autoencoder.encoder(contexts[OPTICAL], day)
        return autoencoder.reconstruct(encoding.values, days)[0]

    return reconstruct


def by_paper(model: PaperModel) -> Reconstruct:
    """Return the reconstruction of a paper baseline."""

    @torch.inference_mode()
    def reconstruct(contexts: dict[str, SensorContext], day: Tensor, days: Tensor) -> Tensor:
        return model.decode(model(contexts, day).values, OPTICAL, days)[0]

    return reconstruct


def trained(folders: Sequence[Path], seed: int, steps: int, runs: Path) -> Autoencoder:
    """Return the autoencoder trained on some scenes; one that `runs` holds is used as it is."""
    folder = runs / f"seed-{seed}-steps-{steps}-scenes-{len(folders)}"
    if not folder.exists():
        scenes = [read_training_scene(one) for one in folders]
        config = TRAINING.model_copy(update={"seed": seed, "steps": steps})
        train_autoencoder(SENTINEL_2, scenes, folder, folder.with_suffix(".run"), config)
    return load_autoencoder(folder)


def summary(errors: dict[int, list[list[SceneErrors]]]) -> dict[str, float]:
    """Return the figures of all sizes of the training set from the errors by size, seed and scene."""
    results = {}
    first, last = min(errors), max(errors)
    for prefix, name in (("", "hidden"), ("context_", "context")):
        by_scene = {}
        for count, by_seed in errors.items():
            values = np.array([[getattr(scene, name) for scene in one] for one in by_seed])
            results[f"{prefix}error_{count}"] = float(values.mean())
            if len(values) > 1:
                results[f"{prefix}error_{count}_range"] = float(np.ptp(values.mean(1)))
            by_scene[count] = values.mean(0)
        gains, key = by_scene[first] - by_scene[last], f"{prefix}gain_{first}_to_{last}"
        results[key] = float(gains.mean())
        results[f"{key}_stderr"] = float(gains.std(ddof=1) / np.sqrt(len(gains)))
    return results


def print_table(held_out: Sequence[TrainingSite], columns: dict[str, list[float]]) -> None:
    """Print the error of the hidden dates of each held-out scene, times 10000."""
    print(f"{'hidden dates, MAE x 10000':30}" + " ".join(f"{name:>13}" for name in columns))
    for number, scene in enumerate(held_out):
        print(f"{scene.name:30}" + " ".join(f"{1e4 * values[number]:13.1f}" for values in columns.values()))


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, float]:
    """Train on all sets and return the figures."""
    training, reserved = simulated_folders(options.landscapes or scratch / "landscapes", options.workers)
    held_out = [read_held_out_scene(folder) for folder in reserved]
    orders = {seed: balanced_order(training, seed)[: max(options.scenes)] for seed in options.seeds}
    runs = options.runs or scratch / "runs"
    interpolation = [baseline_errors(scene, hidden_rows(scene))["linear"].summary()[""] for scene in held_out]
    columns = {"interpolation": interpolation}
    results: dict[str, float] = {"steps": options.steps, "seeds": len(options.seeds)}
    results["interpolation_error"] = float(np.mean(interpolation))

    def measured(name: str, reconstruct: Reconstruct) -> list[SceneErrors]:
        found = [scene_errors(scene, reconstruct) for scene in held_out]
        columns[name] = [scene.hidden for scene in found]
        print(f"{name}: {np.mean(columns[name]):.5f}", file=sys.stderr, flush=True)
        return found

    seed, order = next(iter(orders.items()))
    linear = measured("linear", by_autoencoder(trained(order, seed, 0, runs)))
    results["linear_error"] = float(np.mean([scene.hidden for scene in linear]))
    results["linear_context_error"] = float(np.mean([scene.context for scene in linear]))
    if options.paper:
        paper = measured("paper", by_paper(PaperModel.load(options.paper)))
        results["paper_error"] = float(np.mean([scene.hidden for scene in paper]))
        results["paper_context_error"] = float(np.mean([scene.context for scene in paper]))
    errors: dict[int, list[list[SceneErrors]]] = {count: [] for count in options.scenes}
    for seed, order in orders.items():
        for count in options.scenes:
            autoencoder = trained(order[:count], seed, options.steps, runs)
            errors[count].append(measured(f"{count} (seed {seed})", by_autoencoder(autoencoder)))
    print_table(held_out, columns)
    return results | summary(errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the JSON object to this file")
    parser.add_argument("--landscapes", type=Path, help="folder of landscapes; a temporary one by default")
    parser.add_argument("--runs", type=Path, help="folder of trainings; a temporary one by default")
    parser.add_argument("--paper", type=Path, help="model folder of a trained paper baseline")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="optimizer steps of each training")
    parser.add_argument("--scenes", type=int, nargs="+", default=SCENES, help=f"at most {max(SCENES)} each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=2, help="processes that simulate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = measure(options, Path(scratch))
    report(results, options.json)


if __name__ == "__main__":
    main()
