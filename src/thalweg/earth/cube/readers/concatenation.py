"""Concatenation of datasets of one date each, such as a folder of dated files, into one lazy dataset."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.cube.readers.axes import CHUNK
from thalweg.earth.cube.reference_systems import grid_mappings

if TYPE_CHECKING:
    import xarray as xr

    Opened = tuple[str, str | None, xr.Dataset]


def concatenate_dates(opened: "Iterable[Opened]") -> "Iterator[Opened]":
    """Concatenate datasets of one date each that differ only in the date; yield all others unchanged.

    An attribute or a scalar coordinate that differs between dates becomes a variable over time.

    Args:
        opened: file, sensor name and dataset, as `open_datasets` yields them.
    """
    groups: dict[Any, list[Opened]] = {}
    for where, hint, dataset in opened:
        single = dataset.sizes.get("time") == 1 and {"y", "x"} <= set(dataset.coords)
        key = _signature(hint, dataset) if single else where
        groups.setdefault(key, []).append((where, hint, dataset))
    for group in groups.values():
        yield group[0] if len(group) == 1 else _joined(group)


def _signature(hint: str | None, dataset: "xr.Dataset") -> tuple[Any, ...]:
    """Return the properties in which two dates of one dataset must be equal."""
    mappings = grid_mappings(dataset)
    bands = tuple(
        (str(name), variable.dims, str(variable.dtype), _numeric_attributes({**variable.encoding, **variable.attrs}))
        for name, variable in sorted(dataset.data_vars.items(), key=lambda entry: str(entry[0]))
        if "x" in variable.dims
    )
    names = tuple(sorted(str(name) for name in {*dataset.attrs, *dataset.variables}))
    systems = tuple((name, repr(sorted(dataset[name].attrs.items()))) for name in mappings)
    return hint, dataset.x.values.tobytes(), dataset.y.values.tobytes(), bands, names, systems


def _numeric_attributes(attrs: dict[str, Any]) -> str:
    """Return the attributes that concern a band's numbers, without those on the file, such as its date of writing."""
    kinds = (int, float, np.number)
    numeric = {key: value for key, value in attrs.items() if isinstance(value, kinds) or key == "units"}
    return repr(sorted((key, str(value)) for key, value in numeric.items()))


def _joined(group: "list[Opened]") -> "Opened":
    import xarray as xr

    group = sorted(group, key=lambda entry: entry[2].time.values[0])
    datasets = [dataset for _, _, dataset in group]
    common = {
        key: value for key, value in datasets[0].attrs.items() if all(_same(value, d.attrs[key]) for d in datasets[1:])
    }
    dated = [_per_date(dataset, set(dataset.attrs) - set(common)) for dataset in datasets]
    joined = xr.concat(
        dated,
        "time",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="drop_conflicts",
    )
    where, hint, _ = group[0]
    return str(Path(where).parent), hint, joined.assign_attrs(common)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


def _per_date(dataset: "xr.Dataset", differing: set[str]) -> "xr.Dataset":
    """Return a date's dataset in unread chunks, with scalars and differing attributes along time."""
    mappings = set(grid_mappings(dataset))
    scalars = {
        name: ("time", np.ravel(variable.values), variable.attrs)
        for name, variable in dataset.variables.items()
        if variable.ndim == 0 and name not in mappings
    }
    simple = {name: dataset.attrs[name] for name in differing if np.ndim(dataset.attrs[name]) == 0}
    dated = {name: ("time", [value]) for name, value in simple.items() if name not in dataset.variables}
    return dataset.drop_attrs(deep=False).assign_coords(scalars | dated).chunk({"y": CHUNK, "x": CHUNK})
