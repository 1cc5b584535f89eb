"""A bounded look at a store larger than memory: all of it where it is small, blocks spread evenly where it is not."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.sensors import Quality
from thalweg.earth.store.portable import chunk_sizes

if TYPE_CHECKING:
    import xarray as xr

CHUNK_READS = 2048
"""Most chunks that one statistic of a store reads, where it has no more dates than that."""

_BLOCKS = 256
_CHUNKS_AT_ONCE = 64
_SIDE = 64

Part = tuple[slice, slice]
"""Rows and columns."""


def block_shape(dataset: "xr.Dataset") -> tuple[int, int]:
    """Rows and columns of a chunk of the embeddings; 64 each where the dataset is no store's."""
    chunks = chunk_sizes(dataset.embeddings)
    return int(chunks.get("y", _SIDE)), int(chunks.get("x", _SIDE))


def spread_dates(dataset: "xr.Dataset", count: int) -> range:
    """Return indices of dates, evenly spaced: `count` of them up to a factor of two, or all where there are fewer."""
    dates = dataset.sizes["time"]
    return range(0, dates, max(1, dates // count))


def spread_parts(dataset: "xr.Dataset", dates: int, chunk_reads: int | None = None) -> list[Part]:
    """What a statistic over a number of dates looks at: the whole grid, or blocks on an even grid of their own."""
    most = max(1, min((chunk_reads or CHUNK_READS) // max(1, dates), _BLOCKS))
    size = dataset.sizes["y"], dataset.sizes["x"]
    side = block_shape(dataset)
    down, across = (math.ceil(pixels / step) for pixels, step in zip(size, side, strict=True))
    if down * across <= most:
        return [(slice(0, size[0]), slice(0, size[1]))]
    rows = min(down, most, max(1, round(math.sqrt(most * down / across))))
    columns = min(across, most // rows)
    return [
        (_block(row, rows, down, side[0], size[0]), _block(column, columns, across, side[1], size[1]))
        for row in range(rows)
        for column in range(columns)
    ]


def _block(index: int, count: int, blocks: int, side: int, size: int) -> slice:
    """The pixels of the block in the middle of the `index`-th of `count` equal shares of an axis."""
    start = int((index + 0.5) * blocks / count) * side
    return slice(start, min(start + side, size))


def pieces(dataset: "xr.Dataset", name: str, dates: range, parts: Sequence[Part]) -> Iterator[tuple[slice, np.ndarray]]:
    """Read a variable's parts, a few chunks in memory at a time.

    Yields:
        Which of `dates` a piece is of, as positions in it, and its values (D, ..., rows, columns).
    """
    side = block_shape(dataset)
    for rows, columns in parts:
        blocks = math.ceil((rows.stop - rows.start) / side[0]) * math.ceil((columns.stop - columns.start) / side[1])
        at_once = max(1, _CHUNKS_AT_ONCE // blocks)
        for first in range(0, len(dates), at_once):
            some = dates[first : first + at_once]
            piece = dataset[name].isel(time=slice(some.start, some.stop, some.step), y=rows, x=columns)
            yield slice(first, first + len(some)), piece.values


def sample_vectors(dataset: "xr.Dataset", dates: range, most: int, chunk_reads: int | None = None) -> np.ndarray:
    """Embeddings (N, K) of some dates, spread over the grid; `most` of them, give or take a factor of two.

    Where the grid is read whole and holds fewer than twice `most` vectors, these are all of them.
    """
    parts = spread_parts(dataset, len(dates), chunk_reads)
    pixels = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)
    every = max(1, pixels * len(dates) // (2 * most))
    found = []
    for _, vectors in pieces(dataset, "embeddings", dates, parts):
        flat = np.moveaxis(vectors, 1, -1).reshape(-1, vectors.shape[1])
        found.append(flat[np.isfinite(flat).all(1)][::every].copy())  # a view would keep all of the piece
    sample = np.concatenate(found)
    return sample[:: max(1, len(sample) // most)]


def date_spreads(dataset: "xr.Dataset") -> np.ndarray:
    """(T,), twice the summed variance of the embeddings of each date: the mean squared distance of two pixels.

    Zero where a date has no embedding in what is looked at (`spread_parts`).
    """
    dates = range(dataset.sizes["time"])
    count = np.zeros((len(dates), 1))
    total, squares = np.zeros((2, len(dates), dataset.sizes["embedding"]))
    for of, vectors in pieces(dataset, "embeddings", dates, spread_parts(dataset, len(dates))):
        seen = np.isfinite(vectors).all(1)
        known = np.where(seen[:, None], vectors, 0).astype(np.float64)
        count[of, 0] += seen.sum((1, 2))
        total[of] += known.sum((2, 3))
        squares[of] += (known**2).sum((2, 3))
    count = np.maximum(count, 1)
    return np.asarray(2 * (squares / count - (total / count) ** 2).sum(1))


def clear_fractions(dataset: "xr.Dataset") -> np.ndarray:
    """(T,), the share of pixels of each date that are clear or water, in what is looked at (`spread_parts`)."""
    dates = range(dataset.sizes["time"])
    clear, pixels = np.zeros((2, len(dates)))
    for of, flags in pieces(dataset, "quality", dates, spread_parts(dataset, len(dates))):
        clear[of] += (flags <= Quality.WATER).sum((1, 2))
        pixels[of] += flags[0].size
    return np.asarray(clear / pixels)
