"""Use of overviews where a whole map is shown: the smallest level that has enough pixels."""

from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.store.portable import chunk_sizes
from thalweg.earth.store.reader import open_overviews, store_path
from thalweg.earth.store.schema import PREVIEW

if TYPE_CHECKING:
    import xarray as xr


def whole_map(dataset: "xr.Dataset", index: int, side: int) -> "xr.Dataset":
    """Return one date of a dataset for a map of at most `side` pixels each way.

    It is read from an overview if the dataset is a whole store that has one of that size. Otherwise it is every so
    many pixels of the dataset.

    Args:
        dataset: an embedding dataset.
        index: index of the date.
        side: largest height and width of the map in pixels.

    Returns:
        The variables `embeddings`, `uncertainty`, `quality` and `picture` of the date.
    """
    largest = max(dataset.sizes["y"], dataset.sizes["x"])
    path = store_path(dataset)
    is_read = all(chunk_sizes(dataset[name]) for name in ("embeddings", PREVIEW) if name in dataset)
    if largest > side and path is not None and is_read:  # computed values have no overview
        for factor, level in open_overviews(path).items():
            if largest <= side * factor and _is_of(level, dataset, factor):
                return level.isel(time=int(np.flatnonzero(level.time.values == dataset.time.values[index])[0]))
    step = -(-largest // side)
    return dataset.isel(time=index, y=slice(None, None, step), x=slice(None, None, step))


def _is_of(level: "xr.Dataset", dataset: "xr.Dataset", factor: int) -> bool:
    """Return whether a level of the store that a dataset was opened from shows what the dataset holds."""
    covers = all(-(-dataset.sizes[name] // factor) == level.sizes[name] for name in ("y", "x"))
    side = factor * float(dataset.attrs["geoemb:gsd"])
    starts = all(abs(float(level[name][0] - dataset[name][0])) < side for name in ("y", "x"))
    is_complete = level.sizes["embedding"] == dataset.sizes["embedding"]
    return covers and starts and is_complete and bool(np.isin(dataset.time.values, level.time.values).all())
