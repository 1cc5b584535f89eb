"""Files of labels that a browser uploads: checked by their content, then read as every file of labels is.

A library takes a file for what its content says, whatever its name. A text named *.geojson may thus name other files or
addresses to read. Here the content must be what the name says, and GeoJSON is written again without such parts.
"""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.app.earth.labels.page_labels import (
    MARGIN,
    MAX_CLASS_NAME,
    MAX_PAGE_CLASSES,
    MAX_PAGE_LABELS,
    MAX_VERTICES,
    polygon_parts,
    to_pixels,
    too_many_labels,
)
from thalweg.app.earth.open_stores import OpenStore
from thalweg.earth.mapping.labels.geometry_files import read_geometries, usable_geometries
from thalweg.earth.mapping.labels.label_pixels import class_name
from thalweg.earth.positions import dataset_geobox
from thalweg.errors import ThalwegWarning, UsageError, unknown_name
from thalweg.io.json_files import read_json
from thalweg.notices import redirect_warnings

if TYPE_CHECKING:
    import geopandas
    from odc.geo.geobox import GeoBox

LABEL_SUFFIXES = (".gpkg", ".geojson", ".json", ".zip", ".fgb", ".parquet", ".csv")
LABEL_FILES = "a GeoPackage, GeoJSON, FlatGeobuf, Parquet or CSV file, or a Shapefile as one .zip"
"""Files of labels that a browser may upload."""
MAX_FILE_BYTES = 100_000_000
"""Bytes of a file's content after decompression."""
MAX_FILE_ROWS = 500_000
MAX_FILE_COLUMNS = 200
"""Rows and columns of a file's table."""
MAX_LISTED_VALUES = 5
"""Values of a column that the page shows."""

_SHAPEFILE = (".shp", ".shx", ".dbf", ".prj", ".cpg")
_STARTS = {
    ".gpkg": b"SQLite format 3\0",
    ".fgb": b"fgb",
    ".parquet": b"PAR1",
    ".zip": b"PK\x03\x04",
    ".shp": b"\x00\x00\x27\x0a",
}
_MAX_MEMBERS = 100
_PARQUET_ROWS_AT_ONCE = 64
_CRS_NAME = re.compile(r"(urn:ogc:def:crs:)?(EPSG|OGC):[A-Z0-9.]{0,8}:?[A-Z0-9]{1,8}", re.IGNORECASE)
_CRS_CODE = re.compile(r"EPSG:\d{4,6}", re.IGNORECASE)
_DECIMALS = 4
_PRECISION = 10.0**-_DECIMALS


@dataclass(frozen=True)
class FileLabels:
    """Labels of a file on a store, as the page draws and sends them.

    Attributes:
        classes: names of the classes.
        labels: `{"class": INDEX, "geometry": ...}` each, in pixels (`page_labels.read_page_labels`).
        notes: sentences on what was left out.
    """

    classes: list[str]
    labels: list[dict[str, Any]]
    notes: list[str]


def open_label_file(path: Path, crs: str | None, layer: str | None) -> "geopandas.GeoDataFrame":
    """Read an uploaded file of labels.

    Args:
        path: the upload; what is unpacked from it lies next to it.
        crs: reference system such as EPSG:32631, where the file states none.
        layer: layer of a GeoPackage with several.

    Raises:
        UsageError: The content is not what the name says, exceeds a limit, or cannot be read as labels.
    """
    if crs is not None and not _CRS_CODE.fullmatch(crs):
        raise UsageError("expected a reference system as EPSG:32631")
    try:
        frame = read_geometries(_checked(path), crs, layer)
    finally:
        for made in path.parent.iterdir():  # unpacked files may be much larger than the upload, which alone is counted
            if made != path:
                made.unlink()
    if len(frame) > MAX_FILE_ROWS or len(frame.columns) > MAX_FILE_COLUMNS:
        raise UsageError(
            f"a table of {len(frame):,} rows and {len(frame.columns):,} columns: expected at most {MAX_FILE_ROWS:,} "
            f"and {MAX_FILE_COLUMNS:,}"
        )
    return frame


def file_layers(path: Path) -> list[str]:
    """Return the names of the layers of an uploaded GeoPackage; none for other files.

    Raises:
        UsageError: The file cannot be read.
    """
    if path.suffix != ".gpkg":
        return []
    import pyogrio
    from pyogrio.errors import DataSourceError

    _check_start(path, ".gpkg")
    try:
        return [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    except DataSourceError as error:
        raise UsageError("this GeoPackage cannot be read: write it again") from error


def file_columns(frame: "geopandas.GeoDataFrame") -> list[dict[str, Any]]:
    """Return the columns of a table that may hold classes: `name`, number of `values`, and `examples`."""
    columns = []
    for name in frame.columns:
        if name == frame.geometry.name:
            continue
        texts = sorted({class_name(value) for value in frame[name].dropna()})
        columns.append(
            {
                "name": str(name),
                "values": len(texts),
                "examples": [text[:MAX_CLASS_NAME] for text in texts[:MAX_LISTED_VALUES]],
            }
        )
    return columns


def file_labels(frame: "geopandas.GeoDataFrame", column: str, store: OpenStore) -> FileLabels:
    """Return the labels of a table on a store; polygons are cut at the edge of the store.

    Args:
        frame: table of points and polygons with a reference system.
        column: its column with the classes.
        store: the store.

    Raises:
        UsageError: There is no such column, no label on the store, or there are too many.
    """
    known_columns = [str(one) for one in frame.columns if one != frame.geometry.name]
    if column not in known_columns:
        raise unknown_name("column", column, known_columns)
    notes: list[str] = []

    def note(warning: ThalwegWarning) -> None:
        notes.append(" ".join(str(warning).split()))

    grid = dataset_geobox(store.dataset)
    values = [_shown_class(value) for value in frame[column].astype(object).where(frame[column].notna(), "")]
    with redirect_warnings(note):
        shapes = usable_geometries(frame, "the file", str(grid.crs))
    has_class = np.array([bool(values[number]) for number in shapes.index], bool)
    if not has_class.all():
        notes.append(f"{(~has_class).sum()} features without a value of {column} were left out")
    shapes = shapes[has_class]
    on_store = _cut_to_store(shapes, grid)
    outside = len(set(shapes.index)) - len({number for number, _ in on_store})
    if not on_store:
        raise UsageError("no label of the file on the store: choose the store of their place")
    if outside:
        notes.append(f"{outside} features outside the store were left out")
    if len(on_store) > MAX_PAGE_LABELS:
        raise too_many_labels(len(on_store))
    names = [values[number] for number, _ in on_store]
    classes = sorted(set(names))
    if len(classes) > MAX_PAGE_CLASSES:
        raise UsageError(
            f"column {column} has {len(classes):,} values on the store: expected at most {MAX_PAGE_CLASSES} classes"
        )
    codes = {name: code for code, name in enumerate(classes)}
    labels = [
        {"class": codes[name], "geometry": _json_geometry(shape)}
        for name, (_, shape) in zip(names, on_store, strict=True)
    ]
    return FileLabels(classes, labels, notes)


def _checked(path: Path) -> Path:
    """Check the content of an uploaded file and return the path of the file to read, which may be one made from it."""
    if path.suffix == ".zip":
        return _unpacked_shapefile(path)
    if path.suffix in (".geojson", ".json"):
        return _plain_geojson(path)
    if path.suffix == ".parquet":
        _check_parquet(path)
    elif path.suffix != ".csv":
        _check_start(path, path.suffix)
    return path


def _shown_class(value: object) -> str:
    """Return a class as the page names it: printable and of limited length; empty where there is none."""
    text = class_name(value)[:MAX_CLASS_NAME].strip()
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _cut_to_store(shapes: "geopandas.GeoDataFrame", grid: "GeoBox") -> list[tuple[int, Any]]:
    """Return the number and the shape in pixels of each feature that lies on a grid, cut at its edge."""
    import shapely

    in_pixels = to_pixels(np.asarray(shapes.geometry.array), grid)
    rows, columns = grid.shape
    edge = shapely.box(0, 0, columns, rows)
    found, vertices = [], 0
    for index in np.flatnonzero(shapely.intersects(in_pixels, edge)):
        shape = in_pixels[index]
        if shape.geom_type != "Point":
            cut = shapely.intersection(shape, edge.buffer(MARGIN, join_style="mitre"))
            shape = polygon_parts(shapely.set_precision(cut, _PRECISION))
        if shape is None:
            continue
        vertices += shapely.get_num_coordinates(shape)
        if vertices > MAX_VERTICES:
            raise UsageError(
                f"labels of more than {MAX_VERTICES:,} corners on the store: expected fewer; simplify the polygons, or "
                "use `thalweg earth classify`"
            )
        found.append((int(shapes.index[index]), shape))
    return found


def _json_geometry(shape: Any) -> dict[str, Any]:
    """Return a geometry in the form of GeoJSON, with lists and rounded coordinates."""
    import shapely

    declared = shapely.geometry.mapping(shape)

    def rounded(value: Any) -> Any:
        return [rounded(one) for one in value] if isinstance(value, tuple | list) else round(value, _DECIMALS)

    return {"type": declared["type"], "coordinates": rounded(declared["coordinates"])}


def _check_start(path: Path, suffix: str) -> None:
    with path.open("rb") as file:
        start = file.read(len(_STARTS[suffix]))
    if start != _STARTS[suffix]:
        raise UsageError(f"the content is not that of a {suffix} file: expected {LABEL_FILES}")


def _unpacked_shapefile(path: Path) -> Path:
    """Unpack the one Shapefile of an archive next to it, within limits, and return its path."""
    _check_start(path, ".zip")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()[: _MAX_MEMBERS + 1]
            shapefiles = [member for member in members if member.filename.lower().endswith(".shp")]
            if len(members) > _MAX_MEMBERS or len(shapefiles) != 1:
                raise UsageError(f"expected one Shapefile in the .zip, got {len(shapefiles)} in {len(members)} files")
            stem = PurePosixPath(shapefiles[0].filename).with_suffix("")
            total = 0
            for member in members:
                name = PurePosixPath(member.filename)
                if name.with_suffix("") != stem or name.suffix.lower() not in _SHAPEFILE:
                    continue
                out = path.with_name(f"unpacked{name.suffix.lower()}")
                with archive.open(member) as packed:
                    content = packed.read(MAX_FILE_BYTES - total + 1)
                total += len(content)
                if total > MAX_FILE_BYTES:
                    raise UsageError(f"expected a .zip of at most {MAX_FILE_BYTES / 1e6:g} MB of files, got more")
                out.write_bytes(content)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise UsageError("this .zip cannot be read: write it again, without a password") from error
    unpacked = path.with_name("unpacked.shp")
    _check_start(unpacked, ".shp")
    return unpacked


def _plain_geojson(path: Path) -> Path:
    """Write a GeoJSON file again next to it, with its features and the name of its reference system alone."""
    found = read_json(path, "the file")
    if not isinstance(found, dict) or found.get("type") not in ("FeatureCollection", "Feature"):
        raise UsageError("expected GeoJSON with a collection of features")
    features = found.get("features") if found["type"] == "FeatureCollection" else [found]
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise UsageError("expected a list of features in the GeoJSON file")
    plain: dict[str, Any] = {"type": "FeatureCollection"}
    if isinstance(declared := found.get("crs"), dict):
        properties = declared.get("properties")
        name = properties.get("name") if isinstance(properties, dict) else None
        if not isinstance(name, str) or not _CRS_NAME.fullmatch(name):
            raise UsageError("expected the reference system of the GeoJSON file by name, such as EPSG:32631")
        plain["crs"] = {"type": "name", "properties": {"name": name}}
    keys = ("type", "properties", "geometry")
    plain["features"] = [{key: feature.get(key) for key in keys} for feature in features]
    out = path.with_name("plain.geojson")
    out.write_text(json.dumps(plain), "utf-8")
    return out


def _check_parquet(path: Path) -> None:
    """Refuse a Parquet file that is too large once it is decompressed."""
    import pyarrow
    import pyarrow.parquet

    _check_start(path, ".parquet")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_FILE_ROWS:
                raise UsageError(f"a table of {file.metadata.num_rows:,} rows: expected at most {MAX_FILE_ROWS:,}")
            total = 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS_AT_ONCE):
                total += batch.nbytes
                if total > MAX_FILE_BYTES:
                    raise UsageError(f"expected a table of at most {MAX_FILE_BYTES / 1e6:g} MB, got more")
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError("this Parquet file cannot be read: write it again") from error
