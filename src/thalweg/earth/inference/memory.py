"""Memory, bounded: from a stated budget to blocks, dates at once and workers that keep to it.

The estimate counts the largest arrays alive at once; its factors were set by measuring peaks (docs/scale.md).
"""

import re
from dataclasses import dataclass, replace

from thalweg.earth.inference.job import Job
from thalweg.earth.model.context import HALO
from thalweg.errors import UsageError

PROCESS = 550 * 2**20
"""Bytes of a process before its first block: the interpreter, its libraries, the model and the cube's index."""

SIDES = (64, 48, 32, 16)
DATES = (16, 8, 4)
"""Blocks and dates at once that are tried; fewer dates would look at every frame over and over."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_READING, _FRAMES, _SAMPLES, _OUTPUT = 7, 110, 5, 5
_FLOAT = 4


def parse_size(text: str) -> int:
    """Bytes of a size such as 4GB, 512MB, 1.5GiB or 2000000000; `UsageError` where it is none."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", text.upper())
    if not found:
        raise UsageError(f"memory {text!r}: expected a size such as 4GB or 512MB")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def block_bytes(job: Job) -> int:
    """Estimated peak of embedding and writing one block, in bytes, on top of `PROCESS`."""
    around, inner = (job.block + 2 * HALO) ** 2, job.block**2
    series = [job.cube.series[name] for name in job.model.sensors if name in job.cube.series]
    at_once = min(job.dates_at_once, len(job.dates))
    cells = [len(one.dates) * len(one.sensor.bands) * around for one in series]
    frames = max(len(one.dates) for one in series) * around
    samples = max((len(one.sensor.bands) + 8) * len(one.sensor.offsets) for one in series) * at_once * around
    outputs = len(job.dates) * (2 * job.size + 6) * inner
    reading = 2 * sum(cells) + _READING * max(cells)
    embedding = 2 * sum(cells) + _FRAMES * frames + _SAMPLES * samples + 2 * outputs
    writing = sum(cells) + _OUTPUT * outputs
    return _FLOAT * max(reading, embedding, writing)


@dataclass(frozen=True)
class MemoryPlan:
    """A job that keeps to its budget, and how many processes may work on it; `bytes` is the estimated peak of all."""

    job: Job
    workers: int
    bytes: int


def plan(job: Job, budget: int, workers: int) -> MemoryPlan:
    """Fit a job to a budget: first fewer workers, then fewer dates at once, then smaller blocks.

    Args:
        job: as it would be done with memory to spare.
        budget: bytes for all processes together.
        workers: processes wanted; 1 is this process alone, more are workers beside it.

    Raises:
        UsageError: not even the smallest block fits.
    """
    choices = [
        replace(job, block=side, dates_at_once=dates)
        for side in SIDES
        if side <= job.block
        for dates in DATES
        if dates <= job.dates_at_once
    ] or [job]
    for choice in choices:
        for count in range(workers, 0, -1):
            needed = total_bytes(choice, count)
            if needed <= budget:
                return MemoryPlan(choice, count, needed)
    least = total_bytes(choices[-1], 1)
    raise UsageError(
        f"memory {budget / 1e6:,.0f} MB: too little, this cube needs {least / 1e6:,.0f} MB at least: raise the budget"
        " or embed fewer dates"
    )


def total_bytes(job: Job, workers: int) -> int:
    """Estimated peak of all processes: one alone, or one that leads and `workers` that embed."""
    each = PROCESS + block_bytes(job)
    return each if workers == 1 else PROCESS + workers * each
