"""Potential radiation: what the sun would give on top of the atmosphere."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SOLAR_CONSTANT = 1361.0
"""W m-2 (Kopp and Lean 2011)."""

POTENTIAL_RADIATION = "SW_IN_POT"
"""Its column in a daily table: the name FLUXNET files give it."""


def potential_radiation(latitude: ArrayLike, time: ArrayLike) -> NDArray[np.float64]:
    """Daily mean radiation on a horizontal plane on top of the atmosphere, W m-2.

    Args:
        latitude: Degrees north; broadcast against ``time``.
        time: datetime64 days.

    Returns:
        W m-2, float64: declination and distance of the sun by Spencer (1971), the day's integral of the sun's
        elevation from sunrise to sunset.
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
