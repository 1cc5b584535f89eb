"""Subsampling of stores larger than memory: small stores are read completely, large ones in evenly spaced blocks."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.sensors import Quality
from thalweg.earth.store.portable import chunk_sizes

if TYPE_CHECKING:
    import xarray as xr

MAX_CHUNK_READS = 2048
"""Largest number of chunks that one statistic of a store reads, if the store has at most as many dates."""

MAX_BLOCKS = 256
"""Largest number of blocks that one statistic reads."""

MAX_CHUNKS_AT_ONCE = 64
"""Largest number of chunks in memory at the same time."""

DEFAULT_SIDE = 64
"""Side of a block in pixels in a dataset that was not read from a store."""

Part = tuple[slice, slice]
"""Rows and columns of a part of the grid."""


def block_shape(dataset: "xr.Dataset") -> tuple[int, int]:
    """Return the rows and columns of a chunk of the embeddings; `DEFAULT_SIDE` if the dataset has no chunks."""
    chunks = chunk_sizes(dataset.embeddings)
    return int(chunks.get("y", DEFAULT_SIDE)), int(chunks.get("x", DEFAULT_SIDE))


def evenly_spaced_dates(dataset: "xr.Dataset", count: int) -> range:
    """Return indices of evenly spaced dates: between `count` and twice as many, or all dates if there are fewer."""
    dates = dataset.sizes["time"]
    return range(0, dates, max(1, dates // count))


def evenly_spaced_parts(dataset: "xr.Dataset", dates: int, chunk_reads: int | None = None) -> list[Part]:
    """Return the parts of the grid that a statistic over `dates` dates reads.

    Args:
        dataset: embedding dataset.
        dates: number of dates that are read.
        chunk_reads: largest number of chunks to read; `MAX_CHUNK_READS` by default.

    Returns:
        The whole grid as one part, or evenly spaced blocks of a large grid.
    """
    max_parts = max(1, min((chunk_reads or MAX_CHUNK_READS) // max(1, dates), MAX_BLOCKS))
    size = dataset.sizes["y"], dataset.sizes["x"]
    side = block_shape(dataset)
    down, across = (math.ceil(pixels / step) for pixels, step in zip(size, side, strict=True))
    if down * across <= max_parts:
        return [(slice(0, size[0]), slice(0, size[1]))]
    rows = min(down, max_parts, max(1, round(math.sqrt(max_parts * down / across))))
    columns = min(across, max_parts // rows)
    return [
        (_block(row, rows, down, side[0], size[0]), _block(column, columns, across, side[1], size[1]))
        for row in range(rows)
        for column in range(columns)
    ]


def _block(index: int, count: int, blocks: int, side: int, size: int) -> slice:
    """Return the pixels of the middle block of the `index`-th of `count` equal intervals of an axis."""
    start = int((index + 0.5) * blocks / count) * side
    return slice(start, min(start + side, size))


def read_parts(
    dataset: "xr.Dataset", name: str, dates: range, parts: Sequence[Part]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Read parts of a variable, a few chunks at a time.

    Args:
        dataset: embedding dataset.
        name: name of the variable.
        dates: indices of the dates.
        parts: parts of the grid.

    Yields:
        Positions in `dates`, and the values of the variable there (D, ..., rows, columns).
    """
    side = block_shape(dataset)
    for rows, columns in parts:
        blocks = math.ceil((rows.stop - rows.start) / side[0]) * math.ceil((columns.stop - columns.start) / side[1])
        at_once = max(1, MAX_CHUNKS_AT_ONCE // blocks)
        for first in range(0, len(dates), at_once):
            some = dates[first : first + at_once]
            values = dataset[name].isel(time=slice(some.start, some.stop, some.step), y=rows, x=columns).values
            yield slice(first, first + len(some)), values


def sample_vectors(dataset: "xr.Dataset", dates: range, count: int, chunk_reads: int | None = None) -> np.ndarray:
    """Return embeddings of some dates, evenly spaced over the grid.

    Args:
        dataset: embedding dataset.
        dates: indices of the dates.
        count: number of embeddings wanted; the result has this many, up to a factor of two.
        chunk_reads: largest number of chunks to read; `MAX_CHUNK_READS` by default.

    Returns:
        Float32 (N, K), finite; all embeddings if the whole grid is read and holds fewer than `2 * count`.
    """
    parts = evenly_spaced_parts(dataset, len(dates), chunk_reads)
    pixels = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)
    step = max(1, pixels * len(dates) // (2 * count))
    found = []
    for _, vectors in read_parts(dataset, "embeddings", dates, parts):
        flat = np.moveaxis(vectors, 1, -1).reshape(-1, vectors.shape[1])
        found.append(flat[np.isfinite(flat).all(1)][::step].copy())  # a view would keep the whole part in memory
    sample = np.concatenate(found)
    return sample[:: max(1, len(sample) // count)]


def sample_series(dataset: "xr.Dataset", name: str, count: int, chunk_reads: int | None = None) -> np.ndarray:
    """Return the series of some pixels, evenly spaced over the grid.

    Args:
        dataset: embedding dataset; all its dates are read.
        name: `embeddings` or `uncertainty`.
        count: number of pixels wanted; the result has this many, up to a factor of two, the same for each name.
        chunk_reads: largest number of chunks to read; `MAX_CHUNK_READS` by default.

    Returns:
        Float32 (T, K, N), NaN where a pixel has no embedding.
    """
    dates = range(dataset.sizes["time"])
    parts = evenly_spaced_parts(dataset, len(dates), chunk_reads)
    pixels = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)
    step = max(1, pixels // count)
    found = []
    for part in parts:
        read = read_parts(dataset, name, dates, [part])
        found.append(np.concatenate([values.reshape(*values.shape[:2], -1)[..., ::step].copy() for _, values in read]))
    return np.concatenate(found, axis=2)


def mean_squared_distances(dataset: "xr.Dataset") -> np.ndarray:
    """Return the mean squared distance between the embeddings of two pixels on each date, float64 (T,).

    It is twice the variance summed over the dimensions, computed on `evenly_spaced_parts`; zero if a date has no
    embedding there.
    """
    dates = range(dataset.sizes["time"])
    count = np.zeros((len(dates), 1))
    total, squares = np.zeros((2, len(dates), dataset.sizes["embedding"]))
    for positions, vectors in read_parts(dataset, "embeddings", dates, evenly_spaced_parts(dataset, len(dates))):
        has_embedding = np.isfinite(vectors).all(1)
        values = np.where(has_embedding[:, None], vectors, 0).astype(np.float64)
        count[positions, 0] += has_embedding.sum((1, 2))
        total[positions] += values.sum((2, 3))
        squares[positions] += (values**2).sum((2, 3))
    count = np.maximum(count, 1)
    return np.asarray(2 * (squares / count - (total / count) ** 2).sum(1))


def clear_fractions(dataset: "xr.Dataset") -> np.ndarray:
    """Return the fraction of clear or water pixels on each date, float64 (T,), computed on `evenly_spaced_parts`."""
    dates = range(dataset.sizes["time"])
    clear, pixels = np.zeros((2, len(dates)))
    for positions, flags in read_parts(dataset, "quality", dates, evenly_spaced_parts(dataset, len(dates))):
        clear[positions] += (flags <= Quality.WATER).sum((1, 2))
        pixels[positions] += flags[0].size
    return np.asarray(clear / pixels)
