"""Accuracy of daily GPP from a satellite cube, at towers that no model has seen, with many and with few clear dates.

24 simulated towers (six vegetation types, three climates, two years, GPP known without error) are held out one at a
time and predicted by members that left them out. Every set of features has the same days, potential radiation, the
same 90-day windows, the same linear gap filling and the same learners: ridge regression and LightGBM on the last day
and the means of 7, 30 and 90 days, with settings chosen on other towers than the predicted one. In the `_cloudy` sets
70 % of the Sentinel-2 dates are masked, the same ones in all sets; Sentinel-1 is complete.

Sets of features, all averaged over the same footprint:
  bands      ten Sentinel-2 bands on clear dates, VV and VH on radar dates
  indices    NDVI, EVI, NIRv, kNDVI on clear dates, VV and VH on radar dates
  pca        principal components of the bands' trajectories (-60 to 60 days in steps of 20), as many as `embedding` has
             features (`pca_32`: 32), fitted on the training towers
  embedding  embeddings of every fifth day, 32 dimensions from both sensors and 32 from the radar alone, each decoded
             to the bands of both sensors: 24 features
             (the embedding itself: `embedding_7`, `embedding_32` from both sensors, `embedding_7_7` seven dimensions
             from both and seven from the radar alone)
  s1_only    the same from Sentinel-1 alone: 12 features; s2_only: from Sentinel-2 alone
  s1_bands, s2_bands  `bands` of one sensor

`r2_SET` is the R2 of ridge regression over all days of all towers, `site_r2_p25_SET` etc. are quartiles over the towers
of their own R2; the keys of LightGBM begin with `lightgbm_`. `ahead_of_*` are the R2 of `embedding` less that of
the best of other sets. The dates and the decoding were chosen on 36 other towers (`--first-seed 5000`), with ridge
regression.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from common import parser, report
from thalweg.earth.cube.cube import Cube
from thalweg.earth.indices import INDICES
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.gpp.data import simulated_towers
from thalweg.gpp.data.features import reconstructed_bands
from thalweg.gpp.data.gap_filling import fill_to_days
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.data.simulated_towers import SimulatedTower, TowerSite, simulate_tower, tower_sites
from thalweg.gpp.evaluation.protocol import Evaluation, EvaluationConfig, evaluate
from thalweg.gpp.evaluation.site_draws import quartile_table
from thalweg.gpp.footprint.footprint import FootprintSeries, Tower
from thalweg.gpp.footprint.footprint_series import series_of_bands, series_on_dates
from thalweg.gpp.models.predictors import PredictorSet, vegetation_indices
from thalweg.gpp.models.registry import MODELS
from thalweg.gpp.tables.physical_limits import POTENTIAL_RADIATION

CASES = ("", "_cloudy")
MASKED = 0.7
"""Share of the Sentinel-2 dates that are masked in the cloudy case."""

SENSORS = (SENTINEL_2, SENTINEL_1)
BASELINES = ("bands", "indices", "pca")
DATE_STEP = 5
"""Days between the dates that are embedded."""

OFFSETS = (-60, -40, -20, 0, 20, 40, 60)
WEATHER = ("TA_F", "SW_IN_F", "VPD_F", "P_F")
VIEWS = {"both": ("sentinel-2", "sentinel-1"), "radar": ("sentinel-1",), "optical": ("sentinel-2",)}
STRIDE = 5
LEARNERS = ("ridge", "lightgbm", "boosting", "transformer")
MAIN_SETS = ("bands", "indices", "pca", "pca_32", "embedding", "embedding_7", "embedding_32")
"""Sets of features of every learner; ridge regression, which costs little, gets all."""


def mask_dates(cube: dict[str, xr.Dataset], seed: int) -> dict[str, xr.Dataset]:
    """Return the cube with a share of its Sentinel-2 dates completely cloudy."""
    optical = cube["sentinel-2"]
    dates = optical.sizes["time"]
    chosen = np.random.default_rng(seed).permutation(dates)[: round(MASKED * dates)]
    classes = optical["SCL"].copy(deep=True)
    classes[chosen] = 9
    return {**cube, "sentinel-2": optical.assign(SCL=classes)}


def features(tower: SimulatedTower, model: EarthModel) -> pd.DataFrame:
    """Return a tower's daily table with the features of every set and case."""
    table = tower.daily.copy()
    days = table["time"].to_numpy()
    table[POTENTIAL_RADIATION] = potential_radiation(tower.position.latitude, days)
    columns: dict[str, np.ndarray] = {}
    footprint = Tower(tower.position, simulated_towers.FOOTPRINT)
    for case in CASES:
        cube = Cube.open(mask_dates(tower.cube, tower.site.seed) if case else tower.cube)
        columns |= {
            f"{name}{case}": values
            for name, values in baseline_features(series_of_bands(cube, footprint), days).items()
        }
        dates = (days[::DATE_STEP] + np.timedelta64(12, "h")).astype("datetime64[ns]")
        for view, series in series_on_dates(cube, footprint, model, 32, dates, VIEWS).items():
            values = dict(daily(series, days))
            bands = reconstructed_bands(np.stack(list(values.values()), 1), model)
            columns |= {f"{view} {name}{case}": found for name, found in (values | bands).items()}
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def daily(series: FootprintSeries, days: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    filled = fill_to_days(series.dates, series.mean, "linear", days).values
    return zip(series.names, filled.T, strict=True)


def baseline_features(series: dict[str, FootprintSeries], days: np.ndarray) -> dict[str, np.ndarray]:
    """Return bands, indices (computed on the dates, then filled), and the bands' trajectories, by day."""
    optical = series["sentinel-2"]
    bands = dict(daily(optical, days)) | dict(daily(series["sentinel-1"], days))
    on_dates = vegetation_indices(pd.DataFrame(optical.mean, columns=list(optical.names)))
    of_indices = fill_to_days(optical.dates, np.stack(list(on_dates.values()), 1), "linear", days).values
    at = np.arange(len(days))
    trajectory = {
        f"{name}_{offset:+d}": values[np.clip(at + offset, 0, len(days) - 1)]
        for offset in OFFSETS
        for name, values in bands.items()
    }
    return bands | dict(zip(on_dates, of_indices.T, strict=True)) | trajectory


def predictor_sets(case: str, shared: tuple[str, ...]) -> list[PredictorSet]:
    """Return the sets of features that are compared in a case."""

    def of(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(f"{name}{case}" for name in names)

    def raw(view: str, size: int) -> tuple[str, ...]:
        return of(f"{view} e{index + 1}" for index in range(size))

    def read(view: str) -> tuple[str, ...]:
        return of(f"{view} {sensor.name} {band}" for sensor in SENSORS for band in sensor.band_names)

    optical, radar = (sensor.band_names for sensor in SENSORS)
    trajectory = of(f"{band}_{offset:+d}" for offset in OFFSETS for band in optical + radar)
    embedding = read("both") + read("radar")
    sets = {
        "embedding": embedding,
        "bands": of(optical + radar),
        "indices": of(INDICES + radar),
        "s1_only": read("radar"),
        "s2_only": read("optical"),
        "embedding_7": raw("both", 7),
        "embedding_32": raw("both", 32),
        "embedding_7_7": raw("both", 7) + raw("radar", 7),
        "s1_bands": of(radar),
        "s2_bands": of(optical),
    }
    named = [PredictorSet(f"{name}{case}", columns + shared) for name, columns in sets.items()]
    for name, size in (("pca", len(embedding)), ("pca_32", 32)):
        named.append(PredictorSet(f"{name}{case}", trajectory + shared, trajectory, size))
    return named


@dataclass(frozen=True)
class Prepare:
    """Preparation of a site's table in a separate process."""

    model: Path | None

    def __call__(self, site: TowerSite) -> pd.DataFrame:
        """Return the site's table."""
        import torch

        torch.set_num_threads(1)
        return features(simulate_tower(site), EarthModel.load(self.model))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--towers", type=int, default=24)
    arguments.add_argument("--first-seed", type=int, default=7000, help="first seed to search for landscapes")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--weather", action="store_true", help="add the tower's daily meteorology to every set")
    arguments.add_argument(
        "--learners", nargs="+", choices=LEARNERS, default=("ridge", "lightgbm"), help="ridge and lightgbm by default"
    )
    arguments.add_argument("--tables", type=Path, help="file of the towers' tables; read if it exists, else written")
    options = arguments.parse_args()
    started = time.perf_counter()
    table = tables(options)
    prepared = time.perf_counter()
    shared = (POTENTIAL_RADIATION, *(WEATHER if options.weather else ()))
    sets = [PredictorSet("radiation", shared)]
    for case in CASES:
        sets += predictor_sets(case, shared)
    results: dict[str, Any] = {"towers": options.towers, "weather": options.weather}
    for learner in options.learners:
        cheap = learner == "ridge"
        own = sets if cheap else [one for one in sets if one.name.removesuffix("_cloudy") in MAIN_SETS]
        config = EvaluationConfig(partitions=3 if cheap else 1, stride=STRIDE, workers=options.workers)
        found = evaluate(table, own, {learner: MODELS[learner]}, config)
        prefix = "" if learner == "ridge" else f"{learner}_"
        results |= {f"{prefix}{key}": value for key, value in scores_of(found).items()}
        print(f"{learner}: done", flush=True)
    results |= {"seconds_features": prepared - started, "seconds_learning": time.perf_counter() - prepared}
    report(results, options.json)


def scores_of(found: Evaluation) -> dict[str, float]:
    """Return the scores of one learner as JSON keys."""
    scores = {str(row["predictors"]): row for row in found.scores.to_dict("records")}
    results = {f"r2_{name}": row["r2"] for name, row in scores.items()}
    for row in quartile_table(found.predictions).to_dict("records"):
        for percent in (25, 50, 75):
            results[f"site_r2_p{percent}_{row['predictors']}"] = row[f"r2_p{percent}"]
    for name in ("embedding", "bands"):
        for case in CASES:
            for measure in ("rmse", "anomaly_r2", "coverage"):
                results[f"{measure}_{name}{case}"] = scores[f"{name}{case}"][measure]
    for case in CASES:
        for key, baselines in (("best", BASELINES), ("best_or_pca_32", (*BASELINES, "pca_32"))):
            best = max(scores[f"{name}{case}"]["r2"] for name in baselines)
            results[f"ahead_of_{key}{case}"] = scores[f"embedding{case}"]["r2"] - best
    return results


def tables(options: Any) -> pd.DataFrame:
    """Return the towers' daily tables, concatenated."""
    path = options.tables
    if path is not None and path.is_file():
        return pd.read_parquet(path)
    sites = tower_sites(options.towers, options.first_seed)
    with ProcessPoolExecutor(options.workers) as pool:
        table = pd.concat(pool.map(Prepare(options.model), sites), ignore_index=True)
    if path is not None:
        table.to_parquet(path)
    return table


if __name__ == "__main__":
    main()
