"""Prediction of a store window by window, and what the whole map amounts to."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.cube.windows import Window, grid_windows
from thalweg.earth.mapping.features.feature_plan import FeatureReader
from thalweg.earth.mapping.learning.conformal import plausible_classes
from thalweg.earth.mapping.learning.mapping_model import MappingModel
from thalweg.earth.mapping.mapping_config import PIXELS_AT_ONCE
from thalweg.earth.store.subsample import evenly_spaced_parts

MAX_SHARE_READS = 1024
"""Largest number of chunks that the shares of the classes are estimated from before the map is made."""


@dataclass(frozen=True, eq=False)
class PredictedWindow:
    """Prediction of a window of h x w pixels.

    Attributes:
        window: the window.
        values: probabilities (C, h, w), or numbers (1, h, w), float32; NaN where a pixel has no embedding.
        dissimilarity: dissimilarity index, float32 (h, w); NaN where a pixel has no embedding.
    """

    window: Window
    values: NDArray[np.float32]
    dissimilarity: NDArray[np.float32]

    @property
    def is_mapped(self) -> NDArray[np.bool_]:
        """Mask of the pixels that have a prediction, (h, w)."""
        return np.isfinite(self.dissimilarity)

    def codes(self) -> NDArray[np.uint8]:
        """Return the code of the most probable class, from 1; 0 where there is none."""
        known = np.where(self.is_mapped, self.values, 0)
        return np.where(self.is_mapped, known.argmax(0) + 1, 0).astype(np.uint8)

    def plausible(self, threshold: float) -> NDArray[np.bool_]:
        """Return the plausible classes (C, h, w)."""
        return np.moveaxis(plausible_classes(np.moveaxis(self.values, 0, -1), threshold), -1, 0) & self.is_mapped


def predict_windows(model: MappingModel, reader: FeatureReader, side: int) -> Iterator[PredictedWindow]:
    """Predict a store row by row of windows.

    Args:
        model: mapping model.
        reader: reader of the model's features from the store.
        side: side of a window in pixels.
    """
    shape = reader.dataset.sizes["y"], reader.dataset.sizes["x"]
    for window in grid_windows(shape, side):
        yield predict_window(model, reader, window)


def predict_window(model: MappingModel, reader: FeatureReader, window: Window) -> PredictedWindow:
    """Predict one window, a number of pixels at a time."""
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    features = reader.window(rows, columns).reshape(window.height * window.width, -1)
    known = np.flatnonzero(np.isfinite(features).all(1))
    bands = len(model.classes) or 1
    values = np.full((len(features), bands), np.nan, np.float32)
    dissimilarity = np.full(len(features), np.nan, np.float32)
    for first in range(0, len(known), PIXELS_AT_ONCE):
        some = known[first : first + PIXELS_AT_ONCE]
        values[some] = model.predict(features[some]).reshape(len(some), bands)
        dissimilarity[some] = model.applicability.index(features[some])
    shape = (window.height, window.width)
    return PredictedWindow(window, np.moveaxis(values.reshape(*shape, bands), -1, 0), dissimilarity.reshape(shape))


@dataclass
class MapSummary:
    """Sums over a map.

    Attributes:
        counts: pixels by class, (C,); empty for numbers.
        plausible: pixels by number of plausible classes, (C + 1,).
        beyond: pixels beyond each limit of the dissimilarity index.
        total: sum of the numbers.
        mapped: pixels with a prediction.
        pixels: pixels of the grid.
    """

    counts: NDArray[np.int64]
    plausible: NDArray[np.int64]
    beyond: NDArray[np.int64]
    total: float = 0.0
    mapped: int = 0
    pixels: int = 0
    _limits: tuple[float, ...] = field(default=())

    @classmethod
    def empty(cls, model: MappingModel) -> "MapSummary":
        """Return sums of zero for the maps of a model."""
        classes, limits = len(model.classes), model.applicability.limits
        zeros = [np.zeros(count, np.int64) for count in (classes, classes + 1, len(limits))]
        return cls(zeros[0], zeros[1], zeros[2], _limits=limits)

    def add(self, predicted: PredictedWindow, threshold: float) -> None:
        """Add a window."""
        is_mapped = predicted.is_mapped
        self.pixels += is_mapped.size
        self.mapped += int(is_mapped.sum())
        near = predicted.dissimilarity[is_mapped]
        self.beyond += [int((near > limit).sum()) for limit in self._limits]
        if len(self.counts):
            codes = predicted.codes()[is_mapped]
            self.counts += np.bincount(codes, minlength=len(self.counts) + 1)[1:]
            number = predicted.plausible(threshold).sum(0)[is_mapped]
            self.plausible += np.bincount(number, minlength=len(self.plausible))
        else:
            self.total += float(predicted.values[0][is_mapped].sum(dtype=np.float64))

    @property
    def shares(self) -> NDArray[np.floating]:
        """Share of the mapped area by class, (C,)."""
        return self.counts / max(self.counts.sum(), 1)

    @property
    def shares_beyond(self) -> NDArray[np.floating]:
        """Share of the mapped pixels beyond each limit of the dissimilarity index."""
        return self.beyond / max(self.mapped, 1)


def sampled_shares(model: MappingModel, reader: FeatureReader, side: int) -> NDArray[np.floating]:
    """Return the shares (C,) of the classes on evenly spaced parts of the map, before it is made."""
    summary = MapSummary.empty(model)
    dates = reader.dataset.sizes["time"] if reader.interpolation is not None else 1
    for rows, columns in evenly_spaced_parts(reader.dataset, dates, MAX_SHARE_READS):
        for part in grid_windows((rows.stop - rows.start, columns.stop - columns.start), side):
            moved = Window(part.top + rows.start, part.left + columns.start, part.height, part.width)
            summary.add(predict_window(model, reader, moved), model.threshold)
    return summary.shares
