"""Recognition of the sensors in a dataset, by the names of their bands and masks."""

import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.decoding.offsets import parse_flag
from thalweg.earth.cube.names import NameMatch, candidates, find_mask, looks_like_mask, match, sensor_named, units_in
from thalweg.earth.sensors import Sensor, known_sensors, sensor_by_name
from thalweg.errors import DataWarning, UsageError

if TYPE_CHECKING:
    import xarray as xr


def recognize_sensors(
    dataset: "xr.Dataset",
    hint: str | None,
    where: str,
    wanted: tuple[str, ...] | None = None,
    assume_clear: bool = False,
) -> "list[tuple[Sensor, xr.Dataset]]":
    """Return each sensor of a dataset with its variables, renamed to the declared names of its bands and mask.

    The sensor is given by `hint`, by the attribute `sensor` if that names one, or else by the mask and bands. Variables
    that look like a band or a mask but are not understood, and absent bands, cause a `DataWarning`.

    Args:
        dataset: content of a file or a group, with dimensions time, y, x.
        hint: name of the sensor, if the caller knows it.
        where: file or dataset that messages name.
        wanted: names of the sensors to return; None for all.
        assume_clear: take a sensor whose mask is absent as clear everywhere.

    Raises:
        UsageError: names, dimensions or dates are not understood, or a mask is absent.
    """
    names = [str(name) for name, variable in dataset.variables.items() if variable.ndim > 1]
    found = []
    for sensor in _sensors_in(dataset, names, hint, where):
        matched = match(sensor, names, where)
        if matched.bands and (wanted is None or sensor.name in wanted):
            found.append((sensor, matched))
    if not found:
        return []
    used = {name for _, matched in found for name in (*matched.bands.values(), matched.mask_name)}
    over_time = [name for name in names if {"time", "y", "x"} <= set(dataset[name].dims)]
    _warn_of_unused([name for name in over_time if name not in used and name not in dataset.coords], found, where)
    parts = []
    for sensor, matched in found:
        if sensor.masks and matched.mask is None and not _is_assumed_clear(dataset, assume_clear, where):
            expected = _expected_masks([sensor], names, used)
            raise UsageError(
                f"{where}: {sensor.title} without a mask ({expected}), every cloud would count as clear: add it, or "
                "declare that nothing is cloudy with `assume_clear=True` or the attribute assume_clear=1"
            )
        parts.append((sensor, _sensor_dataset(dataset, sensor, matched, where)))
    return parts


def _sensors_in(dataset: "xr.Dataset", names: list[str], hint: str | None, where: str) -> list[Sensor]:
    """Return the sensors with bands among the names, by the hint, the attribute `sensor` or masks and bands."""
    if hint is not None:
        return [sensor_by_name(hint)]
    if (stated := sensor_named(str(dataset.attrs.get("sensor", "")))) is not None:
        return [stated]
    bands = {sensor.name: {name for name in names if candidates(sensor, name)} for sensor in known_sensors()}
    certain = [
        s for s in known_sensors() if bands[s.name] and (not s.masks or find_mask(s, names, where)[0] is not None)
    ]
    used = set().union(*(bands[sensor.name] for sensor in certain))
    possible = [s for s in known_sensors() if s not in certain and len(bands[s.name] - used) > 1]
    if len(possible) > 1:
        either = " or ".join(sensor.name for sensor in possible)
        used = used.union(*(bands[sensor.name] for sensor in possible))
        masks = f" without a mask ({_expected_masks(possible, names, used)})" if any(s.masks for s in possible) else ""
        raise UsageError(f"{where}: bands of {either}{masks}: name the sensor with the attribute sensor='...'")
    return [*certain, *possible]


def _expected_masks(sensors: list[Sensor], names: list[str], used: Collection[str | None]) -> str:
    """Return the sensors' declared masks, and the names that look like a mask but match none of them."""
    similar = [name for name in names if name not in used and looks_like_mask(name)]
    not_understood = f"; {', '.join(similar)} not understood" if similar else ""
    return " or ".join(mask.variable for sensor in sensors for mask in sensor.masks) + not_understood


def _warn_of_unused(unused: list[str], found: "list[tuple[Sensor, NameMatch]]", where: str) -> None:
    if unused:
        warnings.warn(f"{where}: not used: {', '.join(unused)}", DataWarning, stacklevel=4)
    for sensor, matched in found:
        absent = [name for name in sensor.band_names if name not in matched.bands]
        if absent:
            warnings.warn(f"{where}: {sensor.title} without {', '.join(absent)}", DataWarning, stacklevel=4)


def _is_assumed_clear(dataset: "xr.Dataset", assume_clear: bool, where: str) -> bool:
    stated = dataset.attrs.get("assume_clear")
    try:
        return assume_clear or parse_flag(stated) == 1
    except ValueError as error:
        raise UsageError(f"{where}: assume_clear is {stated!s:.40}, expected true or false") from error


def _sensor_dataset(dataset: "xr.Dataset", sensor: Sensor, matched: NameMatch, where: str) -> "xr.Dataset":
    """Return a sensor's variables under their declared names, and all scalars and variables over time alone."""
    names = {found: name for name, found in matched.bands.items()}
    if matched.mask is not None and matched.mask_name is not None:
        names[matched.mask_name] = matched.mask.variable
    metadata = [str(name) for name, value in dataset.variables.items() if value.dims in ((), ("time",))]
    part = dataset[list(dict.fromkeys([*names, *metadata]))]
    if sensor.units == "dB":
        part = part.copy()
        for found in matched.bands.values():
            if "units" not in part[found].attrs and (units := units_in(found)) is not None:
                part[found] = part[found].assign_attrs(units=units)
    part = part.rename({found: name for found, name in names.items() if found != name})
    return _checked(part.assign_attrs(dataset.attrs), sensor, where)


def _checked(dataset: "xr.Dataset", sensor: Sensor, where: str) -> "xr.Dataset":
    """Check dimensions and dates; reduce a merged file to the sensor's own dates."""
    layers = [("band", name) for name in sensor.band_names] + [("mask", mask.variable) for mask in sensor.masks]
    for kind, name in layers:
        if name in dataset and set(dataset[name].dims) != {"time", "y", "x"}:
            dims = ", ".join(map(str, dataset[name].dims))
            raise UsageError(f"{where}: {kind} {name} has dimensions {dims}, expected time, y, x")
    time = dataset.time.values
    if not np.issubdtype(time.dtype, np.datetime64):
        raise UsageError(
            f"{where}: time is {time.dtype}, expected dates: write CF units such as 'days since 2018-01-01'"
        )
    if not len(time):
        raise UsageError(f"{where}: 0 dates of {sensor.title}: leave the file out or write its overpasses")
    if np.isnat(time).any():
        raise UsageError(f"{where}: {np.isnat(time).sum()} date(s) missing in time: drop them with ds.dropna('time')")
    steps = np.diff(time)
    if len(steps) and steps.min() < np.timedelta64(0):
        raise UsageError(f"{where}: dates are not in order: sort them with ds.sortby('time')")
    observed = f"{sensor.name}_observed"
    if observed in dataset:
        dataset = dataset.isel(time=np.flatnonzero(dataset[observed].values))
    return dataset.transpose("time", "y", "x", ...)
