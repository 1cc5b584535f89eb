"""Decoding of a block of one sensor's dataset into values in the sensor's units and a quality per pixel."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.decoding.band_decoding import Decoding
from thalweg.earth.cube.decoding.fill_values import fill_values, is_fill_value
from thalweg.earth.cube.decoding.series_decoding import decoding_of
from thalweg.earth.cube.decoding.value_samples import all_zero
from thalweg.earth.sensors import ClassMask, Quality, Sensor
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

INFINITE, IMPOSSIBLE, UNKNOWN_CLASS = "infinite", "impossible", "unknown class"
"""Kinds of values that `decode_block` masks and counts."""


def decode_block(
    block: "xr.Dataset",
    sensor: Sensor,
    where: str,
    decoding: Decoding | None = None,
    counts: "Counter[str] | None" = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Decode a block of a sensor's dataset.

    A band that the block lacks is NaN everywhere and does not make a pixel invalid; a pixel that lacks a value of a
    band that the block has is invalid. Entries of one overpass are not joined, and dates are not averaged.

    Args:
        block: bands and mask under their declared names, dimensions time, y, x.
        sensor: its declaration.
        where: file or dataset that messages name.
        decoding: decoding of the series; None to decide it from the block alone.
        counts: counter to which the pixels masked because of their values are added, by kind.

    Returns:
        Values (T, C, H, W) float32 in the sensor's units, NaN where unusable, and quality (T, H, W) uint8.

    Raises:
        UsageError: the mask does not hold numbers, or the decoding cannot be decided.
    """
    decoding = decoding_of(block, sensor, where) if decoding is None else decoding
    counts = Counter() if counts is None else counts
    present = [name for name in sensor.band_names if name in block]
    count, height, width = (block.sizes[dim] for dim in ("time", "y", "x"))
    values = np.full((count, len(sensor.bands), height, width), np.nan, np.float32)
    for index, name in enumerate(sensor.band_names):
        if name in present:
            values[:, index] = decoding[name].values(block[name].values)
    is_present = np.array([name in present for name in sensor.band_names])
    quality = _mask_quality(block, sensor, where, counts)
    infinite = np.isinf(values).any(1)
    missing = np.isnan(values[:, is_present]).any(1) | all_zero([block[name].values for name in present]) | infinite
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
    """Return the quality by the block's mask, (T, H, W) uint8; clear where there is no mask."""
    mask = next((mask for mask in sensor.masks if mask.variable in block), None)
    if mask is None:
        return np.full(tuple(block.sizes[dim] for dim in ("time", "y", "x")), Quality.CLEAR, np.uint8)
    layer = block[mask.variable].values
    if layer.dtype == bool or not np.issubdtype(layer.dtype, np.number):
        raise UsageError(f"{where}: mask {mask.variable} holds {layer.dtype}, expected its classes or flags as numbers")
    quality = mask.quality(layer)
    attributes = {**block[mask.variable].encoding, **block[mask.variable].attrs}
    codes = tuple(v for v in fill_values(attributes, where) if v != 0 or isinstance(mask, ClassMask))
    missing = is_fill_value(layer, codes)
    unknown = mask.unknown(layer) & ~missing
    quality[missing] = Quality.MISSING
    quality[unknown] = Quality.CLOUD
    counts[UNKNOWN_CLASS] += int(unknown.sum())
    return quality


def average_power(values: np.ndarray, count: int) -> np.ndarray:
    """Return the centred rolling mean of backscatter over time, taken in linear power.

    Args:
        values: backscatter in dB, (T, C, H, W), NaN where unusable.
        count: number of dates that are averaged.

    Returns:
        Backscatter in dB, float32 (T, C, H, W), NaN where the input is.
    """
    power = 10 ** (values / 10)
    weight = np.isfinite(power).astype(np.float32)
    total = np.nan_to_num(power)
    reach = count // 2
    length = len(values)
    summed, counted = np.zeros_like(total), np.zeros_like(weight)
    for shift in range(-reach, reach + 1):
        target = slice(max(0, -shift), length - max(0, shift))
        source = slice(max(0, shift), length - max(0, -shift))
        summed[target] += total[source]
        counted[target] += weight[source]
    with np.errstate(divide="ignore", invalid="ignore"):
        averaged = 10 * np.log10(summed / counted)
    averaged[weight == 0] = np.nan
    return averaged.astype(np.float32)
