"""Writing of the overviews of a complete store: each level is reduced from the one below it, block by block."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.cube.windows import Window, grid_windows
from thalweg.earth.store.conventions.declared_conventions import PROJECTION, SPATIAL
from thalweg.earth.store.conventions.multiscales_layout import (
    RESAMPLING,
    overview_factors,
    overview_group,
    with_multiscales,
    without_multiscales,
)
from thalweg.earth.store.overviews.reduction import color_means, lowest_flags, means, renormalized_means
from thalweg.earth.store.quantization import quantizations, quantize
from thalweg.earth.store.reader import open_level, open_store
from thalweg.earth.store.schema import PREVIEW, spatial_attributes
from thalweg.earth.store.subsample import block_shape
from thalweg.earth.store.writer import write_layout

if TYPE_CHECKING:
    import xarray as xr

DATES_AT_ONCE = 16
"""Number of dates that are reduced together; it bounds memory."""

_REDUCE: dict[str, Callable[[NDArray, int], NDArray]] = {
    "embeddings": renormalized_means,
    "uncertainty": means,
    "quality": lowest_flags,
    PREVIEW: color_means,
}


def write_overviews(path: Path) -> None:
    """Write the overviews of a store whose blocks are complete, and state them in its attributes.

    A store that fits into one tile of a map has none. Writing them again replaces them.

    Args:
        path: folder of the store; written in place.

    Raises:
        ThalwegError: A chunk of the store cannot be read.
        OSError: The store cannot be written.
    """
    import zarr

    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    attributes = without_multiscales(group.attrs)
    if "multiscales" in group.attrs:  # of an earlier run that was killed
        group.attrs.put(attributes)
        _consolidate(path)
    shutil.rmtree(path / overview_group(1).partition("/")[0], ignore_errors=True)
    below = open_store(path)
    shape = (below.sizes["y"], below.sizes["x"])
    factors = overview_factors(shape)
    if not factors:
        return
    bits = {"int8": 8, "int16": 16}.get(str(attributes["geoemb:data_type"]))
    block = max(block_shape(below))
    for factor in factors:
        write_layout(_empty_level(below, attributes, factor, bits), path, block, bits, overview_group(factor))
        _fill_level(below, path, factor, block, bits)
        below = open_level(path, factor)
    group.attrs.update(with_multiscales(attributes, shape, factors))
    _consolidate(path)


def _consolidate(path: Path) -> None:
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # consolidated metadata are optional
        zarr.consolidate_metadata(path)


def _empty_level(below: "xr.Dataset", attributes: dict[str, Any], factor: int, bits: int | None) -> "xr.Dataset":
    """Return the layout of the level above `below`, reduced by `factor` in all; its variables are lazy and empty."""
    import dask.array
    import rioxarray  # noqa: F401  (registers .rio)
    import xarray as xr

    step = factor * float(attributes["geoemb:gsd"])
    coordinates = {
        name: float(below[name][0]) + sign * step * (np.arange(-(-below.sizes[name] // 2)) + 0.25)
        for name, sign in (("y", -1), ("x", 1))
    }
    encodings = quantizations(bits)
    variables = {}
    for name in RESAMPLING:
        values = below[name]
        sizes = [len(coordinates[str(axis)]) if axis in coordinates else size for axis, size in values.sizes.items()]
        dtype = encodings[name].dtype if name in encodings else values.dtype
        data = dask.array.zeros(sizes, dtype=dtype, chunks=sizes)
        variables[name] = (values.dims, data, {"long_name": values.attrs["long_name"]})
    kept = {name: value for name, value in attributes.items() if name.startswith("proj:")}
    level = xr.Dataset(
        variables,
        coords={
            "time": below.time,
            "embedding": below.embedding,
            **{name: (name, coordinates[name], below[name].attrs) for name in ("y", "x")},
        },
        attrs={
            "Conventions": "CF-1.8",
            "zarr_conventions": [PROJECTION, SPATIAL],
            **kept,
            **spatial_attributes(coordinates["x"], coordinates["y"], step),
        },
    )
    return level.rio.write_crs(attributes["proj:wkt2"])


def _fill_level(below: "xr.Dataset", path: Path, factor: int, block: int, bits: int | None) -> None:
    """Reduce a level by two and write it."""
    import zarr

    group = zarr.open_group(path, path=overview_group(factor), mode="r+", use_consolidated=False)
    encodings = quantizations(bits)
    for window in grid_windows((-(-below.sizes["y"] // 2), -(-below.sizes["x"] // 2)), block):
        rows, columns = _span(window.top, window.height), _span(window.left, window.width)
        for name in RESAMPLING:
            reduced = _reduced(below[name], name, window)
            array = group[name]
            assert isinstance(array, zarr.Array)
            array[..., rows, columns] = quantize(reduced, encodings[name]) if name in encodings else reduced


def _reduced(values: "xr.DataArray", name: str, window: Window) -> NDArray:
    """Return a window (T, ..., h, w) of the level above a variable, reduced by two."""
    part = values.isel(y=_span(2 * window.top, 2 * window.height), x=_span(2 * window.left, 2 * window.width))
    found = []
    for first in range(0, part.sizes["time"], DATES_AT_ONCE):
        dates = part.isel(time=slice(first, first + DATES_AT_ONCE)).values
        found += [_REDUCE[name](date, 2) for date in dates]
    return np.stack(found)


def _span(start: int, size: int) -> slice:
    return slice(start, start + size)
