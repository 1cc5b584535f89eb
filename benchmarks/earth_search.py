"""Recall, speed and size of the search of similar embeddings (`thalweg.earth.search`).

The vectors are embeddings of real and simulated scenes by the model: the site BE-1 and the landscapes LANDSCAPES of
64 x 64 pixels. They are written to one store of VECTORS embeddings (float32, 7 dimensions unless --size says 32). Each
of its tiles of 64 x 64 pixels on each of its dates shows one of the scenes at a random moment between two of its
successive dates: embeddings and uncertainty are interpolated between the two dates, and normal noise with the
interpolated uncertainty as its standard deviation is added. Pixels without an embedding on one of the two dates stay
without. The queries are embeddings of the scenes themselves, which are not in the store.

Everything is timed in processor seconds on one thread. Brute force is the fastest exhaustive search of those tried: the
Euclidean search of faiss over the same vectors, scaled alike, of a batch (`knn`) and of single queries (`IndexFlatL2`,
and `IndexScalarQuantizer` in half precision). It computes less than the search it is compared with, which also weights
by uncertainty. The truth of the recall is the weighted distance (`SearchIndex`) to all embeddings, in float32.

vectors: embeddings in the store.
recall_at_50: share of the truth's nearest 50 that a query finds, mean over the queries.
speedup_over_brute_force: the smaller one of the two below.
speedup_batch: seconds per query of brute force over those of `SearchIndex.query`, a batch of 1000 queries.
speedup_single: the same, one query per call.
speedup_over_weighted: seconds per query of the truth (numpy) over those of `SearchIndex.query`, one query per call.
index_over_data: bytes of the index, all files, over those of the embeddings in float32; their uncertainty, which is in
the index, does not count as data.
index_over_data_8_bits: bytes of the index over those of the embeddings and their uncertainty in a store of 8 bits.
milliseconds_per_query_batch, milliseconds_per_query: of `SearchIndex.query`.
brute_force_milliseconds_batch, brute_force_milliseconds: of brute force.
build_seconds: processor seconds of `build_index`.
open_seconds: processor seconds of `SearchIndex.open`.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything computes

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from common import parser, report
from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import pixel_centers
from thalweg.earth.cube.windows import grid_windows
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.search import SearchIndex, build_index
from thalweg.earth.sensors import SENTINEL_2, Quality
from thalweg.earth.store.conventions.geo_embeddings import source_uri
from thalweg.earth.store.schema import Block, StoreSchema
from thalweg.earth.store.writer import create_store, write_block
from thalweg.io.hashing import hash_uri
from thalweg.simulate import Climate, simulate

SITE = "BE-1"
LANDSCAPES: tuple[tuple[int, Climate], ...] = ((907, "temperate"), (903, "mediterranean"))
"""Seed and climate of each simulated landscape."""
TILE, SIDE = 64, 512
COUNT = 50
BATCH = 1000
SINGLE = 200
EXACT = 100
"""Queries of the recall, the first of the batch."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scene:
    """Embeddings (T, K, 64, 64) of a scene and their uncertainty."""

    embeddings: Floats
    uncertainty: Floats

    @classmethod
    def of(cls, dataset: xr.Dataset) -> "Scene":
        """Take the upper left 64 x 64 pixels of a dataset."""
        part = dataset.isel(y=slice(0, TILE), x=slice(0, TILE))
        return cls(part.embeddings.values, part.uncertainty.values)

    def between_dates(self, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Return embeddings (K, 64, 64) at a random moment between two dates, with noise, and their uncertainty."""
        first = int(random.integers(len(self.embeddings) - 1))
        share = np.float32(random.random())
        vectors, uncertainty = (
            (1 - share) * values[first] + share * values[first + 1] for values in (self.embeddings, self.uncertainty)
        )
        noise = random.standard_normal(vectors.shape, np.float32)
        return vectors + uncertainty * noise, uncertainty

    def sample(self, count: int, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Return random embeddings of the scene and their uncertainty, (count, K) each."""
        known = np.isfinite(self.embeddings).all(1)
        chosen = random.choice(known.sum(), count, replace=False)
        vectors, uncertainty = (np.moveaxis(part, 1, -1)[known][chosen] for part in (self.embeddings, self.uncertainty))
        return vectors, uncertainty


def scenes(data: Path, model: EarthModel, size: int) -> list[Scene]:
    """Embed the site and the landscapes."""
    cubes = [Cube.open(data / SITE)]
    for seed, climate in LANDSCAPES:
        landscape = simulate(seed=seed, size=TILE, years=1, climate=climate)
        cubes.append(Cube.open({"sentinel-2": landscape.sentinel2, "sentinel-1": landscape.sentinel1}))
    return [Scene.of(embed(cube, model, size)) for cube in cubes]


def write_store(path: Path, sources: list[Scene], vectors: int) -> tuple[Floats, Floats]:
    """Write a store of at least `vectors` embeddings; return them and their uncertainty, (N, K) each."""
    random = np.random.default_rng(1)
    size = sources[0].embeddings.shape[1]
    share = np.mean([np.isfinite(one.embeddings[:-1] + one.embeddings[1:]).all(1).mean() for one in sources])
    dates = int(np.ceil(1.02 * vectors / (share * SIDE * SIDE)))
    grid = GeoBox((SIDE, SIDE), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32631")
    x, y = pixel_centers(grid)
    times = np.datetime64("2018-01-01", "ns") + np.arange(dates) * np.timedelta64(5, "D")
    schema = StoreSchema(
        name="search",
        model="benchmark",
        model_uri=hash_uri("benchmark"),
        dates=times,
        observed=np.ones(dates, bool),
        reference="Sentinel-2 L2A",
        dimensions=size,
        grid=grid,
        x=x,
        y=y,
        block=TILE,
        quantize=None,
        sources={},
        source_uris=(source_uri(SENTINEL_2),),
        preview_bands=("B04", "B03", "B02"),
        auxiliary_sensors=(),
        interval_factors={0.68: 1.0},
    )
    create_store(schema, path)
    found: list[tuple[Floats, Floats]] = []
    for window in grid_windows(grid.shape, TILE):
        tiles = [sources[random.integers(len(sources))].between_dates(random) for _ in range(dates)]
        embeddings, uncertainty = (np.stack(parts) for parts in zip(*tiles, strict=True))
        known = np.isfinite(embeddings).all(1)
        write_block(
            path,
            Block(
                window=window,
                embeddings=embeddings,
                uncertainty=uncertainty,
                valid_context_dates=known.astype(np.uint16),
                quality=np.where(known, Quality.CLEAR, Quality.CLOUD).astype(np.uint8),
                preview=np.zeros((dates, 3, TILE, TILE), np.uint8),
                gaps={},
            ),
        )
        found.append((np.moveaxis(embeddings, 1, -1)[known], np.moveaxis(uncertainty, 1, -1)[known]))
    return np.concatenate([part for part, _ in found]), np.concatenate([part for _, part in found])


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of a function."""
    start = time.process_time()
    work()
    return time.process_time() - start


def brute_force_seconds(vectors: Floats, queries: Floats) -> tuple[float, float]:
    """Seconds per query of the fastest exhaustive Euclidean search: of a batch, and of single queries."""
    flat = faiss.IndexFlatL2(vectors.shape[1])
    half = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    for one in (flat, half):
        one.train(vectors[:1000])
        one.add(vectors)
    some = queries[:SINGLE]
    batch = seconds(lambda: faiss.knn(some, vectors, COUNT)) / len(some)
    one_by_one = [seconds(partial(search_one_by_one, index, some[:20])) / 20 for index in (flat, half)]
    return min(batch, *one_by_one), min(one_by_one)


def search_one_by_one(index: Any, queries: Floats) -> None:
    """Search the neighbours of each query on its own."""
    for number in range(len(queries)):
        index.search(queries[number : number + 1], COUNT)


def true_distances(query: Floats, spread: Floats, vectors: Floats, uncertainty: Floats, within: Floats) -> Floats:
    """Weighted distances (N,) of a query to all embeddings (N, K)."""
    variance = np.square(uncertainty)
    variance += np.square(spread) + np.square(within)
    squares = np.square(vectors - query)
    squares /= variance
    return np.sqrt(squares.mean(1))


def entry_keys(vectors: Floats) -> NDArray[np.void]:
    """Return embeddings (N, K) as values that compare by all their bits, (N,)."""
    return np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.dtype.itemsize * vectors.shape[1])))[:, 0]


def measure(folder: Path, sources: list[Scene], vectors: int) -> dict[str, Any]:
    store = folder / "store.zarr"
    embeddings, uncertainty = write_store(store, sources, vectors)
    random = np.random.default_rng(2)
    samples = [one.sample(BATCH // len(sources) + 1, random) for one in sources]
    order = random.permutation(len(samples) * len(samples[0][0]))[:BATCH]
    queries, spreads = (np.concatenate(parts)[order] for parts in zip(*samples, strict=True))
    build = seconds(lambda: build_index([store], folder / "index"))
    opened: list[SearchIndex] = []
    open_seconds = seconds(lambda: opened.append(SearchIndex.open(folder / "index")))
    (index,) = opened
    matches = index.query(queries, spreads, COUNT)  # also reads the files once
    batch = seconds(lambda: index.query(queries, spreads, COUNT)) / BATCH
    single = seconds(lambda: [index.query(queries[i], spreads[i], COUNT) for i in range(SINGLE)]) / SINGLE
    scale, within = (np.array(part, np.float32) for part in (index.manifest.scale, index.manifest.within))
    brute_batch, brute_single = brute_force_seconds(embeddings / scale, np.asarray(queries / scale, np.float32))
    xr_embeddings = store_embeddings(store, index, matches.entries[:EXACT])
    keys = entry_keys(embeddings)
    recalls, start = [], time.process_time()
    for row in range(EXACT):
        distances = true_distances(queries[row], spreads[row], embeddings, uncertainty, within)
        nearest = np.argpartition(distances, COUNT)[:COUNT]
        recalls.append(len(np.intersect1d(keys[nearest], entry_keys(xr_embeddings[row]))) / COUNT)
    weighted = (time.process_time() - start) / EXACT
    size = sum(path.stat().st_size for path in (folder / "index").iterdir())
    dimensions = embeddings.shape[1]
    return {
        "vectors": len(embeddings),
        "dimensions": dimensions,
        "recall_at_50": float(np.mean(recalls)),
        "speedup_over_brute_force": min(brute_batch / batch, brute_single / single),
        "speedup_batch": brute_batch / batch,
        "speedup_single": brute_single / single,
        "speedup_over_weighted": weighted / single,
        "index_over_data": size / (4 * dimensions * len(embeddings)),
        "index_over_data_8_bits": size / (2 * dimensions * len(embeddings)),
        "milliseconds_per_query_batch": 1e3 * batch,
        "milliseconds_per_query": 1e3 * single,
        "brute_force_milliseconds_batch": 1e3 * brute_batch,
        "brute_force_milliseconds": 1e3 * brute_single,
        "build_seconds": build,
        "open_seconds": open_seconds,
    }


def store_embeddings(store: Path, index: SearchIndex, entries: NDArray[np.int64]) -> Floats:
    """Return the embeddings (Q, count, K) of entries in the store itself."""
    from thalweg.earth.store.reader import open_store

    places = index.locate(entries.ravel())
    pointwise = (xr.DataArray(part, dims="entry") for part in (places.date, places.row, places.column))
    found = np.full((entries.size, index.manifest.dimensions), np.nan, np.float32)
    values = open_store(store).embeddings
    date, row, column = (part.values for part in pointwise)
    for number in np.unique(date):
        own = date == number
        found[own] = values.isel(time=int(number)).values[:, row[own], column[own]].T
    return found.reshape(*entries.shape, -1)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--vectors", type=int, default=5_000_000, help="least number of embeddings in the store")
    options.add_argument("--size", type=int, default=7, choices=(7, 32), help="dimensions of an embedding")
    options.add_argument("--folder", type=Path, help="parent of the temporary files")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    sources = scenes(chosen.data, EarthModel.load(chosen.model), chosen.size)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        report(measure(Path(folder), sources, chosen.vectors), chosen.json)


if __name__ == "__main__":
    main()
