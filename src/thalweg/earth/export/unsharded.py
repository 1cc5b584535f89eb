"""Export of embeddings to a Zarr store of format 2 without shards, which GDAL reads since 3.4."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.export.date_layers import DateLayer, date_layers
from thalweg.earth.export.date_names import Progress
from thalweg.earth.store.portable import structured
from thalweg.earth.store.quantization import quantization_attributes
from thalweg.earth.store.subsample import block_shape
from thalweg.io.atomic import atomic_folder

if TYPE_CHECKING:
    import xarray as xr

_STRUCTURED = ("zarr_conventions", "thalweg:sources", "geoemb:quantization", "geoemb:depths")


def write_unsharded(dataset: "xr.Dataset", out: str | Path, progress: Progress | None = None) -> Path:
    """Write a Zarr store of format 2: each chunk, one date of a block, is a file of its own, with a checksum.

    It holds all variables and attributes of the store, and its integers if it is quantized; `thalweg.open` opens it.

    Args:
        dataset: embeddings as `thalweg.open` returns them.
        out: folder to write; must not exist.
        progress: callback with the number of finished dates and their total.

    Returns:
        The path of the store.

    Raises:
        UsageError: `out` exists.
        ThalwegError: the store cannot be written.
    """
    import zarr

    dates = dataset.sizes["time"]
    layers = {layer.name: layer for layer in date_layers(dataset)}
    with atomic_folder(out) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        names = _write_metadata(dataset, folder, layers)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        for index in range(dates):
            for name in names:
                array = group[name]
                assert isinstance(array, zarr.Array)
                for top in range(0, dataset.sizes["y"], array.chunks[-2]):
                    rows = slice(top, top + array.chunks[-2])
                    values = dataset[name].isel(time=index, y=rows).values
                    array[index, ..., rows, :] = layers[name].stored(values) if name in layers else values
            if progress:
                progress(index + 1, dates)
        zarr.consolidate_metadata(folder, zarr_format=2)
    return Path(out)


def _write_metadata(dataset: "xr.Dataset", folder: Path, layers: dict[str, DateLayer]) -> list[str]:
    """Write the coordinates and the metadata of all variables; return the names of those with pixels."""
    import dask.array
    import zarr
    from numcodecs import Zstd

    sides = block_shape(dataset)
    compressor = Zstd(level=3, checksum=True)
    written, encoding, names = dataset.copy(), dict[str, dict[str, Any]](), []
    written.attrs = dataset.attrs | {
        name: structured(dataset.attrs, name) for name in _STRUCTURED if name in dataset.attrs
    }
    for name, variable in dataset.data_vars.items():
        if "y" not in variable.dims:
            continue
        names.append(str(name))
        layer = layers.get(str(name))
        dtype = np.dtype(layer.dtype) if layer else variable.dtype
        lazy = dask.array.zeros(variable.shape, dtype=dtype, chunks=variable.shape)
        attributes = {**variable.attrs, "_CRS": {"wkt": dataset.attrs["proj:wkt2"]}}
        written[name] = (variable.dims, lazy, attributes)
        written[name].encoding = {"grid_mapping": "spatial_ref"}
        fill = layer.nodata if layer and layer.encoding else np.nan if dtype.kind == "f" else None
        encoding[str(name)] = {
            "chunks": (
                1,
                *variable.shape[1:-2],
                *(min(side, size) for side, size in zip(sides, variable.shape[-2:], strict=True)),
            ),
            "_FillValue": None if fill is None else dtype.type(fill),
        }
    for name in written.variables:
        encoding.setdefault(str(name), {})["compressors"] = (compressor,)
    encoding["time"] |= {"units": "seconds since 1970-01-01", "dtype": "int64"}
    written.to_zarr(folder, mode="w", encoding=encoding, compute=False, zarr_format=2, consolidated=False)
    group = zarr.open_group(folder, mode="r+", use_consolidated=False)
    for name, layer in layers.items():
        if layer.encoding:
            group[name].attrs.update(quantization_attributes(layer.encoding))
    group.attrs["coordinates"] = "spatial_ref"
    return names
