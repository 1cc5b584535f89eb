"""Memory plan: the block size, dates at once and number of workers that keep a job within a budget.

The estimate counts the largest arrays that exist at the same time. Its factors were calibrated with measured peaks
(docs/scale.md).
"""

import re
from dataclasses import dataclass, replace

from thalweg.earth.inference.job import Job
from thalweg.earth.model.context import HALO
from thalweg.errors import UsageError

PROCESS_BYTES = 615 * 2**20
"""Memory of a process before its first block: the interpreter, its libraries, the model and the cube's index."""

BLOCK_SIDES = (64, 48, 32, 16)
"""Sides of a block that a plan tries, in pixels."""

DATES_AT_ONCE = (16, 8, 4)
"""Numbers of dates at once that a plan tries; fewer dates would compute every frame repeatedly."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_FLOAT_BYTES = 4
# Arrays of a kind that exist at the same time, in units of one of that kind, calibrated with measured peaks.
_READING_FACTOR, _FRAMES_FACTOR, _SAMPLES_FACTOR, _OUTPUT_FACTOR = 7, 145, 3, 5
_SAMPLE_CHANNELS = 8
_OTHER_VARIABLES = 6


def parse_size(text: str) -> int:
    """Return the number of bytes of a size such as 4GB, 512MB, 1.5GiB or 2000000000.

    Raises:
        UsageError: the text is not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", text.upper())
    if not found:
        raise UsageError(f"memory {text!r}: expected a size such as 4GB or 512MB")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def block_bytes(job: Job) -> int:
    """Return the estimated peak of embedding and writing one block in bytes, in addition to `PROCESS_BYTES`."""
    around, inner = (job.block + 2 * HALO) ** 2, job.block**2
    series = [job.cube.series[name] for name in job.model.sensors if name in job.cube.series]
    dates = len(job.dates())
    at_once = min(job.dates_at_once, dates)
    cells = [len(one.dates) * len(one.sensor.bands) * around for one in series]
    frames = max(len(one.dates) for one in series) * around
    samples = max((len(one.sensor.bands) + _SAMPLE_CHANNELS) * len(one.sensor.offsets) for one in series)
    samples *= at_once * around
    outputs = dates * (2 * job.size + _OTHER_VARIABLES) * inner
    reading = 2 * sum(cells) + _READING_FACTOR * max(cells)
    embedding = 2 * sum(cells) + _FRAMES_FACTOR * frames + _SAMPLES_FACTOR * samples + 2 * outputs
    writing = sum(cells) + _OUTPUT_FACTOR * outputs
    return _FLOAT_BYTES * max(reading, embedding, writing)


@dataclass(frozen=True)
class MemoryPlan:
    """A job that keeps within its budget.

    Attributes:
        job: the job, with the planned block size and dates at once.
        workers: number of processes that embed.
        bytes: estimated peak of all processes together.
    """

    job: Job
    workers: int
    bytes: int


def plan_memory(job: Job, budget: int, workers: int) -> MemoryPlan:
    """Fit a job to a budget: first fewer workers, then fewer dates at once, then smaller blocks.

    Args:
        job: the job as it would run with enough memory.
        budget: bytes for all processes together.
        workers: largest number of processes that embed; 1 is this process alone, more run in addition to it.

    Raises:
        UsageError: the smallest block does not fit.
    """
    choices = [
        replace(job, block=side, dates_at_once=dates)
        for side in BLOCK_SIDES
        if side <= job.block
        for dates in DATES_AT_ONCE
        if dates <= job.dates_at_once
    ] or [job]
    for choice in choices:
        for count in range(workers, 0, -1):
            needed = total_bytes(choice, count)
            if needed <= budget:
                return MemoryPlan(choice, count, needed)
    smallest = total_bytes(choices[-1], 1)
    raise UsageError(
        f"memory {budget / 1e6:,.0f} MB: too little, this cube needs {smallest / 1e6:,.0f} MB at least: raise the "
        "budget or embed fewer dates"
    )


def total_bytes(job: Job, workers: int) -> int:
    """Return the estimated peak of all processes: of this one alone, or of this one and `workers` that embed."""
    each = PROCESS_BYTES + block_bytes(job)
    return each if workers == 1 else PROCESS_BYTES + workers * each
