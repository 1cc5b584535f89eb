"""How measurements are stored: integers with a factor and an offset, one coding a sensor."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.earth.sensors import REFLECTANCE_RANGE, Sensor


@dataclass(frozen=True)
class StorageEncoding:
    """Integers that stand for a sensor's values: value = number * factor + offset.

    Attributes:
        dtype: type of the numbers.
        factor: step of the values, in the sensor's units.
        offset: value of the number 0, in the sensor's units.
        fill: number that stands for no data.
        units: units of the values.
    """

    dtype: str
    factor: float
    offset: float
    fill: int
    units: str

    @property
    def attributes(self) -> dict[str, Any]:
        """CF attributes that say it to a reader."""
        return {
            "_FillValue": self.fill,
            "scale_factor": self.factor,
            "add_offset": self.offset,
            "units": self.units,
            "grid_mapping": "spatial_ref",
        }

    def stored(self, raw: np.ndarray, nodata: float, factor: float, offset: float) -> np.ndarray:
        """Numbers of a file with its own no data, factor and offset, in this coding (any shape)."""
        values = raw.astype(np.float64) * (factor / self.factor) + (offset - self.offset) / self.factor
        return self._as_numbers(values, ~np.isfinite(values) | (raw == nodata) | (values < self._lowest))

    @property
    def _lowest(self) -> float:
        """Number below which values of this coding are no measurement, but a code for no data that nobody declared."""
        return (REFLECTANCE_RANGE[0] - self.offset) / self.factor

    def stored_power(self, power: np.ndarray) -> np.ndarray:
        """Backscatter in linear power, in this coding of dB; what is not positive is no data (any shape)."""
        there = (power > 0) & np.isfinite(power)
        decibel = 10 * np.log10(np.where(there, power, 1.0))
        return self._as_numbers((decibel - self.offset) / self.factor, ~there)

    def _as_numbers(self, values: np.ndarray, missing: np.ndarray) -> np.ndarray:
        limits = np.iinfo(self.dtype)
        low = limits.min + 1 if self.fill == limits.min else limits.min
        low = max(low, self.fill + 1) if self.fill >= low else low
        numbers = np.rint(np.clip(np.nan_to_num(values), low, limits.max)).astype(self.dtype)
        numbers[missing] = self.fill
        return numbers


REFLECTANCE = StorageEncoding("int16", 1e-4, 0.0, -32768, "1")
"""Down to -3.2767, so that what an offset takes below zero is kept."""

BACKSCATTER = StorageEncoding("int16", 0.01, 0.0, -32768, "dB")

LANDSAT = StorageEncoding("uint16", 2.75e-5, -0.2, 0, "1")
"""As the products of Landsat Collection 2 level 2 have it: their numbers are kept."""


def storage_encoding_of(sensor: Sensor) -> StorageEncoding:
    """The coding of a sensor's bands."""
    if sensor.units == "dB":
        return BACKSCATTER
    return LANDSAT if sensor.name == "landsat-8" else REFLECTANCE


@dataclass(frozen=True)
class Layer:
    """A layer of classes or flags, stored as the sensor's declaration reads it."""

    dtype: str
    fill: int

    def empty(self, shape: tuple[int, int]) -> np.ndarray:
        """The layer where nothing was seen."""
        return np.full(shape, self.fill, self.dtype)

    def stored(self, raw: np.ndarray) -> np.ndarray:
        """A file's numbers as they are stored (any shape); those that the type cannot hold are no data."""
        limits = np.iinfo(self.dtype)
        held = (raw >= limits.min) & (raw <= limits.max)  # False where NaN
        return np.where(held, raw, self.fill).astype(self.dtype)


class LandsatQuality(Layer):
    """`qa_pixel` of Landsat Collection 2 in the bits of Collection 1's `pixel_qa`, which the declaration reads."""

    def stored(self, raw: np.ndarray) -> np.ndarray:
        """See `collection_1_quality`."""
        return collection_1_quality(np.where((raw >= 0) & (raw <= np.iinfo(self.dtype).max), raw, 0))


def collection_1_quality(qa_pixel: np.ndarray) -> np.ndarray:
    """Say Landsat Collection 2's `qa_pixel` in the bits of Collection 1's `pixel_qa` (any shape, uint16).

    Collection 2: 0 fill, 1 dilated cloud, 2 cirrus, 3 cloud, 4 cloud shadow, 5 snow, 6 clear, 7 water, 8-9 cloud
    confidence, 14-15 cirrus confidence. Collection 1: 0 fill, 1 clear, 2 water, 3 cloud shadow, 4 snow, 5 cloud,
    6-7 cloud confidence, 8-9 cirrus confidence; of clear, water, shadow, snow and cloud a pixel is one.
    (USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide; Landsat 8 Surface Reflectance Code Product
    Guide.)
    """
    bits = qa_pixel.astype(np.uint16)

    def bit(position: int) -> np.ndarray:
        return (bits >> position) & 1 == 1

    state = np.select(
        [bit(1) | bit(3), bit(4), bit(5), bit(7)],
        [np.uint16(1 << 5), np.uint16(1 << 3), np.uint16(1 << 4), np.uint16(1 << 2)],
        np.uint16(1 << 1),
    )
    cloud, cirrus = (bits >> 8) & 3, (bits >> 14) & 3
    quality = state | (cloud << 6) | (cirrus << 8)
    return np.where(bit(0) | (bits == 0), np.uint16(1), quality).astype(np.uint16)


LAYERS = {"SCL": Layer("uint8", 0), "pixel_qa": LandsatQuality("uint16", 1)}


def layer_codes(name: str) -> Layer:
    """How a sensor's validity layer is stored."""
    return LAYERS.get(name, Layer("uint16", 0))


def date_bytes(sensor: Sensor, shape: tuple[int, int]) -> int:
    """Size of a date of some rows and columns, all bands and the validity layer, before compression."""
    layer = np.dtype(layer_codes(sensor.validity.variable).dtype).itemsize if sensor.validity else 0
    return int(shape[0] * shape[1]) * (len(sensor.bands) * np.dtype(storage_encoding_of(sensor).dtype).itemsize + layer)
