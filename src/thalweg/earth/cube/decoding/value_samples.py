"""Samples of a series' stored numbers, from which the decoding of the whole series is decided."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.decoding.band_decoding import BandDecoding, Decoding
from thalweg.earth.cube.decoding.fill_values import is_fill_value

if TYPE_CHECKING:
    import xarray as xr

MIN_SAMPLE = 200
"""Number of values per band below which a sample is extended to all dates and windows."""

SAMPLE_DATES = 24
"""Number of dates in a sample, spread evenly."""

SAMPLE_SIDE = 16
"""Side of a sampled window in pixels. A large cube is sampled in nine windows, a small cube as a whole."""

MAX_ABSOLUTE = 1e30
"""Magnitude from which a number counts as an undeclared fill value."""


@dataclass(frozen=True)
class Sample:
    """A sample of a series, in memory.

    Attributes:
        blocks: windows of the dataset, each with the indices of its dates (T,).
        numbers: stored numbers of each band at the N pixel-dates where all bands have one, (N,).
        dates: index of the date of each pixel-date, (N,).
    """

    blocks: "list[tuple[xr.Dataset, np.ndarray]]"
    numbers: Mapping[str, np.ndarray]
    dates: np.ndarray

    def values(self, name: str, decoding: BandDecoding) -> np.ndarray:
        """Return the decoded values of a band, (N,), NaN at fill values."""
        return decoding.on(self.dates).values(self.numbers[name][:, None, None]).ravel()


def sample_of(dataset: "xr.Dataset", decoding: Decoding) -> Sample:
    """Sample windows and dates of a dataset, spread evenly.

    If they hold fewer than `MIN_SAMPLE` numbers, all windows and dates are read until there are enough.
    """
    count = dataset.sizes["time"]
    spread = np.unique(np.linspace(0, count - 1, min(count, SAMPLE_DATES)).astype(int))
    sample = _sampled(dataset, decoding, _spread_windows(dataset), spread, None)
    if len(sample.dates) < MIN_SAMPLE:
        sample = _sampled(dataset, decoding, _all_windows(dataset), np.arange(count), MIN_SAMPLE)
    return sample


def _sampled(
    dataset: "xr.Dataset",
    decoding: Decoding,
    windows: Iterator[dict[str, slice]],
    dates: np.ndarray,
    enough: int | None,
) -> Sample:
    """Read windows on some dates, and stop once they hold enough numbers."""
    blocks: list[tuple[xr.Dataset, np.ndarray]] = []
    numbers, indices = [np.empty((len(decoding), 0))], [np.empty(0, int)]
    for window in windows:
        try:
            block = dataset.isel(window).isel(time=dates).load()
        except Exception:  # readers raise many kinds for a damaged chunk; the other blocks are sampled
            continue
        found, on = _numbers(block, decoding)
        if enough is None or len(on):  # empty windows are not kept: a large cube may have many
            blocks.append((block, dates))
        numbers.append(found)
        indices.append(dates[on])
        if enough is not None and sum(map(len, indices)) >= enough:
            break
    return Sample(blocks, dict(zip(decoding, np.concatenate(numbers, 1), strict=True)), np.concatenate(indices))


def _spread_windows(dataset: "xr.Dataset") -> Iterator[dict[str, slice]]:
    height, width = dataset.sizes["y"], dataset.sizes["x"]
    if height * width <= 9 * SAMPLE_SIDE**2:
        yield {"y": slice(None), "x": slice(None)}
        return
    for top in np.linspace(0, max(height - SAMPLE_SIDE, 0), 3).astype(int):
        for left in np.linspace(0, max(width - SAMPLE_SIDE, 0), 3).astype(int):
            yield {"y": slice(top, top + SAMPLE_SIDE), "x": slice(left, left + SAMPLE_SIDE)}


def _all_windows(dataset: "xr.Dataset") -> Iterator[dict[str, slice]]:
    side = 8 * SAMPLE_SIDE
    for top in range(0, dataset.sizes["y"], side):
        for left in range(0, dataset.sizes["x"], side):
            yield {"y": slice(top, top + side), "x": slice(left, left + side)}


def _numbers(block: "xr.Dataset", decoding: Decoding) -> tuple[np.ndarray, np.ndarray]:
    """Return a block's numbers (bands, N) where all bands have one, and the index of the date of each (N,)."""
    bands = [block[name].transpose("time", "y", "x").values for name in decoding]
    usable = ~all_zero(bands)
    for raw, band in zip(bands, decoding.values(), strict=True):
        usable &= np.isfinite(raw) & (np.abs(raw.astype(np.float64)) < MAX_ABSOLUTE) & ~is_fill_value(raw, band.missing)
    return np.stack([raw[usable].astype(np.float64) for raw in bands]), np.nonzero(usable)[0]


def all_zero(bands: list[np.ndarray]) -> np.ndarray:
    """Return where the stored numbers of all bands are 0, which marks pixels outside the swath; boolean."""
    zero: np.ndarray = np.logical_and.reduce([raw == 0 for raw in bands])
    return zero
