"""Files of points and polygons: GeoPackage, GeoJSON, Shapefile, FlatGeobuf, GeoParquet, or tables of points."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import DataWarning, MissingPathError, UsageError, one_line
from thalweg.notices import warn

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

GEOMETRY_FILES = ".gpkg, .geojson, .shp, .fgb, .parquet or .csv"
"""Files that `read_geometries` reads."""

_VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb")
_DEGREE_COLUMNS = (("lon", "lat"), ("longitude", "latitude"), ("lng", "lat"))
_MAP_COLUMNS = (("x", "y"), ("easting", "northing"))
_WGS84 = "EPSG:4326"
_MAX_REASON = 160
_POINTS, _POLYGONS = ("Point",), ("Polygon", "MultiPolygon")


def read_geometries(path: str | Path, crs: str | None = None, layer: str | None = None) -> "geopandas.GeoDataFrame":
    """Read a file of points and polygons with their attributes.

    Args:
        path: file; a CSV table, or a Parquet table without geometries, has columns `lon` and `lat` (WGS 84), or `x`
            and `y`.
        crs: reference system, where the file states none.
        layer: layer of a GeoPackage with several.

    Returns:
        One row per geometry, with a reference system.

    Raises:
        MissingPathError: There is no such file.
        UsageError: The file cannot be read, holds no geometry, or states no reference system.
    """
    path = Path(path)
    if not path.exists():
        raise MissingPathError(f"{path}: no such file of labels or geometries")
    suffix = path.suffix.lower()
    if suffix in _VECTOR_SUFFIXES:
        frame = _read_vector(path, layer)
    elif suffix in (".parquet", ".csv"):
        frame = _read_table(path, crs)
    else:
        raise UsageError(f"{path.name}: expected {GEOMETRY_FILES}")
    return with_reference_system(frame, path.name, crs)


def with_reference_system(
    frame: "geopandas.GeoDataFrame", name: str, crs: str | None = None
) -> "geopandas.GeoDataFrame":
    """Return geometries with a reference system: their own, or `crs` where they have none.

    Raises:
        UsageError: They have none and none is given, `crs` is unknown, or there are no geometries.
    """
    from pyproj.exceptions import CRSError

    if not len(frame):
        raise UsageError(f"{name}: no geometries: expected points or polygons")
    if frame.crs is not None:
        return frame
    if crs is None:
        raise UsageError(f"{name}: no reference system: write one into the file, or name it as `crs` (EPSG:32631)")
    try:
        return frame.set_crs(crs)
    except CRSError as error:
        raise UsageError(f"crs {crs!r}: expected a reference system such as EPSG:32631") from error


def usable_geometries(frame: "geopandas.GeoDataFrame", name: str, crs: Any) -> "geopandas.GeoDataFrame":
    """Return the points and polygons of a table in another reference system, valid, with their row numbers as index.

    Points of a MultiPoint become points with the same row number. Rows without a geometry are left out with a warning.

    Raises:
        UsageError: There are lines, or no geometry at all.
    """
    import shapely

    frame = frame.set_axis(np.arange(len(frame)), axis=0)
    present = frame.geometry.notna().to_numpy() & ~frame.geometry.is_empty.to_numpy()
    if not present.all():
        warn(DataWarning(f"{name}: {(~present).sum()} row(s) without a geometry are left out"), stacklevel=3)
    frame = frame[present]
    frame = frame[frame.geometry.notna()].to_crs(crs)
    is_multipoint = frame.geometry.geom_type == "MultiPoint"
    if is_multipoint.any():
        frame = frame.explode(index_parts=False)
    kinds = frame.geometry.geom_type
    others = sorted(set(kinds) - {*_POINTS, *_POLYGONS})
    if others:
        raise UsageError(f"{name}: geometries of type {', '.join(others)}: expected points or polygons")
    if not len(frame):
        raise UsageError(f"{name}: no geometries: expected points or polygons")
    repaired = shapely.force_2d(np.asarray(frame.geometry.array))
    invalid = ~shapely.is_valid(repaired)
    repaired[invalid] = shapely.make_valid(repaired[invalid])
    return frame.set_geometry(repaired, crs=frame.crs)


def _read_vector(path: Path, layer: str | None) -> "geopandas.GeoDataFrame":
    import geopandas
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        if layer is not None and layer not in layers:
            raise UsageError(f"{path.name}: no layer {layer!r}: expected one of {', '.join(layers)}")
        if layer is None and len(layers) > 1:
            raise UsageError(f"{path.name}: layers {', '.join(layers)}: name one as `layer`")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of the driver on fields that are not read
            frame = geopandas.read_file(path, layer=layer or layers[0])
    except UsageError:
        raise
    except (DataSourceError, DataLayerError, IndexError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise UsageError(f"{path.name}: a table without geometries: expected points or polygons")
    return frame


def _read_table(path: Path, crs: str | None) -> "geopandas.GeoDataFrame":
    import geopandas
    import pandas as pd

    if path.suffix.lower() == ".parquet":
        try:
            return geopandas.read_parquet(path)
        except ValueError:
            pass  # a table without geometries, or no table, which the next reader says
        except (OSError, KeyError, TypeError) as error:
            raise _unreadable(path, error) from error
        try:
            return _points(pd.read_parquet(path), path.name, crs)
        except UsageError:
            raise
        except (OSError, ValueError, KeyError) as error:
            raise _unreadable(path, error) from error
    try:
        with path.open(encoding="utf-8-sig") as stream:
            header = stream.readline()
        delimiter = max(",;\t", key=header.count)
        table = pd.read_csv(path, sep=delimiter, encoding="utf-8-sig", decimal="," if delimiter == ";" else ".")
    except (OSError, ValueError) as error:  # pandas' parser errors and wrong encodings are ValueErrors
        raise _unreadable(path, error) from error
    return _points(table, path.name, crs)


def _points(table: "pd.DataFrame", name: str, crs: str | None) -> "geopandas.GeoDataFrame":
    """Return a table with columns of coordinates as points."""
    import geopandas
    import pandas as pd

    written = {str(column).strip().lower(): column for column in table.columns}
    for pairs, system in ((_DEGREE_COLUMNS, crs or _WGS84), (_MAP_COLUMNS, crs)):
        for pair in pairs:
            if not set(pair) <= set(written):
                continue
            x, y = (pd.to_numeric(table[written[one]], errors="coerce") for one in pair)
            points = geopandas.points_from_xy(x.where(y.notna()), y)
            points[(x.isna() | y.isna()).to_numpy()] = None
            frame = geopandas.GeoDataFrame(table, geometry=points)
            return frame if system is None else with_reference_system(frame, name, system)
    columns = ", ".join(map(str, table.columns))
    raise UsageError(f"{name}: columns {columns:.200}: expected lon and lat, or x and y")


def _unreadable(path: Path, error: BaseException) -> UsageError:
    return UsageError(f"{path.name}: cannot be read ({one_line(error)[:_MAX_REASON]}): expected {GEOMETRY_FILES}")
