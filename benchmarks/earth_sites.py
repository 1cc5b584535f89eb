"""Quality of the embeddings at many places, each figure next to its baselines.

BE-2 (Flanders) and RO-NRT (a Romanian forest, six bands, no radar) are places of report: nothing is chosen on them.
The others are unseen simulated landscapes, two of each climate, and points of left-out regions (`left_out_points`).

- `s2_mae`, `s1_mae_db` and the errors per band: the centre date decoded from its own embedding, on dates without haze
  (`haze`); with `_all_dates`, on all clear dates. `_pca_7` is a principal component analysis of the ten bands and the
  nearest radar date, fitted to BE-1; RO-NRT has six bands, which seven components keep entirely.
- `gap`: every third date without haze is hidden and decoded from that day's embedding of everything else. Baselines:
  linear interpolation, Whittaker smoother (second differences on a daily grid, penalty 1 and 10), and a harmonic fit;
  `_best_baseline` is the best of the four. Mean over dates; `_median` over dates; `_unbiased`: each date's own bias per
  band removed. At points every date but the first and the last one is hidden in turn.
- `drift`, `coverage`: change when half of the dates are masked, the centre spared, in units of the temporal standard
  deviation, and the share of changes inside the predicted intervals (BE-2).
- `crop`, `fewshot_blocked`: see `crop_probes` (BE-2). `_trajectory_pca` is a principal component analysis of the local
  trajectory with as many dimensions, fitted to BE-1.
- `lai_r2`, `soil_moisture_r2`: linear probes on simulated landscapes, fitted to all but the tested one; soil moisture
  with each landscape's own mean removed from truth and prediction.

`--rivals FOLDER ...` measures other models on the same dates and pixels; their keys begin with the folder's name.
Eight minutes on one core.
"""

import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from biophysics_probes import LandscapeSample, probe_scores
from common import parser, report
from crop_probes import few_shot, labelled, single_date_probe
from embedded_site import DATES_AT_ONCE, OPTICAL, RADAR, EmbeddedSite, haze_free
from gap_filling import BASELINES, DateErrors, baseline_errors, hidden_rows, model_errors
from left_out_points import left_out_sites
from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.indices import INDICES
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.training.masking import mask_half
from thalweg.earth.training.tiles import TrainingSite
from thalweg.simulate import simulate
from trajectory_baseline import centre_and_trajectory
from unseen_landscapes import UNSEEN

SIZES = (7, 32)
LEVELS = (0.5, 0.9)
LANDSCAPE_SIZE = 48
REPORT_SITES = {"be2": "BE-2", "ro": "RO-NRT"}
LEARNERS = {"f1": LogisticRegression(max_iter=400), "knn": KNeighborsClassifier(15)}


@dataclass(frozen=True)
class Place:
    """Site, its hidden dates (indices of its clear dates), and what the baselines make of them.

    Attributes:
        group: prefix of the keys that it contributes to.
        site: the site.
        rows: hidden dates.
        baselines: errors by baseline.
        sample: pixels for the biophysical probes; of simulated landscapes only.
    """

    group: str
    site: TrainingSite
    rows: list[int]
    baselines: dict[str, DateErrors]
    sample: LandscapeSample | None = None


@dataclass(frozen=True)
class CropBaseline:
    """Local trajectories of BE-2 as principal components (T, H, W, 32), and the crop type of its pixels."""

    components: np.ndarray
    crop: np.ndarray
    use: np.ndarray


def read_places(data: Path, sensors: tuple[str, ...]) -> list[Place]:
    """Return the places of report, the unseen landscapes and the points of left-out regions."""
    places = []
    for group, name in REPORT_SITES.items():
        site = TrainingSite.load(data / name, sensors)
        rows = hidden_rows(site)
        places.append(Place(group, site, rows, baseline_errors(site, rows)))
    with tempfile.TemporaryDirectory() as scratch:
        for number, (seed, climate) in enumerate(UNSEEN):
            folder = Path(scratch) / f"{climate}-{seed}"
            years = 1 + number % 2
            landscape = simulate(seed=seed, size=LANDSCAPE_SIZE, years=years, climate=climate)  # type: ignore[arg-type]
            landscape.write(folder)
            site = TrainingSite.load(folder, sensors)
            rows = hidden_rows(site)
            sample = LandscapeSample.draw(site, landscape.truth)
            places.append(Place("simulated", site, rows, baseline_errors(site, rows), sample))
    for site in left_out_sites(data / "points"):
        rows = list(range(1, len(site.centre_days) - 1))
        places.append(Place("regions", site, rows, baseline_errors(site, rows)))
    return places


def band_errors(decoded: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute error of each band (C,), of images (Q, C, H, W) where valid (Q, 1, H, W)."""
    return ((decoded - target).abs() * valid).sum((0, 2, 3)) / valid.sum()


def centre_errors(here: EmbeddedSite, prefix: str) -> dict[str, float]:
    """Return the errors of the centre date: Sentinel-2 in reflectance, all bands and each, and Sentinel-1 in dB."""
    present = here.site.contexts[OPTICAL].present
    names = [name for name, kept in zip(sensor_by_name(OPTICAL).band_names, present.tolist(), strict=True) if kept]
    target, valid, away = here.nearest(OPTICAL)
    kept = torch.from_numpy(haze_free(here.site))
    results = {}
    for size in SIZES:
        decoded = here.decode(here.values, OPTICAL, away, size)
        errors = band_errors(decoded[kept], target[kept], valid[kept])[present]
        results[f"{prefix}_s2_mae_{size}"] = float(errors.mean())
        everywhere = band_errors(decoded, target, valid)[present]
        results[f"{prefix}_s2_mae_{size}_all_dates"] = float(everywhere.mean())
        results |= {f"{prefix}_{n.lower()}_mae_{size}": float(e) for n, e in zip(names, errors, strict=True)}
    if RADAR in here.site.contexts:
        radar, radar_valid, radar_away = here.nearest(RADAR)
        decibels = torch.from_numpy(sensor_by_name(RADAR).unscale(radar.numpy()))
        for size, suffix in ((7, "_7"), (32, "")):
            decoded = here.decode(here.values, RADAR, radar_away, size)
            results[f"{prefix}_s1_mae_db{suffix}"] = float(band_errors(decoded, decibels, radar_valid).mean())
    return results


def centre_baseline(place: Place, data: Path) -> dict[str, float]:
    """Return the errors of a principal component analysis of the centre, fitted to BE-1."""
    bands_be1, clear_be1, _ = centre_and_trajectory(data / "BE-1")
    bands, clear, _ = centre_and_trajectory(data / REPORT_SITES[place.group])
    pca = PrincipalComponents.fit(bands_be1[clear_be1][::7], SIZES[0])
    kept = haze_free(place.site)
    pixels = bands[kept][clear[kept]]
    names = sensor_by_name(OPTICAL).band_names
    rebuilt = (pixels - pca.mean) @ pca.axes.T @ pca.axes + pca.mean
    errors = np.abs(rebuilt - pixels).mean(0)[: len(names)]
    results = {f"{place.group}_s2_mae_pca_7": float(errors.mean())}
    return results | {f"{place.group}_{n.lower()}_mae_pca_7": float(e) for n, e in zip(names, errors, strict=True)}


def gap_table(places: list[Place], errors: dict[str, list[DateErrors]]) -> dict[str, float]:
    """Print the errors of hidden dates per site, and return those of each group by key."""
    for suffix in ("", "_median", "_unbiased"):
        names = ["ours", *(f"model {prefix}" for prefix in errors if prefix), *BASELINES]
        print(
            f"\nhidden dates, MAE x 10000{suffix:15} dates " + " ".join(f"{name.strip('_')[:14]:>14}" for name in names)
        )
        for number, place in enumerate(places):
            columns = [found[number] for found in errors.values()] + list(place.baselines.values())
            print(
                f"{place.group:>10} {place.site.name:29} {len(columns[0].error):4d} "
                + " ".join(f"{1e4 * found.summary()[suffix]:14.1f}" for found in columns)
            )
    results = {}
    for group in dict.fromkeys(place.group for place in places):
        members = [number for number, place in enumerate(places) if place.group == group]
        baselines = {name: joined(places[number].baselines[name] for number in members) for name in BASELINES}
        for suffix in joined([next(iter(baselines.values()))]).summary():
            by_name = {name: errors_of.summary()[suffix] for name, errors_of in baselines.items()}
            results[f"{group}_gap_linear{suffix}"] = by_name["linear"]
            results[f"{group}_gap_best_baseline{suffix}"] = min(by_name.values())
            for prefix, of_model in errors.items():
                own = joined(of_model[number] for number in members)
                results[f"{prefix}{group}_gap_mae{suffix}"] = own.summary()[suffix]
    return results


def joined(parts: Iterable[DateErrors]) -> DateErrors:
    """Return the hidden dates of several sites together."""
    together = DateErrors()
    for part in parts:
        together.extend(part)
    return together


def stability(here: EmbeddedSite) -> dict[str, float]:
    """Change of embeddings when half of the context dates are masked, and its coverage by the predicted spread.

    Dates that share a mask, which spares them all, lie far apart.
    """
    masked, spread = torch.empty_like(here.values), torch.empty_like(here.values)
    groups = -(-len(here.days) // DATES_AT_ONCE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for first in range(groups):
            dates = range(first, len(here.days), groups)
            masked[dates], spread[dates] = here.embed(
                dates, lambda contexts, days: mask_half(contexts, days, spare_centres=True)
            )
    _, valid, _ = here.nearest(OPTICAL)
    seen = valid[:, 0] > 0
    change = (masked - here.values).movedim(1, -1)[seen]
    own = (here.values - here.values.mean(0, keepdim=True)).movedim(1, -1)[seen]
    results = {}
    for size in SIZES:
        drift = change[:, :size].square().sum(1).mean().sqrt() / own[:, :size].square().sum(1).mean().sqrt()
        results[f"drift_{size}"] = float(drift)
        for level in LEVELS:
            width = here.model.fusion.interval_half_width(spread, level, size).movedim(1, -1)[seen][:, :size]
            inside = (change[:, :size].abs() <= width).float().mean()
            results[f"coverage_{100 * level:.0f}_{size}"] = float(inside)
    return results


def crop_figures(embedding: np.ndarray, baseline: CropBaseline, suffix: str = "") -> dict[str, float]:
    """Return the crop probes of embeddings (T, H, W, 32) of BE-2."""
    results = {}
    for size in SIZES:
        for name, learner in LEARNERS.items():
            score = single_date_probe(embedding[..., :size], baseline.crop, baseline.use, learner)
            results[f"crop_{name}{suffix}_{size}"] = score
        results[f"fewshot_blocked{suffix}_{size}"] = few_shot(embedding[..., :size], baseline.crop, baseline.use)
    return results


def crop_baseline(data: Path) -> CropBaseline:
    """Return the trajectories of BE-2 on components fitted to BE-1."""
    bands_be1, clear_be1, trajectory_be1 = centre_and_trajectory(data / "BE-1")
    _, _, trajectory = centre_and_trajectory(data / "BE-2")
    deviation = np.tile(bands_be1[clear_be1].std(0), trajectory.shape[-1] // bands_be1.shape[-1])
    pca = PrincipalComponents.fit((trajectory_be1 / deviation)[5:-5].reshape(-1, len(deviation))[::31], SIZES[1])
    return CropBaseline((trajectory / deviation - pca.mean) @ pca.axes.T, *labelled(data / "BE-2"))


def biophysics(places: list[Place], embeddings: list[np.ndarray]) -> dict[str, float]:
    """Print the probes per landscape, and return their means."""
    samples = [place.sample for place in places if place.sample is not None]
    lai, moisture = ([sample.truth[name] for sample in samples] for name in ("lai", "soil_moisture"))
    scores = {
        **{f"lai_r2_{size}": probe_scores([found[:, :size] for found in embeddings], lai) for size in SIZES},
        **{
            f"soil_moisture_r2_{size}": probe_scores([found[:, :size] for found in embeddings], moisture, within=True)
            for size in SIZES
        },
    }
    by_index = {name: probe_scores([sample.indices[name] for sample in samples], lai) for name in INDICES}
    scores["best_index_lai_r2"] = max(by_index.values(), key=lambda found: float(np.mean(found)))
    print("\nlinear probes, R2 " + " ".join(f"{name:>21}" for name in scores))
    names = [place.site.name for place in places if place.sample is not None]
    for number, name in enumerate(names):
        print(f"{name[:17]:17} " + " ".join(f"{found[number]:21.3f}" for found in scores.values()))
    return {name: float(np.mean(found)) for name, found in scores.items()}


def model_figures(model: EarthModel, places: list[Place], baseline: CropBaseline) -> dict[str, float]:
    """Return the figures of a model, other than hidden dates."""
    results: dict[str, float] = {}
    embeddings = []
    for place in places:
        here = EmbeddedSite(place.site, model)
        if place.group in REPORT_SITES:
            results |= centre_errors(here, place.group)
        if place.group == "be2":
            results |= stability(here) | crop_figures(here.values.movedim(1, -1).numpy(), baseline)
        if place.sample is not None:
            embeddings.append(place.sample.embeddings(here))
    return results | biophysics(places, embeddings)


class Clock:
    """Seconds of each step, printed to standard error."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def step(self, name: str) -> None:
        """Print the seconds since the previous step."""
        now = time.perf_counter()
        print(f"{name}: {now - self.start:.0f} s", file=sys.stderr, flush=True)
        self.start = now


def main() -> None:
    options_parser = parser(__doc__)
    options_parser.add_argument(
        "--rivals", dest="others", type=Path, nargs="+", default=[], metavar="FOLDER", help="other models to measure"
    )
    options = options_parser.parse_args()
    if not (options.data / "BE-2").is_dir():
        raise SystemExit(f"no real sites in {options.data}: name their folder with --data")
    clock = Clock()
    models = {"": EarthModel.load(options.model)}
    models |= {f"{folder.name}_": EarthModel.load(folder) for folder in options.others}
    places = read_places(options.data, models[""].sensors)
    clock.step("places and baselines of hidden dates")
    baseline = crop_baseline(options.data)
    results: dict[str, float | str] = {"model": models[""].identifier}
    results |= centre_baseline(places[0], options.data)
    results |= crop_figures(baseline.components, baseline, "_trajectory_pca")
    clock.step("baselines of the centre and of crops")
    errors = {}
    for prefix, model in models.items():
        errors[prefix] = [model_errors(EmbeddedSite(place.site, model), place.rows) for place in places]
        clock.step(f"{prefix}hidden dates")
        results |= {f"{prefix}{key}": value for key, value in model_figures(model, places, baseline).items()}
        clock.step(f"{prefix}probes")
    results |= gap_table(places, errors)
    report(results, options.json)


if __name__ == "__main__":
    main()
