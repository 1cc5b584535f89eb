"""The space-time context of a pixel: what each sensor saw around it, as tensors an encoder reads.

Missing data is a zero with a validity of zero, never a fill computed from the patch, so that the edge of an
image, a cloud and a hidden date are one and the same thing to the encoder.
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
"""Pixels an encoder needs on every side of those it encodes."""

_EPOCH = np.datetime64("2015-01-01", "ns")


def days_since_epoch(dates: np.ndarray) -> np.ndarray:
    """Dates (datetime64) as fractional days, float64; float32 keeps them to half a minute for decades."""
    return (dates - _EPOCH) / np.timedelta64(1, "D")


@dataclass(frozen=True)
class SensorContext:
    """What one sensor saw in a window.

    Attributes:
        values: (T, C, H, W), the sensor's range mapped to 0..1, zero where missing.
        valid: (T, 1, H, W), one where usable, else zero.
        days: (T,) days since 2015-01-01.
        present: (C,) boolean, the bands the cube has.
    """

    values: Tensor
    valid: Tensor
    days: Tensor
    present: Tensor

    def hide(self, dates: Tensor) -> "SensorContext":
        """The same context as if the dates where `dates` (T,) is true had been cloudy."""
        keep = (~dates).to(self.values.dtype)[:, None, None, None]
        return replace(self, values=self.values * keep, valid=self.valid * keep)

    def select(self, dates: Tensor) -> "SensorContext":
        """The context of some dates only, by index or mask."""
        return replace(self, values=self.values[dates], valid=self.valid[dates], days=self.days[dates])

    def to(self, device: torch.device | str) -> "SensorContext":
        """The context on a device."""
        return SensorContext(
            self.values.to(device), self.valid.to(device), self.days.to(device), self.present.to(device)
        )


def sensor_context(series: Series, window: Window) -> SensorContext:
    """Read a window of a series as a context (T, C, H, W)."""
    return as_context(series, series.read(window))


def as_context(series: Series, seen: Observations) -> SensorContext:
    """What a series saw in a window as a context (T, C, H, W)."""
    valid = seen.valid
    scaled = np.nan_to_num(series.sensor.scale(seen.values)) * valid[:, None]
    return SensorContext(
        torch.from_numpy(scaled.astype(np.float32)),
        torch.from_numpy(valid[:, None].astype(np.float32)),
        torch.from_numpy(days_since_epoch(series.dates).astype(np.float32)),
        torch.from_numpy(series.present_bands),
    )


def cube_context(cube: Cube, window: Window, sensors: Sequence[str]) -> dict[str, SensorContext]:
    """Contexts of the sensors among `sensors` that the cube has."""
    return {name: sensor_context(cube.series[name], window) for name in sensors if name in cube.series}


def conditional_fill(mean: Tensor, covariance: Tensor, present: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    """The linear map that completes a partly observed Gaussian vector by its conditional mean.

    Args:
        mean: (D,).
        covariance: (D, D).
        present: (D,) boolean; what is absent must be zero in the vectors the map is applied to.
        ridge: share of the mean variance added to the observed variances.

    Returns:
        matrix (D, D) and offset (D,): `completed = vector @ matrix.T + offset`.
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
