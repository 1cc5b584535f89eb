"""The shipped model next to its two named baselines, trained on the same places: `linear` and `paper`.

`linear` is the closed-form start of training (0 steps); `paper` is the published architecture
(`scripts/train_paper_baseline.py`). Neither ships: name their folders. All have 7 dimensions and see the same
contexts: the dates within 200 days of any of the centre dates, in a window of 12 x 12 px in the middle of each site.
Centre dates are up to 6 of those without haze (`haze`), evenly spaced, not the first or the last.

Sites: BE-2, RO-NRT (six bands, no radar), and the unseen simulated landscapes together (mean over landscapes).

`{site}_s2_mae_{model}`: the centre date decoded from its own embedding, reflectance, mean over pixels and bands;
`{site}_s1_mae_db_{model}`: the radar's nearest overpass, dB; `{site}_gap_mae_{model}`: the centre date, hidden from the
model, next to `{site}_gap_interpolation`, the linear interpolation of its neighbours.

    earth_baselines.py --linear FOLDER --paper FOLDER
"""

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common import parser, report
from embedded_site import OPTICAL, RADAR, haze_free, nearest_overpasses
from gap_filling import DateErrors, baseline_errors, hidden_dates, hide_centre
from thalweg.earth.model.context import HALO, SensorContext
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import SMALL_SIZE
from thalweg.earth.model.paper_baseline import PaperModel
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.training.tiles import TrainingSite, near_days
from thalweg.simulate import simulate
from unseen_landscapes import UNSEEN

REPORT_SITES = {"be2": "BE-2", "ro": "RO-NRT"}
WINDOW, DATES = 12, 6
LANDSCAPE_SIZE = 48

AnyModel = EarthModel | PaperModel


def window_of(site: TrainingSite) -> TrainingSite:
    """Return the middle of a site, and as centre dates those that are measured."""
    kept = np.flatnonzero(haze_free(site))[1:-1]
    chosen = kept[np.linspace(0, len(kept) - 1, min(DATES, len(kept))).round().astype(int)]
    days = site.centre_days[chosen]
    top, left = ((length - WINDOW) // 2 for length in site.size)
    rows, columns = slice(top, top + WINDOW + 2 * HALO), slice(left, left + WINDOW + 2 * HALO)
    contexts = {}
    for name, context in site.contexts.items():
        near = context.select(near_days(context.days, days))
        contexts[name] = replace(near, values=near.values[..., rows, columns], valid=near.valid[..., rows, columns])
    return replace(site, contexts=contexts, centre_days=days, size=(WINDOW, WINDOW), truth={}, parcels=None)


@torch.inference_mode()
def decoded(
    model: AnyModel, contexts: Mapping[str, SensorContext], days: torch.Tensor, sensor: str, away: torch.Tensor
) -> torch.Tensor:
    """Embed some dates (Q,) and decode a sensor's bands (Q, C, H, W) `away` (Q, 1) days from each."""
    values = model(dict(contexts), days).values[:, :SMALL_SIZE]
    return model.decode(values, sensor, away, SMALL_SIZE)[:, 0]


def figures(model: AnyModel, site: TrainingSite) -> dict[str, float]:
    """Return the errors of a model at a window."""
    present = site.contexts[OPTICAL].present
    results = {}
    target, valid, away = nearest_overpasses(site, OPTICAL)
    error = (decoded(model, site.contexts, site.centre_days, OPTICAL, away) - target).abs()[:, present] * valid
    results["s2_mae"] = float(error.sum() / (valid.sum() * present.sum()))
    if RADAR in site.contexts:
        radar, radar_valid, radar_away = nearest_overpasses(site, RADAR)
        decibels = torch.from_numpy(sensor_by_name(RADAR).unscale(radar.numpy()))
        error = (decoded(model, site.contexts, site.centre_days, RADAR, radar_away) - decibels).abs() * radar_valid
        results["s1_mae_db"] = float(error.sum() / (radar_valid.sum() * error.shape[1]))
    gaps = DateErrors()
    rows = range(len(site.centre_days))
    for row, hidden in zip(rows, hidden_dates(site, rows), strict=True):
        if hidden.where.any():
            day = site.centre_days[row : row + 1]
            rebuilt = decoded(model, hide_centre(site.contexts, day), day, OPTICAL, torch.zeros(1, 1))
            gaps.add(rebuilt[0, present].numpy()[:, hidden.where], hidden.truth)
    return results | {"gap_mae": gaps.summary()[""]}


def measured(models: Mapping[str, AnyModel], site: TrainingSite) -> dict[str, float]:
    """Return the errors of all models at a site, by figure and model."""
    window = window_of(site)
    results = {
        f"{key}_{name}": value for name, model in models.items() for key, value in figures(model, window).items()
    }
    interpolation = baseline_errors(window, range(len(window.centre_days)))["linear"]
    return results | {"gap_interpolation": interpolation.summary()[""]}


def main() -> None:
    """Run the benchmark."""
    options_parser: argparse.ArgumentParser = parser(__doc__)
    options_parser.add_argument("--linear", type=Path, required=True, help="model folder of a training of 0 steps")
    options_parser.add_argument("--paper", type=Path, required=True, help="model folder of the `paper` baseline")
    options = options_parser.parse_args()
    models: dict[str, AnyModel] = {
        "ours": EarthModel.load(options.model),
        "linear": EarthModel.load(options.linear),
        "paper": PaperModel.load(options.paper),
    }
    results: dict[str, float | str] = {name: model.identifier for name, model in models.items()}
    for key, name in REPORT_SITES.items():
        site = TrainingSite.load(options.data / name, [OPTICAL, RADAR])
        results |= {f"{key}_{figure}": value for figure, value in measured(models, site).items()}
    landscapes: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed, climate in UNSEEN:
            folder = Path(scratch) / f"{climate}-{seed}"
            simulate(seed=seed, size=LANDSCAPE_SIZE, years=1, climate=climate).write(folder)  # type: ignore[arg-type]
            landscapes.append(measured(models, TrainingSite.load(folder, [OPTICAL, RADAR])))
    for figure in landscapes[0]:
        results[f"simulated_{figure}"] = float(np.mean([found[figure] for found in landscapes]))
    for figure in (
        f"{key}_{kind}" for key in (*REPORT_SITES, "simulated") for kind in ("s2_mae", "s1_mae_db", "gap_mae")
    ):
        line = [f"{name} {results[f'{figure}_{name}']:8.4f}" for name in models if f"{figure}_{name}" in results]
        print(f"{figure:22} {'  '.join(line)}")
    report(results, options.json)


if __name__ == "__main__":
    main()
