"""Decision on the decoding of one sensor's series, from its attributes and a sample of its numbers.

The attributes are checked against the distribution of the numbers, not against single values. An ambiguous series is
refused with a message that names the attribute to write.
"""

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.cube.decoding.band_decoding import BandDecoding, Decoding
from thalweg.earth.cube.decoding.fill_values import fill_values
from thalweg.earth.cube.decoding.offsets import OffsetMetadata, offset_metadata, product_offset
from thalweg.earth.cube.decoding.value_samples import Sample, sample_of
from thalweg.earth.sensors import Sensor
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

DECIBEL_WORDS = {"db", "decibel", "decibels"}
LINEAR_WORDS = {"linear", "power", "natural"}
LINEAR_UNITS = {"1", "m2 m-2", "m2/m2", "m^2/m^2", "m**2 m**-2"}
DIGITAL_UNITS = {"dn", "digital number", "digital numbers", "counts"}

MAX_UINT8 = 255
"""Largest number of an 8-bit image; as a digital number of reflectance it would be 0.0255."""

MAX_BACKSCATTER = 5
"""Largest median backscatter of a scene, in dB or linear power."""

MIN_BRIGHTEST = 0.005
"""Smallest 99th percentile of a scene's reflectance; numbers below it are not reflectance as a fraction."""


def decoding_of(dataset: "xr.Dataset", sensor: Sensor, where: str) -> Decoding:
    """Decide the decoding of a sensor's dataset.

    Args:
        dataset: bands under their declared names, dimensions time, y, x.
        sensor: its declaration.
        where: file or dataset that messages name.

    Raises:
        UsageError: attributes contradict the numbers or each other, or the numbers can be more than one thing.
    """
    stated = stated_decoding(dataset, sensor, where)
    return decide(stated, sample_of(dataset, stated), dataset, sensor, where)


def stated_decoding(dataset: "xr.Dataset", sensor: Sensor, where: str) -> Decoding:
    """Return the decoding of each band by its attributes alone.

    Raises:
        UsageError: the attributes contradict each other or are not sufficient.
    """
    return {name: _band_decoding(dataset, name, sensor, where) for name in sensor.band_names if name in dataset}


def decide(stated: Decoding, sample: Sample, dataset: "xr.Dataset", sensor: Sensor, where: str) -> Decoding:
    """Check the decoding by the attributes against a sample, and decide between dB and linear power.

    Args:
        stated: decoding by the attributes.
        sample: sample of the dataset.
        dataset: bands under their declared names.
        sensor: its declaration.
        where: file or dataset that messages name.

    Raises:
        UsageError: the numbers contradict the attributes, or the decoding is ambiguous.
    """
    if sensor.units == "dB":
        return {name: _backscatter(band, sample, dataset[name], sensor, where) for name, band in stated.items()}
    _check_reflectance(stated, sample, sensor, where)
    return stated


def _band_decoding(dataset: "xr.Dataset", name: str, sensor: Sensor, where: str) -> BandDecoding:
    """Return a band's decoding by its attributes, with the removal of the products' offset."""
    band = dataset[name]
    here = f"{where}: band {name}"
    is_integer = bool(np.issubdtype(band.dtype, np.integer))
    missing = _fill_values_in_memory(dataset, band, here)
    is_digital = sensor.units == "reflectance" and (is_integer or units_of(band) in DIGITAL_UNITS)
    if is_digital and not missing:
        missing = (0.0,)
    factor = _attribute(band, ("scale_factor", "scale", "scales", "raster:scale"), 1.0, here)
    offset = _attribute(band, ("add_offset", "offset", "offsets", "raster:offset"), 0.0, here)
    if factor in (None, 1):
        if is_digital:
            return _digital_numbers(dataset, band, sensor, here, missing, offset or None)
        return BandDecoding(missing, offset=np.float32(offset) if offset else None)
    assert factor is not None
    after = _offset_in_units(dataset, band, sensor, here, factor, offset)
    if "scale_factor" in band.encoding and "scale_factor" not in band.attrs:  # xarray has applied it already
        return BandDecoding(missing, after=after)
    return BandDecoding(missing, factor=np.float32(factor), offset=np.float32(offset or 0), after=after)


def _fill_values_in_memory(dataset: "xr.Dataset", band: "xr.DataArray", where: str) -> tuple[float, ...]:
    """Return the fill values as they appear in the numbers in memory."""
    codes = fill_values({**dataset.attrs, **band.attrs}, where)
    packed = fill_values({**dataset.encoding, **band.encoding}, where)
    if "scale_factor" in band.encoding and "scale_factor" not in band.attrs:
        # xarray has scaled the numbers, and with them fill values that are in attributes it does not know
        factor, offset = float(band.encoding["scale_factor"]), float(band.encoding.get("add_offset", 0))
        return (*codes, *(code * factor + offset for code in codes))
    return tuple(dict.fromkeys((*packed, *codes)))


def units_of(band: "xr.DataArray") -> str:
    """Return the units by a band's attributes, in lower case."""
    units = band.attrs.get("units", band.encoding.get("units", ""))
    if isinstance(units, bytes):
        units = units.decode(errors="replace")
    return " ".join(str(units).lower().split())


def _attribute(band: "xr.DataArray", names: tuple[str, ...], neutral: float, where: str) -> float | None:
    """Return the number in one of several attributes; a neutral number counts only if no other is given."""
    found: dict[str, float] = {}
    for name in names:
        value = band.attrs.get(name, band.encoding.get(name))
        if value is None:
            continue
        try:
            (found[name],) = {float(number) for number in np.ravel(np.asarray(value, dtype=object))}
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where}: {name} is {value!s:.40}, expected one number") from error
        if not np.isfinite(found[name]):
            raise UsageError(f"{where}: {name} is {value!s:.40}, expected a finite number")
    effective = {number for number in found.values() if number != neutral}
    if len(effective) > 1:
        both = " and ".join(f"{name} {number:g}" for name, number in found.items())
        raise UsageError(f"{where}: {both}: remove the wrong one")
    return effective.pop() if effective else (neutral if found else None)


def offset_metadata_of(dataset: "xr.Dataset", where: str, band: "xr.DataArray | None" = None) -> OffsetMetadata:
    """Read the metadata on the products' offset from attributes, scalars and variables over time.

    Args:
        dataset: dataset with a dimension time.
        where: name of the dataset in messages.
        band: band whose own attributes count, too.

    Raises:
        UsageError: a value that cannot be read, or metadata that contradict each other.
    """
    facts: list[tuple[str, Any]] = []
    for holder in (dataset.attrs, dataset.encoding, *((band.attrs, band.encoding) if band is not None else ())):
        facts.extend((str(key), value) for key, value in holder.items())
    for key, variable in dataset.variables.items():
        if variable.dims in ((), ("time",)) and key != "time":
            facts.append((str(key), variable.values))
    return offset_metadata(facts, dataset.sizes["time"], where)


def _dates(dataset: "xr.Dataset") -> np.ndarray:
    dates: np.ndarray = dataset.time.values.astype("datetime64[ns]")
    return dates


def _by_date(offsets: np.ndarray) -> np.ndarray | None:
    """Return offsets (T,) as (T, 1, 1), None if all are 0."""
    return offsets[:, None, None] if offsets.any() else None


def _offset_in_units(
    dataset: "xr.Dataset", band: "xr.DataArray", sensor: Sensor, where: str, factor: float, offset: float | None
) -> np.ndarray | None:
    """Return the offset to add to a band's scaled values per date, None if the scaling removes the products' offset."""
    if sensor.offset_since_baseline is None:
        return None
    metadata = offset_metadata_of(dataset, where, band)
    since, products = sensor.offset_since_baseline
    scale = sensor.digital_number_scale or factor
    if offset is not None and np.isclose(offset, products * scale, rtol=1e-3):
        if (metadata.applied == 1).any():
            raise UsageError(
                f"{where}: add_offset {offset:g} says that the products' offset is still in the numbers, "
                "boa_offset_applied that it is removed: correct the wrong one"
            )
        return None
    if (
        offset is not None
        and ((metadata.baseline >= since) & np.isnan(metadata.applied) & np.isnan(metadata.given)).any()
    ):
        raise UsageError(
            f"{where}: add_offset {offset:g} leaves the products' offset of processing baseline "
            f"{np.nanmax(metadata.baseline):05.2f} in the numbers: write boa_offset_applied (1 if it is already "
            "removed, else 0)"
        )
    # a scaling with its own offset counts as complete, unless a flag says that the products' offset remains
    stated = None if offset is None or (metadata.applied == 0).any() else 0.0
    resolved = product_offset(metadata, sensor, _dates(dataset), where, stated)
    return _by_date(resolved * np.float32(scale))


def _digital_numbers(
    dataset: "xr.Dataset",
    band: "xr.DataArray",
    sensor: Sensor,
    where: str,
    missing: tuple[float, ...],
    offset: float | None,
) -> BandDecoding:
    """Return the decoding of a product's digital numbers into reflectance."""
    factor, fixed = _product_scaling(dataset, sensor, where)
    if offset is not None and abs(offset) < 1:  # given in units, as STAC does
        offset = round(offset / factor, 3)
    metadata = offset_metadata_of(dataset, where, band)
    before = _by_date(product_offset(metadata, sensor, _dates(dataset), where, offset))
    return BandDecoding(
        missing,
        before=before,
        factor=np.float32(factor),
        offset=np.float32(fixed) if fixed else None,
        is_digital=True,
    )


def _product_scaling(dataset: "xr.Dataset", sensor: Sensor, where: str) -> tuple[float, float]:
    """Return the scale factor and offset from digital numbers to the sensor's units."""
    stated = dataset.attrs.get("scale")
    if stated is not None:
        try:
            if float(stated) != 1:
                return float(stated), 0.0
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where}: the attribute scale is {stated!s:.40}, expected one number") from error
    mask = next((mask for mask in sensor.masks if mask.variable in dataset), None)
    scaling = sensor.digital_number_scaling(mask)
    if scaling is None:
        raise UsageError(
            f"{where} holds integers without the factor and offset that convert them to {sensor.units}: "
            "write scale_factor and add_offset"
        )
    return scaling


def _backscatter(band: BandDecoding, sample: Sample, data: "xr.DataArray", sensor: Sensor, where: str) -> BandDecoding:
    """Decide between dB and linear power, by the units if the distribution allows them."""
    units = units_of(data)
    words = set(re.findall("[a-z]+", units))
    is_linear = units in LINEAR_UNITS or bool(words & LINEAR_WORDS)
    stated = "dB" if words & DECIBEL_WORDS else "linear" if is_linear else None
    values = sample.values(str(data.name), band)
    values = values[(values != 0) & (values > -999)]  # NaN compares false
    smallest, largest = sensor.physical_range or (-np.inf, np.inf)
    possible = values[(values >= smallest) & (values <= largest)]
    if len(possible) >= len(values) / 2:
        values = possible  # the others are undeclared fill values
    if not len(values):
        return replace(band, is_linear=stated == "linear")
    low, middle, high = (float(part) for part in np.quantile(values, (0.05, 0.5, 0.95)))
    found = (
        f"{where}: band {data.name} has a median of {middle:.3g}, 90 % of its values between {low:.3g} and {high:.3g}"
    )
    if middle > MAX_BACKSCATTER or middle < smallest:
        raise UsageError(
            f"{found}: these are digital numbers or amplitudes, expected backscatter in dB or linear power: calibrate "
            "them to sigma0 or gamma0, or write the scale_factor they are packed with"
        )
    can_be_linear = low > -0.1
    is_surely_decibel = middle < -1 and low < -2
    if stated == "linear" and can_be_linear:
        return replace(band, is_linear=True)
    if (is_surely_decibel and stated != "linear") or (stated == "dB" and not can_be_linear):
        return band
    advice = "units='dB'" if is_surely_decibel else "units='linear'" if can_be_linear else "units='dB'"
    although = f", although its units are {units!r}" if stated else ""
    raise UsageError(f"{found}{although}: expected backscatter in dB: convert it with 10 * log10, or write {advice}")


def _check_reflectance(decoding: Decoding, sample: Sample, sensor: Sensor, where: str) -> None:
    """Refuse numbers that are not reflectance as a fraction: digital numbers, percent, 8-bit images."""
    values = {name: sample.values(name, band) for name, band in decoding.items()}
    values = {name: found[np.isfinite(found)] for name, found in values.items()}
    if not sum(map(len, values.values())):
        return
    for name, found in values.items():
        if len(found) and (median := float(np.median(found))) > 1.5:
            raise UsageError(
                f"{where}: band {name} has a median of {median:g}, expected reflectance as a fraction: divide by 10000 "
                "(percent by 100), or write units='DN' if these are digital numbers"
            )
    largest = max(float(np.abs(numbers).max()) for numbers in sample.numbers.values())
    if all(band.is_digital for band in decoding.values()) and largest <= MAX_UINT8:
        raise UsageError(
            f"{where}: the digital numbers of {sensor.title} reach {largest:g}, expected about 10000 for a reflectance "
            "of 1: give reflectance, not an 8-bit image or percent, or write the scale_factor"
        )
    brightest = max(float(np.quantile(found, 0.99)) for found in values.values() if len(found))
    if brightest < MIN_BRIGHTEST:
        raise UsageError(
            f"{where}: 99 % of the values of every band of {sensor.title} are below {brightest:.2g}, expected "
            "reflectance as a fraction (0 to 1): they may have been scaled twice"
        )
