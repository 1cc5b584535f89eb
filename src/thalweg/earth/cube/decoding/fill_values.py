"""Fill values: the numbers that stand for missing data, under any of the attributes that writers use."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from thalweg.errors import UsageError

PRECISION = 1e-6
"""Largest relative difference between a number and the fill value that it stands for, due to rounding."""

_KEYS = {"fillvalue", "missingvalue", "missingvalues", "nodata", "nodatavalue", "nodatavals", "nodatavalues"}
_NOTHING = {"", "none", "null"}


def fill_values(attributes: Mapping[Any, Any], where: str) -> tuple[float, ...]:
    """Return the fill values that attributes declare, without NaN.

    Attributes such as `_FillValue`, `missing_value`, `nodata`, `_NoDataValue` and `nodatavals` may hold a number, text
    or a list.

    Args:
        attributes: attributes of a variable or a dataset.
        where: file and band that messages name.

    Raises:
        UsageError: such an attribute does not hold a number.
    """
    found: list[float] = []
    for key, value in attributes.items():
        if re.sub("[^a-z]", "", str(key).lower()) in _KEYS and value is not None:
            found.extend(_numbers(value, f"{where}: {key}"))
    return tuple(dict.fromkeys(number for number in found if not np.isnan(number)))


def is_fill_value(raw: np.ndarray, values: tuple[float, ...]) -> np.ndarray:
    """Return which elements of an array are one of the fill values, in the precision of float32.

    Args:
        raw: stored numbers of any shape and dtype.
        values: fill values.

    Returns:
        Boolean array of the same shape.
    """
    found = np.zeros(raw.shape, bool)
    for value in values:
        if np.issubdtype(raw.dtype, np.floating):
            with np.errstate(over="ignore", invalid="ignore"):
                found |= np.abs(raw - value) <= PRECISION * abs(value)
        else:
            found |= raw == value
    return found


def _numbers(value: Any, what: str) -> list[float]:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,;()\[\]]+", value) if part.lower() not in _NOTHING]
    numbers = []
    for part in np.ravel(np.asarray(value, dtype=object)):
        if part is None or (isinstance(part, str | bytes) and str(part).lower() in _NOTHING):
            continue
        try:
            numbers.append(float(part))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{what} is {part!s:.40}, expected a number that means missing, such as -9999") from error
    return numbers
