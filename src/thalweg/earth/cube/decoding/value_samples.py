"""A part of a series in memory, from which is decided what all of its numbers are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.decoding.band_decoding import BandDecoding, Decoding
from thalweg.earth.cube.decoding.fill_values import is_fill_value

if TYPE_CHECKING:
    import xarray as xr

MIN_SAMPLE = 200
"""Numbers of a band that decide its units, where it has as many."""

SAMPLE_DATES = 24
"""Dates sampled, spread evenly."""

SAMPLE_SIDE = 16
"""Pixels of a sampled window, each way: nine of a large cube; a small cube is sampled whole."""

MAX_ABSOLUTE = 1e30
"""Numbers beyond it are codes for missing that nobody declared."""


@dataclass(frozen=True)
class Sample:
    """A part of a series, in memory.

    Attributes:
        blocks: windows of the dataset, each with the indices of its dates, (T,).
        numbers: stored numbers of each band where all have one, (N,).
        dates: index of each number's date, (N,).
    """

    blocks: "list[tuple[xr.Dataset, np.ndarray]]"
    numbers: Mapping[str, np.ndarray]
    dates: np.ndarray

    def values(self, name: str, decoding: BandDecoding) -> np.ndarray:
        """A band's values, NaN where they mean nothing, (N,)."""
        return decoding.on(self.dates).values(self.numbers[name][:, None, None]).ravel()


def sample_of(dataset: "xr.Dataset", decoding: Decoding) -> Sample:
    """Windows and dates spread evenly; where these hold too little, all windows and dates until there is enough."""
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
    """What windows of some dates hold; no more windows are read once they hold enough numbers."""
    blocks: list[tuple[xr.Dataset, np.ndarray]] = []
    numbers, indices = [np.empty((len(decoding), 0))], [np.empty(0, int)]
    for window in windows:
        try:
            block = dataset.isel(window).isel(time=dates).load()
        except Exception:  # a damaged chunk, whatever its reader raises, costs its own block and not the series
            continue
        found, on = _numbers(block, decoding)
        if enough is None or len(on):  # the search for the first numbers of a large cube keeps no empty windows
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
    """Numbers (bands, N) of a block where all bands have one, and the index of each one's date (N,)."""
    bands = [block[name].transpose("time", "y", "x").values for name in decoding]
    usable = ~all_zero(bands)
    for raw, band in zip(bands, decoding.values(), strict=True):
        usable &= np.isfinite(raw) & (np.abs(raw.astype(np.float64)) < MAX_ABSOLUTE) & ~is_fill_value(raw, band.missing)
    return np.stack([raw[usable].astype(np.float64) for raw in bands]), np.nonzero(usable)[0]


def all_zero(bands: list[np.ndarray]) -> np.ndarray:
    """Where the stored numbers of all bands are exactly 0: what is outside of a swath, whoever wrote it."""
    zero: np.ndarray = np.logical_and.reduce([raw == 0 for raw in bands])
    return zero
