"""Flux footprint by the parameterisation of Kljun et al. (2015), Geosci. Model Dev. 8, 3695-3713.

A footprint is the share of a measured flux that comes from each place upwind of the tower. The equations are those of
the paper: scaled distance and footprint (4 to 10), crosswind-integrated footprint (14, parameters 17), crosswind spread
(12, 13, 18, parameters 19) and peak (20 to 22). The wind profile enters through the measured wind speed, so that no
roughness length is needed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError

VON_KARMAN = 0.4
NEUTRAL_LENGTH = 5000.0
"""Obukhov length in m beyond which the flow is neutral, as in the authors' own program."""

_A, _B, _C, _D = 1.4524, -1.9914, 1.4622, 0.1359
_SPREAD_A, _SPREAD_B, _SPREAD_C = 2.17, 1.66, 20.0
_UNSTABLE, _STABLE, _SHAPE = 0.80, 0.55, 1e-5  # proportionality of the crosswind spread (equation 13)

PEAK = -_C / _B + _D
"""Scaled distance of the largest contribution (equations 20 and 21), 0.87."""

MIN_FRICTION_VELOCITY = 0.1
"""Smallest friction velocity in m s-1 for which the authors give the parameterisation."""

MIN_STABILITY = -15.5
"""Smallest ratio of height and Obukhov length for which the authors give the parameterisation."""

MAX_RELATIVE_HEIGHT = 0.8
"""Largest height relative to the boundary layer, where entrainment begins."""

_PLUME_WIDTH = 5.0  # crosswind standard deviations beyond which nothing contributes


@dataclass(frozen=True)
class TowerHeights:
    """Heights that a footprint depends on.

    Attributes:
        measurement: Height of the anemometer above the ground in m.
        canopy: Height of the canopy in m; the flow is displaced by two thirds of it.
        boundary_layer: Height of the boundary layer in m; None estimates it from stability.

    Raises:
        UsageError: A height is not a number, or the anemometer is inside of the displaced canopy.
    """

    measurement: float
    canopy: float = 0.0
    boundary_layer: float | None = None

    def __post_init__(self) -> None:
        given = {"measurement": self.measurement, "canopy": self.canopy, "boundary layer": self.boundary_layer or 1.0}
        for name, height in given.items():
            if not np.isfinite(height) or height < 0:
                raise UsageError(f"height of the {name} {height:g} m: expected m above the ground")
        if self.above_displacement <= 0:
            raise UsageError(
                f"measurement height {self.measurement:g} m with a canopy of {self.canopy:g} m: expected a height "
                f"above {2 / 3 * self.canopy:.3g} m, two thirds of the canopy"
            )
        if self.boundary_layer is not None and self.boundary_layer <= self.measurement:
            raise UsageError(
                f"boundary layer of {self.boundary_layer:g} m: expected a height above the measurement, "
                f"{self.measurement:g} m"
            )

    @property
    def above_displacement(self) -> float:
        """Height of the anemometer above the displaced flow in m."""
        return self.measurement - 2 / 3 * self.canopy


@dataclass(frozen=True)
class FlowRecord:
    """Wind and stability of a half-hour.

    Attributes:
        height: Height above the displaced flow in m.
        wind_from: Direction from which the wind comes, degrees clockwise from the y axis of the grid.
        wind_speed: Mean wind speed at the height in m s-1.
        friction_velocity: Friction velocity in m s-1.
        obukhov_length: Obukhov length in m; infinite when neutral.
        crosswind_std: Standard deviation of the lateral wind in m s-1.
        boundary_layer: Height of the boundary layer in m.
    """

    height: float
    wind_from: float
    wind_speed: float
    friction_velocity: float
    obukhov_length: float
    crosswind_std: float
    boundary_layer: float

    @property
    def scale(self) -> float:
        """Real distance of a scaled distance of 1 in m."""
        profile = self.wind_speed / self.friction_velocity * VON_KARMAN
        return self.height * profile / (1 - self.height / self.boundary_layer)


def scaled_footprint(distance: NDArray) -> NDArray[np.float64]:
    """Return the scaled crosswind-integrated footprint at scaled distances (equation 14); it integrates to 1."""
    beyond = np.maximum(np.asarray(distance, float) - _D, 0.0)
    safe = np.where(beyond > 0, beyond, 1.0)
    return np.where(beyond > 0, _A * safe**_B * np.exp(-_C / safe), 0.0)


def scaled_spread(distance: NDArray) -> NDArray[np.float64]:
    """Return the scaled crosswind standard deviation at scaled distances (equation 18)."""
    far = np.asarray(distance, float)
    return _SPREAD_A * np.sqrt(_SPREAD_B * far**2 / (1 + _SPREAD_C * far))


def scaled_extent(share: float) -> float:
    """Return the scaled distance within which a share of the footprint lies, the inverse of its cumulated form."""
    return -_C / float(np.log(share)) + _D


def source_density(record: FlowRecord, east: NDArray, north: NDArray) -> NDArray[np.float64]:
    """Return the footprint at places around a tower.

    Args:
        record: Wind and stability.
        east: (P,) distance from the tower along the x axis in m.
        north: (P,) distance from the tower along the y axis in m.

    Returns:
        (P,) share of the flux per m2.
    """
    angle = np.radians(record.wind_from)
    upwind = east * np.sin(angle) + north * np.cos(angle)
    density = np.zeros(len(upwind))
    inside = np.flatnonzero(upwind > _D * record.scale)
    scaled = upwind[inside] / record.scale
    spread = scaled_spread(scaled) / _spread_factor(record)
    spread *= record.height * record.crosswind_std / record.friction_velocity
    crosswind = (east[inside] * np.cos(angle) - north[inside] * np.sin(angle)) / spread
    near = np.abs(crosswind) < _PLUME_WIDTH
    across = np.exp(-0.5 * crosswind[near] ** 2) / (np.sqrt(2 * np.pi) * spread[near])
    density[inside[near]] = scaled_footprint(scaled[near]) / record.scale * across
    return density


def _spread_factor(record: FlowRecord) -> float:
    """Return the proportionality between scaled and real crosswind spread (equation 13)."""
    if abs(record.obukhov_length) > NEUTRAL_LENGTH:
        return 1.0
    shape = _SHAPE * abs(record.obukhov_length / record.height)
    return min(1.0, shape + (_STABLE if record.obukhov_length > 0 else _UNSTABLE))
