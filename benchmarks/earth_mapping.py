"""Maps from few labels: quality against baselines, plausible classes, areas, time and memory.

The place is BE-2, a place of report; everything was chosen on BE-1 and on simulated landscapes (`--place BE-1`).

- `fewshot_f1`: macro F1 with 5 labelled pixels per class, mean of 20 draws; pixels in the blocks of 8 x 8 px that hold
  a label are not tested (`crop_probes`). Features: the embedding of 32 dimensions on a calendar of 15 days; learner:
  logistic regression, its regularisation chosen by cross-validation over the blocks, as `thalweg earth classify
  --learner logistic` does. `fewshot_f1_indices`: the same with ten bands, two radar bands and four indices in place of
  the embedding, interpolated to the same days; they are 16 numbers per day, and `fewshot_f1_indices_dense` has them on
  twice as many days, so that a pixel has as many features. `fewshot_f1_pca`: the first 32 principal components of the
  local trajectory (`trajectory_baseline`), fitted to BE-1, on the same days.
- `set_coverage_90`, `set_size`: share of the tested pixels whose class is in its set of plausible classes at 90 %, and
  classes per set, in the same draws.
- `area_interval_hits`: share of the 90 % intervals of the area per class that hold the true area, over 200 draws of
  150 labelled pixels of the place (a simple random sample); `area_interval_hits_simulated` of simulated landscapes.
- `seconds_to_map`: `thalweg earth classify` with 200 labelled points and default settings, from the labels to the map.
- `memory_budget_mb`, `memory_estimate_mb`, `memory_peak_mb`: `--memory`, its estimate, and the peak of learning from
  20,000 pixels and mapping one row of windows of a store of 10,000 x 10,000 pixels, 24 dates and 32 dimensions.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from sklearn.metrics import f1_score

from common import parser, report
from crop_probes import BLOCK_SIDE, FEW_SHOT_DRAWS, FEW_SHOT_LABELS, blocks_of, labelled
from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.cube.cube import Cube
from thalweg.earth.indices import INDICES, index_band_numbers, spectral_index
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.mapping.features.calendar_interpolation import store_calendar
from thalweg.earth.mapping.features.feature_plan import FeaturePlan
from thalweg.earth.mapping.learning.area_estimates import area_estimates
from thalweg.earth.mapping.learning.conformal import label_weights, plausible_classes, set_threshold
from thalweg.earth.mapping.learning.cross_validation import choose, cross_validate
from thalweg.earth.mapping.learning.learners import CLASSIFIERS, LearnerKind, class_probabilities
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.store.reader import open_store
from thalweg.simulate import simulate
from trajectory_baseline import centre_and_trajectory
from unseen_landscapes import UNSEEN

SIZE, PERIOD, DENSE_PERIOD = 32, "P15D", "P8D"
AREA_DRAWS, AREA_LABELS = 200, 150
LANDSCAPES, LANDSCAPE_SIZE = 2, 64
MAP_LABELS = 200
MIN_SHARE = 0.02
"""Share of a landscape below which a class is left out of its areas: it would have next to no labels."""
LARGE_SIDE, LARGE_DATES, LARGE_BLOCK, LARGE_BUDGET_MB = 10_000, 24, 64, 2048

LOGISTIC = CLASSIFIERS[0]
FIXED: LearnerKind = replace(LOGISTIC, settings=({"C": 0.1},))
"""Learner of the draws of areas: one setting, so that 200 draws take a minute."""


@dataclass(frozen=True)
class LabelledPlace:
    """Features (N, F) of the labelled pixels of a place, their class (N,) from 0, and their block of 8 x 8 px (N,)."""

    features: np.ndarray
    classes: np.ndarray
    blocks: np.ndarray

    @property
    def count(self) -> int:
        """Number of classes."""
        return int(self.classes.max()) + 1


def calendar_features(dataset: xr.Dataset, period: str, days: np.ndarray | None = None) -> np.ndarray:
    """Features (H, W, F) of a dataset on a calendar, or on given days."""
    plan = FeaturePlan.of(dataset, period)
    if days is not None:
        plan = replace(plan, days=tuple(str(day) for day in days))
    return plan.reader(dataset).window(slice(0, dataset.sizes["y"]), slice(0, dataset.sizes["x"]))


def baseline_dataset(values: np.ndarray, clear: np.ndarray, like: xr.Dataset) -> xr.Dataset:
    """Values (T, H, W, K) on the dates of a store as embeddings of equal uncertainty, standardised."""
    known = values[clear]
    vectors = np.where(clear[..., None], (values - known.mean(0)) / (known.std(0) + 1e-6), np.nan)
    vectors = np.moveaxis(vectors, -1, 1).astype(np.float32)
    dims = ("time", "embedding", "y", "x")
    uncertainty = np.where(np.isfinite(vectors), 0.1, np.nan).astype(np.float32)
    coordinates = {name: like[name] for name in ("time", "y", "x")}
    return xr.Dataset({"embeddings": (dims, vectors), "uncertainty": (dims, uncertainty)}, coordinates, like.attrs)


def bands_and_indices(bands: np.ndarray) -> np.ndarray:
    """Ten bands and two of radar (T, H, W, 12) in 0..1 with the four indices behind them."""
    sensor = sensor_by_name("sentinel-2")
    low, high = sensor.value_range
    reflectance = bands[..., : len(sensor.bands)] * (high - low) + low
    numbers = index_band_numbers(sensor)
    common = {name: np.clip(reflectance[..., number], 1e-4, None) for name, number in numbers.items()}
    return np.concatenate([bands, np.stack([spectral_index(name, common) for name in INDICES], -1)], -1)


def draws_of_few(place: LabelledPlace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labelled pixels, 5 per class, and the pixels outside their blocks; as `crop_probes.few_shot` draws them."""
    for draw in range(FEW_SHOT_DRAWS):
        random = np.random.default_rng(draw)
        shown = np.concatenate(
            [
                random.choice(np.flatnonzero(place.classes == code), FEW_SHOT_LABELS, replace=False)
                for code in range(place.count)
            ]
        )
        yield shown, ~np.isin(place.blocks, place.blocks[shown])


def few_shot_f1(place: LabelledPlace) -> float:
    """Mean macro F1 of the draws, over the classes that are left to test."""
    scores = []
    for shown, tested in draws_of_few(place):
        known, values, groups = place.features[shown], place.classes[shown], place.blocks[shown]
        best = max(choose(known, values, groups, [LOGISTIC], place.count, 0), key=lambda choice: choice.score)
        guess = best.fit(known, values, 0).predict(place.features[tested])
        truth = place.classes[tested]
        scores.append(f1_score(truth, guess, average="macro", labels=np.unique(truth)))
    return float(np.mean(scores))


def set_scores(place: LabelledPlace) -> dict[str, float]:
    """Coverage and size of the sets of plausible classes in the draws of few labels."""
    coverage, sizes = [], []
    for shown, tested in draws_of_few(place):
        known, values, groups = place.features[shown], place.classes[shown], place.blocks[shown]
        found = cross_validate(known, values, groups, [LOGISTIC], place.count, 0)
        estimator = found.best.fit(known, values, 0)
        chances = class_probabilities(estimator, place.features, place.count)
        shares = np.bincount(chances.argmax(1), minlength=place.count) / len(chances)
        is_known = np.isfinite(found.predicted[:, 0])
        weights = label_weights(values, shares)
        limit = set_threshold(found.predicted[is_known], values[is_known], weights[is_known])
        plausible = plausible_classes(chances[tested], limit)
        coverage.append(plausible[np.arange(tested.sum()), place.classes[tested]].mean())
        sizes.append(plausible.sum(1).mean())
    return {"set_coverage_90": float(np.mean(coverage)), "set_size": float(np.mean(sizes))}


def area_hits(place: LabelledPlace, draws: int) -> float:
    """Share of the intervals of areas that hold the true area, over draws and classes."""
    truth = np.bincount(place.classes, minlength=place.count) / len(place.classes)
    hits = []
    for draw in range(draws):
        shown = np.random.default_rng(draw).choice(len(place.classes), AREA_LABELS, replace=False)
        values, groups = place.classes[shown], place.blocks[shown]
        if len(np.unique(values)) < place.count:
            continue
        found = cross_validate(place.features[shown], values, groups, [FIXED], place.count, 0)
        guess = found.best.fit(place.features[shown], values, 0).predict(place.features)
        mapped = np.bincount(guess, minlength=place.count) / len(guess)
        is_known = np.isfinite(found.predicted[:, 0])
        predicted = found.predicted[is_known].argmax(1)
        areas = area_estimates(mapped, predicted, values[is_known], groups[is_known])
        hits.append((areas.low <= truth) & (truth <= areas.high))
    return float(np.mean(hits))


def real_place(
    data: Path, name: str, model: EarthModel, scratch: Path
) -> tuple[dict[str, LabelledPlace], Path, np.ndarray, np.ndarray]:
    """Embed a place; return its labelled pixels by features, its store, and the crop type and mask of its pixels."""
    crop, use = labelled(data / name)
    store = embed_to_zarr(Job(Cube.open(data / name, model.sensors), model, size=SIZE), scratch / f"{name}.zarr")
    dataset = open_store(store)
    days = store_calendar(dataset, PERIOD)
    bands, clear, trajectory = centre_and_trajectory(data / name)
    _, clear_be1, trajectory_be1 = centre_and_trajectory(data / "BE-1")
    pca = PrincipalComponents.fit(trajectory_be1[clear_be1][::7], SIZE, standardise=True)
    seen = baseline_dataset(bands_and_indices(bands), clear, dataset)
    components = baseline_dataset(pca.transform(trajectory, -1), np.ones_like(clear), dataset)
    sets = {
        "": calendar_features(dataset, PERIOD),
        "_indices": calendar_features(seen, PERIOD, days),
        "_indices_dense": calendar_features(seen, DENSE_PERIOD),
        "_pca": calendar_features(components, PERIOD, days),
    }
    classes = np.unique(crop[use], return_inverse=True)[1]
    blocks = blocks_of(crop.shape, BLOCK_SIDE)[use]
    places = {key: LabelledPlace(features[use].astype(np.float32), classes, blocks) for key, features in sets.items()}
    return places, store, crop, use


def simulated_place(number: int, model: EarthModel, scratch: Path) -> LabelledPlace:
    """Embed a simulated landscape; its labels are its land cover."""
    seed, climate = UNSEEN[number]
    folder = scratch / f"{climate}-{seed}"
    landscape = simulate(seed=seed, size=LANDSCAPE_SIZE, years=1, climate=climate)  # type: ignore[arg-type]
    landscape.write(folder)
    job = Job(Cube.open(folder, model.sensors), model, size=SIZE)
    dataset = open_store(embed_to_zarr(job, scratch / f"{seed}.zarr"))
    cover = landscape.truth.land_cover.values
    codes, counts = np.unique(cover, return_counts=True)
    features = calendar_features(dataset, "P30D")
    use = np.isin(cover, codes[counts > MIN_SHARE * cover.size]) & np.isfinite(features).all(-1)
    classes = np.unique(cover[use], return_inverse=True)[1]
    return LabelledPlace(features[use], classes, blocks_of(cover.shape, BLOCK_SIDE)[use])


def seconds_to_map(store: Path, crop: np.ndarray, use: np.ndarray, scratch: Path) -> float:
    """Time of `thalweg earth classify` from random points of the place, with default settings."""
    import geopandas

    dataset = open_store(store)
    pixels = np.argwhere(use)
    rows, columns = pixels[np.random.default_rng(0).choice(len(pixels), MAP_LABELS, replace=False)].T
    points = geopandas.points_from_xy(dataset.x.values[columns], dataset.y.values[rows])
    table = geopandas.GeoDataFrame(
        {"crop": crop[rows, columns].astype(str)}, geometry=points, crs=dataset.attrs["proj:wkt2"]
    )
    table.to_file(scratch / "labels.gpkg")
    command = ["earth", "classify", store, scratch / "labels.gpkg", scratch / "map", "--column", "crop"]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from thalweg.cli import main; main()", *map(str, command)],
        check=True,
        stdout=sys.stderr,
    )
    return time.perf_counter() - start


def large_store(path: Path) -> None:
    """Write a store of 10,000 x 10,000 pixels whose upper blocks hold embeddings; all are hard links to one."""
    from odc.geo.geobox import GeoBox

    from thalweg.earth.cube.windows import Window
    from thalweg.earth.store.schema import Block, StoreSchema
    from thalweg.earth.store.writer import create_store, write_block
    from thalweg.io.hashing import hash_uri

    grid = GeoBox.from_bbox((500_000, 5_500_000, 600_000, 5_600_000), "EPSG:32631", resolution=10)
    centres = 10.0 * np.arange(LARGE_SIDE) + 5
    dates = np.datetime64("2018-01-01", "ns") + 15 * np.timedelta64(1, "D") * np.arange(LARGE_DATES)
    schema = StoreSchema(
        name="large", model="large", model_uri=hash_uri("large"),
        dates=dates, observed=np.ones(LARGE_DATES, bool), reference="Sentinel-2",
        dimensions=SIZE, grid=grid, x=500_000 + centres, y=5_600_000 - centres, block=LARGE_BLOCK, quantize=None,
        sources={}, source_uris=(), preview_bands=("B04", "B03", "B02"), auxiliary_sensors=(), interval_factors={},
    )  # fmt: skip
    create_store(schema, path)
    random = np.random.default_rng(0)
    shape = (LARGE_DATES, LARGE_BLOCK, LARGE_BLOCK)
    vectors = random.normal(size=(LARGE_DATES, SIZE, LARGE_BLOCK, LARGE_BLOCK)).astype(np.float32)
    zeros = np.zeros(shape, np.uint8)
    preview = np.zeros((LARGE_DATES, 3, LARGE_BLOCK, LARGE_BLOCK), np.uint8)
    window = Window(0, 0, LARGE_BLOCK, LARGE_BLOCK)
    write_block(path, Block(window, vectors, np.full_like(vectors, 0.1), zeros, zeros, preview, {}))
    for name in ("embeddings", "uncertainty"):
        (first,) = (file for file in (path / name / "c").rglob("*") if file.is_file())
        for row in range(-(-256 // LARGE_BLOCK)):
            for column in range(-(-LARGE_SIDE // LARGE_BLOCK)):
                link = first.parents[1] / str(row) / str(column)
                link.parent.mkdir(exist_ok=True)
                if not link.exists():
                    os.link(first, link)


class RowMapped(Exception):  # noqa: N818
    """The first row of windows is mapped."""


def map_one_row(path: Path, budget_mb: int) -> dict[str, float]:
    """Learn from 20,000 random pixels and map the upper row of windows of a large store, in this process."""
    import resource

    from thalweg.earth.mapping.labels.label_pixels import MAX_LABEL_PIXELS
    from thalweg.earth.mapping.learning.applicability import Applicability
    from thalweg.earth.mapping.learning.mapping_model import MappingModel
    from thalweg.earth.mapping.mapping_config import mapping_bytes, window_side
    from thalweg.earth.mapping.output.map_rasters import open_rasters
    from thalweg.earth.mapping.output.prediction_windows import predict_windows

    dataset = open_store(path)
    plan = FeaturePlan.of(dataset, PERIOD)
    side = window_side(plan, budget_mb * 10**6)
    random = np.random.default_rng(0)
    features = random.normal(size=(MAX_LABEL_PIXELS, plan.count)).astype(np.float32)
    values, groups = np.arange(MAX_LABEL_PIXELS) % 5, np.arange(MAX_LABEL_PIXELS) // 64
    estimator = LOGISTIC.make({"C": 0.1}, 0).set_params(logisticregression__max_iter=20).fit(features, values)
    model = MappingModel(
        column="crop", classes=tuple("abcde"), plan=plan, estimator=estimator, learner="logistic", threshold=0.8,
        applicability=Applicability.of(features, groups), pixels=len(values), seed=0,
    )  # fmt: skip
    del features
    reader = plan.reader(dataset)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        try:
            with open_rasters(dataset, model, Path(scratch), side) as rasters:
                for predicted in predict_windows(model, reader, side):
                    if predicted.window.top:
                        raise RowMapped
                    rasters.write(predicted)
        except RowMapped:
            pass
    return {
        "memory_budget_mb": budget_mb,
        "memory_estimate_mb": mapping_bytes(plan, side) / 1e6,
        "memory_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "memory_window_side": side,
        "pixels_per_second": LARGE_SIDE * side / (time.perf_counter() - start),
    }


def memory_scores(scratch: Path) -> dict[str, float]:
    """Measure `map_one_row` in a process of its own."""
    large_store(scratch / "large.zarr")
    command = [sys.executable, __file__, "--large-store", str(scratch / "large.zarr")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


PARTS = ("place", "simulated", "memory")


def run_parts(options: argparse.Namespace) -> dict[str, Any]:
    """Run the requested parts, all by default."""
    results: dict[str, Any] = {"place": options.place}
    parts = [options.part] if options.part else PARTS
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = EarthModel.load(options.model)
        if "place" in parts:
            places, store, crop, use = real_place(options.data, options.place, model, scratch)
            results["classes"] = places[""].count
            for key, place in places.items():
                results[f"fewshot_f1{key}"] = few_shot_f1(place)
                print(f"fewshot_f1{key} {results[f'fewshot_f1{key}']:.3f}", file=sys.stderr, flush=True)
            results |= set_scores(places[""])
            results["area_interval_hits"] = area_hits(places[""], AREA_DRAWS)
            results["seconds_to_map"] = seconds_to_map(store, crop, use, scratch)
        if "simulated" in parts:
            landscapes = [simulated_place(number, model, scratch) for number in range(LANDSCAPES)]
            sets = [set_scores(place) for place in landscapes]
            results["fewshot_f1_simulated"] = float(np.mean([few_shot_f1(place) for place in landscapes]))
            results["set_coverage_90_simulated"] = float(np.mean([found["set_coverage_90"] for found in sets]))
            hits = [area_hits(place, AREA_DRAWS // LANDSCAPES) for place in landscapes]
            results["area_interval_hits_simulated"] = float(np.mean(hits))
        if "memory" in parts:
            results |= memory_scores(scratch)
    return results


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--place", default="BE-2", help="folder of the place in the folder of the real sites")
    arguments.add_argument("--part", choices=PARTS, help="run this part only")
    arguments.add_argument("--large-store", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.large_store:
        print(json.dumps(map_one_row(options.large_store, LARGE_BUDGET_MB)))
        return
    report(run_parts(options), options.json)


if __name__ == "__main__":
    main()
