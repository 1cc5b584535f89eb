"""The context-aware encoder of one sensor, dense by construction.

Every layer is either per pixel, a convolution without padding over single frames, or a weighted sum over dates
whose weights depend on the distance in days and on each frame's own validity. So a frame is looked at
once, and the same numbers come out for one 15 x 15 patch and for a whole cube.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.earth.model.context import SensorContext, conditional_fill
from thalweg.earth.sensors import Sensor

BOX = 3
"""Pixels averaged (validity-weighted) for the trajectory, each way."""

WIDTH_DAYS, CENTRE_WIDTH_DAYS = 25.0, 12.0
"""Standard deviations of the trajectory's kernels in days, and of the one at the centre date."""

REACH, REACH_DAYS = 1e-6, 20.0
"""A very weak exponential weight: where nothing is near, the nearest dates still speak."""

SLOPE_RIDGE = 0.5
"""Holds back the slope of the local regression, in kernel widths squared."""

EXTRAPOLATION = 1.0
"""Damps the regression's slope where all dates lie to one side, as at the ends of a record."""

ALIKE = 0.16
"""Where neighbours begin to count as different: standard deviations per sampled value."""

_FEATURES = 8
_HIDDEN = 64
_EMPTY = 1e-12


@dataclass(frozen=True)
class Encoding:
    """One sensor's encoding of centre pixels.

    Attributes:
        values: (Q, E, h, w), the encoding at Q centre dates: the smooth context, and as the last C values how
            the pixel differs from it on the centre date itself.
        support: (Q, O, h, w), `log_support` of the valid context at each offset.
        seen: (Q, 1, h, w), one where the sensor has any valid context, else zero.
    """

    values: Tensor
    support: Tensor
    seen: Tensor


def kernel(away: Tensor, offset: float) -> Tensor:
    """Weights of dates `away` (any shape) days from where the trajectory is sampled."""
    width = WIDTH_DAYS if offset else CENTRE_WIDTH_DAYS
    return torch.exp(-0.5 * (away / width) ** 2) + REACH * torch.exp(-away.abs() / REACH_DAYS)


def log_support(support: Tensor) -> Tensor:
    """How an encoding tells the weight of the valid context at an offset; any shape."""
    return torch.log1p(support * 10)


def local_regression(
    pooled: Tensor, days: Tensor, centre_days: Tensor, offsets: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Sample frames at fixed offsets from centre dates by kernel-weighted linear regression in time.

    A plain average leans to the side where more dates are; the regression does not. Its slope is held back, so
    that little or one-sided evidence gives the average.

    Args:
        pooled: (T, C + 1, H, W), values times their weight, and last the weight itself.
        days: (T,).
        centre_days: (Q,).
        offsets: O day offsets.

    Returns:
        averages (Q, O, C, H, W) and the support (Q, O, 1, H, W), the kernel-weighted sum of the weights.
    """
    count, channels, height, width = pooled.shape
    flat, flat_weight = pooled.reshape(count, -1), pooled[:, -1].reshape(count, -1)
    averages, supports = [], []
    for offset in offsets:
        away = days[None] - centre_days[:, None] - offset
        weights, ahead = kernel(away, offset), away / WIDTH_DAYS
        sums = (weights @ flat).reshape(-1, channels, height, width)
        first = ((weights * ahead) @ flat).reshape(-1, channels, height, width)
        second = ((weights * ahead**2) @ flat_weight).reshape(-1, 1, height, width)
        total, support = sums[:, :-1], sums[:, -1:] + _EMPTY
        mean, lean = total / support, first[:, -1:] / support
        variance = (second / support - lean**2).clamp(min=0)
        slope = (first[:, :-1] / support - mean * lean) / (variance + SLOPE_RIDGE)
        averages.append(mean - slope * lean / (1 + EXTRAPOLATION * lean**2))
        supports.append(support)
    return torch.stack(averages, 1), torch.stack(supports, 1)


def _crop(values: Tensor, margin: int) -> Tensor:
    return values[..., margin:-margin, margin:-margin] if margin else values


class FrameNetwork(nn.Module):
    """Looks at one frame, 3 x 3 px: features from which the residual tells haze and edges from the surface."""

    MARGIN = 1

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(bands + 1, 24, 3), nn.GELU(), nn.Conv2d(24, _FEATURES, 1))

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """(T, C, H, W), (T, 1, H, W) -> features (T, F, H-2, W-2)."""
        return cast(Tensor, self.layers(torch.cat([values, valid], 1)))


class NeighbourAttention(nn.Module):
    """Averages an encoding over the neighbours that resemble it: smooth inside a field, sharp at its edge.

    The query and the keys are the encodings themselves; a learned sharpness per component and a learned reach
    say what counts as alike and as near. 37 of the 11 x 11 neighbours are looked at.
    """

    MARGIN = 5
    TAPS = ((0, 0), *((dy, dx) for dy in range(-5, 6, 2) for dx in range(-5, 6, 2)))

    def __init__(self, size: int, samples: int) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.full((size,), -math.log(ALIKE * math.sqrt(2 * samples))))
        self.log_reach = nn.Parameter(torch.tensor(4.0).log())

    def forward(self, encoding: Tensor, seen: Tensor) -> Tensor:
        """(Q, E, H, W), seen (Q, 1, H, W) -> (Q, E, H-10, W-10)."""
        keys = encoding * self.log_sharpness.exp()[:, None, None]
        query = _crop(keys, self.MARGIN)
        height, width = query.shape[-2:]
        total, weights = torch.zeros_like(query), torch.full_like(query[:, :1], _EMPTY)
        for dy, dx in self.TAPS:
            rows = slice(self.MARGIN + dy, self.MARGIN + dy + height)
            columns = slice(self.MARGIN + dx, self.MARGIN + dx + width)
            unlike = ((keys[..., rows, columns] - query) ** 2).sum(1, keepdim=True)
            far = (dy**2 + dx**2) / (2 * torch.exp(2 * self.log_reach))
            weight = torch.exp(-unlike - far) * seen[..., rows, columns]
            total = total + weight * encoding[..., rows, columns]
            weights = weights + weight
        return total / weights


class Encoder(nn.Module):
    """A sensor's context -> its encoding at the centre dates (stage 1 of the paper).

    The linear path samples a local trajectory (validity-weighted local regressions at fixed day offsets) and
    the centre date itself; it is their principal components. The residual path starts at zero and learns to undo
    what hidden dates and bands do to the linear one.
    """

    mean: Tensor
    scale: Tensor
    covariance: Tensor

    def __init__(self, sensor: Sensor) -> None:
        super().__init__()
        self.sensor = sensor
        bands, offsets = len(sensor.bands), len(sensor.offsets)
        self.samples = offsets * bands
        self.frames = FrameNetwork(bands)
        self.smooth_size = sensor.encoding_size - bands
        self.linear = nn.Linear(self.samples, self.smooth_size)
        self.residual = nn.Sequential(
            nn.Linear(self.samples + offsets * (_FEATURES + 1), _HIDDEN),
            nn.GELU(),
            nn.Linear(_HIDDEN, self.smooth_size),
        )
        last = cast(nn.Linear, self.residual[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.neighbours = NeighbourAttention(self.smooth_size, self.samples)
        self.expected = nn.Linear(self.smooth_size, bands)
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
        """Sample the local trajectory around Q centre dates; (T, C, H, W) -> (Q, ..., H-4, W-4)."""
        values = self.complete(context)
        features = self.frames(values, context.valid)
        weight = _crop(context.valid, FrameNetwork.MARGIN)
        inner = torch.cat([_crop(values, FrameNetwork.MARGIN), features, torch.ones_like(weight)], 1)
        pooled = F.avg_pool2d(inner * weight, BOX, 1)
        averages, support = local_regression(pooled, context.days, centre_days, self.sensor.offsets)
        bands = len(self.sensor.bands)
        margin = FrameNetwork.MARGIN + BOX // 2
        same_day = ((context.days[None] - centre_days[:, None]).abs() < 0.5).to(values.dtype)
        seen_centre = torch.einsum("qt,tchw->qchw", same_day, _crop(context.valid, margin))
        centre = torch.einsum("qt,tchw->qchw", same_day, _crop(values, margin)) / seen_centre.clamp(min=1)
        return Samples(
            trajectory=averages[:, :, :bands].flatten(1, 2),
            features=averages[:, :, bands:].flatten(1, 2),
            support=log_support(support[:, :, 0]),
            centre=centre,
            seen_centre=seen_centre.clamp(max=1),
            seen=(support[:, :, 0].amax(1, keepdim=True) > _EMPTY).to(values.dtype),
        )

    def encode(self, samples: "Samples", repaired: bool = True) -> Encoding:
        """Samples of the trajectory (Q, ..., h+10, w+10) -> the encoding (Q, ..., h, w).

        With `repaired` false the residual is left out: the linear encoding, right where the context is whole.
        """
        values = self.linear(samples.trajectory.movedim(1, -1))
        if repaired:
            per_pixel = torch.cat([samples.trajectory, samples.features, samples.support], 1)
            values = values + self.residual(per_pixel.movedim(1, -1))
        smooth = self.neighbours(values.movedim(-1, 1), samples.seen)
        margin = NeighbourAttention.MARGIN
        seen, seen_centre = _crop(samples.seen, margin), _crop(samples.seen_centre, margin)
        expected = self.expected(smooth.movedim(1, -1)).movedim(-1, 1)
        detail = seen_centre * (_crop(samples.centre, margin) - expected)
        return Encoding(torch.cat([smooth, detail], 1) * seen, _crop(samples.support, margin), seen)

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
        trajectory: (Q, O * C, h, w), the bands at O offsets.
        features: (Q, O * F, h, w), learned frame features at the same offsets.
        support: (Q, O, h, w), `log_support` of the valid context at each offset.
        centre: (Q, C, h, w), the single pixel on the centre date.
        seen_centre: (Q, 1, h, w), one where the centre date itself is valid.
        seen: (Q, 1, h, w), one where there is any valid context.
    """

    trajectory: Tensor
    features: Tensor
    support: Tensor
    centre: Tensor
    seen_centre: Tensor
    seen: Tensor
