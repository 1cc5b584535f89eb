"""Potential radiation: daily solar radiation at the top of the atmosphere."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SOLAR_CONSTANT = 1361.0
"""Solar constant in W m-2 (Kopp and Lean 2011)."""


def potential_radiation(latitude: ArrayLike, time: ArrayLike) -> NDArray[np.float64]:
    """Return the daily mean radiation on a horizontal plane at the top of the atmosphere.

    The declination and distance of the sun follow Spencer (1971); the sun's elevation is integrated from sunrise to
    sunset.

    Args:
        latitude: Degrees north; broadcast against ``time``.
        time: datetime64 days.

    Returns:
        Radiation in W m-2, float64, in the broadcast shape.
    """
    days = np.asarray(time).astype("datetime64[D]")
    day = (days - days.astype("datetime64[Y]")).astype(float)
    angle = 2 * np.pi * day / 365
    one, two, three = (np.array([np.cos(k * angle), np.sin(k * angle)]) for k in (1, 2, 3))
    declination = (
        0.006918 - 0.399912 * one[0] + 0.070257 * one[1] - 0.006758 * two[0] + 0.000907 * two[1]
        - 0.002697 * three[0] + 0.00148 * three[1]
    )  # fmt: skip
    distance = 1.00011 + 0.034221 * one[0] + 0.00128 * one[1] + 0.000719 * two[0] + 0.000077 * two[1]
    phi = np.deg2rad(np.asarray(latitude, float))
    sunset = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    height = sunset * np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.sin(sunset)
    return SOLAR_CONSTANT / np.pi * distance * np.maximum(height, 0)
