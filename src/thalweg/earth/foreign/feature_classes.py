"""Classes of scattered vectors, learned from labels and tested on spatial blocks."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.foreign.feature_vectors import FEATURE
from thalweg.earth.mapping.labels.geometry_files import with_reference_system
from thalweg.earth.mapping.labels.label_pixels import MAX_CLASSES, LabelPixels
from thalweg.earth.mapping.learning.cross_validation import cross_validate, score
from thalweg.earth.mapping.learning.learners import class_probabilities, learners
from thalweg.earth.mapping.learning.spatial_blocks import SpatialBlocks
from thalweg.earth.mapping.mapping_config import MappingConfig
from thalweg.errors import UsageError, unknown_name

if TYPE_CHECKING:
    import geopandas
    import xarray as xr

_MIN_FEATURES = 3


def classify_features(
    dataset: "xr.Dataset", labels: "geopandas.GeoDataFrame", column: str, config: MappingConfig | None = None
) -> "xr.Dataset":
    """Classify scattered vectors from labels.

    A feature has the label of the geometry that intersects it. Its vectors on all dates are its features; blocks and
    learners are those of maps, with the median distance to the nearest feature instead of a pixel's side.

    Args:
        dataset: scattered vectors (time, embedding, feature).
        labels: points and polygons in any reference system.
        column: column of the classes.
        config: learner, block and seed; other settings concern pixel grids.

    Returns:
        Dataset with `code` (feature), uint8, 0 without a vector, and `probability` (class, feature). Attributes:
        `learner`, `macro_f1` on blocks that it did not see, `block` (side in the map's units).

    Raises:
        UsageError: The labels or a setting is not usable; the message says which and what to do.
    """
    import xarray as xr

    config = config or MappingConfig()
    values = dataset.embeddings.transpose(FEATURE, "time", "embedding").values.reshape(dataset.sizes[FEATURE], -1)
    has_vector = np.isfinite(values).all(1)
    found, spacing = _labelled(dataset, labels, column, has_vector)
    blocks = SpatialBlocks.of(found, config.block)
    rarest, classes = int(np.bincount(found.values).min()), len(found.classes)
    candidates = learners(config.learner, True, rarest)
    features = values[found.features]
    validation = cross_validate(features, found.values, blocks.groups, candidates, classes, config.seed)
    known = np.isfinite(validation.predicted[:, 0])
    if not known.any():
        raise UsageError(f"labels: every class lies in one block of {blocks.side * spacing:g}: label more places")
    estimator = validation.best.fit(features, found.values, config.seed)
    probability = np.full((len(values), classes), np.nan, np.float32)
    probability[has_vector] = class_probabilities(estimator, values[has_vector], classes)
    codes = np.where(has_vector, np.nan_to_num(probability).argmax(1) + 1, 0).astype(np.uint8)
    return xr.Dataset(
        {
            "code": (FEATURE, codes, {"flag_values": list(range(1, classes + 1))}),
            "probability": (("class", FEATURE), probability.T),
        },
        {**{name: dataset[name] for name in ("x", "y", "geometry")}, "class": list(found.classes)},
        {
            "learner": validation.best.title,
            "macro_f1": score(found.values[known], validation.predicted[known], classes),
            "block": blocks.side * spacing,
        },
    )


def _labelled(
    dataset: "xr.Dataset", labels: "geopandas.GeoDataFrame", column: str, has_vector: NDArray[np.bool_]
) -> tuple[LabelPixels, float]:
    """Return the labelled features, on rows and columns of the features' spacing, and that spacing."""
    import geopandas
    import shapely

    if column not in labels.columns or column == labels.geometry.name:
        raise unknown_name("column", column, [str(one) for one in labels.columns if one != labels.geometry.name])
    placed = with_reference_system(labels, "labels").to_crs(dataset.attrs["proj:wkt2"])
    placed = placed[placed[column].notna() & placed.geometry.notna()].reset_index(drop=True)
    shapes = geopandas.GeoSeries(shapely.from_wkt(dataset.geometry.values), crs=placed.crs)
    feature, label = shapes.sindex.query(placed.geometry, predicate="intersects")[::-1]
    is_usable = has_vector[feature]
    feature, label = feature[is_usable], label[is_usable]
    names = placed[column].astype(str).to_numpy()[label]
    pairs = sorted(set(zip(feature.tolist(), names.tolist(), strict=True)))
    numbers = np.array([number for number, _ in pairs], int)
    if len(np.unique(numbers)) < len(numbers):
        twice = int(numbers[np.flatnonzero(np.diff(numbers) == 0)[0]])
        raise UsageError(f"labels: feature {twice + 1} has labels of two classes: remove one of them")
    classes, values = np.unique([name for _, name in pairs], return_inverse=True)
    if len(numbers) < _MIN_FEATURES or len(classes) < 2:
        raise UsageError(
            f"labels: {len(numbers)} feature(s) with a vector and a label, of {len(classes)} class(es): expected "
            "labels of at least two classes that intersect the features"
        )
    if len(classes) > MAX_CLASSES:
        raise UsageError(f"labels: {len(classes)} values of {column}: expected at most {MAX_CLASSES} classes")
    spacing = _spacing(dataset)
    x, y = dataset.x.values[numbers], dataset.y.values[numbers]
    rows, columns = (np.floor((axis - axis.min()) / spacing).astype(np.int64) for axis in (-y, x))
    found = LabelPixels(column, rows, columns, numbers, values, tuple(map(str, classes)), np.zeros(0), ())
    return found, spacing


def _spacing(dataset: "xr.Dataset") -> float:
    """Return the median distance of a feature to the nearest other one, in units of the map."""
    from scipy.spatial import cKDTree

    points = np.unique(np.column_stack([dataset.x.values, dataset.y.values]), axis=0)
    if len(points) < 2:
        raise UsageError("a table of one feature: expected several to classify")
    distances = np.asarray(cKDTree(points).query(points, k=2)[0])
    return float(np.median(distances[:, 1]))
