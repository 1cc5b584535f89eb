"""From datasets to one sensor's measurements: who is who, in which units, and what is valid."""

import warnings
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.decoding.band_decoding import Decoding
from thalweg.earth.cube.decoding.missing_values import is_code, missing_codes
from thalweg.earth.cube.decoding.series_decoding import decoding_of
from thalweg.earth.cube.decoding.value_samples import all_zero
from thalweg.earth.cube.names import Matched, candidates, looks_like_mask, mask_in, match, sensor_named, units_in
from thalweg.earth.cube.offsets import truth
from thalweg.earth.sensors import ClassMask, Quality, Sensor, known_sensors, sensor_by_name
from thalweg.errors import DataWarning, UsageError

if TYPE_CHECKING:
    import xarray as xr

INFINITE, IMPOSSIBLE, UNKNOWN_CLASS = "infinite", "impossible", "unknown class"
"""Kinds of values that `measurements` masks and counts."""


class NoMaskError(UsageError):
    """A sensor that needs a mask has none that is understood, and nobody said that all is clear.

    Attributes:
        found: what is missing, without the advice.
    """

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(
            f"{found}: add it, or say that nothing is cloudy with assume_clear=True or the attribute assume_clear=1"
        )


def recognise(
    dataset: "xr.Dataset",
    hint: str | None,
    where: str,
    wanted: tuple[str, ...] | None = None,
    assume_clear: bool = False,
) -> "list[tuple[Sensor, xr.Dataset]]":
    """Return each sensor a dataset holds, with its variables under the declared names of bands and mask.

    A sensor is known by the caller's word, by the attribute `sensor` where that names one, or by its mask or bands.
    What looks like a band or a mask and is not understood, and bands that are absent, are warned of (`DataWarning`).

    Args:
        dataset: what a file or a group holds.
        hint: name of the sensor where the caller gives it.
        where: what messages name.
        wanted: names of the sensors to return; all where None.
        assume_clear: take a sensor whose mask is absent as clear everywhere.

    Raises:
        UsageError: names, dimensions or dates are not understood.
        NoMaskError: a mask is absent.
    """
    names = [str(name) for name, variable in dataset.variables.items() if variable.ndim > 1]
    found = []
    for sensor in _sensors_in(dataset, names, hint, where):
        matched = match(sensor, names, where)
        if matched.bands and (wanted is None or sensor.name in wanted):
            found.append((sensor, matched))
    if not found:
        return []
    claimed = {name for _, matched in found for name in (*matched.bands.values(), matched.mask_name)}
    over_time = [name for name in names if {"time", "y", "x"} <= set(dataset[name].dims)]
    _warn_of_unread([name for name in over_time if name not in claimed and name not in dataset.coords], found, where)
    parts = []
    for sensor, matched in found:
        if sensor.masks and matched.mask is None and not _is_assumed_clear(dataset, assume_clear, where):
            sought = _masks_sought([sensor], names, claimed)
            raise NoMaskError(f"{where}: {sensor.title} without a mask ({sought}), every cloud would count as clear")
        parts.append((sensor, _part(dataset, sensor, matched, where)))
    return parts


def _sensors_in(dataset: "xr.Dataset", names: list[str], hint: str | None, where: str) -> list[Sensor]:
    """The sensors whose bands are among names: told by the hint or the attribute `sensor`, else by masks and bands."""
    if hint is not None:
        return [sensor_by_name(hint)]
    if (said := sensor_named(str(dataset.attrs.get("sensor", "")))) is not None:
        return [said]
    bands = {sensor.name: {name for name in names if candidates(sensor, name)} for sensor in known_sensors()}
    told = [s for s in known_sensors() if bands[s.name] and (not s.masks or mask_in(s, names, where)[0] is not None)]
    claimed = set().union(*(bands[sensor.name] for sensor in told))
    bare = [s for s in known_sensors() if s not in told and len(bands[s.name] - claimed) > 1]
    if len(bare) > 1:
        either = " or ".join(sensor.name for sensor in bare)
        claimed = claimed.union(*(bands[sensor.name] for sensor in bare))
        masks = f" without a mask ({_masks_sought(bare, names, claimed)})" if any(s.masks for s in bare) else ""
        raise UsageError(f"{where}: bands of {either}{masks}: say which with the attribute sensor='...'")
    return [*told, *bare]


def _masks_sought(sensors: list[Sensor], names: list[str], claimed: Collection[str | None]) -> str:
    """The masks that sensors could have, and the names that look like a mask and are none of them."""
    like = [name for name in names if name not in claimed and looks_like_mask(name)]
    not_understood = f"; {', '.join(like)} not understood" if like else ""
    return " or ".join(mask.variable for sensor in sensors for mask in sensor.masks) + not_understood


def _warn_of_unread(unread: list[str], found: "list[tuple[Sensor, Matched]]", where: str) -> None:
    if unread:
        warnings.warn(f"{where}: not used: {', '.join(unread)}", DataWarning, stacklevel=4)
    for sensor, matched in found:
        absent = [name for name in sensor.band_names if name not in matched.bands]
        if absent:
            warnings.warn(f"{where}: {sensor.title} without {', '.join(absent)}", DataWarning, stacklevel=4)


def _is_assumed_clear(dataset: "xr.Dataset", assume_clear: bool, where: str) -> bool:
    said = dataset.attrs.get("assume_clear")
    try:
        return assume_clear or truth(said) == 1
    except ValueError as error:
        raise UsageError(f"{where}: assume_clear is {said!s:.40}, expected true or false") from error


def _part(dataset: "xr.Dataset", sensor: Sensor, matched: Matched, where: str) -> "xr.Dataset":
    """A sensor's own variables under their declared names, and what the dataset says once or per date."""
    names = {found: name for name, found in matched.bands.items()}
    if matched.mask is not None and matched.mask_name is not None:
        names[matched.mask_name] = matched.mask.variable
    facts = [str(name) for name, value in dataset.variables.items() if value.dims in ((), ("time",))]
    part = dataset[list(dict.fromkeys([*names, *facts]))]
    if sensor.units == "dB":
        part = part.copy()
        for found in matched.bands.values():
            if "units" not in part[found].attrs and (units := units_in(found)) is not None:
                part[found] = part[found].assign_attrs(units=units)
    part = part.rename({found: name for found, name in names.items() if found != name})
    return _checked(part.assign_attrs(dataset.attrs), sensor, where)


def _checked(dataset: "xr.Dataset", sensor: Sensor, where: str) -> "xr.Dataset":
    """Dimensions and dates as they must be, merged files cut to the sensor's own dates."""
    layers = [("band", name) for name in sensor.band_names] + [("mask", mask.variable) for mask in sensor.masks]
    for kind, name in layers:
        if name in dataset and set(dataset[name].dims) != {"time", "y", "x"}:
            came = ", ".join(map(str, dataset[name].dims))
            raise UsageError(f"{where}: {kind} {name} has dimensions {came}, expected time, y, x")
    time = dataset.time.values
    if not np.issubdtype(time.dtype, np.datetime64):
        raise UsageError(
            f"{where}: time is {time.dtype}, expected dates: write CF units such as 'days since 2018-01-01'"
        )
    if not len(time):
        raise UsageError(f"{where}: 0 dates of {sensor.title}: leave the file out or write its acquisitions")
    if np.isnat(time).any():
        raise UsageError(f"{where}: {np.isnat(time).sum()} date(s) missing in time: drop them with ds.dropna('time')")
    steps = np.diff(time)
    if len(steps) and steps.min() < np.timedelta64(0):
        raise UsageError(f"{where}: dates are not in order: sort them with ds.sortby('time')")
    observed = f"{sensor.name}_observed"
    if observed in dataset:
        dataset = dataset.isel(time=np.flatnonzero(dataset[observed].values))
    return dataset.transpose("time", "y", "x", ...)


def measurements(
    block: "xr.Dataset",
    sensor: Sensor,
    where: str,
    decoding: Decoding | None = None,
    counts: "Counter[str] | None" = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return values (T, C, H, W) in the sensor's units, NaN where unusable, and quality (T, H, W), uint8.

    A band that the block lacks is NaN everywhere and does not make a pixel invalid; a band it has must be there.
    Each entry of time stands for itself: the entries of one overpass are not joined, and no acquisitions averaged.

    Args:
        block: bands and mask under their declared names.
        sensor: its declaration.
        where: what messages name.
        decoding: how the series is decoded; decided from the block alone where None.
        counts: pixels masked for what their values are, by kind, are added to it.
    """
    decoding = decoding_of(block, sensor, where) if decoding is None else decoding
    counts = Counter() if counts is None else counts
    present = [name for name in sensor.band_names if name in block]
    count, height, width = (block.sizes[dim] for dim in ("time", "y", "x"))
    values = np.full((count, len(sensor.bands), height, width), np.nan, np.float32)
    for index, name in enumerate(sensor.band_names):
        if name in present:
            values[:, index] = decoding[name].values(block[name].values)
    here = np.array([name in present for name in sensor.band_names])
    quality = _mask_quality(block, sensor, where, counts)
    infinite = np.isinf(values).any(1)
    missing = np.isnan(values[:, here]).any(1) | all_zero([block[name].values for name in present]) | infinite
    quality[missing] = Quality.MISSING
    counts[INFINITE] += int(infinite.sum())
    if sensor.physical_range is not None:
        low, high = sensor.physical_range
        with np.errstate(invalid="ignore"):
            impossible = ((values < low) | (values > high)).any(1) & (quality <= Quality.WATER)
        quality[impossible] = Quality.MISSING
        counts[IMPOSSIBLE] += int(impossible.sum())
    values[np.broadcast_to((quality > Quality.WATER)[:, None], values.shape)] = np.nan
    return values, quality


def _mask_quality(block: "xr.Dataset", sensor: Sensor, where: str, counts: "Counter[str]") -> np.ndarray:
    """What the block's mask says, (T, H, W) uint8; clear where it has none."""
    mask = next((mask for mask in sensor.masks if mask.variable in block), None)
    if mask is None:
        return np.full(tuple(block.sizes[dim] for dim in ("time", "y", "x")), Quality.CLEAR, np.uint8)
    layer = block[mask.variable].values
    if layer.dtype == bool or not np.issubdtype(layer.dtype, np.number):
        raise UsageError(f"{where}: mask {mask.variable} holds {layer.dtype}, expected its classes or flags as numbers")
    quality = mask.quality(layer)
    holder = {**block[mask.variable].encoding, **block[mask.variable].attrs}
    codes = tuple(code for code in missing_codes(holder, where) if code != 0 or isinstance(mask, ClassMask))
    missing = is_code(layer, codes)
    unknown = mask.unknown(layer) & ~missing
    quality[missing] = Quality.MISSING
    quality[unknown] = Quality.CLOUD
    counts[UNKNOWN_CLASS] += int(unknown.sum())
    return quality


def averaged_power(values: np.ndarray, count: int) -> np.ndarray:
    """Centred rolling mean over `count` acquisitions in linear power, in dB again; (T, C, H, W)."""
    power = 10 ** (values / 10)
    weight = np.isfinite(power).astype(np.float32)
    total = np.nan_to_num(power)
    reach = count // 2
    length = len(values)
    summed, counted = np.zeros_like(total), np.zeros_like(weight)
    for shift in range(-reach, reach + 1):
        into = slice(max(0, -shift), length - max(0, shift))
        out_of = slice(max(0, shift), length - max(0, -shift))
        summed[into] += total[out_of]
        counted[into] += weight[out_of]
    with np.errstate(divide="ignore", invalid="ignore"):
        averaged = 10 * np.log10(summed / counted)
    averaged[weight == 0] = np.nan
    return averaged.astype(np.float32)
