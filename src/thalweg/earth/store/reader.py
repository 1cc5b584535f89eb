"""Reading of embedding stores: recognition, checks of the layout, lazy decoding, and comparison with others."""

import hashlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.store.conventions.convention_checks import check_conventions, check_multiscales
from thalweg.earth.store.conventions.multiscales_layout import overview_group, stated_factors, without_multiscales
from thalweg.earth.store.portable import portable
from thalweg.earth.store.quantization import quantization_attributes, quantizations
from thalweg.earth.store.schema import fill_value, spatial_attributes
from thalweg.earth.store.zarr_chunks import with_checked_reading
from thalweg.errors import MissingPathError, ThalwegError, UsageError, one_line
from thalweg.io.hashing import json_hash
from thalweg.io.redaction import redact

if TYPE_CHECKING:
    import xarray as xr

_METADATA_ERRORS = (
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    OSError,
)
"""Exceptions that libraries raise on attributes, shapes and coordinates that contradict each other."""

_MAX_REASON = 160
"""Largest number of characters of another library's message that is shown."""


def holds_embeddings(path: Path) -> bool:
    """Return whether a path holds a Zarr store with the attributes of an embedding store.

    Raises:
        UsageError: The store's metadata are damaged.
    """
    if not any((path / name).is_file() for name in ("zarr.json", ".zgroup")):
        return False
    import zarr

    try:
        return "geoemb:model" in zarr.open_group(path, mode="r").attrs
    except Exception as error:  # zarr raises many kinds on damaged metadata
        reason = one_line(error)[:_MAX_REASON]
        raise UsageError(f"{path}: its metadata are damaged ({reason}): restore it or write it again") from error


def open_store(path: str | Path) -> "xr.Dataset":
    """Open an embedding store lazily, dequantized, in a form that other libraries can write.

    A damaged chunk raises a `ThalwegError` when it is read; the message names the store and the block.

    Args:
        path: Store that `thalweg earth embed` wrote (docs/store.md).

    Returns:
        Dataset with dimensions (time, embedding, y, x): `embeddings` and `uncertainty`, float32 without units, NaN
        where there is no embedding; `valid_context_dates`, uint16; `quality`, uint8; `picture`, uint8 (time, colour,
        y, x); `observed`, uint8 (time), 1 on an overpass of the reference sensor; and per auxiliary sensor
        `gap_NAME`, float32 in days. It has the accessors `.thalweg` and `.rio`.

    Raises:
        MissingPathError: The path does not exist.
        UsageError: The path holds no embedding store, or its metadata are damaged.
    """
    import rioxarray  # noqa: F401  (registers .rio)

    path = Path(path)
    if not path.exists():
        raise MissingPathError(f"{redact(str(path))}: no such store")
    try:
        dataset = _undecoded(path)
    except Exception as error:  # zarr and xarray raise many kinds
        raise UsageError(f"{path}: not a readable Zarr store: expected one written by `thalweg earth embed`") from error
    if "geoemb:model" not in dataset.attrs or "embeddings" not in dataset:
        raise UsageError(f"{path}: a Zarr store without embeddings: expected one written by `thalweg earth embed`")
    try:
        check_layout(dataset)
        check_conventions(dataset)
        check_multiscales(dataset, _open_levels(path, dataset))
        return _dequantized(dataset, path)
    except _METADATA_ERRORS as error:
        reason = one_line(error)[:_MAX_REASON]
        raise UsageError(f"{path}: its metadata are damaged ({reason}): restore it or embed again") from error


def open_overviews(path: str | Path) -> "dict[int, xr.Dataset]":
    """Open the overviews of an embedding store lazily, as `open_store` opens the store.

    Args:
        path: the store.

    Returns:
        By the factor by which a level is reduced, rising: `embeddings` (means scaled to the mean length),
        `uncertainty` and `picture` (means) and `quality` (the lowest flag). Empty if the store has none, or its
        metadata are damaged, which `open_store` reports.
    """
    import zarr

    path = Path(path)
    try:
        return {factor: open_level(path, factor) for factor in stated_factors(zarr.open_group(path, mode="r").attrs)}
    except (*_METADATA_ERRORS, ThalwegError):
        return {}


def open_level(path: Path, factor: int) -> "xr.Dataset":
    """Open the overview of a store that is reduced by a factor."""
    return _dequantized(_undecoded(path, overview_group(factor)), path, overview_group(factor))


def store_path(dataset: "xr.Dataset") -> Path | None:
    """Return the path of the store that a dataset, or a selection of one, was opened from; None if of no store."""
    path = dataset.encoding.get("source")
    return Path(path) if isinstance(path, str) and (Path(path) / "zarr.json").is_file() else None


def _open_levels(path: Path, dataset: "xr.Dataset") -> "dict[int, xr.Dataset]":
    return {factor: _undecoded(path, overview_group(factor)) for factor in stated_factors(dataset.attrs)}


def _undecoded(path: Path, group: str | None = None) -> "xr.Dataset":
    """Open a group of a store with its integers as they are stored."""
    import xarray as xr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata are optional
        return xr.open_zarr(
            path,
            group=group,
            chunks=None,
            mask_and_scale=False,
            decode_coords="all",
            consolidated=False if group else None,  # a level is read before the metadata of all are consolidated
        )


def _dequantized(dataset: "xr.Dataset", path: Path, group: str | None = None) -> "xr.Dataset":
    """Return the dataset of a store, or of one of its groups, with checked reading and decoded variables."""
    import xarray as xr

    dataset = with_checked_reading(dataset, path, group)
    dataset.attrs = without_multiscales(dataset.attrs)
    for name, variable in dataset.data_vars.items():
        if "scale_factor" in variable.attrs:
            for key in ("scale_factor", "add_offset"):  # as float32, else xarray decodes to float64
                variable.attrs[key] = np.float32(variable.attrs[key])
            dataset[name] = xr.conventions.decode_cf_variable(str(name), variable.variable)
    return portable(dataset)


def check_layout(dataset: "xr.Dataset") -> None:
    """Check that the attributes, coordinates and variables of an undecoded store agree.

    Raises:
        ValueError: They contradict each other: the metadata are damaged.
        LookupError: An attribute is missing.
    """
    expected = ("time", "embedding", "y", "x")
    for name in ("embeddings", "uncertainty"):
        if name in dataset and dataset[name].dims != expected:
            raise ValueError(f"{name} has dimensions {', '.join(map(str, dataset[name].dims))}")
    missing = [name for name in expected if name not in dataset.coords]
    if missing:
        raise ValueError(f"no coordinate {', '.join(missing)}")
    if not np.issubdtype(dataset.time.dtype, np.datetime64):
        raise ValueError("time holds no dates")
    attrs, x, y = dataset.attrs, dataset.x.values, dataset.y.values
    if attrs["geoemb:dimensions"] != dataset.sizes["embedding"]:
        raise ValueError(f"geoemb:dimensions {attrs['geoemb:dimensions']} of {dataset.sizes['embedding']}")
    for name, value in spatial_attributes(x, y, attrs["geoemb:gsd"]).items():
        agrees = value == attrs[name] if name == "spatial:dimensions" else np.allclose(value, attrs[name], rtol=1e-9)
        if not agrees:
            raise ValueError(f"{name} is not that of x and y")
    for name in (name for name in ("x", "y") if dataset.sizes[name] > 1):
        if not np.allclose(np.abs(np.diff(dataset[name].values)), attrs["geoemb:gsd"], rtol=1e-6):
            raise ValueError(f"{name} is not in steps of geoemb:gsd")
    _check_encodings(dataset)


def _check_encodings(dataset: "xr.Dataset") -> None:
    """Check the quantized encodings and the fill values of an undecoded store."""
    for name in ("embeddings", "uncertainty"):
        stated = {key: dataset[name].attrs.get(key) for key in ("scale_factor", "add_offset", "_FillValue")}
        bits = 8 * dataset[name].dtype.itemsize if dataset[name].dtype.kind in "iu" else None
        if bits is not None:
            encoding = quantizations(bits)[name]
            if stated != {**quantization_attributes(encoding), "_FillValue": encoding.fill}:
                raise ValueError(f"{name} of {bits} bits with {stated}")
    for key, variable in dataset.data_vars.items():
        if variable.encoding.get("shards"):  # written by `create_store`, not copied by another program
            name, written = str(key), np.asarray(variable.encoding.get("fill_value"))
            own = fill_value(name, variable.dtype)
            if not np.array_equal(written, own, equal_nan=variable.dtype.kind == "f"):
                raise ValueError(f"{name} is {written} where nothing is written, expected {own}")


def check_alike(dataset: "xr.Dataset", where: str, model: str, dimensions: int, other: str) -> None:
    """Check that a store can be compared with others.

    Args:
        dataset: the opened store.
        where: name of the store in messages.
        model: model of the others.
        dimensions: dimensions of their embeddings.
        other: name of the others in messages.

    Raises:
        UsageError: The store is of another model, or its embeddings have another number of dimensions.
    """
    if dataset.attrs["thalweg:model"] != model:
        raise UsageError(
            f"{where}: embeddings of {dataset.attrs['thalweg:model']}, but {other} is of {model}: embeddings of two "
            "models cannot be compared, embed one of them again"
        )
    if dataset.sizes["embedding"] != dimensions:
        raise UsageError(
            f"{where}: embeddings of {dataset.sizes['embedding']} dimensions, but {other} has {dimensions}: embed "
            "one of them again"
        )


def fingerprint(store: Path) -> str:
    """Return a hash of the names, sizes and times of change of a store's files, and of its metadata.

    No data is read; a store that is copied, not moved, gets another fingerprint.
    """
    files = []
    for folder, _, names in os.walk(store):
        for name in names:
            path = Path(folder) / name
            state = path.stat()
            files.append([path.relative_to(store).as_posix(), state.st_size, state.st_mtime_ns])
    metadata = hashlib.sha256((store / "zarr.json").read_bytes()).hexdigest()
    return json_hash([metadata, sorted(files)])
