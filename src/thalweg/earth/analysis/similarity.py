"""Similarity of pixels by the series of their embeddings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.positions import Position, dataset_geobox, locate
from thalweg.earth.store.subsample import mean_squared_distances
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

MAX_PIXEL_DATES = 2**17
"""Pixel-dates that are read into memory together, unless one date of a part has more."""

MIN_SPREAD = 1e-12


@dataclass(frozen=True, eq=False)
class Similarity:
    """Similarity of embedding series to the series of one pixel.

    Attributes:
        dates: (D,), indices of the dates on which the pixel has an embedding.
        vectors: (D, K), the pixel's embeddings.
        spreads: (D,), mean squared distance of two pixels on each date (`mean_squared_distances`).
    """

    dates: NDArray[np.integer]
    vectors: NDArray[np.floating]
    spreads: NDArray[np.floating]

    @classmethod
    def to_pixel(
        cls,
        dataset: "xr.Dataset",
        position: Position,
        spreads: NDArray[np.floating] | None = None,
        max_dates: int | None = None,
    ) -> "Similarity":
        """Read the series of a pixel.

        Args:
            dataset: embeddings, dims (time, embedding, y, x).
            position: position of the pixel.
            spreads: (T,), `mean_squared_distances` of the dataset; computed by default.
            max_dates: number of dates to compare at most, evenly spaced; all by default.

        Raises:
            UsageError: the position is outside the dataset, or the pixel has no embedding on any date.
        """
        pixel = locate(position, dataset_geobox(dataset))
        vectors = dataset.embeddings.isel(y=pixel.row, x=pixel.column).values
        dates = np.flatnonzero(np.isfinite(vectors).all(1))
        if not len(dates):
            raise UsageError(f"pixel {pixel} has no embedding on any date: choose another")
        if max_dates is not None and len(dates) > max_dates:
            dates = dates[np.linspace(0, len(dates) - 1, max_dates).round().astype(int)]
        spreads = mean_squared_distances(dataset) if spreads is None else spreads
        return cls(dates, vectors[dates], np.maximum(spreads[dates], MIN_SPREAD))

    def compute(self, part: "xr.Dataset") -> NDArray[np.floating]:
        """Compute the similarity of each pixel of a part of the dataset.

        One minus the mean squared distance over the dates that both pixels have, in units of the spread of the date,
        at least 0.

        Args:
            part: rows and columns of the dataset, with all its dates.

        Returns:
            (h, w), 0 to 1, float64; NaN where the two pixels have no date in common.
        """
        total = np.zeros((part.sizes["y"], part.sizes["x"]))
        count = np.zeros_like(total)
        step = max(1, MAX_PIXEL_DATES // total.size)
        for first in range(0, len(self.dates), step):
            chosen = slice(first, first + step)
            vectors = part.embeddings.isel(time=self.dates[chosen]).values
            distance = ((vectors - self.vectors[chosen, :, None, None]) ** 2).sum(1)
            distance = distance / self.spreads[chosen, None, None]
            total += np.nansum(distance, 0)
            count += np.isfinite(distance).sum(0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.clip(1 - total / count, 0, 1))


def similarity(dataset: "xr.Dataset", position: Position) -> NDArray[np.floating]:
    """Compute the similarity of each pixel's embedding series to that of one pixel (`Similarity`).

    Args:
        dataset: embeddings, dims (time, embedding, y, x).
        position: position of the pixel.

    Returns:
        (H, W), 0 to 1, float64; NaN where the two pixels have no date in common.

    Raises:
        UsageError: the position is outside the dataset, or the pixel has no embedding on any date.
    """
    return Similarity.to_pixel(dataset, position).compute(dataset)
