"""Labelled pixels of a store: class or number of each, checked, thinned out per feature."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.mapping.labels.feature_pixels import FeaturePixels, feature_pixels
from thalweg.earth.mapping.labels.geometry_files import usable_geometries, with_reference_system
from thalweg.earth.positions import dataset_geobox
from thalweg.errors import UsageError, unknown_name

if TYPE_CHECKING:
    import geopandas
    import pandas as pd
    import xarray as xr
    from odc.geo.geobox import GeoBox

MAX_CLASSES = 254
"""Largest number of classes: the codes of a map are 8 bits, and 0 and 255 are taken."""

MAX_FEATURE_PIXELS = 64
"""Largest number of pixels that one feature contributes, evenly spaced over it: its pixels resemble each other."""

MAX_LABEL_PIXELS = 20_000
"""Largest number of labelled pixels in all."""


@dataclass(frozen=True, eq=False)
class LabelPixels:
    """Labelled pixels of a store.

    Attributes:
        column: name of the labels' column.
        rows: (N,), row of each pixel.
        columns: (N,), column of each pixel.
        features: (N,), number of the feature it comes from.
        values: (N,), index of its class, or its number (float64).
        classes: names of the classes, sorted; empty for numbers.
        diameters: (F,), diameters of the polygons in pixels.
        notes: sentences on what was left out.
    """

    column: str
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    features: NDArray[np.int64]
    values: NDArray
    classes: tuple[str, ...]
    diameters: NDArray[np.floating]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, chosen: NDArray) -> "LabelPixels":
        """Return some of the pixels, by a mask or by indices (N,)."""
        parts = (part[chosen] for part in (self.rows, self.columns, self.features, self.values))
        rows, columns, features, values = parts
        return LabelPixels(self.column, rows, columns, features, values, self.classes, self.diameters, self.notes)


def label_pixels(
    dataset: "xr.Dataset", labels: "geopandas.GeoDataFrame", column: str, is_class: bool, name: str = "labels"
) -> LabelPixels:
    """Return the labelled pixels of a store.

    Args:
        dataset: embeddings, dims (time, embedding, y, x).
        labels: points and polygons with a reference system.
        column: column of the labels.
        is_class: whether the labels are classes, else numbers.
        name: name of the labels for messages.

    Raises:
        UsageError: There is no such column, no label lies on the store, features of different classes overlap, there
            is one class only, or the labels are not numbers.
    """
    if column not in labels.columns or column == labels.geometry.name:
        raise unknown_name("column", column, [str(one) for one in labels.columns if one != labels.geometry.name])
    labels = with_reference_system(labels, name)
    labels = labels.set_axis(np.arange(len(labels)), axis=0)
    known = labels[column].notna()
    if not known.any():
        raise UsageError(f"{name}: column {column} is empty: expected a label per feature")
    notes = [f"{(~known).sum()} features without a value of {column} were left out."] if not known.all() else []
    grid = dataset_geobox(dataset)
    shapes = usable_geometries(labels, name, str(grid.crs))
    shapes = shapes[known.loc[shapes.index].to_numpy()]
    by_feature, classes = _values(labels[column], known, is_class, name)
    found = feature_pixels(shapes, grid, name)
    notes += _notes(found)
    _check_overlaps(found, by_feature, classes, name, dataset.sizes["x"])
    kept = _thinned(found, dataset.sizes["x"])
    values = by_feature[found.features[kept]]
    if is_class:
        values, classes = _present_classes(values.astype(np.int64), classes, name)
    diameters = _diameters(shapes, grid)
    return LabelPixels(
        column,
        found.rows[kept],
        found.columns[kept],
        found.features[kept],
        values,
        classes,
        diameters,
        tuple(notes),
    )


def _values(column: "pd.Series", known: "pd.Series", is_class: bool, name: str) -> tuple[NDArray, tuple[str, ...]]:
    """Return the value of every feature, index of a class or number, and the names of the classes."""
    import pandas as pd

    if not is_class:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
        is_wrong = known.to_numpy() & ~np.isfinite(numbers)
        if is_wrong.any():
            raise UsageError(f"{name}: {column.name} {column[is_wrong].iloc[0]!r}: expected numbers for a regression")
        return numbers, ()
    texts = [class_name(value) if is_known else "" for value, is_known in zip(column, known, strict=True)]
    classes = sorted({text for text, is_known in zip(texts, known, strict=True) if is_known}, key=_natural)
    if len(classes) > MAX_CLASSES:
        raise UsageError(f"{name}: {len(classes)} values of {column.name}: expected at most {MAX_CLASSES} classes")
    index = {text: position for position, text in enumerate(classes)}
    return np.array([index.get(text, -1) for text in texts], float), tuple(classes)


def class_name(value: object) -> str:
    """Return a class as text: 3.0, which a table makes of 3 where a value is missing, is 3."""
    is_whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if is_whole else " ".join(str(value).split())  # type: ignore[call-overload]


def _natural(text: str) -> tuple[int, float, str]:
    """Return a key that sorts numbers by value, before texts."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def _present_classes(
    values: NDArray[np.int64], classes: tuple[str, ...], name: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return values and classes without the classes that have no pixel.

    Raises:
        UsageError: One class is left.
    """
    present = np.unique(values)
    if len(present) < 2:
        raise UsageError(f"{name}: one class on the store ({classes[present[0]]}): expected at least two")
    return np.searchsorted(present, values), tuple(classes[index] for index in present)


def _check_overlaps(found: FeaturePixels, values: NDArray, classes: tuple[str, ...], name: str, width: int) -> None:
    """Refuse features of different values that share a pixel; points of numbers are averaged elsewhere."""
    order = np.argsort(found.rows * width + found.columns, kind="stable")
    position, feature = (found.rows * width + found.columns)[order], found.features[order]
    is_clash = (position[1:] == position[:-1]) & (values[feature[1:]] != values[feature[:-1]])
    if is_clash.any():
        first = int(np.flatnonzero(is_clash)[0])
        pair = [int(feature[first]), int(feature[first + 1])]
        shown = [classes[int(values[one])] if classes else f"{values[one]:g}" for one in pair]
        raise UsageError(
            f"{name}: features {pair[0] + 1} ({shown[0]}) and {pair[1] + 1} ({shown[1]}) overlap, {is_clash.sum()} "
            "pixel(s) in all have two labels: remove one of them"
        )


def _thinned(found: FeaturePixels, width: int) -> NDArray[np.int64]:
    """Return the indices of the pixels to use: each once, at most `MAX_FEATURE_PIXELS` per feature, evenly spaced."""
    _, unique = np.unique(found.rows * width + found.columns, return_index=True)
    unique = unique[np.lexsort((unique, found.features[unique]))]
    features = found.features[unique]
    starts = np.flatnonzero(np.r_[True, features[1:] != features[:-1]])
    counts = np.diff(np.r_[starts, len(features)])
    most = MAX_FEATURE_PIXELS
    while np.minimum(counts, most).sum() > MAX_LABEL_PIXELS and most > 1:
        most //= 2
    kept = [
        start + (np.arange(min(count, most)) + 0.5) * count // min(count, most)
        for start, count in zip(starts, counts, strict=True)
    ]
    chosen = np.concatenate(kept).astype(np.int64)
    step = -(-len(chosen) // MAX_LABEL_PIXELS)
    return unique[chosen[::step]]


def _diameters(shapes: "geopandas.GeoDataFrame", grid: "GeoBox") -> NDArray[np.floating]:
    """Return the diameters of polygons in pixels: of the circle of the same area."""
    area = shapes.geometry.area.to_numpy()
    return np.asarray(2 * np.sqrt(area[area > 0] / np.pi) / abs(grid.resolution.x))


def _notes(found: FeaturePixels) -> list[str]:
    notes = []
    if found.outside:
        notes.append(f"{found.outside} features lie outside the store.")
    if found.edge_only:
        notes.append(
            f"{found.edge_only} polygons have mixed edge pixels only; their pixels by centre were kept, and may hold "
            "some of the neighbouring ground."
        )
    return notes
