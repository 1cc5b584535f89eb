"""What embeddings say: how alike places are, their principal components, the pixel of a place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.store.subsample import date_spreads, sample_vectors
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

_SAMPLE = 200_000
_PIXEL_DATES = 2**17


def pixel_index(dataset: "xr.Dataset", pixel: Sequence[float]) -> tuple[int, int]:
    """Row and column of map coordinates, or of column and row numbers where they are small."""
    x, y = pixel
    columns, rows = dataset.sizes["x"], dataset.sizes["y"]
    if not np.isfinite([x, y]).all():
        raise UsageError(f"expected a pixel as two finite numbers, got {x:g} {y:g}")
    if float(x).is_integer() and float(y).is_integer() and 0 <= x < columns and 0 <= y < rows:
        return int(y), int(x)
    column, row = int(np.abs(dataset.x.values - x).argmin()), int(np.abs(dataset.y.values - y).argmin())
    step = abs(float(dataset.x[1] - dataset.x[0])) if columns > 1 else 10.0
    if abs(float(dataset.x[column]) - x) > step or abs(float(dataset.y[row]) - y) > step:
        raise UsageError(
            f"pixel {x:g} {y:g} is outside: expected a column below {columns} and a row below {rows}, or map "
            f"coordinates x {float(dataset.x.min()):g} to {float(dataset.x.max()):g}, "
            f"y {float(dataset.y.min()):g} to {float(dataset.y.max()):g}"
        )
    return row, column


@dataclass(frozen=True)
class Similarity:
    """What the seasons of other pixels are compared with.

    Attributes:
        dates: (D,), indices of the dates on which the pixel has an embedding.
        vectors: (D, K), its embeddings.
        spreads: (D,), the scene's spread on each date (`sampling.date_spreads`).
    """

    dates: np.ndarray
    vectors: np.ndarray
    spreads: np.ndarray

    @classmethod
    def to(
        cls,
        dataset: "xr.Dataset",
        pixel: Sequence[float],
        spreads: np.ndarray | None = None,
        most_dates: int | None = None,
    ) -> "Similarity":
        """Take a pixel's season.

        Args:
            dataset: an embedding dataset.
            pixel: column and row, or map coordinates x and y.
            spreads: (T,), `sampling.date_spreads` of the dataset where it is at hand.
            most_dates: compare on so many dates at most, evenly spaced.

        Raises:
            UsageError: the pixel is outside, or has no embedding on any date.
        """
        row, column = pixel_index(dataset, pixel)
        vectors = dataset.embeddings.isel(y=row, x=column).values
        dates = np.flatnonzero(np.isfinite(vectors).all(1))
        if not len(dates):
            raise UsageError(f"pixel {pixel[0]:g} {pixel[1]:g} has no embedding on any date: choose another")
        if most_dates is not None and len(dates) > most_dates:
            dates = dates[np.linspace(0, len(dates) - 1, most_dates).round().astype(int)]
        spreads = date_spreads(dataset) if spreads is None else spreads
        return cls(dates, vectors[dates], np.maximum(spreads[dates], 1e-12))

    def of(self, part: "xr.Dataset") -> np.ndarray:
        """How alike each pixel of a part of the dataset is, (H, W) in 0..1, NaN where no date is common.

        One minus the mean squared distance over common dates, in units of the scene's own spread, floored at zero.
        Holds 130,000 pixel-dates in memory at a time, or one date of a larger part.
        """
        total = np.zeros((part.sizes["y"], part.sizes["x"]))
        count = np.zeros_like(total)
        at_once = max(1, _PIXEL_DATES // total.size)
        for first in range(0, len(self.dates), at_once):
            some = slice(first, first + at_once)
            vectors = part.embeddings.isel(time=self.dates[some]).values
            distance = ((vectors - self.vectors[some, :, None, None]) ** 2).sum(1) / self.spreads[some, None, None]
            total += np.nansum(distance, 0)
            count += np.isfinite(distance).sum(0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.clip(1 - total / count, 0, 1))


def similarity(dataset: "xr.Dataset", pixel: Sequence[float]) -> np.ndarray:
    """How alike each pixel's season is to one pixel's, (H, W) in 0..1, NaN where they share no date (`Likeness`)."""
    return Similarity.to(dataset, pixel).of(dataset)


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of a scene's embeddings, alike for all dates.

    Attributes:
        mean: (K,), the mean embedding.
        axes: (N, K), the components, the largest first.
        share: (N,), each component's share of the variance.
        low, high: (N,), 2nd and 98th percentile of each component.
    """

    mean: np.ndarray
    axes: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, dataset: "xr.Dataset", count: int = 3) -> "PrincipalComponents":
        """Fit on some 24 dates and 200,000 vectors, spread over the grid: a bounded part of a store."""
        size = dataset.sizes["embedding"]
        if not 1 <= count <= size:
            raise UsageError(f"{count} components: expected 1 to {size}, the values of an embedding")
        dates = dataset.sizes["time"]
        flat = sample_vectors(dataset, range(0, dates, max(1, dates // 24)), _SAMPLE)
        if len(flat) < 2:
            raise UsageError("no embedding in this part of the store: choose another")
        mean = flat.mean(0)
        _, lengths, axes = np.linalg.svd(flat - mean, full_matrices=False)
        axes = axes[:count]
        components = (flat - mean) @ axes.T
        low, high = np.percentile(components, [2, 98], axis=0)
        return cls(mean, axes, lengths[:count] ** 2 / (lengths**2).sum(), low, high)

    def components(self, vectors: np.ndarray) -> np.ndarray:
        """(..., K, H, W) -> (..., N, H, W), NaN where there is no embedding."""
        return np.moveaxis((np.moveaxis(vectors, -3, -1) - self.mean) @ self.axes.T, -1, -3)

    def colours(self, vectors: np.ndarray) -> np.ndarray:
        """(K, H, W) -> (H, W, 3) in 0..1, grey where there is no embedding."""
        components = np.moveaxis(self.components(vectors), 0, -1)
        colours = np.clip((components - self.low) / (self.high - self.low), 0, 1)
        return np.where(np.isfinite(colours), colours, 0.85)
