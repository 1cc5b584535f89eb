"""Stage 2: any number of frozen encoders, one nested embedding.

What an absent sensor would have said is filled by its conditional mean given the others, so that every set of
sensors goes through the same weights. The linear path starts as minimum noise fractions of what the decoders
rebuild; the first `SMALL` values stand alone, and a residual is learned on top.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from thalweg.earth.context import conditional_fill
from thalweg.earth.encoder import Encoding
from thalweg.earth.sensors import Declaration, Sensor
from thalweg.errors import UsageError

SMALL, FULL = 7, 32
"""Values of the embedding that stand alone (the paper's size), and all of them."""

QUANTILE_LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Coverage levels at which the predicted spread is calibrated."""

_HIDDEN = 128


@dataclass(frozen=True)
class Fused:
    """Embeddings of centre pixels: values and their predicted spread, both (Q, 32, h, w)."""

    values: Tensor
    spread: Tensor


class LinearStart(Declaration):
    """How the fusion's linear path begins; chosen on the probes (docs/model-card.md)."""

    small_companion_weight: float = Field(
        default=0.02, ge=0, description="weight in the first 7 values of sensors that do not set the dates"
    )
    small_centre_weight: float = Field(
        default=0.1, ge=0, description="weight in the first 7 values of the centre date itself"
    )
    small_reach_days: float = Field(
        default=70.0, gt=0, description="standard deviation in days of how near the first 7 values look"
    )
    companion_weight: float = Field(
        default=0.35, ge=0, description="weight in the last 25 values of sensors that do not set the dates"
    )
    centre_components: int = Field(
        default=6, ge=0, le=FULL - SMALL, description="values after the 7th that hold the centre date"
    )
    noise_floor: float = Field(
        default=0.1, gt=0, description="noise of every direction at least, as a share of the mean noise"
    )

    def views(
        self, sensors: Sequence[Sensor], rebuild: Tensor, companion_weight: float, reach_days: float = math.inf
    ) -> tuple[Tensor, Tensor]:
        """Rows of `rebuild`: the smooth trajectories, and what they and the detail say of the centre date."""
        if not any(sensor.sets_dates for sensor in sensors):
            raise UsageError("none of the sensors sets the dates: fusion needs one that does")
        trajectory, centre = [], []
        row = 0
        for sensor in sensors:
            bands, offsets = len(sensor.bands), len(sensor.offsets)
            weight = 1.0 if sensor.sets_dates else companion_weight
            nodes = rebuild[row : row + offsets * bands]
            nearest = nodes[sensor.offsets.index(0) * bands :][:bands]
            detail = rebuild[row + offsets * bands :][:bands]
            away = torch.tensor(sensor.offsets, dtype=rebuild.dtype).repeat_interleave(bands)
            trajectory.append(weight * torch.exp(-0.5 * (away / reach_days) ** 2)[:, None] * nodes)
            # Only the sensor that sets the dates is sure to have seen the centre date.
            centre.append(weight * (nearest + detail if sensor.sets_dates else nearest))
            row += (offsets + 1) * bands
        return torch.cat(trajectory), torch.cat(centre)


class Fusion(nn.Module):
    """Encodings of several sensors -> one nested embedding, and back to each sensor's encoding."""

    mean: Tensor
    covariance: Tensor
    embedding_scale: Tensor
    spread_scale: Tensor
    quantiles: Tensor

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        super().__init__()
        self.sensors = tuple(sensors)
        self.sizes = {sensor.name: sensor.encoding_size for sensor in self.sensors}
        total = sum(self.sizes.values())
        evidence = sum(len(sensor.offsets) + 1 for sensor in self.sensors)
        self.linear = nn.Linear(total, FULL, bias=False)
        self.residual = _perceptron(total + evidence, FULL)
        self.spread = _perceptron(FULL + evidence, FULL)
        self.small_heads = nn.ModuleDict({sensor.name: _Head(SMALL, sensor.encoding_size) for sensor in self.sensors})
        self.full_heads = nn.ModuleDict({sensor.name: _Head(FULL, sensor.encoding_size) for sensor in self.sensors})
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("covariance", torch.eye(total))
        self.register_buffer("embedding_scale", torch.ones(FULL))
        self.register_buffer("spread_scale", torch.ones(FULL))
        self.register_buffer("quantiles", torch.tensor([0.674, 0.994, 1.282, 1.645, 1.960]))

    def forward(self, encodings: Mapping[str, Encoding]) -> Fused:
        """Fuse encodings by sensor name; a sensor that is absent, or unseen at a pixel, is filled."""
        completed, evidence = self.join(encodings)
        deviation = self.covariance.diagonal().clamp(min=1e-6).sqrt()
        base = self.linear(completed)
        values = base + self.residual(torch.cat([completed / deviation, evidence], -1)) * self.embedding_scale
        spread = self.spread(torch.cat([(values / self.embedding_scale).detach(), evidence], -1))
        spread = F.softplus(spread - 2) * self.spread_scale
        return Fused(values.movedim(-1, 1), spread.movedim(-1, 1))

    def __call__(self, *inputs: Any, **named: Any) -> Fused:
        """See `forward`."""
        return cast(Fused, super().__call__(*inputs, **named))

    def encoding(self, embedding: Tensor, sensor: str, size: int = FULL) -> Tensor:
        """The sensor's encoding (Q, E, h, w) from the first `size` (7 or 32) values of an embedding (Q, K, h, w)."""
        head = cast(_Head, (self.small_heads if size == SMALL else self.full_heads)[sensor])
        pixels = embedding[:, :size].movedim(1, -1)
        return cast(Tensor, head(pixels, pixels / self.embedding_scale[:size])).movedim(-1, 1)

    def join(self, encodings: Mapping[str, Encoding]) -> tuple[Tensor, Tensor]:
        """Encodings side by side, less their mean, absent ones filled; and the evidence; both (Q, h, w, ...)."""
        joined, evidence, seen = self._gather(encodings)
        return self._complete(joined, seen) - self.mean, evidence

    def _gather(self, encodings: Mapping[str, Encoding]) -> tuple[Tensor, Tensor, Tensor]:
        some = next(iter(encodings.values()))
        count, _, height, width = some.values.shape
        values, evidence, seen = [], [], []
        for sensor in self.sensors:
            encoding = encodings.get(sensor.name)
            if encoding is None:
                empty = some.values.new_zeros(count, height, width, 1)
                values.append(empty.expand(-1, -1, -1, sensor.encoding_size))
                evidence.append(empty.expand(-1, -1, -1, len(sensor.offsets) + 1))
                seen.append(empty)
            else:
                values.append(encoding.values.movedim(1, -1))
                here = encoding.seen.movedim(1, -1)
                evidence.extend([encoding.support.movedim(1, -1), here])
                seen.append(here)
        return torch.cat(values, -1), torch.cat(evidence, -1), torch.cat(seen, -1) > 0

    def _complete(self, joined: Tensor, seen: Tensor) -> Tensor:
        """Fill the encodings of unseen sensors, pattern by pattern of what is seen."""
        powers = 2 ** torch.arange(len(self.sensors), device=joined.device)
        patterns = (seen * powers).sum(-1)
        sizes = torch.tensor(list(self.sizes.values()), device=joined.device)
        codes = patterns.unique()
        completed = joined.clone() if len(codes) > 1 else joined
        for code in codes:
            present = ((code // powers) % 2 == 1).repeat_interleave(sizes)
            if bool(present.all()):
                continue
            matrix, offset = conditional_fill(self.mean, self.covariance, present)
            if len(codes) == 1:
                return joined @ matrix.T + offset
            chosen = patterns == code
            completed[chosen] = joined[chosen] @ matrix.T + offset
        return completed

    @torch.no_grad()
    def fit_linear(self, joined: Tensor, moved: Tensor, rebuild: Tensor, start: LinearStart) -> None:
        """Start the linear paths from encodings seen in training.

        The first values are minimum noise fractions of the context (Green et al. 1988,
        doi:10.1109/36.3001): directions in which places and dates differ most, in units of how far they move
        when half of the context is hidden. The others hold what the centre date shows beyond that, and the
        same fractions of what is left of the context.

        Args:
            joined: (N, D), encodings of all sensors side by side.
            moved: (M, D), how encodings move when half of the context dates are hidden.
            rebuild: (P, D), the decoders' linear paths, block-diagonal: what each encoding stands for.
            start: sizes and weights of the parts.
        """
        joined, moved, rebuild = joined.double(), moved.double(), rebuild.double()
        mean = joined.mean(0)
        covariance, noise = torch.cov((joined - mean).T), moved.T @ moved / len(moved)
        trajectory, centre = start.views(self.sensors, rebuild, start.small_companion_weight, start.small_reach_days)
        small_view = torch.cat([trajectory, start.small_centre_weight * centre])
        trajectory, centre = start.views(self.sensors, rebuild, start.companion_weight)

        def deviation(axes: Tensor) -> Tensor:
            return (axes @ covariance @ axes.T).diagonal().sqrt()

        def components(view: Tensor, count: int) -> Tensor:
            axes = torch.linalg.eigh(view @ covariance @ view.T)[1].flip(1)[:, :count]
            return axes.T @ view

        def noise_fractions(view: Tensor, count: int) -> Tensor:
            moves = view @ noise @ view.T
            floor = start.noise_floor * moves.diagonal().mean().clamp(min=1e-12)
            power, axes = torch.linalg.eigh(moves + floor * torch.eye(len(moves), dtype=moves.dtype))
            return components((axes / power.sqrt()) @ axes.T @ view, count)

        def regression(target: Tensor, on: Tensor) -> Tensor:
            return torch.linalg.solve(on @ covariance @ on.T, on @ covariance @ target.T).T

        def beyond(view: Tensor, known: Tensor) -> Tensor:
            return view - regression(view, known) @ known

        axes = noise_fractions(small_view, SMALL)
        held = components(beyond(centre, axes), start.centre_components)
        # What is held of the centre date has no noise of this kind: it counts as much as the seventh value.
        held = held * (deviation(axes)[-1] / deviation(held))[:, None]
        axes = torch.cat([axes, held])
        axes = torch.cat([axes, noise_fractions(beyond(trajectory, axes), FULL - len(axes))])

        spread = deviation(axes)
        axes = axes / spread[0]  # one common factor: distances keep their meaning, values of order one
        self.mean.copy_(mean)
        self.covariance.copy_(covariance)
        self.linear.weight.copy_(axes)
        self.embedding_scale.copy_(spread / spread[0])
        self.spread_scale.copy_(self.embedding_scale)
        sizes = list(self.sizes.values())
        for size, heads in ((SMALL, self.small_heads), (FULL, self.full_heads)):
            back = regression(torch.eye(len(mean), dtype=joined.dtype), axes[:size])
            for sensor, weight, bias in zip(self.sensors, back.split(sizes), mean.split(sizes), strict=True):
                head = cast(_Head, heads[sensor.name])
                head.linear.weight.copy_(weight)
                head.linear.bias.copy_(bias)

    def intervals(self, spread: Tensor, level: float) -> Tensor:
        """Half-width of the interval that holds the value with probability `level` (one of QUANTILE_LEVELS)."""
        return spread * self.quantiles[QUANTILE_LEVELS.index(level)]


class _Head(nn.Module):
    """From an embedding to one sensor's encoding: a linear path and a residual that starts at zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.residual = _perceptron(inputs, outputs)

    def forward(self, pixels: Tensor, standardised: Tensor) -> Tensor:
        """(..., K) and the same in standard deviations -> (..., E)."""
        return cast(Tensor, self.linear(pixels) + self.residual(standardised))


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Three layers whose output starts at zero."""
    last = nn.Linear(_HIDDEN, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), last)
