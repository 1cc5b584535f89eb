"""Writing of embedding stores: Zarr format 3, one shard per block and variable."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.cube.windows import Window
from thalweg.earth.store.quantization import quantization_attributes, quantizations
from thalweg.earth.store.schema import OBSERVED, Block, StoreSchema, empty_dataset, fill_value
from thalweg.earth.store.zarr_chunks import checked_compressors

if TYPE_CHECKING:
    import xarray as xr


def create_store(schema: StoreSchema, path: Path) -> None:
    """Write the metadata and coordinates of a store; no data chunk is written yet.

    Raises:
        OSError: The store cannot be written.
    """
    import zarr

    write_layout(empty_dataset(schema, lazy=True), path, schema.block, schema.quantize)
    with warnings.catch_warnings():
        # Consolidated metadata are not part of Zarr format 3 yet, and the progress log is not part of the store.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(path)


def write_layout(dataset: "xr.Dataset", path: Path, block: int, bits: int | None, group: str | None = None) -> None:
    """Write the metadata and coordinates of a dataset, one shard per block and variable; no data chunk is written.

    Args:
        dataset: its variables with pixels are lazy.
        path: folder of the store.
        block: side of a block in pixels.
        bits: bits of the quantized encoding of its variables; None for float32.
        group: group of the store; the root by default.

    Raises:
        OSError: The store cannot be written.
    """
    import zarr

    quantized = {name: one for name, one in quantizations(bits).items() if name in dataset}
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in dataset.data_vars.items():
        if name == OBSERVED:  # written with the metadata, like a coordinate
            continue
        inner = variable.shape[1:-2]  # one chunk holds the whole vectors of one date
        floating = np.issubdtype(variable.dtype, np.floating)
        encoding[str(name)] = {
            "chunks": (1, *inner, block, block),
            "shards": (variable.sizes["time"], *inner, block, block),
            "_FillValue": quantized[str(name)].fill if name in quantized else np.nan if floating else None,
            "fill_value": fill_value(str(name), variable.dtype),
        }
        for key in quantization_attributes(quantized[str(name)]) if name in quantized else ():
            variable.attrs.pop(key, None)  # written below: here they would make xarray encode the variable twice
    encoding["time"] = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    for name in dataset.variables:
        encoding.setdefault(str(name), {})["compressors"] = checked_compressors()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        dataset.to_zarr(
            path, group=group, mode="a", encoding=encoding, compute=False, zarr_format=3, consolidated=False
        )
        made = zarr.open_group(path, path=group or "", mode="r+", use_consolidated=False)
        for name, quantization in quantized.items():
            made[name].attrs.update(quantization_attributes(quantization))
        # Listed here, the reference system is a coordinate to every reader that decodes CF.
        made.attrs["coordinates"] = "spatial_ref"


def write_block(path: Path, block: Block, quantize: int | None = None) -> None:
    """Write a block to its own shards of a store, quantized to `quantize` bits if given.

    Raises:
        OSError: The shards cannot be written.
    """
    import zarr

    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    rows, columns = _slices(block.window)
    for variable, values in block.arrays(quantize).items():
        array = group[variable]
        assert isinstance(array, zarr.Array)
        array[..., rows, columns] = values


def fill_block(dataset: "xr.Dataset", block: Block) -> None:
    """Copy a block into a dataset in memory, as `empty_dataset` returns it."""
    rows, columns = _slices(block.window)
    for variable, values in block.arrays().items():
        dataset[variable].values[..., rows, columns] = values


def _slices(window: Window) -> tuple[slice, slice]:
    return slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
