"""Normalization of a dataset's axes to time, y and x, with one variable per band."""

import re
import warnings
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.cube.reference_systems import grid_mappings, transforms
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

MAX_SIDE = 10_000_000
"""Longest axis that is read; a longer one means that the file's metadata are damaged."""

CHUNK = 1024
"""Side of the chunks in which a dataset of a single date is read, in pixels."""

FIRST_YEAR, LAST_YEAR = 1900, 2200
"""Range of years in which dates of satellite data are accepted."""

_NAMES = {
    "time": ("t", "date", "dates", "datetime", "acquisition_date", "acquisition_time", "sensing_time", "valid_time"),
    "y": ("lat", "latitude", "northing", "north", "yc", "y_coordinate"),
    "x": ("lon", "long", "longitude", "easting", "east", "xc", "x_coordinate"),
}
_BAND_AXES = ("band", "bands", "variable", "variables", "channel", "channels", "spectral", "spectral_band")
_BAND_TITLES = ("long_name", "band_names", "bands", "descriptions", "band_descriptions")
_PER_BAND = {
    "scale_factor": ("scale_factor", "scale_factors", "scales"),
    "add_offset": ("add_offset", "add_offsets", "offsets"),
    "units": ("units",),
    "_FillValue": ("_FillValue", "nodatavals"),
}
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
_COMPACT = re.compile(r"(19|20)\d{6}")


def with_standard_axes(dataset: "xr.Dataset", where: str) -> "xr.Dataset":
    """Return a dataset with dimensions named time, y, x, one variable per band, and decoded coordinates.

    A dataset without rows and columns is returned unchanged.

    Args:
        dataset: dataset with any names and order of axes, coordinates not decoded.
        where: file or dataset that messages name.

    Raises:
        UsageError: an axis cannot be understood; the message says what to write.
    """
    dataset = _renamed(dataset)
    if not {"y", "x"} <= set(dataset.dims):
        return dataset
    long = [f"{name} ({size})" for name, size in dataset.sizes.items() if size > MAX_SIDE]
    if long:
        raise UsageError(f"{where}: dimensions of {', '.join(long)}, expected at most {MAX_SIDE}: the file is damaged")
    dataset = dataset.set_coords(grid_mappings(dataset))
    dataset = _decoded_coordinates(dataset, where)
    dataset = _with_dates(dataset, where)
    dataset = _with_centres(dataset)
    dataset = _without_single_axes(dataset)
    return _split_bands(dataset, where)


def as_dataset(array: "xr.DataArray") -> "xr.Dataset":
    """Return a DataArray as a Dataset that has its attributes."""
    taken = {None, *array.dims, *array.coords}
    return array.to_dataset(name="values" if array.name in taken else str(array.name)).assign_attrs(array.attrs)


def _renamed(dataset: "xr.Dataset") -> "xr.Dataset":
    names: dict[Hashable, str] = {}
    for name, others in _NAMES.items():
        present = {*dataset.dims, *dataset.coords}
        if name not in present:
            found = [other for other in present if str(other).lower() in (name, *others)]
            axes = [other for other in found if other in dataset.dims] or found
            if len(axes) == 1:
                names[axes[0]] = name
    units = {name: dataset[old].attrs.get("units") for old, name in names.items() if old in dataset.coords}
    renamed = dataset.rename(names)
    for old, name in names.items():
        if str(old).lower().startswith(("lat", "lon")) and name in renamed.coords and not units.get(name):
            values = renamed[name].values
            if values.size and np.issubdtype(values.dtype, np.number) and np.abs(values).max() <= 360:
                renamed = renamed.assign_coords({name: renamed[name].assign_attrs(units="degrees")})
    return renamed


def _decoded_coordinates(dataset: "xr.Dataset", where: str) -> "xr.Dataset":
    """Decode packed coordinates and variables over time."""
    from xarray.conventions import decode_cf_variable

    decoded = {}
    for name, variable in dataset.variables.items():
        packed = {"scale_factor", "add_offset", "_FillValue", "missing_value"} & set(variable.attrs)
        if packed and variable.ndim <= 1 and not _looks_like_time(str(name), variable):
            try:
                decoded[name] = decode_cf_variable(str(name), variable, decode_times=False)
            except Exception as error:  # invalid attributes raise many kinds
                raise UsageError(
                    f"{where}: {name} cannot be decoded by {', '.join(sorted(packed))}: correct its attributes"
                ) from error
    coordinates = {name: variable for name, variable in decoded.items() if name in dataset.coords}
    others = {name: variable for name, variable in decoded.items() if name not in dataset.coords}
    return dataset.assign_coords(coordinates).assign(others) if decoded else dataset


def _looks_like_time(name: str, variable: "xr.Variable") -> bool:
    return name == "time" or " since " in str(variable.attrs.get("units", ""))


def _with_dates(dataset: "xr.Dataset", where: str) -> "xr.Dataset":
    """Decode dates to datetime64 in UTC; give a dataset of a single date the dimension time."""
    if "time" not in dataset.variables:
        return dataset
    variable = dataset["time"].variable
    if variable.ndim > 1 or (variable.ndim == 1 and variable.dims != ("time",)):
        return dataset
    dates = decoded_dates(variable, where)
    if dates is None:
        return dataset
    # drop the old index, since dates before and after decoding cannot be compared
    dataset = dataset.drop_vars("time")
    return dataset.assign_coords(time=("time", dates)) if variable.ndim else with_date(dataset, dates.ravel()[0])


def with_date(dataset: "xr.Dataset", date: np.datetime64) -> "xr.Dataset":
    """Give a dataset of a single date the dimension time, without reading it."""
    layers = [name for name, variable in dataset.data_vars.items() if {"y", "x"} <= set(variable.dims)]
    # dask chunks stay unread, while xarray would load its own lazy arrays to add a dimension
    stacked = dataset[layers].chunk({"y": CHUNK, "x": CHUNK}).expand_dims("time")
    return (
        dataset.drop_vars(layers).assign({name: stacked[name].variable for name in layers}).assign_coords(time=[date])
    )


def decoded_dates(variable: "xr.Variable", where: str) -> np.ndarray | None:
    """Return the dates of a time variable, None if it does not hold dates.

    Args:
        variable: dates, numbers with CF units in the standard calendar, numbers YYYYMMDD or ISO 8601 text.
        where: file or dataset that messages name.

    Returns:
        Dates in UTC, datetime64[ns], in the shape of the variable.

    Raises:
        UsageError: the dates do not exist or cannot be read.
    """
    import pandas as pd
    import xarray as xr

    if isinstance(getattr(variable, "dtype", None), pd.DatetimeTZDtype):
        variable = xr.Variable(variable.dims, pd.DatetimeIndex(variable.to_index()).tz_convert("UTC").tz_localize(None))
    values, attrs = variable.values, {**variable.encoding, **variable.attrs}
    first = values.ravel()[0] if values.size else None
    calendar = str(attrs.get("calendar", getattr(first, "calendar", "standard"))).lower()
    if calendar not in _CALENDARS:
        raise UsageError(
            f"{where}: time has the calendar {calendar!r}, expected the standard calendar: convert the dates to it"
        )
    if np.issubdtype(values.dtype, np.datetime64):
        return _in_nanoseconds(values, where)
    if " since " in str(attrs.get("units", "")) and np.issubdtype(values.dtype, np.number):
        return _from_units(variable, where)
    if np.issubdtype(values.dtype, np.number):
        compact = [str(int(value)) for value in values.ravel() if np.isfinite(value) and float(value).is_integer()]
        if not compact or len(compact) < values.size or not all(map(_COMPACT.fullmatch, compact)):
            return None
        texts = compact
    elif values.dtype.kind in "OUSV" and values.size:
        texts = [item.decode(errors="replace") if isinstance(item, bytes) else str(item) for item in values.ravel()]
    else:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = [pd.Timestamp(_iso(text.strip())) for text in texts]
        utc = [date if date.tzinfo is None else date.tz_convert("UTC").tz_localize(None) for date in parsed]
        return np.array([date.to_datetime64() for date in utc], "datetime64[ns]").reshape(values.shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(
            f"{where}: time holds {texts[0]!r}, expected dates such as 2018-06-30T10:50:31 or CF units such as "
            "'days since 2018-01-01'"
        ) from error


def _iso(text: str) -> str:
    """Check that a text is ISO 8601, since other forms, such as day before month, are ambiguous."""
    if not re.match(r"(19|20)\d\d(-?\d\d(-?\d\d([T ].*)?)?)?$", text) or len(text) < 8:
        raise ValueError(text)
    return text


def _from_units(variable: "xr.Variable", where: str) -> np.ndarray:
    from xarray.conventions import decode_cf_variable

    plain = variable.copy(deep=False)
    plain.attrs, plain.encoding = {**variable.encoding, **variable.attrs}, {}
    try:
        values = decode_cf_variable("time", plain).values
        if not np.issubdtype(values.dtype, np.datetime64):
            raise ValueError(values.dtype)
    except Exception as error:  # pandas, xarray and cftime raise many kinds
        raise UsageError(
            f"{where}: time cannot be read in units {plain.attrs['units']!r}: write CF units such as "
            "'days since 2018-01-01'"
        ) from error
    return _in_nanoseconds(values, where)


def _in_nanoseconds(values: np.ndarray, where: str) -> np.ndarray:
    """Convert dates to datetime64[ns], whose range ends in 2262, after a check of the years."""
    years = values[~np.isnat(values)].astype("datetime64[Y]").astype(int) + 1970
    if years.size and not (years.min() >= FIRST_YEAR and years.max() <= LAST_YEAR):
        raise UsageError(
            f"{where}: time reaches from {years.min()} to {years.max()}, expected {FIRST_YEAR} to {LAST_YEAR}: correct "
            "its units"
        )
    return values.astype("datetime64[ns]")


def _with_centres(dataset: "xr.Dataset") -> "xr.Dataset":
    """Add pixel centres from the affine transform if a dataset has no coordinates."""
    missing = [name for name in ("x", "y") if name not in dataset.variables]
    affine = next(iter(transforms(dataset)), None)
    if missing and affine is not None:
        a, b, c, d, e, f = affine[1]
        if not (b or d):
            start = {"x": (c, a), "y": (f, e)}
            centres = {
                name: start[name][0] + start[name][1] * (np.arange(dataset.sizes[name]) + 0.5) for name in missing
            }
            dataset = dataset.assign_coords({name: (name, values) for name, values in centres.items()})
    return dataset


def _without_single_axes(dataset: "xr.Dataset") -> "xr.Dataset":
    """Remove axes of length one other than time, y, x and bands."""
    keep = {"time", "y", "x", *_BAND_AXES}
    single = [name for name, size in dataset.sizes.items() if size == 1 and str(name).lower() not in keep]
    return dataset.squeeze(single, drop=True) if single else dataset


def _split_bands(dataset: "xr.Dataset", where: str) -> "xr.Dataset":
    """Split variables with an axis of bands into one variable per band."""
    axis = next((name for name in dataset.dims if str(name).lower() in _BAND_AXES), None)
    stacked = [name for name, variable in dataset.data_vars.items() if axis in variable.dims]
    if axis is None or not stacked:
        return dataset
    split: dict[str, Any] = {}
    for stack in stacked:
        array = dataset[stack]
        names = _band_names(array, axis)
        if names is None:
            if array.sizes[axis] > 1:
                raise UsageError(
                    f"{where}: {stack} has {array.sizes[axis]} bands along {axis} without names: write them with "
                    f"ds.assign_coords({axis}=['B02', ...])"
                )
            names = [str(stack)]
        for index, name in enumerate(names):
            if name in split or (name in dataset.variables and name not in stacked):
                raise UsageError(f"{where}: band {name} occurs twice: rename or drop one")
            split[name] = _one_band(array, axis, index)
    rest = dataset.drop_vars(stacked)
    rest = rest.drop_vars([name for name, variable in rest.variables.items() if axis in variable.dims])
    return rest.assign({name: array.variable for name, array in split.items()})


def _band_names(array: "xr.DataArray", axis: Hashable) -> list[str] | None:
    """Return the names of the bands along an axis, from its labels or from attributes such as `long_name`."""
    if axis in array.coords:
        labels = array[axis].values
        if labels.dtype.kind in "OUS":
            return [label.decode(errors="replace") if isinstance(label, bytes) else str(label) for label in labels]
    for key in _BAND_TITLES:
        titles = _listed(array.attrs.get(key), array.sizes[axis])
        if titles is not None and all(isinstance(title, str) and title for title in titles):
            return [str(title) for title in titles]
    return None


def _listed(value: Any, count: int) -> Sequence[Any] | None:
    """Return an attribute as a list if it holds one item per band, else None."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")] if count > 1 else [value]
    if isinstance(value, list | tuple | np.ndarray) and len(value) == count:
        return list(value)
    return None


def _one_band(array: "xr.DataArray", axis: Hashable, index: int) -> "xr.DataArray":
    """Return a band of a stack with its own items of the stack's attributes and coordinates."""
    count = array.sizes[axis]
    band = array.isel({axis: index}, drop=True)
    attrs = {key: value for key, value in array.attrs.items() if key not in _BAND_TITLES}
    for key, spellings in _PER_BAND.items():
        for spelling in spellings:
            listed = _listed(attrs.pop(spelling), count) if count > 1 and _is_list(attrs.get(spelling)) else None
            if listed is None and spelling in array.coords and array[spelling].dims == (axis,):
                listed = array[spelling].values.tolist()
            if listed is not None:
                attrs[key] = listed[index]
    if (attrs.get("scale_factor", 1), attrs.get("add_offset", 0)) == (1, 0) and "scales" in array.attrs:
        attrs.pop("scale_factor", None)  # GDAL's defaults
        attrs.pop("add_offset", None)
    band.attrs = attrs
    return band


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and np.ndim(value) == 1
