"""Codes that stand for missing values, whatever attribute a writer has put them in."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from thalweg.errors import UsageError

PRECISION = 1e-6
"""Relative difference up to which a number is a code: writers and readers round it differently."""

_KEYS = {"fillvalue", "missingvalue", "missingvalues", "nodata", "nodatavalue", "nodatavals", "nodatavalues"}
_NOTHING = {"", "none", "null"}


def fill_values(attributes: Mapping[Any, Any], where: str) -> tuple[float, ...]:
    """The numbers that attributes declare as missing; NaN, which needs no code, is left out.

    `_FillValue`, `missing_value`, `nodata`, `_NoDataValue`, `nodatavals` and the like count, as number, text or list.

    Raises:
        UsageError: such an attribute holds no number.
    """
    codes: list[float] = []
    for key, value in attributes.items():
        if re.sub("[^a-z]", "", str(key).lower()) in _KEYS and value is not None:
            codes.extend(_numbers(value, f"{where}: {key}"))
    return tuple(dict.fromkeys(code for code in codes if not np.isnan(code)))


def is_fill_value(raw: np.ndarray, codes: tuple[float, ...]) -> np.ndarray:
    """Where an array holds one of the codes, in the precision of float32 (boolean, same shape)."""
    found = np.zeros(raw.shape, bool)
    for code in codes:
        if np.issubdtype(raw.dtype, np.floating):
            with np.errstate(over="ignore", invalid="ignore"):
                found |= np.abs(raw - code) <= PRECISION * abs(code)
        else:
            found |= raw == code
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
