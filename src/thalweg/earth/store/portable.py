"""Embedding datasets that other libraries can write: NetCDF attributes, and no encoding of another store."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

_CHUNKS = "preferred_chunks"
"""Key of a variable's encoding with its chunk sizes by dimension: a hint for reading that writers ignore."""

_KEPT_ENCODING = ("dtype", "units", "calendar", "_FillValue", "grid_mapping", _CHUNKS)


def portable(dataset: "xr.Dataset") -> "xr.Dataset":
    """Return a dataset that `to_netcdf` and `to_zarr` of formats 2 and 3 can write, whole or any part of it.

    NetCDF attributes are strings, numbers and flat lists of either; anything else becomes JSON text, which
    `structured` reads. The chunks, shards and codecs of the store that the dataset was read from are removed, because
    they fit neither another format nor a selection. Values are shared with the dataset, not copied.
    """
    result = dataset.copy()
    result.attrs = portable_attributes(dataset.attrs)
    for variable in result.variables.values():
        attributes = portable_attributes(variable.attrs)
        fill = attributes.pop("_FillValue", None)  # present if the reader did not decode the variable
        variable.attrs = attributes
        encoding = variable.encoding
        variable.encoding = {key: encoding[key] for key in _KEPT_ENCODING if key in encoding}
        if "scale_factor" in encoding:  # decoded: quantized again, its values would differ
            variable.encoding.pop("dtype", None)
            variable.encoding["_FillValue"] = np.nan
        elif fill is not None:
            variable.encoding.setdefault("_FillValue", fill)
    return result


def portable_attributes(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return attributes that NetCDF can hold; other values become JSON text."""
    return {name: value if _is_flat(value) else json.dumps(value) for name, value in attributes.items()}


def structured(attributes: Mapping[Any, Any], name: str) -> Any:
    """Return an attribute that is a dictionary or a list, from a Zarr attribute or from its JSON text.

    Raises:
        KeyError: There is no such attribute.
        ValueError: Its text is not JSON.
    """
    value = attributes[name]
    return json.loads(value) if isinstance(value, str) else value


def chunk_sizes(variable: "xr.DataArray") -> Mapping[Any, int]:
    """Return the sizes of a variable's chunks by dimension; empty if it was not read from a store."""
    sizes: Mapping[Any, int] = variable.encoding.get(_CHUNKS, {})
    return sizes


def _is_flat(value: Any) -> bool:
    """Return whether NetCDF can hold a value: a string, a number, an array, or a list of strings or numbers."""
    if isinstance(value, list | tuple):
        return len(value) > 0 and all(_is_scalar(part) for part in value)
    return _is_scalar(value) or isinstance(value, np.ndarray)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | np.number) and not isinstance(value, bool)


def model_of(dataset: "xr.Dataset") -> str:
    """Return the identifier of the model that made a dataset; of another program's store, its `geoemb:model`."""
    own = dataset.attrs.get("thalweg:model")
    return str(dataset.attrs["geoemb:model"] if own is None else own)
