"""GeoParquet tables of vectors: a list column of numbers and a geometry per row, on a grid or scattered."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.foreign.feature_vectors import FEATURE
from thalweg.earth.foreign.foreign_dataset import (
    MAX_REASON,
    Publication,
    Spans,
    VectorGrid,
    start_of_years,
    table_attributes,
)
from thalweg.earth.store.portable import portable
from thalweg.errors import MissingPathError, UsageError, one_line, unknown_name

if TYPE_CHECKING:
    import geopandas
    import pyarrow as pa
    import xarray as xr
    from pyproj import CRS

TIME_COLUMNS = ("time", "timestamp", "date", "datetime")
"""Names of columns with dates, in the order in which they are looked for; then `YEAR_COLUMN`."""

YEAR_COLUMN = "year"
USUAL_COLUMNS = ("embedding", "embeddings")
"""Names of the list column that is taken where a table has others too, such as an uncertainty."""

MAX_SPARSENESS = 4
"""Largest number of cells, of a grid or of dates times features, per row of a table."""

_GRID_TOLERANCE = 1e-3
_DECIMALS = 7  # a centimetre in degrees
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class _Table:
    """Rows of a table: vectors (N, K), geometries, and times (N,)."""

    where: str
    vectors: NDArray[np.float32]
    geometries: "geopandas.GeoSeries"
    times: NDArray[np.datetime64]
    publication: Publication

    @property
    def crs(self) -> "CRS":
        return self.geometries.crs


def open_vector_table(path: str | Path, year: int | None = None, column: str | None = None) -> "xr.Dataset":
    """Open a GeoParquet table of vectors, in memory.

    Args:
        path: table with a list column of numbers (of fixed or any length, but one for all rows), a geometry, and a
            column of dates (`time`, `timestamp`, `date` or `datetime`) or `year`.
        year: year of the vectors, where the table has no such column.
        column: name of the list column, where there are several and not one of them is `embedding` or `embeddings`.

    Returns:
        Points on a regular grid become a dataset with `embeddings` (time, embedding, y, x). Other geometries become
        one with `embeddings` (time, embedding, feature), the coordinates `x` and `y` (a point in each geometry) and
        `geometry` (WKT). Where every geometry occurs once, there is one time, the earliest, and `acquired` (feature)
        holds each row's own.

    Raises:
        MissingPathError: The path does not exist.
        UsageError: The file is no GeoParquet table, its vectors are missing, ambiguous or of different lengths, it
            has no reference system or no dates, or rows contradict each other.
    """
    path = Path(path)
    if not path.exists():
        raise MissingPathError(f"{path}: no such file")
    table = _read(path, year, column)
    grid = _grid_axes(table)
    if grid is not None:
        return _on_grid(table, *grid)
    return _scattered(table)


def _read(path: Path, year: int | None, column: str | None) -> _Table:
    """Read the vectors, geometries and times of a table."""
    import geopandas
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        geo = json.loads((file.schema_arrow.metadata or {}).get(b"geo", b"{}"))
        primary = geo.get("primary_column")
        if primary not in names:
            raise UsageError(
                f"{path}: no GeoParquet metadata: expected a table with a geometry, such as GeoParquet 1.1"
            )
        vector_column = _vector_column(file.schema_arrow, column, path)
        dated = next((name for name in (*TIME_COLUMNS, YEAR_COLUMN) if name in names), None)
        read = file.read([vector_column, *([dated] if dated else [])])
        geometries = geopandas.read_parquet(path, columns=[primary]).geometry
    except UsageError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{path}: not a readable GeoParquet table ({one_line(error)[:MAX_REASON]}): get it again"
        ) from error
    if geometries.crs is None:
        raise UsageError(f"{path}: geometries without a reference system: write one into the table")
    vectors = _vectors(read[vector_column], vector_column, path)
    times = _times(read, dated, year, path)
    present = geometries.notna().to_numpy() & ~geometries.is_empty.to_numpy()
    if not present.all():
        raise UsageError(f"{path}: {(~present).sum()} row(s) without a geometry: remove them")
    return _Table(path.name, vectors, geometries, times, _publication(file.schema_arrow, vectors, path))


def _publication(schema: "pa.Schema", vectors: NDArray[np.float32], path: Path) -> Publication:
    """Return the provenance of a table: the model it names in its metadata, or the table itself."""
    metadata = schema.metadata or {}
    stated = next((metadata[key] for key in (b"thalweg:model", b"geoemb:model", b"model") if key in metadata), None)
    model = stated.decode("utf-8", "replace") if stated else f"{path.name} ({vectors.shape[1]} dimensions)"
    return Publication(model, "Embeddings of a table", model, (path.name,), "float32")


def _vector_column(schema: "pa.Schema", column: str | None, path: Path) -> str:
    """Return the name of the list column of numbers."""
    import pyarrow.types as kinds

    def holds_numbers(kind: "pa.DataType") -> bool:
        is_list = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
        return is_list and (kinds.is_floating(kind.value_type) or kinds.is_integer(kind.value_type))

    found = [field.name for field in schema if holds_numbers(field.type)]
    if column is not None:
        if column not in found:
            raise unknown_name("`column`", column, found or schema.names)
        return column
    if not found:
        raise UsageError(f"{path}: columns {', '.join(schema.names)}: expected a list column of numbers")
    usual = [name for name in USUAL_COLUMNS if name in found]
    if len(found) > 1 and len(usual) == 1:
        return usual[0]
    if len(found) > 1:
        raise UsageError(f"{path}: list columns {', '.join(found)}: name one as `column`")
    return found[0]


def _vectors(column: "pa.ChunkedArray", name: str, path: Path) -> NDArray[np.float32]:
    """Return the vectors (N, K) of a list column, NaN where a row or a number is null."""
    import pyarrow.compute as pc

    lengths = pc.value_counts(pc.list_value_length(column).drop_null()).to_pylist()
    lengths.sort(key=lambda one: -one["counts"])
    if not lengths or not lengths[0]["values"]:
        raise UsageError(f"{path}: {name} holds no vectors: expected a list of numbers per row")
    if len(lengths) > 1:
        shown = ", ".join(f"{one['values']} ({one['counts']} rows)" for one in lengths[:3])
        raise UsageError(f"{path}: {name} has vectors of different lengths, {shown}: expected one length for all rows")
    vectors = np.full((len(column), lengths[0]["values"]), np.nan, np.float32)
    known = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
    numbers = pc.list_flatten(column.drop_null()).cast("float32")
    vectors[known] = numbers.to_numpy(zero_copy_only=False).reshape(len(known), -1)
    vectors[~np.isfinite(vectors)] = np.nan
    return vectors


def _times(table: "pa.Table", dated: str | None, year: int | None, path: Path) -> NDArray[np.datetime64]:
    """Return the time of each row, datetime64[ns] (N,)."""
    import pandas as pd

    if dated is None:
        if year is None:
            raise UsageError(
                f"{path}: no column {', '.join((*TIME_COLUMNS, YEAR_COLUMN))}: name the year of the vectors as `year`"
            )
        return np.repeat(start_of_years([year]), len(table))
    if year is not None:
        raise UsageError(f"{path}: `year` {year}, but the table has the column {dated}: leave `year` out")
    values = table[dated].to_pandas()
    try:
        if dated == YEAR_COLUMN:
            return start_of_years([int(value) for value in values])
        times = pd.to_datetime(values, utc=True, format="ISO8601").dt.tz_localize(None).to_numpy("datetime64[ns]")
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: column {dated} holds no dates ({one_line(error)[:MAX_REASON]})") from error
    if np.isnat(times).any():
        raise UsageError(f"{path}: {np.isnat(times).sum()} row(s) without a date in {dated}: remove them")
    return times


def _grid_axes(table: _Table) -> "tuple[NDArray[np.float64], NDArray[np.float64]] | None":
    """Return the axes x (rising) and y (falling) of a grid that all points lie on; None if they lie on none."""
    if set(table.geometries.geom_type) != {"Point"}:
        return None
    x, y = (_axis(values) for values in (table.geometries.x.to_numpy(), table.geometries.y.to_numpy()))
    if x is None or y is None:
        return None
    is_square = np.isclose(x[1] - x[0], y[1] - y[0], rtol=_GRID_TOLERANCE)
    times = len(np.unique(table.times))
    return (x, y[::-1]) if is_square and len(x) * len(y) * times <= MAX_SPARSENESS * len(table.times) else None


def _axis(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the rising evenly spaced axis that values lie on; None if they lie on none."""
    found = np.unique(values.round(_DECIMALS))
    if len(found) < 2:
        return None
    steps = (found - found[0]) / np.diff(found).min()
    if np.abs(steps - steps.round()).max() > _GRID_TOLERANCE * max(len(found), 1):
        return None
    count = int(steps[-1].round()) + 1
    return np.linspace(found[0], found[-1], count) if count <= MAX_SPARSENESS * len(found) else None


def _on_grid(table: _Table, x: NDArray[np.float64], y: NDArray[np.float64]) -> "xr.Dataset":
    """Return the vectors of points on a grid as a dataset."""
    times, date = np.unique(table.times, return_inverse=True)
    step = x[1] - x[0]
    columns = ((table.geometries.x.to_numpy() - x[0]) / step).round().astype(int)
    rows = ((y[0] - table.geometries.y.to_numpy()) / step).round().astype(int)
    _check_once(np.stack([date, rows, columns]), table.where)
    values = np.full((len(times), table.vectors.shape[1], len(y), len(x)), np.nan, np.float32)
    values[date, :, rows, columns] = table.vectors

    def read(spans: Spans) -> NDArray[np.float32]:
        return values[spans]

    grid = VectorGrid(table.where, times, x, y, table.crs, values.shape[1], (_BLOCK, _BLOCK))
    return grid.dataset(read, table.publication)


def _scattered(table: _Table) -> "xr.Dataset":
    """Return the vectors of scattered geometries as a dataset."""
    import xarray as xr

    shapes, first, feature = np.unique(table.geometries.to_wkb(), return_index=True, return_inverse=True)
    order = np.argsort(first)  # features in the order of the table
    feature = np.argsort(order)[feature]
    acquired: dict[str, Any] = {}
    if len(shapes) == len(table.times):
        times, date = table.times.min(keepdims=True), np.zeros(len(feature), int)
        acquired = {"acquired": (FEATURE, table.times[first[order]])}
    else:
        times, date = np.unique(table.times, return_inverse=True)
        if len(times) * len(shapes) > MAX_SPARSENESS * len(feature):
            raise UsageError(
                f"{table.where}: {len(feature)} rows of {len(shapes)} geometries on {len(times)} dates: expected each "
                "geometry once, or most of them on every date"
            )
        _check_once(np.stack([date, feature]), table.where)
    values = np.full((len(times), table.vectors.shape[1], len(shapes)), np.nan, np.float32)
    values[date, :, feature] = table.vectors
    geometries = table.geometries.iloc[first[order]]
    points = geometries.representative_point()
    dataset = xr.Dataset(
        {"embeddings": (("time", "embedding", FEATURE), values, {"long_name": "embedding", "units": "1"}), **acquired},
        coords={
            "time": ("time", times),
            "embedding": ("embedding", np.arange(values.shape[1])),
            "x": (FEATURE, points.x.to_numpy()),
            "y": (FEATURE, points.y.to_numpy()),
            "geometry": (FEATURE, geometries.to_wkt().to_numpy().astype(str)),
        },
        attrs=table_attributes(table.publication, table.where, values.shape[1], table.crs),
    )
    return portable(dataset)


def _check_once(keys: NDArray[np.int64], where: str) -> None:
    """Raise a `UsageError` if two rows have the same keys (M, N): date and place."""
    unique = np.unique(keys, axis=1).shape[1]
    if unique < keys.shape[1]:
        raise UsageError(
            f"{where}: {keys.shape[1] - unique} row(s) repeat the date and place of another: expected one vector each"
        )
