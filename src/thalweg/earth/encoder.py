"""The context-aware encoder of one sensor, dense by construction.

Every layer is either per pixel, a convolution without padding over single frames, or a weighted sum over dates
whose weights depend on the distance in days alone and on each frame's own quality. So a frame is looked at
once, and the same numbers come out for one 15 x 15 patch and for a whole cube.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.earth.context import HALO, SensorContext, conditional_fill
from thalweg.earth.sensors import Sensor

BOX = 3
"""Pixels averaged (validity-weighted) for the trajectory, each way."""

WIDTH_DAYS, CENTRE_WIDTH_DAYS = 12.0, 6.0
"""Standard deviations of the trajectory's kernels in days, and of the one at the centre date."""

REACH, REACH_DAYS = 1e-6, 60.0
"""A very weak exponential weight: where nothing is near, the nearest dates still speak."""

_FEATURES = 8
_HIDDEN = 64
_EMPTY = 1e-9


@dataclass(frozen=True)
class Encoding:
    """One sensor's encoding of centre pixels.

    Attributes:
        values: (Q, E, h, w), the encoding at Q centre dates.
        support: (Q, O, h, w), log(1 + weight) of the valid context at each offset.
        seen: (Q, 1, h, w), one where the sensor has any valid context, else zero.
    """

    values: Tensor
    support: Tensor
    seen: Tensor


def kernel(centre_days: Tensor, days: Tensor, offset: float) -> Tensor:
    """Weights (Q, T) of dates for a sample `offset` days from each centre date."""
    away = days[None] - centre_days[:, None] - offset
    width = WIDTH_DAYS if offset else CENTRE_WIDTH_DAYS
    return torch.exp(-0.5 * (away / width) ** 2) + REACH * torch.exp(-away.abs() / REACH_DAYS)


def _crop(values: Tensor, margin: int) -> Tensor:
    return values[..., margin:-margin, margin:-margin] if margin else values


class FrameNetwork(nn.Module):
    """Looks at one frame, 13 x 13 px: learned features and how far the frame can be trusted."""

    MARGIN = HALO - BOX // 2

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(bands + 1, 16, 3),
            nn.GELU(),
            nn.Conv2d(16, 16, 3, dilation=2),
            nn.GELU(),
            nn.Conv2d(16, 16, 3, dilation=3),
            nn.GELU(),
        )
        self.features = nn.Conv2d(16, _FEATURES, 1)
        self.distrust = nn.Conv2d(16, 1, 1)
        nn.init.zeros_(self.distrust.weight)
        nn.init.constant_(cast(Tensor, self.distrust.bias), -4.0)

    def forward(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(T, C, H, W), (T, 1, H, W) -> features (T, F, H-12, W-12), trust in 0..1 (T, 1, H-12, W-12)."""
        hidden = self.layers(torch.cat([values, valid], 1))
        return self.features(hidden), torch.exp(-F.softplus(self.distrust(hidden)))


class Encoder(nn.Module):
    """A sensor's context -> its encoding at the centre dates (stage 1 of the paper).

    The linear path samples a local trajectory (validity-weighted kernel averages at fixed day offsets) and the
    centre date itself; it starts as their principal components. The residual path starts at zero.
    """

    mean: Tensor
    scale: Tensor
    covariance: Tensor

    def __init__(self, sensor: Sensor) -> None:
        super().__init__()
        self.sensor = sensor
        bands, offsets = len(sensor.bands), len(sensor.offsets)
        self.samples = (offsets + 1) * bands
        self.frames = FrameNetwork(bands)
        self.linear = nn.Linear(self.samples, sensor.encoding_size)
        self.residual = nn.Sequential(
            nn.Linear(self.samples + offsets * (_FEATURES + 1) + 1, _HIDDEN),
            nn.GELU(),
            nn.Linear(_HIDDEN, sensor.encoding_size),
        )
        last = cast(nn.Linear, self.residual[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("scale", torch.ones(bands))
        self.register_buffer("covariance", torch.eye(bands))

    def standardise(self, values: Tensor) -> Tensor:
        """(..., C, H, W) in 0..1 -> in standard deviations from the sensor's mean."""
        return (values - self.mean[:, None, None]) / self.scale[:, None, None]

    def unstandardise(self, values: Tensor) -> Tensor:
        """Back to 0..1; bands are the third dimension from the end."""
        return values * self.scale[:, None, None] + self.mean[:, None, None]

    def complete(self, context: SensorContext) -> Tensor:
        """Standardised values (T, C, H, W), absent bands at their conditional mean, zero where invalid."""
        values = self.standardise(context.values) * context.valid
        if bool(context.present.all()):
            return values
        matrix, _ = conditional_fill(torch.zeros_like(self.mean), self.covariance, context.present)
        return torch.einsum("tchw,dc->tdhw", values, matrix)

    def sample(self, context: SensorContext, centre_days: Tensor) -> "Samples":
        """Sample the local trajectory around Q centre dates; (T, C, H, W) -> (Q, ..., H-14, W-14)."""
        values = self.complete(context)
        features, trust = self.frames(values, context.valid)
        inner = _crop(values, FrameNetwork.MARGIN)
        weight = _crop(context.valid, FrameNetwork.MARGIN) * trust
        weighted = F.avg_pool2d(torch.cat([inner, features, torch.ones_like(weight)], 1) * weight, BOX, 1)
        count, channels, height, width = weighted.shape
        flat = weighted.reshape(count, -1)
        sums = torch.stack(
            [kernel(centre_days, context.days, offset) @ flat for offset in self.sensor.offsets], 1
        ).reshape(len(centre_days), len(self.sensor.offsets), channels, height, width)
        total, support = sums[:, :, :-1], sums[:, :, -1:]
        averages = total / (support + _EMPTY)
        bands = len(self.sensor.bands)

        same_day = ((context.days[None] - centre_days[:, None]).abs() < 0.5).to(values.dtype)
        centre_weight = torch.einsum("qt,tchw->qchw", same_day, _crop(context.valid, HALO))
        centre = torch.einsum("qt,tchw->qchw", same_day, _crop(values, HALO))
        centre = centre / centre_weight.clamp(min=1)
        seen_centre = centre_weight.clamp(max=1)
        nearest = averages[:, list(self.sensor.offsets).index(0), :bands]
        detail = seen_centre * (centre - nearest)
        return Samples(
            trajectory=torch.cat([averages[:, :, :bands].flatten(1, 2), detail], 1),
            features=averages[:, :, bands:].flatten(1, 2),
            support=torch.log1p(support[:, :, 0] * 10),
            seen_centre=seen_centre,
            seen=(support[:, :, 0].amax(1, keepdim=True) > _EMPTY).to(values.dtype),
        )

    def encode(self, samples: "Samples") -> Encoding:
        """Samples of the trajectory -> the encoding."""
        per_pixel = torch.cat([samples.trajectory, samples.features, samples.support, samples.seen_centre], 1).movedim(
            1, -1
        )
        values = self.linear(samples.trajectory.movedim(1, -1)) + self.residual(per_pixel)
        return Encoding(values.movedim(-1, 1) * samples.seen, samples.support, samples.seen)

    def forward(self, context: SensorContext, centre_days: Tensor) -> Encoding:
        """Encode (T, C, H, W) at Q centre days -> (Q, E, H-14, W-14)."""
        return self.encode(self.sample(context, centre_days))

    def __call__(self, *inputs: Any, **named: Any) -> Encoding:
        """See `forward`."""
        return cast(Encoding, super().__call__(*inputs, **named))


@dataclass(frozen=True)
class Samples:
    """What the encoder's per-pixel part sees, standardised.

    Attributes:
        trajectory: (Q, (O + 1) * C, h, w), the bands at O offsets, then the centre pixel's difference from the
            smooth value at offset 0.
        features: (Q, O * F, h, w), learned frame features at the same offsets.
        support: (Q, O, h, w), log(1 + weight) of the valid context at each offset.
        seen_centre: (Q, 1, h, w), one where the centre date itself is valid.
        seen: (Q, 1, h, w), one where there is any valid context.
    """

    trajectory: Tensor
    features: Tensor
    support: Tensor
    seen_centre: Tensor
    seen: Tensor
