"""Flux chips: GPP from single satellite observations, predicted from bands, from their embedding, and from both."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thalweg.earth.model.context import RECEPTIVE_FIELD, SensorContext
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import SMALL_SIZE
from thalweg.earth.sensors import SENTINEL_2
from thalweg.gpp.data.features import reconstructed_bands
from thalweg.gpp.evaluation.nested import NestedPredictions, nested_leave_site_out
from thalweg.gpp.evaluation.scores import (
    quartiles_over_sites,
    r_squared,
    r_squared_difference,
    r_squared_interval,
    site_mean_r_squared,
)
from thalweg.gpp.models.predictors import vegetation_indices
from thalweg.gpp.models.row_learners import ROW_LEARNERS, row_learners

HLS_BANDS = {"b2": "B02", "b3": "B03", "b4": "B04", "b5": "B8A", "b6": "B11", "b7": "B12"}
"""Sentinel-2 band of each column of the chip table."""

VIEWS = ("columns", "columns and indices")
DAY_OF_YEAR = 2
"""Columns of the day of year (sine and cosine), the last ones of every set."""

COMPARED = (
    ("embedding", "bands"),
    ("embedding7", "bands"),
    ("both", "bands"),
    ("both7", "bands"),
    ("both", "embedding"),
    ("both7", "embedding7"),
)
"""Sets whose difference in R2 is reported, the first less the second."""

Views = dict[str, NDArray[np.float64]]
Results = dict[str, float | bool]


@torch.inference_mode()
def embed_chips(chips: pd.DataFrame, model: EarthModel) -> NDArray[np.float32]:
    """Embed N chip means (reflectance), each as a uniform area on a single date; (N, 32).

    A chip is the mean of 50 x 50 pixels, so its value fills its whole context. The chips lie side by side on one grid.
    """
    side = int(np.ceil(len(chips) ** 0.5))
    values = np.zeros((len(SENTINEL_2.bands), side**2), np.float32)
    for column, band in HLS_BANDS.items():
        values[SENTINEL_2.band_names.index(band), : len(chips)] = SENTINEL_2.scale(chips[column].to_numpy())
    valid = (np.arange(side**2) < len(chips)).astype(np.float32)
    present = torch.from_numpy(np.isin(SENTINEL_2.band_names, list(HLS_BANDS.values())))
    grid = np.concatenate([values, valid[None]]).reshape(1, -1, side, side)
    areas = torch.from_numpy(grid.repeat(RECEPTIVE_FIELD, 2).repeat(RECEPTIVE_FIELD, 3))
    context = SensorContext(areas[:, :-1], areas[:, -1:], torch.zeros(1), present)
    encodings = model.encode({SENTINEL_2.name: context}, torch.zeros(1), stride=RECEPTIVE_FIELD)
    embedded: NDArray[np.float32] = model.fusion(encodings).values[0].flatten(1)[:, : len(chips)].T.numpy()
    return embedded


def predictor_views(chips: pd.DataFrame, model: EarthModel) -> dict[str, Views]:
    """Return the features of every set of predictors, by set and view.

    Every set has the day of year as its last columns, and a view with six indices: of the measured bands, or for the
    embedding alone, of the bands that it decodes to.
    """
    angle = 2 * np.pi * chips["doy"].to_numpy() / 365.25
    season = np.stack([np.sin(angle), np.cos(angle)], 1)
    embedded = embed_chips(chips, model)
    measured = chips[list(HLS_BANDS)].rename(columns=HLS_BANDS)
    columns = {"bands": (measured.to_numpy(), spectral_indices(measured))}
    for suffix, size in (("", embedded.shape[1]), ("7", SMALL_SIZE)):
        some = embedded[:, :size]
        decoded = reconstructed_bands(some, model)
        bands = pd.DataFrame({band: decoded[f"{SENTINEL_2.name} {band}"] for band in HLS_BANDS.values()})
        columns[f"embedding{suffix}"] = (some, spectral_indices(bands))
        columns[f"both{suffix}"] = (np.hstack([some, columns["bands"][0]]), columns["bands"][1])
    return {
        name: {VIEWS[0]: np.hstack([own, season]), VIEWS[1]: np.hstack([own, indices, season])}
        for name, (own, indices) in columns.items()
    }


def spectral_indices(bands: pd.DataFrame) -> NDArray[np.float64]:
    """Return the six indices of the chip table from bands (reflectance): NDVI, EVI, NIRv, kNDVI, GCI, NDWI."""
    vegetation = vegetation_indices(bands.rename(columns={"B8A": "B08"}))
    green, red, nir, infrared = (bands[name].to_numpy(float) for name in ("B03", "B04", "B8A", "B11"))
    return np.column_stack([*vegetation.values(), green / red - 1, (nir - infrared) / (nir + infrared)])


@dataclass(frozen=True)
class Job:
    """One set of predictors, learner and seed, to be predicted in a separate process."""

    predictors: str
    learner: str
    seed: int
    views: Views
    observed: NDArray[np.float64]
    sites: NDArray

    def run(self) -> NestedPredictions:
        """Predict every site."""
        learners = row_learners(self.learner, DAY_OF_YEAR, self.seed)
        return nested_leave_site_out(self.observed, self.sites, self.views, learners, seed=self.seed)


def flux_chips(chips: pd.DataFrame, model: EarthModel, seeds: int, workers: int) -> Results:
    """Return the scores of every set with every learner, means over seeds."""
    observed, sites = chips["GPP"].to_numpy(float), chips["SITE_ID"].to_numpy(str)
    sets = predictor_views(chips, model)
    jobs = [
        Job(name, learner, seed, sets[name], observed, sites)
        for learner, name, seed in product(ROW_LEARNERS, sets, range(seeds))
    ]
    found: dict[tuple[str, str], list[NDArray]] = {}
    with ProcessPoolExecutor(workers, initializer=threadpool_limits, initargs=(1,)) as pool:
        for job, nested in zip(jobs, pool.map(Job.run, jobs), strict=True):
            found.setdefault((job.predictors, job.learner), []).append(nested.predicted)
            (view, setting), count = Counter(nested.chosen.values()).most_common(1)[0]
            print(
                f"{job.predictors}, {job.learner}, seed {job.seed}: R2 {r_squared(observed, nested.predicted):.4f}; "
                f"{count} of {len(nested.chosen)} sites: {view}; {setting}",
                flush=True,
            )
    predicted = {key: np.stack(values) for key, values in found.items()}
    results: Results = {}
    for (name, learner), values in predicted.items():
        results |= set_scores(f"{name}_{learner}", observed, values, sites)
    return results | differences(predicted, observed, sites)


def set_scores(key: str, observed: NDArray, predicted: NDArray, sites: NDArray) -> Results:
    """Return the scores of (R, N) predictions as JSON keys, means over the R."""

    def mean(score: Callable[[NDArray], NDArray | float]) -> NDArray:
        return np.mean([np.asarray(score(one)) for one in predicted], axis=0)

    low, high = r_squared_interval(observed, predicted, sites)
    results: Results = {
        f"hls_loso_r2_{key}": float(mean(lambda one: r_squared(observed, one))),
        f"hls_loso_r2_{key}_low": low,
        f"hls_loso_r2_{key}_high": high,
        f"hls_loso_rmse_{key}": float(mean(lambda one: np.sqrt(np.square(one - observed).mean()))),
        f"hls_site_mean_r2_{key}": float(mean(lambda one: site_mean_r_squared(observed, one, sites))),
    }
    r2, rmse, _ = zip(*(quartiles_over_sites(observed, one, sites) for one in predicted), strict=True)
    for score, quartiles in (("r2", np.mean(r2, axis=0)), ("rmse", np.mean(rmse, axis=0))):
        results |= {f"hls_site_{score}_p{p}_{key}": float(at) for p, at in zip((25, 50, 75), quartiles, strict=True)}
    return results


def differences(predicted: dict[tuple[str, str], NDArray], observed: NDArray, sites: NDArray) -> Results:
    """Return the differences in R2 between sets, by learner, and whether one set is ahead with every learner."""
    results: Results = {}
    for first, second in COMPARED:
        leads = []
        for learner in ROW_LEARNERS:
            pair = predicted[first, learner], predicted[second, learner]
            scores = [np.mean([r_squared(observed, one) for one in values]) for values in pair]
            leads.append(float(scores[0] - scores[1]))
            low, high = r_squared_difference(observed, *pair, sites)
            key = f"hls_lead_of_{first}_over_{second}_{learner}"
            results |= {key: leads[-1], f"{key}_low": low, f"{key}_high": high}
        results[f"hls_{first}_leads_{second}"] = min(leads) > 0
        results[f"hls_{second}_leads_{first}"] = max(leads) < 0
    return results
