"""Quality of the shipped embeddings on a site they were not trained on (BE-2), and on unseen landscapes.

Site BE-2 is one Flemish site of 640 m x 640 m: these figures say nothing about other regions. The protocol of the
crop probe and of its linear baseline is that of the data's README: the embedding of one date, standardised, 5 folds
over 8 x 8 px blocks, macro F1, median over every sixth date; the baseline is fitted to BE-1.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common import arguments, report
from embedded_site import EmbeddedSite
from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.indices import INDICES, index_band_numbers, spectral_index
from thalweg.earth.model.context import SensorContext
from thalweg.earth.model.earth_model import EarthModel
from thalweg.simulate import simulate
from trajectory_baseline import centre_and_trajectory

UNSEEN = ((901, "temperate"), (902, "continental"), (903, "mediterranean"))
SIZES = (7, 32)


def masked_error(reconstruction: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> float:
    return float(((reconstruction - target).abs() * valid).sum() / (valid.sum() * target.shape[1]))


def reconstruction(
    here: EmbeddedSite, values_be1: np.ndarray, clear_be1: np.ndarray, values: np.ndarray
) -> dict[str, float]:
    """Errors of the centre date, Sentinel-2 in reflectance and Sentinel-1 in dB, and of a PCA fitted to BE-1."""
    target, valid, away = here.nearest("sentinel-2")
    radar, radar_valid, radar_away = here.nearest("sentinel-1")
    low, high = here.model.autoencoder("sentinel-1").sensor.value_range
    decibels = radar * (high - low) + low
    results = {
        f"s2_mae_{size}": masked_error(here.decode(here.values, "sentinel-2", away, size), target, valid)
        for size in SIZES
    }
    decoded = here.decode(here.values, "sentinel-1", radar_away, 32)
    results["s1_mae_db"] = masked_error(decoded, decibels, radar_valid)
    decoded = here.decode(here.values, "sentinel-1", radar_away, 7)
    results["s1_mae_db_7"] = masked_error(decoded, decibels, radar_valid)
    pca = PrincipalComponents.fit(values_be1[clear_be1][::7], 7)
    linear = (values - pca.mean) @ pca.axes.T @ pca.axes + pca.mean
    optical = torch.from_numpy(linear[..., :10]).movedim(-1, 1)
    results["pca7_s2_mae"] = masked_error(optical, target, valid)
    return results


def gap_filling(here: EmbeddedSite) -> dict[str, float]:
    """Errors of every third date of Sentinel-2 decoded from the other dates, and of interpolation in time."""
    dates = range(1, len(here.days) - 1, 3)
    values, _ = here.embed(
        dates, lambda name, context, day: ((context.days - day).abs() < 0.5) & torch.tensor(name == "sentinel-2")
    )
    target, valid, away = here.nearest("sentinel-2")
    rows = list(dates)
    decoded = here.decode(values, "sentinel-2", away[rows], 32)
    linear = []
    for row in rows:
        before, after = _neighbour(target, valid, row, -1), _neighbour(target, valid, row, 1)
        (first, first_day), (second, second_day) = (
            (pixels, here.days[index] - here.days[row]) for pixels, index in (before, after)
        )
        share = (-first_day / (second_day - first_day).clamp(min=1e-6))[None]
        share = torch.where(
            before[1] < 0, torch.ones_like(share), torch.where(after[1] < 0, torch.zeros_like(share), share)
        )
        linear.append(first * (1 - share) + second * share)
    return {
        "gap_s2_mae": masked_error(decoded, target[rows], valid[rows]),
        "gap_linear_mae": masked_error(torch.stack(linear), target[rows], valid[rows]),
    }


def _neighbour(target: torch.Tensor, valid: torch.Tensor, row: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each pixel's next clear value (C, H, W) in one direction of time, and its date's index (-1 for none)."""
    index = torch.full(target.shape[-2:], -1)
    values = torch.zeros_like(target[0])
    other = row + step
    while 0 <= other < len(target):
        fresh = (index < 0) & (valid[other, 0] > 0)
        index[fresh] = other
        values[:, fresh] = target[other][:, fresh]
        other += step
    return values, index


def stability(here: EmbeddedSite) -> dict[str, float]:
    """Change of embeddings when half of the context dates are masked, and its coverage by the predicted spread."""
    generator = torch.Generator().manual_seed(0)

    def half(name: str, context: SensorContext, day: float) -> torch.Tensor:
        chosen = torch.rand(len(context.days), generator=generator) < 0.5
        return chosen & ((context.days - day).abs() >= 0.5)

    dates = list(range(len(here.days)))
    masked, spread = here.embed(dates, half)
    _, valid, _ = here.nearest("sentinel-2")
    seen = valid[:, 0] > 0
    change = (masked - here.values).movedim(1, -1)[seen]
    own = (here.values - here.values.mean(0, keepdim=True)).movedim(1, -1)[seen]
    results = {}
    for size, suffix in ((7, ""), (32, "_32")):
        drift = change[:, :size].square().sum(1).mean().sqrt() / own[:, :size].square().sum(1).mean().sqrt()
        results[f"drift_half_context{suffix}"] = float(drift)
        for level in (0.5, 0.9):
            width = here.model.fusion.interval_half_width(spread, level).movedim(1, -1)[seen][:, :size]
            results[f"coverage_{100 * level:.0f}{suffix}"] = float((change[:, :size].abs() <= width).float().mean())
    return results


def labelled(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Crop type (H, W) and which pixels count: classes of more than 50 pixels."""
    with xr.open_dataset(folder / "labels.nc", engine="h5netcdf", mask_and_scale=False) as labels:
        crop = labels.ct.values.astype(int)
    counts = {code: int((crop == code).sum()) for code in np.unique(crop)}
    return crop, np.isin(crop, [code for code, count in counts.items() if code and count > 50])


def blocks_of(shape: tuple[int, int], side: int) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (rows // side) * 1000 + columns // side


def single_date_probe(embedding: np.ndarray, crop: np.ndarray, use: np.ndarray, learner: Any) -> float:
    """Median over dates of the macro F1 from the embedding of one date; embedding (T, H, W, K)."""
    groups = blocks_of(crop.shape, 8)[use]
    scores = []
    for date in range(8, len(embedding) - 5, 6):
        pipeline = make_pipeline(StandardScaler(), learner)
        guess = cross_val_predict(pipeline, embedding[date][use], crop[use], groups=groups, cv=GroupKFold(5))
        scores.append(f1_score(crop[use], guess, average="macro"))
    return float(np.median(scores))


def few_shot(embedding: np.ndarray, crop: np.ndarray, use: np.ndarray) -> float:
    """Macro F1 from whole series with 5 labelled pixels per class, mean of 20 draws; embedding (T, H, W, K)."""
    series = np.moveaxis(embedding, 0, 2)[use].reshape(use.sum(), -1)
    truth = crop[use]
    scores = []
    for draw in range(20):
        random = np.random.default_rng(draw)
        shown = np.concatenate([random.choice(np.flatnonzero(truth == c), 5, replace=False) for c in np.unique(truth)])
        rest = np.setdiff1d(np.arange(len(truth)), shown)
        learner = make_pipeline(StandardScaler(), LogisticRegression(max_iter=400)).fit(series[shown], truth[shown])
        scores.append(f1_score(truth[rest], learner.predict(series[rest]), average="macro"))
    return float(np.mean(scores))


def probes(here: EmbeddedSite, baseline: np.ndarray, folder: Path) -> dict[str, float]:
    crop, use = labelled(folder)
    own = here.values.movedim(1, -1).numpy()
    results = {}
    for size in SIZES:
        for name, learner in (("f1", LogisticRegression(max_iter=400)), ("knn", KNeighborsClassifier(15))):
            results[f"probe_{name}_{size}"] = single_date_probe(own[..., :size], crop, use, learner)
            results[f"trajectory_pca_{name}_{size}"] = single_date_probe(baseline[..., :size], crop, use, learner)
    results["fewshot_f1_7"] = few_shot(own[..., :7], crop, use)
    results["fewshot_trajectory_pca_f1_7"] = few_shot(baseline[..., :7], crop, use)
    return results


def biophysics(model: EarthModel) -> dict[str, float]:
    """R2 of linear probes of leaf area and soil moisture, fitted to two unseen landscapes, tested on the third."""
    band_numbers = index_band_numbers(model.reference)
    features: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed, climate in UNSEEN:
            folder = Path(scratch) / str(seed)
            landscape = simulate(seed=seed, size=64, climate=climate)  # type: ignore[arg-type]
            landscape.write(folder)
            here = EmbeddedSite(folder, model)
            target, valid, _ = here.nearest("sentinel-2")
            times = landscape.sentinel2.time.values
            chosen = ((times - np.datetime64("2015-01-01")) / np.timedelta64(1, "D"))[:, None] - here.days.numpy()[None]
            rows = np.abs(chosen).argmin(0)
            land = np.isin(landscape.truth.land_cover.values, _vegetated(landscape.truth))
            seen = (valid[:, 0].numpy() > 0) & land[None]
            sample = np.flatnonzero(seen.ravel())[::11]
            bands = {name: target[:, number].numpy().ravel()[sample] for name, number in band_numbers.items()}
            columns = {name: spectral_index(name, bands)[:, None] for name in INDICES}
            columns["embedding"] = here.values.movedim(1, -1).reshape(-1, 32).numpy()[sample]
            columns["embedding_7"] = columns["embedding"][:, :7]
            columns["lai"] = landscape.truth.lai.values[rows].ravel()[sample]
            columns["soil_moisture"] = landscape.truth.soil_moisture.values[rows].ravel()[sample]
            for name, column in columns.items():
                features.setdefault(name, []).append(column)

    def score(predictor: str, truth: str) -> float:
        scores = []
        for test in range(len(UNSEEN)):
            train = [index for index in range(len(UNSEEN)) if index != test]
            x, y = (np.concatenate([features[key][index] for index in train]) for key in (predictor, truth))
            scores.append(LinearRegression().fit(x, y).score(features[predictor][test], features[truth][test]))
        return float(np.mean(scores))

    return {
        "lai_r2": score("embedding", "lai"),
        "lai_r2_7": score("embedding_7", "lai"),
        "best_index_lai_r2": max(score(name, "lai") for name in INDICES),
        "soil_moisture_r2": score("embedding", "soil_moisture"),
    }


def _vegetated(truth: xr.Dataset) -> list[int]:
    """Land cover classes with soil and plants: not water, not sealed."""
    attributes = truth.land_cover.attrs
    names = str(attributes["flag_meanings"]).split()
    values = np.asarray(attributes["flag_values"])
    return [
        int(v) for v, n in zip(values, names, strict=True) if "water" not in n and "built" not in n and "road" not in n
    ]


def main() -> None:
    options = arguments(__doc__)
    if not (options.data / "BE-2").is_dir():
        raise SystemExit(f"no real sites in {options.data}: name their folder with --data")
    model = EarthModel.load(options.model)
    values_be1, clear_be1, trajectory_be1 = centre_and_trajectory(options.data / "BE-1")
    values, _, trajectory = centre_and_trajectory(options.data / "BE-2")
    spread = np.tile(values_be1[clear_be1].std(0), trajectory.shape[-1] // values.shape[-1])
    pca = PrincipalComponents.fit((trajectory_be1 / spread)[5:-5].reshape(-1, len(spread))[::31], 32)
    baseline = (trajectory / spread - pca.mean) @ pca.axes.T
    here = EmbeddedSite(options.data / "BE-2", model)
    results = {
        "model": model.identifier,
        **reconstruction(here, values_be1, clear_be1, values),
        **gap_filling(here),
        **stability(here),
        **probes(here, baseline, options.data / "BE-2"),
        **biophysics(model),
    }
    report(results, options.json)


if __name__ == "__main__":
    main()
