"""Positions on a pixel grid: `PixelIndex`, `MapPoint` and `LonLat`, their text form, and the pixel that holds one."""

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

WGS84 = "EPSG:4326"
"""Reference system of `LonLat`."""
POSITION_FORMS = "pixel:ROW,COLUMN, xy:X,Y or lonlat:LON,LAT"
"""Text forms that `parse_position` reads."""

_EPS = 1e-6
"""Tolerance in pixels: a point this close to the edge of two pixels belongs to the upper or left one."""
_SPACING_TOLERANCE = 1e-3
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TEXT = re.compile(rf"(?P<kind>pixel|xy|lonlat):\s*(?P<first>{_NUMBER})\s*,\s*(?P<second>{_NUMBER})", re.IGNORECASE)
_TWO_NUMBERS = re.compile(rf"(?P<first>{_NUMBER})\s*,\s*(?P<second>{_NUMBER})")


@dataclass(frozen=True)
class PixelIndex:
    """A pixel of a grid by its indices.

    Attributes:
        row: index of the row, from 0 at the northern edge.
        column: index of the column, from 0 at the western edge.
    """

    row: int
    column: int

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column}"


@dataclass(frozen=True)
class MapPoint:
    """A point in the reference system of a grid.

    Attributes:
        x: easting, in units of the reference system (metres).
        y: northing, in the same units.

    Raises:
        UsageError: A coordinate is not finite.
    """

    x: float
    y: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise UsageError(f"{self}: expected two finite map coordinates")

    def __str__(self) -> str:
        return f"x {self.x:.10g}, y {self.y:.10g}"


@dataclass(frozen=True)
class LonLat:
    """A point in degrees (WGS 84).

    Attributes:
        longitude: degrees east, -180 to 180.
        latitude: degrees north, -90 to 90.

    Raises:
        UsageError: A coordinate is out of range or not finite.
    """

    longitude: float
    latitude: float

    def __post_init__(self) -> None:
        if abs(self.longitude) <= 180 and abs(self.latitude) <= 90:
            return
        advice = ""
        if abs(self.latitude) <= 90 and 180 < self.longitude <= 540:
            advice = f": write {self.longitude - 360:.10g} {self.latitude:.10g}"
        elif abs(self.latitude) <= 180 and abs(self.longitude) <= 90:
            advice = f": longitude comes first, write {self.latitude:.10g} {self.longitude:.10g}"
        raise UsageError(f"{self}: expected a longitude of -180 to 180 and a latitude of -90 to 90 degrees{advice}")

    def __str__(self) -> str:
        return f"longitude {self.longitude:.10g}, latitude {self.latitude:.10g}"


Position = PixelIndex | MapPoint | LonLat


def parse_position(text: str) -> Position:
    """Read a position from its text form.

    Args:
        text: `pixel:ROW,COLUMN`, `xy:X,Y` or `lonlat:LON,LAT`.

    Raises:
        UsageError: The text has another form. Two bare numbers are refused, since they are ambiguous.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        bare = _TWO_NUMBERS.fullmatch(text.strip())
        advice = ""
        if bare is not None:
            column, row = bare["first"], bare["second"]
            advice = (
                f"; two numbers are ambiguous: write pixel:{row},{column} if they are column {column} and row {row}"
            )
        raise UsageError(f"position {text!r}: expected {POSITION_FORMS}{advice}")
    first, second = found["first"], found["second"]
    kind = found["kind"].lower()
    if kind == "xy":
        return MapPoint(float(first), float(second))
    if kind == "lonlat":
        return LonLat(float(first), float(second))
    try:
        return PixelIndex(int(first), int(second))
    except ValueError as error:
        raise UsageError(f"position {text!r}: expected whole numbers as row and column") from error


def format_pixel(pixel: PixelIndex) -> str:
    """Return the text form of a pixel, as `parse_position` reads it."""
    return f"pixel:{pixel.row},{pixel.column}"


def dataset_geobox(dataset: "xr.Dataset") -> "GeoBox":
    """Return the pixel grid of an embedding dataset, or of a rectangular part of one.

    Args:
        dataset: has the dimensions y and x with pixel centres as coordinates, and the attributes `proj:wkt2` and
            `geoemb:gsd`.

    Raises:
        UsageError: The dataset has no dimension y or x, or its pixels are not evenly spaced.
    """
    import numpy as np
    from affine import Affine
    from odc.geo.geobox import GeoBox

    gsd = float(dataset.attrs["geoemb:gsd"])
    first, steps = {}, {}
    for name, sign in (("x", 1.0), ("y", -1.0)):
        if name not in dataset.dims:
            raise UsageError(f"this part of the embeddings has no dimension {name}: select rows and columns with lists")
        centres = dataset[name].values.astype(float)
        step = sign * gsd if len(centres) == 1 else (centres[-1] - centres[0]) / (len(centres) - 1)
        if len(centres) > 1 and np.abs(np.diff(centres) - step).max() > _SPACING_TOLERANCE * abs(step):
            raise UsageError(f"{name} is not evenly spaced: expected a rectangular part of a grid")
        first[name], steps[name] = centres[0] - step / 2, step
    affine = Affine(steps["x"], 0.0, first["x"], 0.0, steps["y"], first["y"])
    return GeoBox((dataset.sizes["y"], dataset.sizes["x"]), affine, dataset.attrs["proj:wkt2"])


def locate(position: Position, grid: "GeoBox") -> PixelIndex:
    """Return the pixel of a grid that holds a position.

    A point on the edge of two pixels belongs to the upper or left one.

    Args:
        position: a pixel, a map point in the grid's reference system, or a longitude and latitude.
        grid: a north-up grid.

    Raises:
        UsageError: The position lies outside the grid.
    """
    rows, columns = grid.shape
    if isinstance(position, PixelIndex):
        if not (0 <= position.row < rows and 0 <= position.column < columns):
            raise UsageError(
                f"pixel {position} is outside the grid: expected a row of 0 to {rows - 1} and a column of 0 to "
                f"{columns - 1}"
            )
        return position
    point = map_point(position, grid)
    across, down = (float(value) for value in ~grid.affine @ (point.x, point.y))
    if not (-_EPS <= across <= columns + _EPS and -_EPS <= down <= rows + _EPS):
        raise UsageError(f"{position} is outside the grid: expected {_extent(position, grid)}")
    column, row = (max(math.ceil(value - _EPS) - 1, 0) for value in (across, down))
    return PixelIndex(row, column)


def map_point(position: Position, grid: "GeoBox") -> MapPoint:
    """Return a position in the reference system of a grid; a pixel's is its centre. The grid need not cover it.

    Raises:
        UsageError: The reference system cannot represent the position.
    """
    if isinstance(position, MapPoint):
        return position
    if isinstance(position, PixelIndex):
        x, y = grid.affine @ (position.column + 0.5, position.row + 0.5)
        return MapPoint(float(x), float(y))
    from pyproj import Transformer

    transformer = Transformer.from_crs(WGS84, str(grid.crs), always_xy=True)
    x, y = transformer.transform(position.longitude, position.latitude)
    if not (math.isfinite(x) and math.isfinite(y)):
        raise UsageError(f"{position}: not on the map of the grid's reference system")
    return MapPoint(float(x), float(y))


def lon_lat(position: Position, grid: "GeoBox") -> LonLat:
    """Return the longitude and latitude of a position; a pixel's are those of its centre."""
    if isinstance(position, LonLat):
        return position
    from pyproj import Transformer

    point = map_point(position, grid)
    longitude, latitude = Transformer.from_crs(str(grid.crs), WGS84, always_xy=True).transform(point.x, point.y)
    return LonLat(float(longitude), float(latitude))


def _extent(position: MapPoint | LonLat, grid: "GeoBox") -> str:
    """Return the bounds of a grid in the kind of coordinates that a position has."""
    left, bottom, right, top = grid.boundingbox
    if isinstance(position, MapPoint):
        return f"x {left:.10g} to {right:.10g}, y {bottom:.10g} to {top:.10g}"
    from pyproj import Transformer

    transformer = Transformer.from_crs(str(grid.crs), WGS84, always_xy=True)
    west, south, east, north = transformer.transform_bounds(left, bottom, right, top)
    return f"longitude {west:.5g} to {east:.5g}, latitude {south:.5g} to {north:.5g}"
