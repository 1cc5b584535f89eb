"""From files and xarray objects to one sensor's measurements: who is who, in which units, and what is valid."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.sensors import Band, Quality, Sensor, known_sensors, sensor_by_name
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

LINEAR_UNITS = ("1", "linear", "linear power", "power")


def recognise(dataset: "xr.Dataset", hint: str | None, where: str) -> "Iterator[tuple[Sensor, xr.Dataset]]":
    """Yield each sensor a dataset holds, with its variables under the declared band names.

    A sensor is known by the caller's word, by the attribute `sensor`, or by its validity layer or band names.
    """
    hint = hint or dataset.attrs.get("sensor")
    if hint is not None:
        candidates = [sensor_by_name(str(hint))]
    else:
        candidates = [s for s in known_sensors() if s.validity is None or s.validity.variable in dataset]
        if not any(_bands_in(sensor, dataset) for sensor in candidates):
            bare = [s for s in known_sensors() if len(_bands_in(s, dataset)) > 1]
            if len(bare) > 1:
                names = " or ".join(sensor.name for sensor in bare)
                raise UsageError(f"{where}: bands of {names}: say which with the attribute sensor='...'")
            candidates = bare
    for sensor in candidates:
        bands = _bands_in(sensor, dataset)
        if not bands:
            continue
        extra = [sensor.validity.variable] if sensor.validity and sensor.validity.variable in dataset else []
        per_date = [str(name) for name, value in dataset.variables.items() if value.dims == ("time",)]
        part = dataset[list(dict.fromkeys([*bands.values(), *extra, *per_date]))]
        part = part.rename({found: name for name, found in bands.items() if found != name})
        yield sensor, _checked(part.assign_attrs(dataset.attrs), sensor, where)


def _bands_in(sensor: Sensor, dataset: "xr.Dataset") -> dict[str, str]:
    """Declared name -> name in the dataset, for the bands that are there."""

    def found(band: Band) -> str | None:
        return next((name for name in (band.name, *band.aliases) if name in dataset), None)

    return {band.name: name for band in sensor.bands if (name := found(band)) is not None}


def _checked(dataset: "xr.Dataset", sensor: Sensor, where: str) -> "xr.Dataset":
    """Dimensions and dates as they must be, merged files cut to the sensor's own dates."""
    bands = [name for name in sensor.band_names if name in dataset]
    for name in bands:
        if set(dataset[name].dims) != {"time", "y", "x"}:
            came = ", ".join(map(str, dataset[name].dims))
            raise UsageError(f"{where}: band {name} has dimensions {came}, expected time, y, x")
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


def measurements(block: "xr.Dataset", sensor: Sensor, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return values (T, C, H, W) in the sensor's units, NaN where unusable, and quality (T, H, W), uint8.

    A band that the block lacks is NaN everywhere and does not make a pixel invalid; a band it has must be there.
    Each entry of time stands for itself: the entries of one overpass are not joined, and no acquisitions averaged.
    """
    present = [name for name in sensor.band_names if name in block]
    count, height, width = (block.sizes[dim] for dim in ("time", "y", "x"))
    values = np.full((count, len(sensor.bands), height, width), np.nan, np.float32)
    for index, name in enumerate(sensor.band_names):
        if name in present:
            values[:, index] = _in_units(block[name], block, sensor, where)
    here = np.array([name in present for name in sensor.band_names])
    if np.isinf(values).any():
        raise UsageError(f"{where}: infinite values in {sensor.title}: replace them by NaN, which means missing")
    if sensor.validity is not None and sensor.validity.variable in block:
        quality = sensor.validity.quality(block[sensor.validity.variable].values)
    else:
        quality = np.full((count, height, width), Quality.CLEAR, np.uint8)
    quality[np.isnan(values[:, here]).any(1)] = Quality.MISSING
    values[np.broadcast_to((quality > Quality.WATER)[:, None], values.shape)] = np.nan
    return values, quality


def _in_units(band: "xr.DataArray", block: "xr.Dataset", sensor: Sensor, where: str) -> np.ndarray:
    """One band as float32 in the sensor's units, NaN where the file has no data."""
    attrs = {**band.encoding, **band.attrs}
    raw = band.values
    fill = [attrs[key] for key in ("_FillValue", "missing_value") if key in attrs]
    is_integer = np.issubdtype(raw.dtype, np.integer)
    if is_integer and not fill:
        fill = [0] if sensor.units == "reflectance" else []
    missing = np.isin(raw, fill) if fill else np.zeros(raw.shape, bool)
    values: np.ndarray = raw.astype(np.float32)
    if "scale_factor" in attrs:
        factor = np.float32(attrs["scale_factor"])
        if "scale_factor" in band.attrs:  # else xarray has applied it already
            values = values * factor + np.float32(attrs.get("add_offset", 0))
        if "add_offset" not in attrs:
            values = values + _baseline_offset(block, sensor, where) * factor
    elif is_integer or str(attrs.get("units", "")).upper() == "DN":
        scale = block.attrs.get("scale", sensor.digital_number_scale)
        if scale is None:
            raise UsageError(f"{where}: band {band.name} holds integers without scale_factor: write one")
        values = (values + _baseline_offset(block, sensor, where)) * np.float32(scale)
    values[missing] = np.nan
    if sensor.units == "dB":
        return _decibel(values, str(attrs.get("units", "")), f"{where}: band {band.name}")
    if np.isfinite(values).any() and np.nanmedian(values) > 1.5:
        raise UsageError(
            f"{where}: band {band.name} has a median of {np.nanmedian(values):g}, expected reflectance as a "
            "fraction: divide by 10000, or write units='DN' where these are digital numbers"
        )
    return values


def _baseline_offset(block: "xr.Dataset", sensor: Sensor, where: str) -> np.ndarray:
    """Digital numbers to add per date, (T, 1, 1): what the products' processing baseline put on top."""
    zero = np.zeros((block.sizes["time"], 1, 1), np.float32)
    if sensor.offset_since_baseline is None or block.attrs.get("boa_offset_applied", False):
        return zero
    baseline = block["processing_baseline"].values if "processing_baseline" in block else None
    if baseline is None:
        baseline = block.attrs.get("processing_baseline")
    if baseline is None:
        return zero
    since, offset = sensor.offset_since_baseline
    try:
        numbers = np.broadcast_to(np.asarray(baseline, dtype=np.float64), (block.sizes["time"],))
    except ValueError as error:
        came = np.atleast_1d(baseline)[0]
        raise UsageError(f"{where}: processing_baseline is {came!s}, expected a number such as 04.00") from error
    return np.where(numbers >= since, np.float32(offset), np.float32(0))[:, None, None].astype(np.float32)


def _decibel(values: np.ndarray, units: str, where: str) -> np.ndarray:
    if units.lower() in LINEAR_UNITS:
        with np.errstate(divide="ignore", invalid="ignore"):
            decibel = 10 * np.log10(np.where(values > 0, values, np.nan))
        return decibel.astype(np.float32)
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() >= 0:
        raise UsageError(
            f"{where} has no negative value (median {np.median(finite):g}), expected backscatter in dB: "
            "convert it with 10 * log10, or write units='linear'"
        )
    return values


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
