"""Small files in the layouts of AlphaEarth, of TESSERA and of tables of vectors."""

import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import zarr
from rasterio.transform import Affine

from mapping_scenes import truth

LEFT, TOP, STEP = 500_000, 5_600_000, 10
"""Western and northern side, and pixel size, of every grid here (UTM zone 31 north)."""


def unit_integers(side: int = 48, seed: int = 0, strength: float = 0.5) -> np.ndarray:
    """Return int8 (64, H, W) whose dequantized vectors have length 1 and depend on the class of `truth`."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(3, 64))
    vectors = strength * centres[truth(side)] + 0.5 * random.normal(size=(side, side, 64))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    integers = np.sign(vectors) * 127.5 * np.sqrt(np.abs(vectors))
    return np.moveaxis(integers.round().astype(np.int8), -1, 0)


def write_alphaearth(
    root: Path, integers: np.ndarray, year: int = 2020, bottom_up: bool = False, **profile: Any
) -> Path:
    """Write a tile as `YEAR/31N/NAME.tiff`, with the layout of Google's bucket, or of its copy from south to north."""
    path = root / str(year) / "31N" / f"x{year}qq6ubvxmxv5r4-0000000000-0000008192.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, columns = integers.shape
    transform = Affine(STEP, 0, LEFT, 0, -STEP, TOP)
    if bottom_up:
        integers, transform = integers[:, ::-1], Affine(STEP, 0, LEFT, 0, STEP, TOP - STEP * rows)
    options = {"dtype": integers.dtype.name, "nodata": -128, "crs": "EPSG:32631", **profile}
    tiling = {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "band"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", "GTiff", columns, rows, bands, transform=transform, **tiling, **options) as file:
            file.write(integers)
            file.descriptions = [f"A{number:02d}" for number in range(bands)]
    return path


def write_tessera_tile(
    root: Path, integers: np.ndarray, scales: np.ndarray, year: int = 2024, name: str = "grid_3.05_50.55"
) -> Path:
    """Write a tile of geotessera's downloads: int8 (H, W, 128), float32 scales, and the landmask with the grid."""
    folder = root / "global_0.1_degree_representation" / str(year) / name
    folder.mkdir(parents=True)
    np.save(folder / f"{name}.npy", integers)
    np.save(folder / f"{name}_scales.npy", scales)
    masks = root / "global_0.1_degree_tiff_all"
    masks.mkdir(exist_ok=True)
    rows, columns = integers.shape[:2]
    transform = Affine(STEP, 0, LEFT, 0, -STEP, TOP)
    with rasterio.open(
        masks / f"{name}.tiff", "w", "GTiff", columns, rows, 1, "EPSG:32631", transform, "uint8"
    ) as file:
        file.write(np.ones((rows, columns), np.uint8), 1)
    return folder / f"{name}.npy"


def tessera_arrays(side: int = 48, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 (H, W, 128) that depends on the class of `truth`, and float32 scales (H, W)."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(8).normal(size=(3, 128))
    vectors = 40 * centres[truth(side)] + 20 * random.normal(size=(side, side, 128))
    return vectors.clip(-127, 127).round().astype(np.int8), np.full((side, side), 0.05, np.float32)


def write_tessera_zarr(
    store: Path, integers: np.ndarray, scales: np.ndarray, years: list[int], zone: str = "utm31", **root: Any
) -> Path:
    """Write a zone of geotessera's store: int8 (T, B, H, W), float32 scales (T, H, W), attributes on root and zone."""
    quantization = {
        "method": "per_pixel_scale",
        "original_dtype": "float32",
        "quantized_dtype": "int8",
        "scale": {"type": "array", "array_name": "scales", "nodata": "+inf"},
    }
    top = zarr.open_group(store, mode="a", zarr_format=3)
    top.attrs.update(
        {
            "geoemb:type": "pixel",
            "geoemb:dimensions": integers.shape[1],
            "geoemb:model": "https://geotessera.org/model/1.0",
            "geoemb:data_type": "int8",
            "geoemb:gsd": 10.0,
            "geoemb:spatial_layout": "utm_zones",
            "geoemb:quantization": quantization,
            **root,
        }
    )
    group = top.create_group(zone)
    bands, rows, columns = integers.shape[1:]
    coordinates = {
        "x": LEFT + STEP * (np.arange(columns) + 0.5),
        "y": TOP - STEP * (np.arange(rows) + 0.5),
        "time": np.array(years, np.int32),
        "band": np.arange(bands, dtype=np.int32),
    }
    for name, values in coordinates.items():
        group.create_array(name, data=values, dimension_names=[name])
    group.create_array(
        "embeddings",
        data=integers,
        chunks=(1, bands, 16, 16),
        shards=(1, bands, 48, 48),
        dimension_names=["time", "band", "y", "x"],
    )
    group.create_array(
        "scales",
        data=scales,
        chunks=(1, 16, 16),
        shards=(1, 48, 48),
        fill_value=np.inf,
        dimension_names=["time", "y", "x"],
    )
    group.attrs.update(
        {
            "proj:code": "EPSG:32631",
            "spatial:dimensions": ["y", "x"],
            "spatial:transform": [STEP, 0.0, LEFT, 0.0, -STEP, TOP],
            "spatial:shape": [rows, columns],
        }
    )
    return store / zone


def write_vectors(path: Path, vectors: pa.Array, geometry: Any, crs: Any = 32631, **columns: Any) -> Path:
    """Write a GeoParquet table of vectors in the column `embedding`."""
    frame = geopandas.GeoDataFrame(columns, geometry=geometry, crs=crs)
    table = pa.table(frame.to_arrow(index=False))
    metadata = {**(table.schema.metadata or {}), b"geo": _geo_metadata(frame)}
    pq.write_table(table.append_column("embedding", vectors).replace_schema_metadata(metadata), path)
    return path


def _geo_metadata(frame: geopandas.GeoDataFrame) -> bytes:
    import json

    crs = None if frame.crs is None else frame.crs.to_json_dict()
    column = {"encoding": "WKB", "geometry_types": [], "crs": crs}
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}).encode()


def fixed_size_lists(vectors: np.ndarray) -> pa.Array:
    """Return vectors (N, K) as lists of fixed size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), vectors.shape[1])
