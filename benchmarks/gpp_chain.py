"""From a satellite cube to daily GPP: how well at towers that no model has seen, with many clear dates and with few?

Simulated towers (24; six vegetation types, three climates; two years; GPP known without error), one held out at a
time, its predictions by members that left it out. Every row has the same days, potential radiation beside its
features, the same 90-day windows, the same linear gap filling and the same learner: ridge regression on the last day
and the means of 7, 30 and 90 days, its penalty chosen on other towers than the one predicted; or another with
`--learner`. In the `_cloudy` rows 70 % of the Sentinel-2 dates are hidden, the same ones for all; Sentinel-1 stays.

What a row sees, all of it averaged over the same footprint:
  bands      ten Sentinel-2 bands on clear dates, VV and VH on radar dates
  indices    NDVI, EVI, NIRv, kNDVI on clear dates, VV and VH on radar dates
  pca        principal components of the bands' trajectories (-60 to 60 days by 20), as many as `embedding` has
             values (`pca_32`: 32), fitted on the training towers
  embedding  the model asked every five days, 32 values from both sensors and 32 from the radar alone, each read by
             the model's own decoder as what the sensors would see on the day: 24 values
             (the values themselves: `embedding_7`, `embedding_32` from both sensors, `embedding_7_7` seven from both
             and seven from the radar alone)
  s1_only    the same, 12 values, Sentinel-2 hidden from the fusion; s2_only: Sentinel-1 hidden
  s1_bands, s2_bands  `bands` of one sensor

How the embedding is asked and read, and the default learner, were chosen on 36 other towers (`--first-seed 5000`).
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
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.gpp.data import simulated_towers
from thalweg.gpp.data.features import decoded
from thalweg.gpp.data.footprint import FootprintSeries, Tower, ask, from_bands
from thalweg.gpp.data.gap_filling import fill_to_days
from thalweg.gpp.data.radiation import POTENTIAL_RADIATION, potential_radiation
from thalweg.gpp.data.simulated_towers import Place, SimulatedTower, simulate_tower, tower_places
from thalweg.gpp.evaluation.protocol import Predictors, evaluate
from thalweg.gpp.models.predictors import INDICES, MODELS, vegetation_indices

CASES = ("", "_cloudy")
HIDDEN = 0.7
"""Share of the Sentinel-2 dates hidden in the cloudy case."""

SENSORS = (SENTINEL_2, SENTINEL_1)
BASELINES = ("bands", "indices", "pca")
EVERY = 5
"""Days between the dates on which the model is asked."""

OFFSETS = (-60, -40, -20, 0, 20, 40, 60)
WEATHER = ("TA_F", "SW_IN_F", "VPD_F", "P_F")
VIEWS = {"both": ("sentinel-2", "sentinel-1"), "radar": ("sentinel-1",), "optical": ("sentinel-2",)}
STRIDE = 5


def hide(cube: dict[str, xr.Dataset], seed: int) -> dict[str, xr.Dataset]:
    """The cube as if a share of its Sentinel-2 dates had been cloudy all over."""
    optical = cube["sentinel-2"]
    dates = optical.sizes["time"]
    chosen = np.random.default_rng(seed).permutation(dates)[: round(HIDDEN * dates)]
    classes = optical["SCL"].copy(deep=True)
    classes[chosen] = 9
    return {**cube, "sentinel-2": optical.assign(SCL=classes)}


def features(tower: SimulatedTower, model: EarthModel) -> pd.DataFrame:
    """A tower's daily table with the features of every row and case."""
    table = tower.daily.copy()
    days = table["time"].to_numpy()
    table[POTENTIAL_RADIATION] = potential_radiation(tower.latitude, days)
    columns: dict[str, np.ndarray] = {}
    place = Tower(tower.longitude, tower.latitude, simulated_towers.FOOTPRINT)
    for case in CASES:
        cube = Cube.open(hide(tower.cube, tower.place.seed) if case else tower.cube)
        columns |= {f"{name}{case}": values for name, values in rivals(from_bands(cube, place), days).items()}
        dates = (days[::EVERY] + np.timedelta64(12, "h")).astype("datetime64[ns]")
        for view, series in ask(cube, place, model, 32, dates, VIEWS).items():
            values = dict(daily(series, days))
            read = decoded(np.stack(list(values.values()), 1), model)
            columns |= {f"{view} {name}{case}": found for name, found in (values | read).items()}
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def daily(series: FootprintSeries, days: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    filled = fill_to_days(series.dates, series.mean, "linear", days).values
    return zip(series.names, filled.T, strict=True)


def rivals(seen: dict[str, FootprintSeries], days: np.ndarray) -> dict[str, np.ndarray]:
    """Bands, indices (computed on the dates, then filled), and the bands' trajectories, by day."""
    optical = seen["sentinel-2"]
    bands = dict(daily(optical, days)) | dict(daily(seen["sentinel-1"], days))
    on_dates = vegetation_indices(pd.DataFrame(optical.mean, columns=list(optical.names)))
    of_indices = fill_to_days(optical.dates, np.stack(list(on_dates.values()), 1), "linear", days).values
    at = np.arange(len(days))
    trajectory = {
        f"{name}_{offset:+d}": values[np.clip(at + offset, 0, len(days) - 1)]
        for offset in OFFSETS
        for name, values in bands.items()
    }
    return bands | dict(zip(on_dates, of_indices.T, strict=True)) | trajectory


def rows(case: str, beside: tuple[str, ...]) -> list[Predictors]:
    """The sets of features compared in a case."""

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
    named = [Predictors(f"{name}{case}", columns + beside) for name, columns in sets.items()]
    for name, size in (("pca", len(embedding)), ("pca_32", 32)):
        named.append(Predictors(f"{name}{case}", trajectory + beside, trajectory, size))
    return named


@dataclass(frozen=True)
class Prepare:
    """Makes a place's table, in a process of its own."""

    model: Path | None

    def __call__(self, place: Place) -> pd.DataFrame:
        """The place's table."""
        import torch

        torch.set_num_threads(1)
        return features(simulate_tower(place), EarthModel.load(self.model))


def main() -> None:
    takes = parser(__doc__)
    takes.add_argument("--towers", type=int, default=24)
    takes.add_argument("--first-seed", type=int, default=7000, help="landscapes are searched from this seed on")
    takes.add_argument("--workers", type=int, default=2)
    takes.add_argument("--weather", action="store_true", help="give every row the tower's daily meteorology, too")
    takes.add_argument("--learner", choices=("ridge", "boosting", "transformer"), default="ridge")
    takes.add_argument("--tables", type=Path, help="keep the towers' tables here, and use them where they are")
    options = takes.parse_args()
    started = time.perf_counter()
    table = tables(options)
    prepared = time.perf_counter()
    beside = (POTENTIAL_RADIATION, *(WEATHER if options.weather else ()))
    sets = [Predictors("radiation", beside)]
    for case in CASES:
        sets += rows(case, beside)
    found = evaluate(
        table,
        sets,
        {options.learner: MODELS[options.learner]},
        partitions=3 if options.learner == "ridge" else 1,
        stride=STRIDE,
        workers=options.workers,
    )
    scores = {str(row["predictors"]): row for row in found.scores.to_dict("records")}
    results: dict[str, Any] = {"towers": options.towers, "learner": options.learner, "weather": options.weather}
    results |= {f"r2_{name}": row["r2"] for name, row in scores.items()}
    for name in ("embedding", "bands"):
        for case in CASES:
            for measure in ("rmse", "anomaly_r2", "coverage"):
                results[f"{measure}_{name}{case}"] = scores[f"{name}{case}"][measure]
    for case in CASES:
        for key, rivals_of in (("best", BASELINES), ("best_or_pca_32", (*BASELINES, "pca_32"))):
            best = max(scores[f"{name}{case}"]["r2"] for name in rivals_of)
            results[f"ahead_of_{key}{case}"] = scores[f"embedding{case}"]["r2"] - best
    results |= {"seconds_features": prepared - started, "seconds_learning": time.perf_counter() - prepared}
    report(results, options.json)


def tables(options: Any) -> pd.DataFrame:
    """The towers' daily tables, one under another."""
    kept = options.tables
    if kept is not None and kept.is_file():
        return pd.read_parquet(kept)
    places = tower_places(options.towers, options.first_seed)
    with ProcessPoolExecutor(options.workers) as pool:
        table = pd.concat(pool.map(Prepare(options.model), places), ignore_index=True)
    if kept is not None:
        table.to_parquet(kept)
    return table


if __name__ == "__main__":
    main()
