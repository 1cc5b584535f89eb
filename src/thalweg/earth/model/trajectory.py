"""Smooth trajectories: frames estimated at day offsets by local regression, and averaged over similar neighbours.

Both are the same for a patch and for a whole cube: weights over dates depend on distances in days and on the frames'
own weights only, weights over neighbours on the pixels themselves.

Shapes: T dates of the sensor, Q centre dates, C bands, O day offsets, E dimensions.
"""

import math

import torch
from torch import Tensor, nn

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

EPS = 1e-12


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

    def forward(self, encoding: Tensor, observed: Tensor, stride: int = 1) -> Tensor:
        """Average encodings (Q, E, H, W) over neighbours that are observed (Q, 1, H, W) -> (Q, E, H - 10, W - 10).

        With a stride, every so many pixels in each direction only.
        """
        # Date by date, the arrays of all neighbours stay in the processor's cache.
        dates = [self._average(*date, stride) for date in zip(encoding.split(1), observed.split(1), strict=True)]
        return torch.cat(dates)

    def _average(self, encoding: Tensor, observed: Tensor, stride: int) -> Tensor:
        """Average the encodings of one date."""
        keys = encoding * self.log_sharpness.exp()[:, None, None]
        query = keys[..., self.MARGIN : -self.MARGIN : stride, self.MARGIN : -self.MARGIN : stride]
        height, width = (side - 2 * self.MARGIN for side in keys.shape[-2:])
        total, weights = torch.zeros_like(query), torch.full_like(query[:, :1], EPS)
        reach = 2 * torch.exp(2 * self.log_reach)
        for dy, dx in self.TAPS:
            rows = slice(self.MARGIN + dy, self.MARGIN + dy + height, stride)
            columns = slice(self.MARGIN + dx, self.MARGIN + dx + width, stride)
            dissimilarity = (keys[..., rows, columns] - query).square().sum(1, keepdim=True)
            weight = torch.exp(-dissimilarity - (dy**2 + dx**2) / reach) * observed[..., rows, columns]
            total = torch.addcmul(total, weight, encoding[..., rows, columns])
            weights = weights + weight
        return total / weights
