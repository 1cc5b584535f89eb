"""Embedding datasets with patches of classes, and labels on them."""

from pathlib import Path

import geopandas
import numpy as np
import shapely
import xarray as xr
import zarr

from embedding_stores import StoreSpec, write_store
from thalweg.earth.sensors import Quality
from thalweg.earth.store.schema import spatial_attributes

SIDE = 48
PATCH = 6
CLASSES = ("beet", "maize", "wheat")


def truth(side: int = SIDE) -> np.ndarray:
    """Return the class (y, x) of each pixel: square patches in a pseudo-random order."""
    random = np.random.default_rng(5)
    patches = random.integers(0, len(CLASSES), (side // PATCH,) * 2)
    return np.kron(patches, np.ones((PATCH, PATCH), int))


def mapping_scene(dates: int = 12, seed: int = 0, side: int = SIDE, start: str = "2018-03-01") -> xr.Dataset:
    """Return embeddings of 4 dimensions whose season differs by class, with noise, gaps and an uncertainty."""
    random = np.random.default_rng(seed)
    times = np.datetime64(start, "ns") + np.arange(dates) * np.timedelta64(15, "D")
    phase = np.linspace(0, 2 * np.pi, dates)[:, None, None, None]
    kind = truth(side)[None, None]
    vectors = np.sin(phase + kind * 2 * np.pi / 3 + np.arange(4)[None, :, None, None])
    vectors = (vectors + 0.4 * random.normal(size=(dates, 4, side, side))).astype(np.float32)
    missing = random.random((dates, side, side)) < 0.3
    vectors[np.broadcast_to(missing[:, None], vectors.shape)] = np.nan
    y, x = 5_600_000 - 10.0 * (np.arange(side) + 0.5), 500_000 + 10.0 * (np.arange(side) + 0.5)
    dims = ("time", "embedding", "y", "x")
    return xr.Dataset(
        {
            "embeddings": (dims, vectors),
            "uncertainty": (dims, np.where(np.isfinite(vectors), 0.1, np.nan).astype(np.float32)),
            "quality": (("time", "y", "x"), np.where(missing, Quality.CLOUD, Quality.CLEAR).astype(np.uint8)),
        },
        coords={"time": times, "embedding": np.arange(4), "y": y, "x": x},
        attrs={
            "title": "Thalweg embeddings of a scene",
            "geoemb:gsd": 10.0,
            "geoemb:model": "scene",
            "thalweg:model": "scene",
            "proj:wkt2": "EPSG:32631",
            **spatial_attributes(x, y, 10.0),
        },
    )


def write_scene_store(path: Path) -> Path:
    """Write a scene as a store."""
    dataset = mapping_scene()
    dates = [str(time) for time in dataset.time.values]
    write_store(path, StoreSpec(shape=(SIDE, SIDE), dates=dates, dimensions=4, model="scene"))
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    for name in ("embeddings", "uncertainty", "quality"):
        group[name][...] = dataset[name].values
    return path


def box(row: float, column: float, height: float, width: float) -> shapely.Polygon:
    """Return the rectangle of some rows and columns of a scene, in its reference system."""
    left, top = 500_000 + 10 * column, 5_600_000 - 10 * row
    return shapely.box(left, top - 10 * height, left + 10 * width, top)


def centre(row: int, column: int) -> shapely.Point:
    """Return the centre of a pixel of a scene."""
    return shapely.Point(500_005 + 10 * column, 5_599_995 - 10 * row)


def point_labels(count: int = 90, seed: int = 1, side: int = SIDE) -> geopandas.GeoDataFrame:
    """Return points with the class (`crop`) and a number (`biomass`) of random pixels, in degrees."""
    random = np.random.default_rng(seed)
    kinds = truth(side)
    chosen = random.choice(side * side, count, replace=False)
    rows, columns = np.divmod(chosen, side)
    values = kinds[rows, columns]
    return geopandas.GeoDataFrame(
        {"crop": [CLASSES[value] for value in values], "biomass": values + 0.1 * random.normal(size=count)},
        geometry=[centre(row, column) for row, column in zip(rows, columns, strict=True)],
        crs=32631,
    ).to_crs(4326)
