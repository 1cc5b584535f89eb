"""Encoder of one sensor (stage 1 of arXiv 2511.11706): the context of a pixel to one vector per centre date.

The encoder is dense by construction. Frames pass through unpadded convolutions once; per pixel, each centre date
attends to the frames around it; neighbours contribute through an attention in space. A 15 x 15 px patch and a whole
cube therefore give the same numbers.

The pixel's own value on the centre date reaches the encoding as it was measured. Where it is hidden, the encoding
starts from the linear interpolation between the valid dates before and after, and the network corrects it.

Shapes: T dates of the sensor, Q centre dates, C bands, O day offsets, F frame features, N pixels, E dimensions of the
encoding.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.earth.declarations import Sensor
from thalweg.earth.model.context import HALO, SAME_DAY, SensorContext, conditional_fill
from thalweg.earth.model.sensor_encoding import Encoding
from thalweg.earth.model.trajectory import NeighbourAttention, local_regression, log_support

NUM_FRAME_FEATURES = 24
NUM_SMOOTH_FEATURES = 8
WIDTH, HEADS, LAYERS, HIDDEN_SIZE = 96, 6, 2, 192
HEAD_SIZE = WIDTH // HEADS

MAX_DAYS = 200.0
"""Largest distance in days of a frame from the centre date that attends to it."""

MIN_PERIOD, MAX_PERIOD = 12.0, 800.0
"""Shortest and longest period in days of the rotations by which attention knows the time between two dates."""

GAP_DAYS = 20.0
"""Decay in days of the closeness of the valid dates before and after a centre date."""

MAX_STANDARDISED = 6.0
"""Bound of what the networks see of a band, in standard deviations; the direct path is not bounded."""

MIN_SUPPORT = 1e-9
"""Kernel-weighted validity below which nothing was observed."""

PIXELS_AT_ONCE = 64
"""Pixels whose attention is computed together: few enough that their keys and values stay in the cache."""


@dataclass(frozen=True)
class NeighbouringDates:
    """The centre date of N pixels at Q dates, and the valid dates before and after it.

    Attributes:
        centre: (N, Q, C), standardised bands on the centre date; 0 where hidden.
        observed: (N, Q, 1), 1 where the pixel is valid on the centre date.
        before: (N, Q, C), bands on the last valid date before; those after where there is none.
        after: (N, Q, C), bands on the next valid date; those before where there is none.
        interpolated: (N, Q, C), their linear interpolation in time; 0 without either.
        closeness: (N, Q, 2), exp(-gap / `GAP_DAYS`) of both; 0 where there is none.
    """

    centre: Tensor
    observed: Tensor
    before: Tensor
    after: Tensor
    interpolated: Tensor
    closeness: Tensor

    @property
    def direct(self) -> Tensor:
        """The bands as observed on the centre date, or interpolated where hidden, (N, Q, C)."""
        return torch.where(self.observed > 0, self.centre, self.interpolated)


def neighbouring_dates(values: Tensor, valid: Tensor, days: Tensor, centre_days: Tensor) -> NeighbouringDates:
    """Look up the centre date of every pixel and its valid dates before and after.

    Args:
        values: (N, T, C), 0 where invalid.
        valid: (N, T), 1 where valid.
        days: (T,), rising.
        centre_days: (Q,).
    """
    count, dates, bands = values.shape
    first = torch.searchsorted(days, centre_days - SAME_DAY)
    last = torch.searchsorted(days, centre_days + SAME_DAY, right=True)
    positions = torch.arange(dates, device=days.device)
    usable = valid > 0
    # Index of the last valid date up to each date, and of the next one; -1 and T where there is none.
    previous = torch.where(usable, positions, -1).cummax(1).values
    following = torch.where(usable, positions, dates).flip(1).cummin(1).values.flip(1)
    previous = torch.cat([previous.new_full((count, 1), -1), previous], 1)[:, first]
    following = torch.cat([following, following.new_full((count, 1), dates)], 1)[:, last]
    has_before, has_after = previous >= 0, following < dates

    def at(index: Tensor) -> tuple[Tensor, Tensor]:
        safe = index.clamp(0, max(dates - 1, 0))
        return values.gather(1, safe[..., None].expand(-1, -1, bands)), days[safe]

    before, day_before = at(previous)
    after, day_after = at(following)
    before, after = (
        torch.where(has_before[..., None], before, after * has_after[..., None]),
        torch.where(has_after[..., None], after, before * has_before[..., None]),
    )
    share = ((centre_days - day_before) / (day_after - day_before).clamp(min=1e-3)).clamp(0, 1)
    share = torch.where(has_before & has_after, share, 0.5)[..., None]
    gaps = torch.stack([centre_days - day_before, day_after - centre_days], -1)
    closeness = torch.exp(-gaps.clamp(min=0) / GAP_DAYS) * torch.stack([has_before, has_after], -1)
    inside = (positions >= first[:, None]) & (positions < last[:, None])
    weight = inside.to(values.dtype) / (valid @ inside.to(values.dtype).T).clamp(min=1)[..., None]
    weight = weight * valid[:, None]
    return NeighbouringDates(
        centre=weight @ values,
        observed=(weight.sum(-1, keepdim=True) > 0.5).to(values.dtype),
        before=before,
        after=after,
        interpolated=before * (1 - share) + after * share,
        closeness=closeness,
    )


def _crop(values: Tensor, margin: int, stride: int = 1) -> Tensor:
    return values[..., margin:-margin:stride, margin:-margin:stride]


def _pixels(values: Tensor, margin: int, stride: int) -> Tensor:
    """Crop and flatten (T, C, H, W) -> (N, T, C)."""
    return _crop(values, margin, stride).permute(2, 3, 0, 1).flatten(0, 1)


class FrameNetwork(nn.Module):
    """Features of single frames from 5 x 5 px, and the quality of each pixel of a frame."""

    MARGIN = 2

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(bands + 1, NUM_FRAME_FEATURES, 3),
            nn.GELU(),
            nn.Conv2d(NUM_FRAME_FEATURES, NUM_FRAME_FEATURES, 3),
            nn.GELU(),
        )
        self.quality = nn.Conv2d(NUM_FRAME_FEATURES, 1, 1)
        nn.init.zeros_(self.quality.weight)
        nn.init.zeros_(cast(Tensor, self.quality.bias))

    def forward(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features (T, F, H - 4, W - 4) and quality (T, 1, H - 4, W - 4), positive, of bands (T, C, H, W)."""
        features = self.layers(torch.cat([values, valid], 1))
        return features, torch.exp(4 * torch.tanh(self.quality(features) / 4))


class DateAttention(nn.Module):
    """Attention from centre dates to frames, per pixel, with continuous time: keys and values are rotated by their day.

    A value turned back by the day of the centre date holds the time between both, so that the network can tell what
    lies before from what lies after.
    """

    rates: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.nothing = nn.Parameter(torch.zeros(HEADS, HEAD_SIZE))
        self.log_decay = nn.Parameter(torch.linspace(math.log(6.0), math.log(150.0), HEADS))
        steps = torch.linspace(math.log(MIN_PERIOD), math.log(MAX_PERIOD), HEAD_SIZE // 2)
        self.register_buffer("rates", 2 * math.pi * torch.exp(-steps), persistent=False)
        self.network = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, HIDDEN_SIZE), nn.GELU(), nn.Linear(HIDDEN_SIZE, WIDTH)
        )

    def rotate(self, values: Tensor, days: Tensor, sign: float = 1.0) -> Tensor:
        """Rotate pairs of dimensions of (N, H, T, S) by the days (T,) of the dates."""
        angle = sign * days[:, None] * self.rates
        cosine, sine = angle.cos(), angle.sin()
        first, second = values.chunk(2, -1)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)

    def forward(
        self, state: Tensor, keys: Tensor, values: Tensor, valid: Tensor, days: Tensor, centre_days: Tensor
    ) -> Tensor:
        """Update the state of Q centre dates from T frames.

        Args:
            state: (N, Q, `WIDTH`).
            keys: (N, T, `WIDTH`).
            values: (N, T, `WIDTH`).
            valid: (N, T), bool.
            days: (T,).
            centre_days: (Q,).
        """

        def heads(tensor: Tensor) -> Tensor:
            return tensor.unflatten(-1, (HEADS, HEAD_SIZE)).transpose(1, 2)

        query = self.rotate(heads(self.query(self.norm(state))), centre_days)
        keys = self.rotate(heads(keys), days)
        values = self.rotate(heads(values), days)
        count = len(state)
        keys = torch.cat([keys, self.nothing[None, :, None].expand(count, -1, -1, -1)], 2)
        values = F.pad(values, (0, 0, 0, 1))
        distance = (centre_days[:, None] - days[None]).abs()
        bias = -distance / self.log_decay.exp()[:, None, None]
        bias = bias.masked_fill(distance > MAX_DAYS, -math.inf)
        bias = (
            F.pad(bias, (0, 1))
            + F.pad(torch.zeros_like(valid, dtype=bias.dtype).masked_fill(~valid, -math.inf), (0, 1))[:, None, None]
        )
        attended = F.scaled_dot_product_attention(query, keys, values, bias)
        attended = self.rotate(attended, centre_days, -1.0).transpose(1, 2).flatten(2)
        state = state + self.out(attended)
        return cast(Tensor, state + self.network(state))

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        """Update states; see `forward`."""
        return cast(Tensor, super().__call__(*inputs, **named))


class Encoder(nn.Module):
    """Encoder of one sensor: its context to an encoding at each centre date (stage 1 of arXiv 2511.11706).

    1. Frames: features and quality from 5 x 5 px.
    2. Smooth trajectory: local regression in time at the sensor's day offsets, weighted by validity and quality, and
       its mean over similar neighbours.
    3. State: attention from the centre date to the frames within `MAX_DAYS`.
    4. The encoding: E - C dimensions of context from the trajectories and the state, then the C bands on the centre
       date, as measured where observed, otherwise interpolated; both corrected by the network.

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
        self.context_size = sensor.encoding_size - bands
        self.frames = FrameNetwork(bands)
        self.summary = nn.Conv2d(NUM_FRAME_FEATURES, NUM_SMOOTH_FEATURES, 1)
        self.trajectory = nn.Linear(offsets * bands, self.context_size)
        self.neighbours = NeighbourAttention(self.context_size, offsets * bands)
        self.tokens = nn.Linear(NUM_FRAME_FEATURES + bands, 2 * LAYERS * WIDTH)
        self.start = nn.Sequential(nn.Linear(5 * bands + 3, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.attention = nn.ModuleList(DateAttention() for _ in range(LAYERS))
        inputs = 2 * self.context_size + offsets * (NUM_SMOOTH_FEATURES + 1) + WIDTH + 3
        self.context = nn.Sequential(
            nn.Linear(inputs, HIDDEN_SIZE), nn.GELU(), nn.Linear(HIDDEN_SIZE, self.context_size)
        )
        self.correction = nn.Sequential(
            nn.Linear(inputs + 2 * bands, HIDDEN_SIZE), nn.GELU(), nn.Linear(HIDDEN_SIZE, bands)
        )
        for network in (self.context, self.correction):
            last = cast(nn.Linear, network[-1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
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

    def smooth(
        self, values: Tensor, valid: Tensor, features: Tensor, quality: Tensor, days: Tensor, centre_days: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Estimate the trajectory around centre days (Q,) of bands (T, C, H, W) -> (Q, ..., H - 4, W - 4).

        Returns:
            Standardised bands (Q, O, C, ...) and features (Q, O, `NUM_SMOOTH_FEATURES`, ...) at the offsets, and the
            support (Q, O, ...), the kernel-weighted validity.
        """
        weight = _crop(valid, 1)
        pooled = F.avg_pool2d(torch.cat([_crop(values, 1) * weight, weight], 1), 3, 1)
        own_weight = pooled[:, -1:]
        channels = torch.cat([pooled[:, :-1], self.summary(features) * own_weight, own_weight], 1) * quality
        estimates, _ = local_regression(channels, days, centre_days, self.sensor.offsets)
        _, support = local_regression(own_weight.expand(-1, 2, -1, -1), days, centre_days, self.sensor.offsets)
        bands = values.shape[1]
        return estimates[:, :, :bands], estimates[:, :, bands:], support[:, :, 0]

    def trajectories(self, context: SensorContext, centre_days: Tensor) -> tuple[Tensor, Tensor]:
        """Return smooth trajectories (Q, O * C, H - 4, W - 4), standardised, and where there are any, bool."""
        values = self.complete(context).clamp(-MAX_STANDARDISED, MAX_STANDARDISED)
        features, quality = self.frames(values, context.valid)
        bands, _, support = self.smooth(values, context.valid, features, quality, context.days, centre_days)
        return bands.flatten(1, 2), support.amax(1) > MIN_SUPPORT

    def attend(
        self, values: Tensor, features: Tensor, valid: Tensor, context: SensorContext, centre_days: Tensor
    ) -> tuple[NeighbouringDates, Tensor]:
        """Look up and attend: the dates next to each centre date, and the state (N, Q, `WIDTH`) of N pixels.

        Args:
            values: (N, T, C), standardised, 0 where invalid.
            features: (N, T, F).
            valid: (N, T).
            context: whose days and bands these are.
            centre_days: (Q,).
        """
        near = neighbouring_dates(values, valid, context.days, centre_days)
        bounded = values.clamp(-MAX_STANDARDISED, MAX_STANDARDISED)
        tokens = self.tokens(torch.cat([features, bounded], -1)).chunk(2 * LAYERS, -1)
        shown = context.present.to(values.dtype).expand(*near.centre.shape)
        parts = [near.centre, near.direct, near.before, near.after]
        start = torch.cat([*parts, shown, near.observed, near.closeness], -1)
        state = self.start(start.clamp(-MAX_STANDARDISED, MAX_STANDARDISED))
        for layer, attention in enumerate(self.attention):
            state = attention(state, tokens[2 * layer], tokens[2 * layer + 1], valid > 0, context.days, centre_days)
        return near, state

    def forward(self, context: SensorContext, centre_days: Tensor, stride: int = 1) -> Encoding:
        """Encode a context.

        Args:
            context: (T, C, H, W).
            centre_days: (Q,).
            stride: encode every so many pixels in each direction only, beginning with the first inside the margin.

        Returns:
            (Q, E, h, w) with h = ceil((H - 14) / stride), w alike.
        """
        context = context.in_order()
        values = self.complete(context)
        if not len(context.days):
            return self._nothing(values, len(centre_days), stride)
        bounded = values.clamp(-MAX_STANDARDISED, MAX_STANDARDISED)
        features, quality = self.frames(bounded, context.valid)
        bands, smooth_features, support = self.smooth(
            bounded, context.valid, features, quality, context.days, centre_days
        )
        margin = NeighbourAttention.MARGIN
        logs = log_support(support)
        linear = self.trajectory(bands.flatten(1, 2).movedim(1, -1)).movedim(-1, 1)
        around = (support.amax(1, keepdim=True) > MIN_SUPPORT).to(values.dtype)
        similar = self.neighbours(linear, around, stride)
        own = _crop(linear, margin, stride)
        height, width = own.shape[-2:]
        inner_values, inner_features = _pixels(values, HALO, stride), _pixels(features, margin, stride)
        valid = _pixels(context.valid, HALO, stride)[..., 0]
        pieces = [
            self.attend(inner_values[some], inner_features[some], valid[some], context, centre_days)
            for some in torch.arange(len(valid), device=valid.device).split(PIXELS_AT_ONCE)
        ]

        def per_pixel(parts: list[Tensor]) -> Tensor:
            return torch.cat(parts).unflatten(0, (height, width)).permute(2, 0, 1, 3)

        def per_date(tensor: Tensor) -> Tensor:
            return tensor.movedim(1, -1)

        direct = per_pixel([near.direct for near, _ in pieces])
        evidence = per_pixel([torch.cat([near.observed, near.closeness], -1) for near, _ in pieces])
        spread_of_dates = per_pixel([near.after - near.before for near, _ in pieces])
        inputs = torch.cat(
            [
                per_date(similar),
                per_date(own),
                per_date(_crop(smooth_features.flatten(1, 2), margin, stride)),
                per_date(_crop(logs, margin, stride)),
                per_pixel([state for _, state in pieces]),
                evidence,
            ],
            -1,
        )
        encoded = per_date(similar) + self.context(inputs)
        bounded_dates = torch.cat([direct, spread_of_dates], -1).clamp(-MAX_STANDARDISED, MAX_STANDARDISED)
        centre = direct + self.correction(torch.cat([inputs, bounded_dates], -1))
        observed = _crop(around, margin, stride)
        all_values = torch.cat([encoded, centre], -1).movedim(-1, 1) * observed
        all_support = torch.cat([_crop(logs, margin, stride), evidence.movedim(-1, 1)], 1)
        return Encoding(all_values, all_support, observed)

    def _nothing(self, values: Tensor, count: int, stride: int) -> Encoding:
        height, width = values[0, 0].shape if len(values) else values.shape[-2:]
        rows, columns = (-(-(side - 2 * HALO) // stride) for side in (height, width))
        empty = values.new_zeros(count, 1, rows, columns)
        sizes = self.sensor.encoding_size, support_size(self.sensor)
        return Encoding(empty.expand(-1, sizes[0], -1, -1), empty.expand(-1, sizes[1], -1, -1), empty)

    def __call__(self, *inputs: Any, **named: Any) -> Encoding:
        """Encode a context; see `forward`."""
        return cast(Encoding, super().__call__(*inputs, **named))


def support_size(sensor: Sensor) -> int:
    """Number of entries of an encoding's support: one per day offset, the centre date, and the gaps on both sides."""
    return len(sensor.offsets) + 3
