"""Encoding of measurements and masks as the integers that a fetched store holds.

The encodings themselves are part of a sensor's declaration (`StorageEncoding`, `MaskEncoding`).
"""

from typing import Any

import numpy as np

from thalweg.earth.sensors import MaskEncoding, Sensor, StorageEncoding


def storage_attributes(storage: StorageEncoding, units: str) -> dict[str, Any]:
    """Return the CF attributes from which a reader decodes a band.

    Args:
        storage: encoding of the band.
        units: units of the decoded values, `1` for a fraction.
    """
    return {
        "_FillValue": storage.fill,
        "scale_factor": storage.scale,
        "add_offset": storage.offset,
        "units": units,
        "grid_mapping": "spatial_ref",
    }


def empty_array(storage: StorageEncoding | MaskEncoding, shape: tuple[int, int]) -> np.ndarray:
    """Return an array (rows, columns) that holds no data, in the dtype of the encoding."""
    return np.full(shape, storage.fill, storage.dtype)


def encode_numbers(
    raw: np.ndarray,
    nodata: float,
    scale: float,
    offset: float,
    storage: StorageEncoding,
    smallest: float = -np.inf,
) -> np.ndarray:
    """Convert a file's numbers to a store's.

    Args:
        raw: numbers of the file (any shape, any numeric dtype).
        nodata: number that stands for no data in the file.
        scale: scale of the file: value = number * scale + offset.
        offset: offset of the file, in the sensor's units.
        storage: encoding of the store.
        smallest: value in the sensor's units below which a number is no measurement but an undeclared no-data code.

    Returns:
        Numbers of the store (same shape, dtype of `storage`), its fill value where there is no data.
    """
    numbers = raw.astype(np.float64) * (scale / storage.scale) + (offset - storage.offset) / storage.scale
    too_small = numbers < (smallest - storage.offset) / storage.scale
    return storage.to_integers(numbers, ~np.isfinite(numbers) | (raw == nodata) | too_small)


def encode_power(power: np.ndarray, storage: StorageEncoding) -> np.ndarray:
    """Convert backscatter in linear power to a store's numbers of dB.

    Args:
        power: linear power (any shape, float); what is not positive is no data.
        storage: encoding of the store, of values in dB.

    Returns:
        Numbers of the store (same shape, dtype of `storage`), its fill value where there is no data.
    """
    has_data = (power > 0) & np.isfinite(power)
    decibel = 10 * np.log10(np.where(has_data, power, 1.0))
    return storage.to_integers((decibel - storage.offset) / storage.scale, ~has_data)


def encode_mask(raw: np.ndarray, storage: MaskEncoding) -> np.ndarray:
    """Convert a file's classes or flags (any shape) to the store's dtype; what that dtype cannot hold is no data."""
    limits = np.iinfo(storage.dtype)
    fits = (raw >= limits.min) & (raw <= limits.max)  # False where NaN
    return np.where(fits, raw, storage.fill).astype(storage.dtype)


def date_bytes(sensor: Sensor, shape: tuple[int, int]) -> int:
    """Return the size in bytes, before compression, of all bands and the mask of one date (rows, columns)."""
    encodings: list[StorageEncoding | MaskEncoding] = [sensor.storage_of(name) for name in sensor.band_names]
    if sensor.validity is not None:
        encodings.append(sensor.validity.storage)
    return int(shape[0] * shape[1]) * sum(np.dtype(encoding.dtype).itemsize for encoding in encodings)
