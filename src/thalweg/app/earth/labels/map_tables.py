"""Tables of a map: the labelled pixels with their predictions, and the labels and the classes as polygons."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.app.earth.labels.page_labels import CLASS_COLUMN
from thalweg.earth.mapping.mapping_fit import MappingFit
from thalweg.earth.mapping.output.map_rasters import MAP
from thalweg.earth.positions import WGS84, dataset_geobox

if TYPE_CHECKING:
    import geopandas

LABELLED_PIXELS, MAP_GEOPACKAGE = "labelled-pixels.csv", "map.gpkg"
"""Files that are written into the folder of a map."""
MAX_MAP_POLYGONS = 50_000
"""Largest number of polygons of a map's classes; a map with more has none in its GeoPackage."""


def write_labelled_pixels(fit: MappingFit, folder: Path) -> None:
    """Write a CSV table with one row per labelled pixel.

    Columns: `label` (number of its label, from 1), `row`, `column`, `x`, `y`, `longitude`, `latitude`, `class`,
    `predicted` and `p_CLASS` (by a model that did not see its block; empty in a block that was not tested), `block`.
    """
    import geopandas
    import pandas as pd

    labels, classes = fit.labels, np.array(fit.model.classes)
    grid, predicted = dataset_geobox(fit.reader.dataset), fit.validation.predicted
    affine: Any = grid.affine  # its types know numbers alone, not arrays
    x, y = affine @ (labels.columns + 0.5, labels.rows + 0.5)
    degrees = geopandas.GeoSeries(geopandas.points_from_xy(x, y), crs=str(grid.crs)).to_crs(WGS84)
    is_known = np.isfinite(predicted[:, 0])
    best = classes[np.where(is_known[:, None], predicted, 0).argmax(1)]
    columns: dict[str, Any] = {
        "label": labels.features + 1,
        "row": labels.rows,
        "column": labels.columns,
        "x": x,
        "y": y,
        "longitude": degrees.x.round(7),
        "latitude": degrees.y.round(7),
        "class": classes[labels.values],
        "predicted": np.where(is_known, best, ""),
        "block": fit.blocks.groups + 1,
    }
    columns |= {f"p_{name}": predicted[:, index].round(4) for index, name in enumerate(classes)}
    pd.DataFrame(columns).to_csv(folder / LABELLED_PIXELS, index=False)


def write_map_geopackage(
    fit: MappingFit, labels: "geopandas.GeoDataFrame", folder: Path
) -> tuple[NDArray[np.uint8], int | None]:
    """Write a GeoPackage with the layers `labels` and `map`, the polygons of the map's classes.

    A label has the columns `class`, `pixels` (labelled pixels that were used), `tested` (those in tested blocks), and
    `correct` (share of these that a model that did not see their block predicted as labelled).

    Returns:
        Codes of the map (y, x), and the number of its polygons; None if there are more than `MAX_MAP_POLYGONS`, so that
        there is no layer `map`.
    """
    import rasterio

    path = folder / MAP_GEOPACKAGE
    with rasterio.open(folder / f"{MAP}.tif") as file:
        codes: NDArray[np.uint8] = file.read(1)
    with_scores(fit, labels).to_file(path, driver="GPKG", layer="labels", engine="pyogrio")
    polygons = map_polygons(codes, fit)
    if polygons is not None:
        polygons.to_file(path, driver="GPKG", layer="map", engine="pyogrio")
    return codes, None if polygons is None else len(polygons)


def with_scores(fit: MappingFit, labels: "geopandas.GeoDataFrame") -> "geopandas.GeoDataFrame":
    """Return the labels with `pixels`, `tested` and `correct` of each (`write_map_geopackage`)."""
    features, predicted = fit.labels.features, fit.validation.predicted
    is_known = np.isfinite(predicted[:, 0])
    is_correct = is_known & (np.where(is_known[:, None], predicted, 0).argmax(1) == fit.labels.values)
    pixels, tested, correct = (
        np.bincount(features, weights, len(labels)) for weights in (np.ones(len(features)), is_known, is_correct)
    )
    with np.errstate(invalid="ignore"):
        shares = np.where(tested > 0, correct / tested, np.nan)
    return labels.assign(pixels=pixels.astype(int), tested=tested.astype(int), correct=shares.round(4))


def map_polygons(codes: NDArray[np.uint8], fit: MappingFit) -> "geopandas.GeoDataFrame | None":
    """Return the polygons of a map's classes, with `class`, `code` and `hectares`; None if they are too many."""
    import geopandas
    import shapely
    from rasterio.features import shapes

    grid = dataset_geobox(fit.reader.dataset)
    found: list[tuple[int, Any]] = []
    for shape, code in shapes(codes, codes > 0, connectivity=4, transform=grid.affine):
        if len(found) == MAX_MAP_POLYGONS:
            return None
        found.append((int(code), shapely.geometry.shape(shape)))
    numbers = [code for code, _ in found]
    frame = geopandas.GeoDataFrame(
        {CLASS_COLUMN: [fit.model.classes[code - 1] for code in numbers], "code": numbers},
        geometry=[shape for _, shape in found],
        crs=fit.reader.dataset.attrs["proj:wkt2"],
    )
    return frame.assign(hectares=(frame.area / 10_000).round(4))
