"""Position of the sun, day length and radiation at the top of the atmosphere."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def day_length(day_of_year: NDArray, latitude: float) -> NDArray:
    """Return the hours from sunrise to sunset; latitude in radians (Allen et al. 1998, eq. 34)."""
    declination = 0.409 * np.sin(2 * np.pi * day_of_year / 365.25 - 1.39)
    return 24 / np.pi * np.arccos(np.clip(-np.tan(latitude) * np.tan(declination), -1, 1))


def extraterrestrial_radiation(day_of_year: NDArray, latitude: float) -> NDArray:
    """Return the daily radiation above the atmosphere, MJ m-2 d-1; latitude in radians (Allen et al. 1998, eq. 21)."""
    angle = 2 * np.pi * day_of_year / 365.25
    declination = 0.409 * np.sin(angle - 1.39)
    sunset = np.arccos(np.clip(-np.tan(latitude) * np.tan(declination), -1, 1))
    distance = 1 + 0.033 * np.cos(angle)
    horizontal = sunset * np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.sin(
        sunset
    )
    return 118.1 / np.pi * distance * horizontal


def sun_position(times: pd.DatetimeIndex, latitude: float, longitude: float) -> tuple[NDArray, NDArray]:
    """Return the position of the sun, within half a degree (Spencer 1971).

    Args:
        times: (T,) times in UTC.
        latitude: degrees north.
        longitude: degrees east.

    Returns:
        Zenith and azimuth, both (T,), in degrees.
    """
    hours = np.asarray(times.hour + times.minute / 60 + times.second / 3600, float)
    angle = 2 * np.pi * (np.asarray(times.day_of_year) - 1 + (hours - 12) / 24) / 365.0
    declination = (
        0.006918
        - 0.399912 * np.cos(angle)
        + 0.070257 * np.sin(angle)
        - 0.006758 * np.cos(2 * angle)
        + 0.000907 * np.sin(2 * angle)
        - 0.002697 * np.cos(3 * angle)
        + 0.00148 * np.sin(3 * angle)
    )
    equation = (
        229.18
        / 60
        * (
            0.000075
            + 0.001868 * np.cos(angle)
            - 0.032077 * np.sin(angle)
            - 0.014615 * np.cos(2 * angle)
            - 0.040849 * np.sin(2 * angle)
        )
    )
    hour_angle = np.radians(15 * (hours + longitude / 15 + equation - 12))
    phi = np.radians(latitude)
    east = -np.cos(declination) * np.sin(hour_angle)
    north = np.cos(phi) * np.sin(declination) - np.sin(phi) * np.cos(declination) * np.cos(hour_angle)
    up = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    return np.degrees(np.arccos(np.clip(up, -1, 1))), np.degrees(np.arctan2(east, north)) % 360
