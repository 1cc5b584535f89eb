"""Light-use-efficiency model of the daily GPP of forests (Makela et al. 2008, Global Change Biology 14, 92).

GPP is an efficiency times the absorbed light, reduced by three modifiers between 0 and 1: a saturation with light, an
acclimation to temperature that lags behind it, and a decrease with the vapour pressure deficit.
"""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.day_weights import day_weights
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.physics.drivers import Drivers


@dataclass(frozen=True)
class LightUseParameters:
    """Parameters of the modifiers; by default those of PRELES for boreal conifers (Peltoniemi et al. 2015).

    Attributes:
        saturation: gamma, m2 d mol-1.
        threshold: X0, deg C, acclimated temperature below which there is no GPP.
        range: Smax, deg C above the threshold at which temperature no longer limits.
        lag: tau, days.
        deficit: -kappa, kPa-1.
    """

    saturation: float = 0.03673
    threshold: float = -3.063
    range: float = 17.72
    lag: float = 10.93
    deficit: float = 0.1027


def light_modifier(light: NDArray, saturation: float) -> NDArray[np.float64]:
    """Return the reduction by saturation of light in mol m-2 d-1, 0 to 1."""
    return np.asarray(1 / (saturation * light + 1))


def temperature_modifier(acclimated: NDArray, threshold: float, range_: float) -> NDArray[np.float64]:
    """Return the reduction by an acclimated temperature in deg C, 0 to 1."""
    return np.clip((acclimated - threshold) / range_, 0.0, 1.0)


def deficit_modifier(deficit: NDArray, coefficient: float) -> NDArray[np.float64]:
    """Return the reduction by a vapour pressure deficit in hPa, 0 to 1; the coefficient is per kPa."""
    return np.minimum(np.exp(-coefficient * deficit / 10), 1.0)


def acclimated_temperature(temperature: NDArray, runs: NDArray[np.int64], lag: float) -> NDArray[np.float64]:
    """Return temperatures that approach the day's by 1 / lag of their distance each day, from each record's first day.

    Args:
        temperature: (D,) daily means, deg C.
        runs: (S, 2) first and one past the last day of each site's record.
        lag: Days, 1 or more.
    """
    from scipy.signal import lfilter

    found = np.empty(len(temperature))
    share = 1 / lag
    for first, end in runs:
        own = temperature[first:end]
        found[first:end] = lfilter([share], [1, share - 1], own, zi=[own[0] * (1 - share)])[0]
    return found


def absorbed_efficiency(drivers: Drivers, windows: Windows, parameters: LightUseParameters) -> NDArray[np.float64]:
    """Return (N,) absorbed light of the windows' last days times the three modifiers, mol m-2 d-1.

    GPP in gC m-2 d-1 is this times an efficiency in gC mol-1.
    """
    acclimated = acclimated_temperature(drivers.temperature, windows.runs, parameters.lag)[windows.last]
    light, deficit = drivers.light[windows.last], drivers.deficit[windows.last]
    return np.asarray(
        drivers.fapar[windows.last]
        * light
        * light_modifier(light, parameters.saturation)
        * temperature_modifier(acclimated, parameters.threshold, parameters.range)
        * deficit_modifier(deficit, parameters.deficit)
    )


def fit_parameters(drivers: Drivers, windows: Windows, every: int = 5) -> LightUseParameters:
    """Fit the five parameters by least squares, with an efficiency of each site's own.

    Args:
        drivers: Drivers of all days.
        windows: Training windows.
        every: Use each ``every``-th window.
    """
    from scipy.optimize import least_squares

    chosen = windows.select(np.arange(0, len(windows), every))
    weights = day_weights(chosen)
    root = 1.0 if weights is None else np.sqrt(weights)
    site = np.unique(chosen.site, return_inverse=True)[1]
    low, high = np.array([1e-3, -15.0, 3.0, 1.0, 0.0]), np.array([0.3, 15.0, 40.0, 60.0, 2.0])

    def residuals(values: NDArray) -> NDArray[np.float64]:
        possible = root * absorbed_efficiency(drivers, chosen, LightUseParameters(*values))
        products = np.bincount(site, possible * root * chosen.target), np.bincount(site, np.square(possible))
        return np.asarray((products[0] / np.maximum(products[1], 1e-9))[site] * possible - root * chosen.target)

    start = np.array(astuple(LightUseParameters()))
    found = least_squares(residuals, start, bounds=(low, high), x_scale=(high - low) / 10, max_nfev=20)
    return LightUseParameters(*(float(value) for value in found.x))
