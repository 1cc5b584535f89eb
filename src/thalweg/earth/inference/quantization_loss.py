"""Loss of information by the quantized encoding, measured on one block of a job."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from thalweg.earth.inference.compute import embed_block
from thalweg.earth.inference.job import Job
from thalweg.earth.sensors import Quality
from thalweg.earth.store.quantization import dequantize, quantizations, quantize
from thalweg.errors import UsageError

MIN_VECTORS = 200
"""Smallest number of embeddings in each half of the block on which the loss is measured."""


@dataclass(frozen=True)
class QuantizationLoss:
    """Loss by the quantized encoding.

    Attributes:
        probe: relative loss in R2 of a linear probe that predicts the RGB preview from the embeddings; fitted on the
            left half of the block, scored on its right half; NaN if the block shows no clear pixel in one of them.
        clipped: fraction of the numbers beyond the range of the encoding.
    """

    probe: float
    clipped: float


def measure_loss(job: Job) -> QuantizationLoss:
    """Embed the block nearest to the middle that has enough embeddings, and compare it with its quantized encoding.

    Raises:
        UsageError: The job has no quantized encoding.
    """
    if job.quantize is None:
        raise UsageError("this job is not quantized: choose 8 or 16 bits")
    encoding = quantizations(job.quantize)["embeddings"]
    for index in _from_the_middle(job.block_count):
        block = embed_block(job, job.window(index))
        has_embedding = np.isfinite(block.embeddings).all(1)
        usable = has_embedding & (block.quality <= Quality.WATER)  # the pixels of the preview
        is_left = np.arange(usable.shape[-1]) < usable.shape[-1] // 2
        if min((usable & is_left).sum(), (usable & ~is_left).sum()) >= MIN_VECTORS:
            break
    exact = np.moveaxis(block.embeddings, 1, -1)
    decoded = dequantize(quantize(exact, encoding), encoding)
    colours = np.moveaxis(block.preview, 1, -1).astype(np.float64)
    left, right = usable & is_left, usable & ~is_left
    loss = np.nan
    if left.any() and right.any():
        exact_r2, quantized_r2 = (
            _probe_r2(vectors[left], colours[left], vectors[right], colours[right]) for vectors in (exact, decoded)
        )
        loss = (exact_r2 - quantized_r2) / abs(exact_r2)
    is_clipped = np.abs(exact[has_embedding]) > (encoding.limits[1] + 0.5) * encoding.scale
    return QuantizationLoss(probe=float(loss), clipped=float(is_clipped.mean()) if is_clipped.size else 0.0)


def _from_the_middle(count: int) -> Iterator[int]:
    """Yield the indices below `count`, nearest to the middle first."""
    middle = count // 2
    yield middle
    for distance in range(1, middle + 1):
        yield middle - distance
        if middle + distance < count:
            yield middle + distance


def _probe_r2(vectors: np.ndarray, targets: np.ndarray, new_vectors: np.ndarray, new_targets: np.ndarray) -> float:
    """Return the R2 over all targets of a linear probe on new data.

    Args:
        vectors: float (N, K), to fit the probe.
        targets: float (N, 3), to fit the probe.
        new_vectors: float (M, K).
        new_targets: float (M, 3).
    """

    def with_constant(rows: np.ndarray) -> np.ndarray:
        return np.column_stack([rows, np.ones(len(rows))])

    weights = np.linalg.lstsq(with_constant(vectors), targets, rcond=None)[0]
    residual = ((with_constant(new_vectors) @ weights - new_targets) ** 2).sum()
    return float(1 - residual / ((new_targets - new_targets.mean(0)) ** 2).sum())
