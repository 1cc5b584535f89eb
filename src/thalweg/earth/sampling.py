"""A bounded look at a store larger than memory: all of it where it is small, blocks spread evenly where it is not."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

CHUNK_READS = 2048
"""Most chunks that one statistic of a store reads."""

_BLOCKS_AT_ONCE = 256
_SIDE = 64

Part = tuple[slice, slice]
"""Rows and columns."""


def block_shape(dataset: "xr.Dataset") -> tuple[int, int]:
    """Rows and columns of a chunk of the embeddings; 64 each where the dataset is no store's."""
    chunks = dataset.embeddings.encoding.get("chunks")
    return (int(chunks[-2]), int(chunks[-1])) if chunks else (_SIDE, _SIDE)


def spread_parts(dataset: "xr.Dataset", dates: int) -> list[Part]:
    """What a statistic over a number of dates looks at: the whole grid, or blocks on an even grid of their own."""
    most = max(1, min(CHUNK_READS // max(1, dates), _BLOCKS_AT_ONCE))
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


def date_by_date(
    dataset: "xr.Dataset", name: str, dates: Sequence[int], parts: Sequence[Part]
) -> Iterator[list[np.ndarray]]:
    """Read a variable's parts, one date in memory at a time."""
    for date in dates:
        yield [dataset[name].isel(time=date, y=rows, x=columns).values for rows, columns in parts]


def sample_vectors(dataset: "xr.Dataset", dates: Sequence[int], most: int) -> np.ndarray:
    """Embeddings (N, K) of some dates, spread over the grid; `most` of them, give or take a factor of two.

    Where the grid is read whole and holds fewer than twice `most` vectors, these are all of them.
    """
    parts = spread_parts(dataset, len(dates))
    pixels = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)
    every = max(1, pixels * len(dates) // (2 * most))
    size = dataset.sizes["embedding"]
    found = []
    for arrays in date_by_date(dataset, "embeddings", dates, parts):
        flat = np.concatenate([np.moveaxis(array, 0, -1).reshape(-1, size) for array in arrays])
        found.append(flat[np.isfinite(flat).all(1)][::every])
    flat = np.concatenate(found)
    return flat[:: max(1, len(flat) // most)]


def date_spreads(dataset: "xr.Dataset") -> np.ndarray:
    """(T,), twice the summed variance of the embeddings of each date: the mean squared distance of two pixels.

    Zero where a date has no embedding in what is looked at (`spread_parts`).
    """
    dates = range(dataset.sizes["time"])
    parts = spread_parts(dataset, len(dates))
    spreads = np.zeros(len(dates))
    for date, arrays in zip(dates, date_by_date(dataset, "embeddings", dates, parts), strict=True):
        flat = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
        flat = flat[:, np.isfinite(flat).all(0)]
        if flat.size:
            spreads[date] = 2 * flat.var(1, dtype=np.float64).sum()
    return spreads


def clear_fractions(dataset: "xr.Dataset") -> np.ndarray:
    """(T,), the share of pixels of each date that are clear or water, in what is looked at (`spread_parts`)."""
    from thalweg.earth.sensors import Quality

    dates = range(dataset.sizes["time"])
    parts = spread_parts(dataset, len(dates))
    return np.array(
        [
            np.concatenate([(array <= Quality.WATER).ravel() for array in arrays]).mean()
            for arrays in date_by_date(dataset, "quality", dates, parts)
        ]
    )
