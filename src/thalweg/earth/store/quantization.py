"""Quantized encoding of embeddings: integers of 8 or 16 bits on one linear scale.

The scale depends on the number of bits only, not on the data. Blocks are therefore written independently of each
other, and the integers of two stores of one model compare. The first dimension of an embedding has a standard
deviation of about one (`Fusion`).
"""

from typing import Any

import numpy as np

from thalweg.earth.declarations import StorageEncoding
from thalweg.errors import UsageError

BITS = (8, 16)
"""Widths of the encoding."""

_ENCODINGS = {
    8: {
        "embeddings": StorageEncoding(dtype="int8", scale=0.05, fill=-128),
        "uncertainty": StorageEncoding(dtype="uint8", scale=0.02, fill=255),
    },
    16: {
        "embeddings": StorageEncoding(dtype="int16", scale=0.0005, fill=-32768),
        "uncertainty": StorageEncoding(dtype="uint16", scale=0.0002, fill=65535),
    },
}


def check_bits(bits: int | None) -> None:
    """Check the width of an encoding.

    Raises:
        UsageError: It is neither 8 nor 16 nor None (float32).
    """
    if bits is not None and bits not in BITS:
        raise UsageError(f"quantise {bits}: expected 8 or 16 bits (leave it out for float32)")


def quantizations(bits: int | None) -> dict[str, StorageEncoding]:
    """Return the encoding of each quantized variable by its name: embeddings signed, uncertainty unsigned."""
    return {} if bits is None else dict(_ENCODINGS[bits])


def quantize(values: np.ndarray, encoding: StorageEncoding) -> np.ndarray:
    """Return float32 values (any shape) as integers; those out of range are clipped, NaN becomes the fill value."""
    return encoding.to_integers(values / np.float32(encoding.scale), np.isnan(values))


def dequantize(integers: np.ndarray, encoding: StorageEncoding) -> np.ndarray:
    """Return integers (any shape) as float32 values, NaN where they are the fill value."""
    values = integers.astype(np.float32) * np.float32(encoding.scale)
    values[integers == encoding.fill] = np.nan
    return values


def quantization_attributes(encoding: StorageEncoding) -> dict[str, Any]:
    """Return the attributes by which a CF reader (xarray, rioxarray, GDAL) decodes a variable."""
    return {"scale_factor": encoding.scale, "add_offset": encoding.offset}


def quantization_convention(bits: int) -> dict[str, Any]:
    """Return the attribute `geoemb:quantization` of its convention."""
    encoding = quantizations(bits)["embeddings"]
    return {
        "method": "linear",
        "original_dtype": "float32",
        "quantized_dtype": encoding.dtype,
        "scale": {"type": "scalar", "scale": encoding.scale, "offset": encoding.offset},
    }
