"""Gross primary production by light-use efficiency (Monteith 1972; scalars after Running et al. 2004)."""

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.land.land_cover import SURFACES, is_surface
from thalweg.simulate.weather.daily_weather import Weather

_EXTINCTION = 0.5  # of photosynthetically active radiation per unit of leaf area
_PAR_SHARE = 0.48  # of global radiation


def absorbed_share(lai: NDArray) -> NDArray:
    """Return the share of photosynthetically active radiation that leaf area (m2 m-2) absorbs, by Beer's law."""
    return 0.95 * (1 - np.exp(-_EXTINCTION * lai))


def light_use(weather: Weather, surfaces: NDArray, stress: NDArray) -> NDArray:
    """Return production at full absorption: efficiency times radiation times the limits of the day.

    Args:
        weather: Daily weather of the same days as ``stress``.
        surfaces: (unit,) index into SURFACES.
        stress: (day, unit) water stress, 0 to 1.

    Returns:
        (day, unit) float32 gC m-2 d-1 at full absorption and full greenness.
    """
    # Maize, a C4 plant, needs more warmth and tolerates drier air than the other surfaces.
    warm = np.where(is_surface(surfaces, "maize"), 1.0, 0.0)
    coldest, best = -2.0 + 8.0 * warm, 14.0 + 6.0 * warm
    cold = np.clip((weather.temperature[:, None] - coldest) / (best - coldest), 0, 1)
    heat = 1 - np.clip((weather.maximum[:, None] - 32.0) / 14.0, 0, 1)
    deficit = weather.vapour_pressure_deficit[:, None]
    dry = 1 - np.clip((deficit - 0.65) / (3.9 + warm), 0, 0.95)
    # Diffuse light under clouds is used more efficiently (Gu et al. 2002).
    diffuse = 1 + 0.35 * (weather.cloud[:, None] - 0.5)
    efficiency = np.array([surface.efficiency for surface in SURFACES])[surfaces]
    par = _PAR_SHARE * weather.radiation[:, None]
    return (efficiency * par * cold * heat * dry * diffuse * (1 - 0.85 * stress)).astype(np.float32)


def greenness(chlorophyll: NDArray) -> NDArray:
    """Return the share of the maximum efficiency at a leaf chlorophyll (ug cm-2); it saturates near 45."""
    return np.clip(chlorophyll / 45.0, 0, 1) ** 0.6
