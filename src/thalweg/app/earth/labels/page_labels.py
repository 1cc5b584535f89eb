"""Labels of the Earth page: points and polygons in pixels of a store, each of a class; every value is checked."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.app.earth.open_stores import OpenStore
from thalweg.earth.positions import dataset_geobox
from thalweg.errors import UsageError
from thalweg.limits import check_choice, check_count, check_number, check_text, shown

if TYPE_CHECKING:
    import geopandas
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

CLASS_COLUMN = "class"
"""Column of the classes in the tables of a page's labels."""
MAX_PAGE_CLASSES = 100
MAX_PAGE_LABELS = 3000
MAX_VERTICES = 30_000
"""Classes, labels, and vertices of all labels together."""
MAX_CLASS_NAME = 60
"""Characters of the name of a class."""
MAX_POLYGON_AREA = 4_000_000
"""Pixels of the boxes around all polygons together: each is drawn on a grid of its own."""
MARGIN = 1.0
"""Pixels by which a label may reach over the edge of the store."""

_COLOUR = re.compile(r"#[0-9a-f]{6}")
_KINDS = ("Point", "Polygon", "MultiPolygon")


def read_page_labels(classes: Any, labels: Any, store: OpenStore) -> "geopandas.GeoDataFrame":
    """Return the labels that a page sends as a table in the reference system of its store.

    Args:
        classes: list of the names of the classes.
        labels: list of `{"class": INDEX, "geometry": {"type": TYPE, "coordinates": ...}}`, a geometry as in GeoJSON,
            whose coordinates are column and row: 0, 0 is the upper left corner of the store.
        store: the store.

    Returns:
        One row per label with the column `class`.

    Raises:
        UsageError: A value is of another form or beyond a limit.
    """
    import geopandas
    import shapely

    names = check_classes(classes)
    if not isinstance(labels, list):
        raise UsageError(f"expected a list of labels, got {shown(labels)}")
    if not labels:
        raise UsageError("no labels yet: draw some, or load a file")
    if len(labels) > MAX_PAGE_LABELS:
        raise too_many_labels(len(labels))
    reader = _GeometryReader(store.shape)
    codes, shapes = [], []
    for number, label in enumerate(labels, 1):
        if not isinstance(label, dict) or not isinstance(label.get("geometry"), dict):
            raise UsageError(f"label {number}: expected a class and a geometry, got {shown(label)}")
        codes.append(check_count(f"the class of label {number}", label.get("class"), 0, len(names) - 1))
        shapes.append(reader.read(f"label {number}", label["geometry"]))
    placed = to_map(np.array(shapes, object), dataset_geobox(store.dataset))
    valid = shapely.make_valid(placed)
    parts = [polygon_parts(shape) if shape.geom_type != "Point" else shape for shape in valid]
    for number, part in enumerate(parts, 1):
        if part is None:
            raise UsageError(f"label {number}: a polygon without an area: draw it again")
    columns = {CLASS_COLUMN: [names[code] for code in codes]}
    return geopandas.GeoDataFrame(columns, geometry=parts, crs=store.dataset.attrs["proj:wkt2"])


def check_classes(classes: Any) -> tuple[str, ...]:
    """Return the names of classes: different texts that are not blank.

    Raises:
        UsageError: Any other value.
    """
    if not isinstance(classes, list) or not 1 <= len(classes) <= MAX_PAGE_CLASSES:
        got = f"{len(classes)}" if isinstance(classes, list) else shown(classes)
        raise UsageError(f"expected 1 to {MAX_PAGE_CLASSES} classes, got {got}")
    names = tuple(" ".join(check_text("the name of a class", name, MAX_CLASS_NAME).split()) for name in classes)
    for name in names:
        if not name or not name.isprintable():
            raise UsageError(f"expected a name of printable characters for each class, got {shown(name)}")
    if len(set(names)) < len(names):
        raise UsageError("expected classes of different names, got one twice")
    return names


def check_colours(classes: Any, colours: Any) -> dict[str, str]:
    """Return the colour of each class, `#rrggbb`, by its name.

    Args:
        classes: list of the names of the classes.
        colours: list of their colours.

    Raises:
        UsageError: Any other value.
    """
    names = check_classes(classes)
    if not isinstance(colours, list) or len(colours) != len(names):
        raise UsageError(f"expected a colour for each of {len(names)} classes, got {shown(colours)}")
    for colour in colours:
        if not isinstance(colour, str) or not _COLOUR.fullmatch(colour):
            raise UsageError(f"expected a colour such as #2f7d32 for each class, got {shown(colour)}")
    return dict(zip(names, colours, strict=True))


def too_many_labels(count: int) -> UsageError:
    """Return the error for more labels on a store than a page holds."""
    return UsageError(
        f"{count:,} labels on the store: expected at most {MAX_PAGE_LABELS:,} in the browser; use "
        "`thalweg earth classify` for more"
    )


def to_map(shapes: "NDArray[Any]", grid: "GeoBox") -> "NDArray[Any]":
    """Return shapes in pixels (column, row) in the reference system of a grid."""
    return _transformed(shapes, grid.affine)


def to_pixels(shapes: "NDArray[Any]", grid: "GeoBox") -> "NDArray[Any]":
    """Return shapes in the reference system of a grid in its pixels (column, row)."""
    return _transformed(shapes, ~grid.affine)


def polygon_parts(shape: "BaseGeometry") -> "BaseGeometry | None":
    """Return the polygons of a geometry, without its lines and points; None if there are none."""
    import shapely

    parts = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon") and part.area]
    polygons = [one for part in parts for one in shapely.get_parts(part)]
    if not polygons:
        return None
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def _transformed(shapes: "NDArray[Any]", affine: Any) -> "NDArray[Any]":
    import shapely

    def move(points: "NDArray[Any]") -> "NDArray[Any]":
        return np.column_stack(affine @ (points[:, 0], points[:, 1]))

    moved: NDArray[Any] = shapely.transform(shapes, move)
    return moved


class _GeometryReader:
    """Reader of the geometries of a page, which counts their vertices and their area in pixels."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._rows, self._columns = shape
        self._vertices, self._area = 0, 0.0

    def read(self, name: str, geometry: dict[str, Any]) -> "BaseGeometry":
        import shapely

        kind = check_choice(f"the kind of {name}", geometry.get("type"), _KINDS)
        coordinates = geometry.get("coordinates")
        if kind == "Point":
            return shapely.Point(self._point(name, coordinates))
        parts = coordinates if kind == "MultiPolygon" else [coordinates]
        polygons = [self._polygon(name, part) for part in self._list(name, parts)]
        for polygon in polygons:
            left, top, right, bottom = polygon.bounds
            self._area += (right - left + 2) * (bottom - top + 2)
        if self._area > MAX_POLYGON_AREA:
            raise UsageError(f"polygons over more than {MAX_POLYGON_AREA:,} pixels in all: expected smaller ones")
        return polygons[0] if kind == "Polygon" else shapely.MultiPolygon(polygons)

    def _polygon(self, name: str, rings: Any) -> "BaseGeometry":
        import shapely

        points = [[self._point(name, point) for point in self._list(name, ring)] for ring in self._list(name, rings)]
        if any(len(set(ring)) < 3 for ring in points):
            raise UsageError(f"{name}: expected at least 3 different corners in each ring of a polygon")
        return shapely.Polygon(points[0], points[1:])

    def _point(self, name: str, value: Any) -> tuple[float, float]:
        self._vertices += 1
        if self._vertices > MAX_VERTICES:
            raise UsageError(f"expected labels of at most {MAX_VERTICES:,} corners in all, got more")
        if not isinstance(value, list) or len(value) != 2:
            raise UsageError(f"{name}: expected column and row of each corner, got {shown(value)}")
        column = check_number(f"a column of {name}", value[0], -MARGIN, self._columns + MARGIN)
        return column, check_number(f"a row of {name}", value[1], -MARGIN, self._rows + MARGIN)

    def _list(self, name: str, value: Any) -> list[Any]:
        if not isinstance(value, list) or not value or len(value) > MAX_VERTICES:
            raise UsageError(f"{name}: expected lists of corners, got {shown(value)}")
        return value
