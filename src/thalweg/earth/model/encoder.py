"""Encoder of one sensor (stage 1 of arXiv 2511.11706): the context of a pixel to one vector per centre date.

The encoder is dense by construction. Every layer is per pixel, an unpadded convolution over single frames, or a
weighted sum over dates whose weights depend only on distances in days and on the validity of each frame. Features of
a frame are therefore computed once, and a 15 x 15 px patch and a whole cube give the same numbers.

Shapes: T dates of the sensor, Q centre dates, C bands, O day offsets, F frame features, E dimensions of the encoding.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.earth.declarations import Sensor
from thalweg.earth.model.context import SensorContext, conditional_fill

POOLING_SIZE = 3
"""Width in pixels of the validity-weighted mean from which the trajectory is sampled."""

KERNEL_STD_DAYS, CENTRE_KERNEL_STD_DAYS = 25.0, 12.0
"""Standard deviations of the temporal kernel in days: at the offsets, and at the centre date."""

TAIL_WEIGHT, TAIL_DAYS = 1e-6, 20.0
"""Weight and decay of the kernel's exponential tail, by which the nearest dates contribute across long gaps."""

SLOPE_RIDGE = 0.5
"""Ridge on the slope of the local regression, in squared kernel widths."""

EXTRAPOLATION_DAMPING = 1.0
"""Damping of the slope where all dates lie on one side of the offset, as at the ends of a record."""

INITIAL_BANDWIDTH = 0.16
"""Bandwidth of the neighbour attention before training, in standard deviations per sampled value."""

NUM_FRAME_FEATURES = 8
HIDDEN_SIZE = 64
EPS = 1e-12


@dataclass(frozen=True)
class Encoding:
    """Encoding of one sensor at Q centre dates.

    Attributes:
        values: (Q, E, h, w), float32: E - C dimensions of the smooth context, then the C bands of the pixel on the
            centre date minus their expectation from the context.
        support: (Q, O, h, w), float32, `log_support` of the valid context at each offset.
        observed: (Q, 1, h, w), float32, 1 where the sensor has any valid context, otherwise 0.
    """

    values: Tensor
    support: Tensor
    observed: Tensor


@dataclass(frozen=True)
class TrajectorySamples:
    """Input of the encoder's per-pixel part; bands are standardised.

    Attributes:
        trajectory: (Q, O * C, h, w), the bands at the offsets.
        features: (Q, O * F, h, w), frame features at the offsets.
        support: (Q, O, h, w), `log_support` of the valid context at each offset.
        centre: (Q, C, h, w), the bands of the pixel on the centre date, without pooling; 0 where not observed.
        centre_observed: (Q, 1, h, w), 1 where the pixel is valid on the centre date, otherwise 0.
        observed: (Q, 1, h, w), 1 where there is any valid context, otherwise 0.
    """

    trajectory: Tensor
    features: Tensor
    support: Tensor
    centre: Tensor
    centre_observed: Tensor
    observed: Tensor


def temporal_kernel(distance: Tensor, offset: float) -> Tensor:
    """Return the kernel weights (any shape) of dates at `distance` (same shape) days from a day offset."""
    std = KERNEL_STD_DAYS if offset else CENTRE_KERNEL_STD_DAYS
    return torch.exp(-0.5 * (distance / std) ** 2) + TAIL_WEIGHT * torch.exp(-distance.abs() / TAIL_DAYS)


def log_support(support: Tensor) -> Tensor:
    """Return the logarithmic scale (any shape) on which an encoding reports kernel-weighted validity (same shape)."""
    return torch.log1p(support * 10)


def local_regression(
    pooled: Tensor, days: Tensor, centre_days: Tensor, offsets: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Estimate frames at day offsets from centre dates, by kernel-weighted linear regression in time.

    A kernel-weighted mean would be biased toward the side with more dates. The slope is shrunk (`SLOPE_RIDGE`,
    `EXTRAPOLATION_DAMPING`), so that few or one-sided dates give the mean.

    Args:
        pooled: (T, C + 1, H, W), channels multiplied by their weight, and the weight itself last.
        days: (T,), days of the frames.
        centre_days: (Q,), days of the centre dates.
        offsets: O day offsets.

    Returns:
        Estimates (Q, O, C, H, W) and the support (Q, O, 1, H, W), the kernel-weighted sum of the weights.
    """
    count, channels, height, width = pooled.shape
    flat, flat_weight = pooled.reshape(count, -1), pooled[:, -1].reshape(count, -1)
    estimates, supports = [], []
    for offset in offsets:
        distance = days[None] - centre_days[:, None] - offset
        weights, scaled = temporal_kernel(distance, offset), distance / KERNEL_STD_DAYS
        # Kernel-weighted moments of order 0, 1 and 2 in time.
        sums = (weights @ flat).reshape(-1, channels, height, width)
        first = ((weights * scaled) @ flat).reshape(-1, channels, height, width)
        second = ((weights * scaled**2) @ flat_weight).reshape(-1, 1, height, width)
        total, support = sums[:, :-1], sums[:, -1:] + EPS
        mean, mean_distance = total / support, first[:, -1:] / support
        variance = (second / support - mean_distance**2).clamp(min=0)
        slope = (first[:, :-1] / support - mean * mean_distance) / (variance + SLOPE_RIDGE)
        estimates.append(mean - slope * mean_distance / (1 + EXTRAPOLATION_DAMPING * mean_distance**2))
        supports.append(support)
    return torch.stack(estimates, 1), torch.stack(supports, 1)


def _crop(values: Tensor, margin: int) -> Tensor:
    return values[..., margin:-margin, margin:-margin] if margin else values


class FrameNetwork(nn.Module):
    """Features of single frames from 3 x 3 px, by which the residual distinguishes haze and edges from the surface."""

    MARGIN = 1

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(bands + 1, 24, 3), nn.GELU(), nn.Conv2d(24, NUM_FRAME_FEATURES, 1))

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """Compute features (T, F, H - 2, W - 2) of bands (T, C, H, W) and their validity (T, 1, H, W)."""
        return cast(Tensor, self.layers(torch.cat([values, valid], 1)))


class NeighbourAttention(nn.Module):
    """Mean of an encoding over similar neighbours: smooth within a field, sharp at its edge.

    Queries and keys are the encodings themselves, scaled by a learned sharpness per dimension; a learned Gaussian in
    space limits the reach. 37 of the 11 x 11 neighbours contribute.
    """

    MARGIN = 5
    TAPS = ((0, 0), *((dy, dx) for dy in range(-5, 6, 2) for dx in range(-5, 6, 2)))

    def __init__(self, size: int, samples: int) -> None:
        super().__init__()
        bandwidth = INITIAL_BANDWIDTH * math.sqrt(2 * samples)
        self.log_sharpness = nn.Parameter(torch.full((size,), -math.log(bandwidth)))
        self.log_reach = nn.Parameter(torch.tensor(4.0).log())

    def forward(self, encoding: Tensor, observed: Tensor) -> Tensor:
        """Average encodings (Q, E, H, W) over neighbours that are observed (Q, 1, H, W) -> (Q, E, H - 10, W - 10)."""
        keys = encoding * self.log_sharpness.exp()[:, None, None]
        query = _crop(keys, self.MARGIN)
        height, width = query.shape[-2:]
        total, weights = torch.zeros_like(query), torch.full_like(query[:, :1], EPS)
        for dy, dx in self.TAPS:
            rows = slice(self.MARGIN + dy, self.MARGIN + dy + height)
            columns = slice(self.MARGIN + dx, self.MARGIN + dx + width)
            dissimilarity = ((keys[..., rows, columns] - query) ** 2).sum(1, keepdim=True)
            distance = (dy**2 + dx**2) / (2 * torch.exp(2 * self.log_reach))
            weight = torch.exp(-dissimilarity - distance) * observed[..., rows, columns]
            total = total + weight * encoding[..., rows, columns]
            weights = weights + weight
        return total / weights


class Encoder(nn.Module):
    """Encoder of one sensor: its context to an encoding at each centre date (stage 1 of arXiv 2511.11706).

    1. `sample`: a local trajectory, by validity-weighted local regression at the sensor's day offsets, and the pixel
       on the centre date.
    2. A linear path, the principal components of the trajectory, plus a residual network that corrects for masked
       dates and bands. The residual is zero before training.
    3. `NeighbourAttention` over the result, the smooth context of E - C dimensions.
    4. The bands of the centre date minus their linear expectation from the smooth context, the last C dimensions.

    Attributes:
        sensor: declaration of the sensor.
        mean: (C,), mean of the bands in 0..1.
        scale: (C,), standard deviation of the bands in 0..1.
        covariance: (C, C), covariance of the standardised bands, by which absent bands are filled.
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
            nn.Linear(self.samples + offsets * (NUM_FRAME_FEATURES + 1), HIDDEN_SIZE),
            nn.GELU(),
            nn.Linear(HIDDEN_SIZE, self.smooth_size),
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
        """Convert bands (..., C, H, W) in 0..1 to standard deviations from their mean."""
        return (values - self.mean[:, None, None]) / self.scale[:, None, None]

    def unstandardise(self, values: Tensor) -> Tensor:
        """Convert standardised bands (..., C, H, W) back to 0..1."""
        return values * self.scale[:, None, None] + self.mean[:, None, None]

    def complete(self, context: SensorContext) -> Tensor:
        """Return the standardised bands (T, C, H, W) of a context, 0 where invalid.

        Bands that the cube does not have are filled with their conditional mean given the others.
        """
        values = self.standardise(context.values) * context.valid
        if bool(context.present.all()):
            return values
        matrix, _ = conditional_fill(torch.zeros_like(self.mean), self.covariance, context.present)
        return torch.einsum("tchw,dc->tdhw", values, matrix)

    def sample(self, context: SensorContext, centre_days: Tensor) -> TrajectorySamples:
        """Sample the local trajectory of a context (T, C, H, W) around centre days (Q,) -> (Q, ..., H - 4, W - 4)."""
        values = self.complete(context)
        features = self.frames(values, context.valid)
        weight = _crop(context.valid, FrameNetwork.MARGIN)
        channels = torch.cat([_crop(values, FrameNetwork.MARGIN), features, torch.ones_like(weight)], 1)
        pooled = F.avg_pool2d(channels * weight, POOLING_SIZE, 1)
        estimates, support = local_regression(pooled, context.days, centre_days, self.sensor.offsets)
        bands = len(self.sensor.bands)
        margin = FrameNetwork.MARGIN + POOLING_SIZE // 2
        same_day = ((context.days[None] - centre_days[:, None]).abs() < 0.5).to(values.dtype)
        centre_count = torch.einsum("qt,tchw->qchw", same_day, _crop(context.valid, margin))
        centre = torch.einsum("qt,tchw->qchw", same_day, _crop(values, margin)) / centre_count.clamp(min=1)
        return TrajectorySamples(
            trajectory=estimates[:, :, :bands].flatten(1, 2),
            features=estimates[:, :, bands:].flatten(1, 2),
            support=log_support(support[:, :, 0]),
            centre=centre,
            centre_observed=centre_count.clamp(max=1),
            observed=(support[:, :, 0].amax(1, keepdim=True) > EPS).to(values.dtype),
        )

    def encode(self, samples: TrajectorySamples, with_residual: bool = True) -> Encoding:
        """Encode samples (Q, ..., h + 10, w + 10) -> (Q, E, h, w).

        Args:
            samples: as `sample` returns them.
            with_residual: whether to add the residual network's correction; without it, the linear encoding, which is
                exact where nothing of the context is masked.
        """
        values = self.linear(samples.trajectory.movedim(1, -1))
        if with_residual:
            per_pixel = torch.cat([samples.trajectory, samples.features, samples.support], 1)
            values = values + self.residual(per_pixel.movedim(1, -1))
        smooth = self.neighbours(values.movedim(-1, 1), samples.observed)
        margin = NeighbourAttention.MARGIN
        observed, centre_observed = _crop(samples.observed, margin), _crop(samples.centre_observed, margin)
        expected = self.expected(smooth.movedim(1, -1)).movedim(-1, 1)
        detail = centre_observed * (_crop(samples.centre, margin) - expected)
        return Encoding(torch.cat([smooth, detail], 1) * observed, _crop(samples.support, margin), observed)

    def forward(self, context: SensorContext, centre_days: Tensor) -> Encoding:
        """Encode a context (T, C, H, W) at centre days (Q,) -> (Q, E, H - 14, W - 14)."""
        return self.encode(self.sample(context, centre_days))

    def __call__(self, *inputs: Any, **named: Any) -> Encoding:
        """Encode a context; see `forward`."""
        return cast(Encoding, super().__call__(*inputs, **named))
