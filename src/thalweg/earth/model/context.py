"""Space-time context of a pixel: the observations of each sensor around it, as the tensors an encoder reads.

Missing data is a zero with a validity of zero, never a fill computed from the patch. The edge of an image, a cloud and
a masked date are therefore the same to the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.series import Observations, Series
from thalweg.earth.cube.windows import Window

RECEPTIVE_FIELD = 15
"""Width in pixels of the context of one pixel."""

HALO = RECEPTIVE_FIELD // 2
"""Pixels that an encoder needs on every side of those it encodes."""

SAME_DAY = 0.5
"""Dates that are less than so many days apart are one overpass."""

_EPOCH = np.datetime64("2015-01-01", "ns")


def days_since_epoch(dates: np.ndarray) -> np.ndarray:
    """Convert dates (datetime64, any shape) to fractional days since 2015-01-01 (same shape, float64).

    float32 resolves such days to half a minute for decades.
    """
    return (dates - _EPOCH) / np.timedelta64(1, "D")


@dataclass(frozen=True)
class SensorContext:
    """Observations of one sensor in a window.

    Attributes:
        values: (T, C, H, W), float32, the sensor's value range mapped to 0..1; 0 where missing.
        valid: (T, 1, H, W), float32, 1 where usable, otherwise 0.
        days: (T,), float32, days since 2015-01-01.
        present: (C,), bool, the bands that the cube has.
    """

    values: Tensor
    valid: Tensor
    days: Tensor
    present: Tensor

    def mask(self, dates: Tensor) -> "SensorContext":
        """Return the context with all pixels of some dates invalid, as under clouds; `dates` (T,), bool, marks them."""
        keep = (~dates).to(self.values.dtype)[:, None, None, None]
        return replace(self, values=self.values * keep, valid=self.valid * keep)

    def select(self, dates: Tensor) -> "SensorContext":
        """Return the context of some dates only; `dates` is an index (int) or a mask (T,) (bool)."""
        return replace(self, values=self.values[dates], valid=self.valid[dates], days=self.days[dates])

    def in_order(self) -> "SensorContext":
        """Return the context with its dates in order."""
        rising = bool((self.days[1:] >= self.days[:-1]).all())
        return self if rising else self.select(self.days.argsort(stable=True))

    def to(self, device: torch.device | str) -> "SensorContext":
        """Return the context on a device."""
        return SensorContext(
            self.values.to(device), self.valid.to(device), self.days.to(device), self.present.to(device)
        )


def sensor_context(series: Series, window: Window) -> SensorContext:
    """Read a window of a series as a context (T, C, H, W); pixels outside the grid are invalid."""
    return as_context(series, series.read(window))


def as_context(series: Series, observations: Observations) -> SensorContext:
    """Convert observations of a series in a window to a context (T, C, H, W)."""
    valid = observations.valid
    scaled = np.nan_to_num(series.sensor.scale(observations.values)) * valid[:, None]
    return SensorContext(
        torch.from_numpy(scaled.astype(np.float32)),
        torch.from_numpy(valid[:, None].astype(np.float32)),
        torch.from_numpy(days_since_epoch(series.dates).astype(np.float32)),
        torch.from_numpy(series.present_bands),
    )


def cube_context(cube: Cube, window: Window, sensors: Sequence[str]) -> dict[str, SensorContext]:
    """Read the context of a window of a cube.

    Args:
        cube: the cube.
        window: pixels to read; parts outside of the grid are missing.
        sensors: names of the sensors to read, as far as the cube has them.

    Returns:
        One context per sensor, by name; see `SensorContext` for shapes.
    """
    return {name: sensor_context(cube.series[name], window) for name in sensors if name in cube.series}


def conditional_fill(mean: Tensor, covariance: Tensor, present: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Return the affine map that fills the absent part of a Gaussian vector with its conditional mean.

    Args:
        mean: (D,), mean of the vectors.
        covariance: (D, D), covariance of the vectors.
        present: (D,), bool; absent entries must be 0 in the vectors that the map is applied to.
        ridge: share of the mean variance that is added to the variances of the present entries.

    Returns:
        Matrix (D, D) and offset (D,): `completed = vector @ matrix.T + offset`.
    """
    size = len(mean)
    matrix = torch.eye(size, dtype=mean.dtype, device=mean.device) * present.to(mean.dtype)
    offset = torch.zeros_like(mean)
    absent = ~present
    if not absent.any():
        return matrix, offset
    if not present.any():
        return matrix, mean.clone()
    observed = covariance[present][:, present]
    observed = observed + ridge * observed.diagonal().mean() * torch.eye(
        len(observed), dtype=mean.dtype, device=mean.device
    )
    regression = torch.linalg.solve(observed, covariance[present][:, absent]).T
    rows = absent.nonzero()[:, 0]
    matrix[rows[:, None], present.nonzero()[:, 0][None]] = regression
    offset[rows] = mean[absent] - regression @ mean[present]
    return matrix, offset
