"""Drivers of the models of photosynthesis: temperature, humidity, light and pressure of every day."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import Windows

LIGHT_PER_RADIATION = 2.04e-6 * 86400
"""Photosynthetic photons in mol m-2 d-1 per W m-2 of short-wave radiation (Meek et al. 1984: 2.04 umol per J)."""

STANDARD_PRESSURE = 101.325
"""Pressure at sea level in kPa, where a table has none."""

FAPAR_COLUMN = "FAPAR"
"""Column of the absorbed fraction of the light; without it, 1, and the fraction is part of a fitted scale."""

_NEEDED = {"temperature": "TA", "deficit": "VPD", "radiation": "SW_IN"}
_SUFFIXES = ("ERA", "F")


@dataclass(frozen=True)
class Drivers:
    """Daily drivers of D days, float64, without gaps inside a site's record.

    Attributes:
        temperature: Mean air temperature, deg C.
        deficit: Mean vapour pressure deficit, hPa.
        light: Photosynthetic photons on a horizontal plane, mol m-2 d-1.
        pressure: Air pressure, kPa.
        fapar: Absorbed fraction of the light, 0 to 1.
    """

    temperature: NDArray[np.float64]
    deficit: NDArray[np.float64]
    light: NDArray[np.float64]
    pressure: NDArray[np.float64]
    fapar: NDArray[np.float64]


def has_drivers(columns: Iterable[str]) -> bool:
    """Return True if columns hold temperature, vapour pressure deficit and short-wave radiation."""
    names = list(columns)
    return all(_column(names, name) is not None for name in _NEEDED.values())


def read_drivers(windows: Windows) -> Drivers:
    """Return the drivers of all days of windows; a missing value is the last known one of the site.

    Raises:
        UsageError: A needed column is not among the features.
    """
    names = list(windows.features)
    for name in _NEEDED.values():
        if _column(names, name) is None:
            raise UsageError(
                f"no column {name}_ERA or {name}_F among the predictors: expected temperature, vapour pressure deficit "
                "and short-wave radiation for a model of photosynthesis; choose predictors with meteorology"
            )
    needed = {field: _filled(windows, str(_column(names, name))) for field, name in _NEEDED.items()}
    pressure = _column(names, "PA")
    whole = np.ones(len(windows.daily))
    return Drivers(
        temperature=needed["temperature"],
        deficit=np.maximum(needed["deficit"], 0.0),
        light=np.maximum(needed["radiation"], 0.0) * LIGHT_PER_RADIATION,
        pressure=whole * STANDARD_PRESSURE if pressure is None else _filled(windows, pressure),
        fapar=np.clip(_filled(windows, FAPAR_COLUMN), 0.0, 1.0) if FAPAR_COLUMN in names else whole,
    )


def site_means(values: NDArray[np.float64], windows: Windows, days: int) -> NDArray[np.float64]:
    """Return (D,) means of the last ``days`` days of the site, of fewer at the beginning of its record."""
    found = np.empty_like(values)
    for first, end in windows.runs:
        found[first:end] = pd.Series(values[first:end]).rolling(days, min_periods=1).mean()
    return found


def _column(names: list[str], name: str) -> str | None:
    return next((f"{name}_{suffix}" for suffix in _SUFFIXES if f"{name}_{suffix}" in names), None)


def _filled(windows: Windows, column: str) -> NDArray[np.float64]:
    values = windows.daily[:, windows.features.index(column)].astype(float)
    for first, end in windows.runs:
        values[first:end] = pd.Series(values[first:end]).ffill().bfill().fillna(0.0)
    return values
