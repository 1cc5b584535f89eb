"""Scattered vectors, one per feature: the feature at a position, similarity, and principal components."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.analysis.similarity import Similarity
from thalweg.earth.positions import WGS84, LonLat, MapPoint, PixelIndex, Position
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

FEATURE = "feature"
"""Dimension of a dataset of scattered vectors."""


def is_feature_table(dataset: "xr.Dataset") -> bool:
    """Return whether a dataset holds scattered vectors (time, embedding, feature) instead of a pixel grid."""
    return FEATURE in dataset.dims


def feature_at(dataset: "xr.Dataset", position: Position) -> int:
    """Return the index of the feature that covers a position, or else of the nearest.

    Args:
        dataset: scattered vectors.
        position: `MapPoint` or `LonLat`.

    Raises:
        UsageError: The position is a pixel, or lies outside the extent of the features.
    """
    import shapely

    point = _map_point(dataset, position)
    shapes = shapely.from_wkt(dataset.geometry.values)
    west, south, east, north = shapely.total_bounds(shapes)
    if not (west <= point.x <= east and south <= point.y <= north):
        raise UsageError(
            f"{position} is outside the table: expected x {west:.10g} to {east:.10g}, y {south:.10g} to {north:.10g}"
        )
    distances = shapely.distance(shapes, shapely.Point(point.x, point.y))
    nearest = np.flatnonzero(distances == distances.min())
    away = np.hypot(dataset.x.values[nearest] - point.x, dataset.y.values[nearest] - point.y)
    return int(nearest[away.argmin()])


def feature_similarity(dataset: "xr.Dataset", index: int) -> NDArray[np.floating]:
    """Return the similarity of every feature's vectors to those of one feature (`Similarity`), (N,), 0 to 1.

    Raises:
        UsageError: The feature has no vector on any date.
    """
    row = _as_grid_row(dataset)
    return Similarity.to_pixel(row, PixelIndex(0, index)).compute(row)[0]


def feature_components(dataset: "xr.Dataset", count: int) -> tuple[PrincipalComponents, NDArray[np.float32]]:
    """Return principal components fitted to the vectors, and their values (T, N, F).

    Raises:
        UsageError: `count` is not from 1 to the number of dimensions, or there are too few vectors.
    """
    components = PrincipalComponents.of(_as_grid_row(dataset), count)
    return components, components.transform(dataset.embeddings.values, axis=1).astype(np.float32)


def _as_grid_row(dataset: "xr.Dataset") -> "xr.Dataset":
    """Return the vectors as the pixels of one row, for functions that take pixel grids; its coordinates are indices."""
    import xarray as xr

    count = dataset.sizes[FEATURE]
    values = dataset.embeddings.transpose("time", "embedding", FEATURE).values[:, :, None]
    return xr.Dataset(
        {"embeddings": (("time", "embedding", "y", "x"), values)},
        coords={"time": dataset.time, "y": [0.0], "x": np.arange(count, dtype=float)},
        attrs={"geoemb:gsd": 1.0, "proj:wkt2": WGS84},
    )


def _map_point(dataset: "xr.Dataset", position: Position) -> MapPoint:
    """Return a position in the reference system of a table."""
    if isinstance(position, PixelIndex):
        raise UsageError(f"pixel {position}: a table of scattered vectors has no pixels: give a point of the map")
    if isinstance(position, MapPoint):
        return position
    assert isinstance(position, LonLat)
    from pyproj import Transformer

    to_map = Transformer.from_crs(WGS84, dataset.attrs["proj:wkt2"], always_xy=True)
    x, y = to_map.transform(position.longitude, position.latitude)
    return MapPoint(float(x), float(y))
