"""Wind and stability at a tower, with what flux files lack derived from what they have."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.footprint.kljun import (
    MAX_RELATIVE_HEIGHT,
    MIN_FRICTION_VELOCITY,
    MIN_STABILITY,
    NEUTRAL_LENGTH,
    VON_KARMAN,
    FlowRecord,
    TowerHeights,
)

CONVECTIVE_HEIGHT = 1500.0
"""Height of the boundary layer in m in unstable flow, where it is not known; the footprint hardly depends on it."""

_GRAVITY = 9.81
_HEAT_CAPACITY = 1005.0  # of dry air at constant pressure, J kg-1 K-1
_GAS_CONSTANT = 287.05  # of dry air, J kg-1 K-1
_ROTATION = 7.2921e-5  # of the Earth, s-1
_MIN_CORIOLIS = 1e-5  # that of 4 degrees of latitude; at the equator the estimate has no meaning


@dataclass(frozen=True)
class FlowSeries:
    """Half-hourly or hourly wind and stability of a tower, N records in order of time.

    Attributes:
        time: (N,) datetime64[ns], start of the record in local standard time.
        wind_from: (N,) direction from which the wind comes, degrees clockwise from true north.
        wind_speed: (N,) m s-1.
        friction_velocity: (N,) m s-1.
        obukhov_length: (N,) m.
        crosswind_std: (N,) standard deviation of the lateral wind in m s-1; NaN where it was not measured.
        boundary_layer: (N,) height of the boundary layer in m; NaN where it is not known.
        measured: (N,) boolean, records with a measured flux; a filled flux came from no footprint.
    """

    time: NDArray[np.datetime64]
    wind_from: NDArray[np.float64]
    wind_speed: NDArray[np.float64]
    friction_velocity: NDArray[np.float64]
    obukhov_length: NDArray[np.float64]
    crosswind_std: NDArray[np.float64]
    boundary_layer: NDArray[np.float64]
    measured: NDArray[np.bool_]

    def records(self, heights: TowerHeights, latitude: float, rotation: float) -> list[tuple[int, FlowRecord]]:
        """Return the records for which a footprint can be computed, with their index.

        Args:
            heights: Heights of the tower.
            latitude: Latitude in degrees north.
            rotation: Direction of true north on the grid, degrees clockwise from its y axis.
        """
        height = heights.above_displacement
        layer = self.boundary_layer if heights.boundary_layer is None else np.full(len(self.time), np.nan)
        default = heights.boundary_layer or np.nan
        layer = np.where(np.isfinite(layer), layer, default)
        estimated = boundary_layer_height(self.friction_velocity, self.obukhov_length, latitude)
        layer = np.where(np.isfinite(layer), layer, estimated)
        lateral = crosswind_std(self.friction_velocity, self.obukhov_length, layer)
        lateral = np.where(np.isfinite(self.crosswind_std), self.crosswind_std, lateral)
        with np.errstate(invalid="ignore", divide="ignore"):
            valid = (
                self.measured
                & (self.friction_velocity >= MIN_FRICTION_VELOCITY)
                & (self.wind_speed > 0)
                & np.isfinite(self.wind_from)
                & (height / self.obukhov_length >= MIN_STABILITY)
                & (height < MAX_RELATIVE_HEIGHT * layer)
                & (lateral > 0)
            )
        columns = (self.wind_from, self.wind_speed, self.friction_velocity, self.obukhov_length, lateral, layer)
        rows = np.stack(columns, 1)
        rows[:, 0] += rotation
        return [(int(index), FlowRecord(height, *map(float, rows[index]))) for index in np.flatnonzero(valid)]


def obukhov_length(
    friction_velocity: NDArray, sensible_heat: NDArray, temperature: NDArray, pressure: NDArray
) -> NDArray[np.float64]:
    """Return the Obukhov length in m, negative when unstable and infinite without heat flux.

    Args:
        friction_velocity: m s-1.
        sensible_heat: Sensible heat flux in W m-2.
        temperature: Air temperature in deg C.
        pressure: Air pressure in kPa.
    """
    kelvin = np.asarray(temperature, float) + 273.15
    density = 1000 * np.asarray(pressure, float) / (_GAS_CONSTANT * kelvin)
    kinematic = np.asarray(sensible_heat, float) / (density * _HEAT_CAPACITY)
    with np.errstate(divide="ignore"):
        return -(np.asarray(friction_velocity, float) ** 3) * kelvin / (VON_KARMAN * _GRAVITY * kinematic)


def boundary_layer_height(friction_velocity: NDArray, length: NDArray, latitude: float) -> NDArray[np.float64]:
    """Return the height of the boundary layer in m: Nieuwstadt (1981) when stable, a fixed height when unstable.

    Kljun et al. (2015) recommend it in their appendix B; neutral flow has 0.3 times friction velocity over the
    Coriolis parameter.

    Args:
        friction_velocity: m s-1.
        length: Obukhov length in m.
        latitude: Degrees north.
    """
    coriolis = max(abs(2 * _ROTATION * np.sin(np.radians(latitude))), _MIN_CORIOLIS)
    neutral = 0.3 * np.asarray(friction_velocity, float) / coriolis
    with np.errstate(invalid="ignore"):
        ratio = np.asarray(friction_velocity, float) / (coriolis * np.asarray(length, float))
        stable = np.asarray(length, float) / 3.8 * (-1 + np.sqrt(1 + 2.28 * ratio))
        is_neutral = np.abs(length) > NEUTRAL_LENGTH
        return np.where(is_neutral, neutral, np.where(np.asarray(length) > 0, stable, CONVECTIVE_HEIGHT))


def crosswind_std(friction_velocity: NDArray, length: NDArray, layer: NDArray) -> NDArray[np.float64]:
    """Return the standard deviation of the lateral wind in m s-1 by similarity.

    Unstable: (12 - 0.5 h / L)^(1/3) times the friction velocity (Panofsky et al. 1977); stable and neutral: 1.92 times
    (Panofsky and Dutton 1984).

    Args:
        friction_velocity: m s-1.
        length: Obukhov length in m.
        layer: Height of the boundary layer in m.
    """
    with np.errstate(invalid="ignore"):
        unstable = (12 - 0.5 * np.asarray(layer, float) / np.minimum(length, -1e-9)) ** (1 / 3)
        is_unstable = (np.asarray(length) < 0) & (np.abs(length) <= NEUTRAL_LENGTH)
        return np.asarray(friction_velocity, float) * np.where(is_unstable, unstable, 1.92)
