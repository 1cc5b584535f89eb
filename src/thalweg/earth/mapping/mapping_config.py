"""Settings of a map, and the memory that it takes."""

from dataclasses import dataclass

from thalweg.earth.mapping.features.calendar_interpolation import CHUNK_VALUES
from thalweg.earth.mapping.features.feature_plan import FeaturePlan
from thalweg.earth.mapping.labels.label_pixels import MAX_LABEL_PIXELS
from thalweg.earth.mapping.learning.learners import AUTO
from thalweg.errors import UsageError

WINDOW_SIDES = (256, 128, 64, 32, 16)
"""Sides of a window that is mapped at once, in pixels."""

DEFAULT_BUDGET = 2 * 2**30
"""Memory limit in bytes if none is given."""

PROCESS_BYTES = 600 * 2**20
"""Memory of a process before its first window: the interpreter, its libraries and the raster library's cache."""

PIXELS_AT_ONCE = 2**14
"""Pixels that a learner predicts at once."""

_FLOAT_BYTES = 4
# Arrays that exist at the same time, in units of one with all features: counted, then compared with measured peaks.
_WINDOW_FACTOR, _CHUNK_FACTOR, _READING_FACTOR, _TRAINING_FACTOR = 5, 4, 7, 5
_OTHER_VALUES = 1500


@dataclass(frozen=True)
class MappingConfig:
    """Settings of a classification or a regression.

    Attributes:
        calendar: period such as P15D, or start/end/period; P15D over the store's dates by default.
        date: one date instead of a calendar.
        learner: name of a learner, or `auto`.
        block: side of a spatial block in pixels; chosen by default.
        memory: memory limit in bytes; `DEFAULT_BUDGET` by default.
        seed: seed of the learners.
    """

    calendar: str | None = None
    date: str | None = None
    learner: str = AUTO
    block: int | None = None
    memory: int | None = None
    seed: int = 0


def mapping_bytes(plan: FeaturePlan, side: int, pixels: int = MAX_LABEL_PIXELS) -> int:
    """Return the estimated peak of a map in bytes.

    Args:
        plan: features.
        side: side of a window.
        pixels: number of labelled pixels; 0 if nothing is learned.
    """
    window = _WINDOW_FACTOR * plan.count * side**2
    chunk = min(side**2, PIXELS_AT_ONCE) * (_CHUNK_FACTOR * plan.count + _OTHER_VALUES)
    reading = _READING_FACTOR * max(CHUNK_VALUES, plan.dimensions * side**2)
    training = _TRAINING_FACTOR * pixels * plan.count
    return PROCESS_BYTES + _FLOAT_BYTES * max(window + max(chunk, reading), training)


def window_side(plan: FeaturePlan, budget: int | None, pixels: int = MAX_LABEL_PIXELS) -> int:
    """Return the side of the windows that keep a map within a budget in bytes.

    Raises:
        UsageError: The smallest window does not fit.
    """
    limit = DEFAULT_BUDGET if budget is None else budget
    for side in WINDOW_SIDES:
        if mapping_bytes(plan, side, pixels) <= limit:
            return side
    smallest = mapping_bytes(plan, WINDOW_SIDES[-1], pixels)
    raise UsageError(
        f"memory {limit / 1e6:,.0f} MB: too little, these features need {smallest / 1e6:,.0f} MB at least: raise the "
        "limit, or take a longer period of the calendar"
    )
