"""Embeddings as small integers: one linear scale for every store, a code that means "nothing here", and the loss.

The scale is fixed by the number of bits, not by the data, so that blocks are written independently and the codes of
two stores of one model compare. An embedding's first value has a standard deviation of about one (`Fusion`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import UsageError

if TYPE_CHECKING:
    from thalweg.earth.inference.job import Job

BITS = (8, 16)
"""Widths a code can have."""

_STEPS = {8: {"embeddings": 0.05, "uncertainty": 0.02}, 16: {"embeddings": 0.0005, "uncertainty": 0.0002}}
_ENOUGH = 200


@dataclass(frozen=True)
class Quantization:
    """How one variable's numbers become codes: `value = code * step`; `missing` is the code of NaN."""

    step: float
    dtype: np.dtype
    missing: int

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and largest code of a number."""
        bounds = np.iinfo(self.dtype)
        return (bounds.min + 1, bounds.max) if bounds.min else (0, bounds.max - 1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Numbers (any shape) to codes; beyond the range they are clipped, NaN becomes `missing`."""
        codes = np.clip(np.rint(values / np.float32(self.step)), *self.limits)
        return np.where(np.isnan(values), self.missing, np.nan_to_num(codes)).astype(self.dtype)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes back to float32 numbers, NaN where missing."""
        values = codes.astype(np.float32) * np.float32(self.step)
        values[codes == self.missing] = np.nan
        return values

    @property
    def attributes(self) -> dict[str, Any]:
        """What a CF reader (xarray, rioxarray, GDAL) needs to decode by itself."""
        return {"scale_factor": self.step, "add_offset": 0.0}


def check_bits(bits: int | None) -> None:
    """Raise `UsageError` where `bits` is neither 8 nor 16 nor None."""
    if bits is not None and bits not in BITS:
        raise UsageError(f"quantise {bits}: expected 8 or 16 bits (leave it out for float32)")


def quantizations(bits: int | None) -> dict[str, Quantization]:
    """The variables of a store that hold codes: embeddings signed, uncertainty unsigned."""
    if bits is None:
        return {}
    steps = _STEPS[bits]
    signed, unsigned = np.dtype(f"int{bits}"), np.dtype(f"uint{bits}")
    return {
        "embeddings": Quantization(steps["embeddings"], signed, int(np.iinfo(signed).min)),
        "uncertainty": Quantization(steps["uncertainty"], unsigned, int(np.iinfo(unsigned).max)),
    }


def convention(bits: int) -> dict[str, Any]:
    """The quantization object of the `geoemb:` convention."""
    coding = quantizations(bits)["embeddings"]
    return {
        "method": "linear",
        "original_dtype": "float32",
        "quantized_dtype": coding.dtype.name,
        "scale": {"type": "scalar", "scale": coding.step, "offset": 0.0},
    }


@dataclass(frozen=True)
class Loss:
    """What quantisation costs, measured on one block.

    Attributes:
        probe: relative loss of the R2 of a linear probe that reads the picture's colours from the vectors; fitted
            on the block's left half, scored on its right half.
        clipped: share of the numbers beyond the codes' range.
    """

    probe: float
    clipped: float


def measure_loss(job: "Job") -> Loss:
    """Embed the block nearest the middle that has enough vectors, and compare it with what its codes say.

    Raises:
        UsageError: the job does not quantise.
    """
    from thalweg.earth.inference.job import embed_block

    if job.quantise is None:
        raise UsageError("this job does not quantise: choose 8 or 16 bits")
    coding = quantizations(job.quantise)["embeddings"]
    windows = job.windows()
    for index in sorted(range(len(windows)), key=lambda index: abs(index - len(windows) // 2)):
        block = embed_block(job, windows[index])
        usable = np.isfinite(block.embeddings).all(1)
        halves = np.arange(usable.shape[-1]) < usable.shape[-1] // 2
        if min((usable & halves).sum(), (usable & ~halves).sum()) >= _ENOUGH:
            break
    exact = np.moveaxis(block.embeddings, 1, -1)
    coded = coding.decode(coding.encode(exact))
    colours = np.moveaxis(block.picture, 1, -1).astype(np.float64)
    first, second = usable & halves, usable & ~halves
    raw, quantised = (
        _score(vectors[first], colours[first], vectors[second], colours[second]) for vectors in (exact, coded)
    )
    beyond = np.abs(exact[usable]) > (coding.limits[1] + 0.5) * coding.step
    return Loss(probe=(raw - quantised) / abs(raw), clipped=float(beyond.mean()))


def _score(vectors: np.ndarray, targets: np.ndarray, unseen: np.ndarray, truth: np.ndarray) -> float:
    """R2 over all colours of a linear probe fitted on vectors (N, K) and targets (N, 3)."""

    def with_one(rows: np.ndarray) -> np.ndarray:
        return np.column_stack([rows, np.ones(len(rows))])

    weights = np.linalg.lstsq(with_one(vectors), targets, rcond=None)[0]
    residual = ((with_one(unseen) @ weights - truth) ** 2).sum()
    return float(1 - residual / ((truth - truth.mean(0)) ** 2).sum())
