"""Quantized encoding of embeddings: integers of 8 or 16 bits on one linear scale.

The scale depends on the number of bits only, not on the data. Blocks are therefore written independently of each
other, and the integers of two stores of one model compare. The first dimension of an embedding has a standard
deviation of about one (`Fusion`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.errors import UsageError

BITS = (8, 16)
"""Widths of the encoding."""

_STEPS = {8: {"embeddings": 0.05, "uncertainty": 0.02}, 16: {"embeddings": 0.0005, "uncertainty": 0.0002}}


@dataclass(frozen=True)
class Quantization:
    """Linear encoding of one variable: `value = integer * step`.

    Attributes:
        step: difference between two neighbouring values.
        dtype: type of the integers.
        fill_value: integer that stands for NaN.
    """

    step: float
    dtype: np.dtype
    fill_value: int

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer that stand for a number."""
        bounds = np.iinfo(self.dtype)
        return (bounds.min + 1, bounds.max) if bounds.min else (0, bounds.max - 1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return numbers of any shape as integers; those out of range are clipped, NaN becomes `fill_value`."""
        integers = np.clip(np.rint(values / np.float32(self.step)), *self.limits)
        return np.where(np.isnan(values), self.fill_value, np.nan_to_num(integers)).astype(self.dtype)

    def decode(self, integers: np.ndarray) -> np.ndarray:
        """Return integers of any shape as float32 numbers, NaN where they are `fill_value`."""
        values = integers.astype(np.float32) * np.float32(self.step)
        values[integers == self.fill_value] = np.nan
        return values

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes by which a CF reader (xarray, rioxarray, GDAL) decodes the variable."""
        return {"scale_factor": self.step, "add_offset": 0.0}


def check_bits(bits: int | None) -> None:
    """Check the width of an encoding.

    Raises:
        UsageError: It is neither 8 nor 16 nor None (float32).
    """
    if bits is not None and bits not in BITS:
        raise UsageError(f"quantise {bits}: expected 8 or 16 bits (leave it out for float32)")


def quantizations(bits: int | None) -> dict[str, Quantization]:
    """Return the encoding of each quantized variable by its name: embeddings signed, uncertainty unsigned."""
    if bits is None:
        return {}
    steps = _STEPS[bits]
    signed, unsigned = np.dtype(f"int{bits}"), np.dtype(f"uint{bits}")
    return {
        "embeddings": Quantization(steps["embeddings"], signed, int(np.iinfo(signed).min)),
        "uncertainty": Quantization(steps["uncertainty"], unsigned, int(np.iinfo(unsigned).max)),
    }


def quantization_attribute(bits: int) -> dict[str, Any]:
    """Return the attribute `geoemb:quantization` of its convention."""
    encoding = quantizations(bits)["embeddings"]
    return {
        "method": "linear",
        "original_dtype": "float32",
        "quantized_dtype": encoding.dtype.name,
        "scale": {"type": "scalar", "scale": encoding.step, "offset": 0.0},
    }
