"""Pixels of points and polygons on a grid: by pixel centres, without the mixed pixels at a polygon's edge."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError

if TYPE_CHECKING:
    import geopandas
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

_EDGE_TOLERANCE = 1e-3
"""Share of a pixel's side by which a pixel may reach over a polygon's edge and still lie inside."""


@dataclass(frozen=True, eq=False)
class FeaturePixels:
    """Pixels of features (points or polygons) on a grid.

    Attributes:
        rows: (N,), row of each pixel, from 0.
        columns: (N,), column of each pixel, from 0.
        features: (N,), row number of the pixel's feature in its table.
        outside: number of features without a pixel on the grid.
        edge_only: number of polygons with mixed pixels only, whose pixels by centre are kept.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    features: NDArray[np.int64]
    outside: int
    edge_only: int


def feature_pixels(frame: "geopandas.GeoDataFrame", grid: "GeoBox", name: str) -> FeaturePixels:
    """Return the pixels of features on a grid.

    A point has the pixel that contains it. A polygon has the pixels with their centre inside that its edge does not
    cross; if its edge crosses all of them, it keeps those with their centre inside, or else the pixel of a point
    inside it.

    Args:
        frame: points and polygons in the reference system of the grid, as `usable_geometries` returns them.
        grid: pixel grid.
        name: name of the table for messages.

    Raises:
        UsageError: No feature lies on the grid.
    """
    shapes = np.asarray(frame.geometry.array)
    numbers = frame.index.to_numpy()
    is_point = (frame.geometry.geom_type == "Point").to_numpy()
    pixels = [_point_pixels(shapes[is_point], numbers[is_point], grid)]
    edge_only = 0
    for number, shape in zip(numbers[~is_point], shapes[~is_point], strict=True):
        found, is_mixed = _polygon_pixels(shape, grid)
        edge_only += is_mixed
        pixels.append(np.column_stack([found, np.full(len(found), number)]))
    rows, columns, features = np.concatenate(pixels).astype(np.int64).T
    if not len(rows):
        raise UsageError(f"{name}: no label on the store: {_extents(frame, grid)}: choose the store of their place")
    outside = len(np.unique(numbers)) - len(np.unique(features))
    return FeaturePixels(rows, columns, features, outside, edge_only)


def _point_pixels(points: NDArray, numbers: NDArray, grid: "GeoBox") -> NDArray[np.int64]:
    """Return rows, columns and feature numbers (N, 3) of the points on a grid."""
    import shapely

    across, down = ~grid.affine @ (shapely.get_x(points), shapely.get_y(points))
    rows, columns = np.floor(down), np.floor(across)
    inside = (rows >= 0) & (rows < grid.shape[0]) & (columns >= 0) & (columns < grid.shape[1])
    return np.column_stack([rows[inside], columns[inside], numbers[inside]]).astype(np.int64)


def _polygon_pixels(polygon: "BaseGeometry", grid: "GeoBox") -> tuple[NDArray[np.int64], bool]:
    """Return rows and columns (N, 2) of a polygon's pixels, and whether all of them are mixed."""
    import shapely
    from affine import Affine
    from rasterio.features import rasterize

    window = _window(polygon, grid)
    if window is None:
        return np.zeros((0, 2), np.int64), False
    top, left, height, width = window
    transform = grid.affine @ Affine.translation(left, top)
    inside = rasterize([(polygon, 1)], (height, width), transform=transform, dtype=np.uint8).astype(bool)
    crossed = rasterize([(polygon.boundary, 1)], (height, width), transform=transform, all_touched=True, dtype=np.uint8)
    rows, columns = np.nonzero(inside & (crossed > 0))
    boxes = _boxes(rows, columns, transform)
    shapely.prepare(polygon)
    pure = inside & (crossed == 0)
    is_covered = shapely.covers(polygon, boxes)
    pure[rows[is_covered], columns[is_covered]] = True
    if pure.any():
        return np.add(np.argwhere(pure), (top, left)), False
    if inside.any():
        return np.add(np.argwhere(inside), (top, left)), True
    return _point_pixels(np.array([polygon.representative_point()]), np.zeros(1), grid)[:, :2], True


def _window(polygon: "BaseGeometry", grid: "GeoBox") -> tuple[int, int, int, int] | None:
    """Return top, left, height and width of a polygon's part of a grid, None if there is none."""
    left, bottom, right, top = polygon.bounds
    columns, rows = zip(*(~grid.affine @ corner for corner in ((left, top), (right, bottom))), strict=True)
    first_row, last_row = max(0, int(np.floor(min(rows)))), min(grid.shape[0], int(np.ceil(max(rows))))
    first_column, last_column = max(0, int(np.floor(min(columns)))), min(grid.shape[1], int(np.ceil(max(columns))))
    if first_row >= last_row or first_column >= last_column:
        return None
    return first_row, first_column, last_row - first_row, last_column - first_column


def _boxes(rows: NDArray, columns: NDArray, transform: "object") -> NDArray:
    """Return the outlines of pixels, a little smaller than the pixels."""
    import shapely

    low, high = _EDGE_TOLERANCE, 1 - _EDGE_TOLERANCE
    x0, y0 = transform @ (columns + low, rows + low)  # type: ignore[operator]
    x1, y1 = transform @ (columns + high, rows + high)  # type: ignore[operator]
    return np.asarray(shapely.box(x0, np.minimum(y0, y1), x1, np.maximum(y0, y1)))


def _extents(frame: "geopandas.GeoDataFrame", grid: "GeoBox") -> str:
    """Return the extents of features and of a grid in degrees."""

    def degrees(bounds: "NDArray | tuple[float, ...]", crs: object) -> str:
        from pyproj import Transformer

        west, south, east, north = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform_bounds(*bounds)
        return f"longitude {west:.4g} to {east:.4g}, latitude {south:.4g} to {north:.4g}"

    labels = degrees(frame.total_bounds, frame.crs)
    return f"they cover {labels}, the store {degrees(tuple(grid.boundingbox), str(grid.crs))}"
