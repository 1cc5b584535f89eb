"""Datasets that other libraries can write: attributes as NetCDF holds them, encodings free of one store's layout."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

_CHUNKS = "preferred_chunks"
"""Sizes of a store's chunks by dimension: a hint for reading, which no writer takes for its own layout."""

_KEPT_ENCODING = ("dtype", "units", "calendar", "_FillValue", "grid_mapping", _CHUNKS)


def portable(dataset: "xr.Dataset") -> "xr.Dataset":
    """Return a dataset that `to_netcdf` and `to_zarr` of formats 2 and 3 can write, whole or any part of it.

    NetCDF attributes are texts, numbers and flat lists of either; anything else becomes JSON text, which
    `structured` reads. Chunks, shards and codecs belong to the store the dataset was read from and fit neither
    another format nor a selection: they are left out. Values are shared with the dataset, not copied.
    """
    result = dataset.copy()
    result.attrs = portable_attributes(dataset.attrs)
    for variable in result.variables.values():
        attributes = portable_attributes(variable.attrs)
        fill = attributes.pop("_FillValue", None)  # still there where the reader did not decode it
        variable.attrs = attributes
        encoding = variable.encoding
        variable.encoding = {key: encoding[key] for key in _KEPT_ENCODING if key in encoding}
        if "scale_factor" in encoding:  # decoded: written again as codes, other readers would get other numbers
            variable.encoding.pop("dtype", None)
            variable.encoding["_FillValue"] = np.nan
        elif fill is not None:
            variable.encoding.setdefault("_FillValue", fill)
    return result


def portable_attributes(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return attributes as NetCDF holds them; what it cannot hold becomes JSON text."""
    return {name: value if _is_flat(value) else json.dumps(value) for name, value in attributes.items()}


def structured(attributes: Mapping[Any, Any], name: str) -> Any:
    """Return an attribute that is a dictionary or a list: as a Zarr store holds it, or from its JSON text.

    Raises:
        KeyError: no such attribute.
        ValueError: its text is not JSON.
    """
    value = attributes[name]
    return json.loads(value) if isinstance(value, str) else value


def chunk_sizes(variable: "xr.DataArray") -> Mapping[Any, int]:
    """Return the sizes of a variable's chunks by dimension; empty where it was not read from a store."""
    sizes: Mapping[Any, int] = variable.encoding.get(_CHUNKS, {})
    return sizes


def _is_flat(value: Any) -> bool:
    """Whether NetCDF holds a value: a text, a number, an array, or a list of texts or of numbers."""
    if isinstance(value, list | tuple):
        return len(value) > 0 and all(_is_scalar(part) for part in value)
    return _is_scalar(value) or isinstance(value, np.ndarray)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | np.number) and not isinstance(value, bool)
