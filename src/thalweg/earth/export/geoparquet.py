"""Export of embeddings to GeoParquet 1.1: one table of points per date, in the order of a Hilbert curve."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.export.date_names import Progress, date_name
from thalweg.io.atomic import atomic_folder

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr

ROW_GROUP = 65_536
"""Rows of a row group: a reader of a small place reads the groups whose bounds meet it."""

_VECTORS = {"embedding": "embeddings", "uncertainty": "uncertainty"}


def write_geoparquet(dataset: "xr.Dataset", out: str | Path, progress: Progress | None = None) -> Path:
    """Write one GeoParquet table per date: a point per pixel with an embedding, in the store's reference system.

    Columns: `time`, `embedding` and `uncertainty` (lists of K float32), `valid_context_dates`, `quality`, `bbox` (the
    covering of the geometry) and `geometry` (WKB). Rows follow a Hilbert curve, so that a row group is a compact place.

    Args:
        dataset: embeddings as `thalweg.open` returns them.
        out: folder to write; must not exist.
        progress: callback with the number of finished dates and their total.

    Returns:
        The folder, with one file `DATE.parquet` per date.

    Raises:
        UsageError: `out` exists.
        ThalwegError: the folder cannot be written.
    """
    from pyarrow import parquet

    dates = dataset.sizes["time"]
    with atomic_folder(out) as folder:
        for index in range(dates):
            parquet.write_table(
                date_table(dataset, index),
                folder / f"{date_name(dataset, index)}.parquet",
                compression="zstd",
                row_group_size=ROW_GROUP,
            )
            if progress:
                progress(index + 1, dates)
    return Path(out)


def date_table(dataset: "xr.Dataset", index: int) -> "pa.Table":
    """Return the table of one date, with the metadata of GeoParquet."""
    import geopandas
    import pyarrow as pa
    import shapely

    date = dataset.isel(time=index).load()
    rows, columns = np.nonzero(np.isfinite(date.embeddings.values).all(0))
    points = shapely.points(dataset.x.values[columns], dataset.y.values[rows])
    bounds = tuple(dataset.attrs["spatial:bbox"])
    order = np.argsort(geopandas.GeoSeries(points).hilbert_distance(total_bounds=bounds).to_numpy(), kind="stable")
    rows, columns, points = rows[order], columns[order], points[order]
    x, y = pa.array(dataset.x.values[columns]), pa.array(dataset.y.values[rows])
    arrays: dict[str, Any] = {"time": pa.array(np.full(len(rows), dataset.time.values[index]))}
    for column, name in _VECTORS.items():
        if name in date:
            vectors = np.ascontiguousarray(date[name].values[:, rows, columns].T, np.float32)
            arrays[column] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    for name in ("valid_context_dates", "quality"):
        arrays[name] = pa.array(date[name].values[rows, columns])
    arrays["bbox"] = pa.StructArray.from_arrays([x, y, x, y], ["xmin", "ymin", "xmax", "ymax"])
    arrays["geometry"] = pa.array(shapely.to_wkb(points), pa.binary())
    extent = _extent(dataset, rows, columns)
    metadata = {"geo": json.dumps(_geo_metadata(dataset, extent)), **_provenance(dataset)}
    return pa.table(arrays).replace_schema_metadata(metadata)


def _provenance(dataset: "xr.Dataset") -> dict[str, str]:
    """Return the metadata that name the model."""
    return {name: str(dataset.attrs[name]) for name in ("thalweg:model", "geoemb:model") if name in dataset.attrs}


def _extent(dataset: "xr.Dataset", rows: np.ndarray, columns: np.ndarray) -> list[float]:
    """Return the smallest and largest coordinates of some pixels; empty without pixels."""
    if not len(rows):
        return []
    x, y = dataset.x.values[columns], dataset.y.values[rows]
    return [float(value) for value in (x.min(), y.min(), x.max(), y.max())]


def _geo_metadata(dataset: "xr.Dataset", extent: list[float]) -> dict[str, Any]:
    """Return the metadata `geo` of GeoParquet 1.1."""
    from pyproj import CRS

    covering = {key: ["bbox", key] for key in ("xmin", "ymin", "xmax", "ymax")}
    column = {
        "encoding": "WKB",
        "geometry_types": ["Point"],
        "crs": CRS.from_wkt(dataset.attrs["proj:wkt2"]).to_json_dict(),
        **({"bbox": extent} if extent else {}),
        "covering": {"bbox": covering},
    }
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
