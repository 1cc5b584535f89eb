"""Stage 2: any number of frozen encoders, one nested embedding.

What an absent sensor would have said is filled by its conditional mean given the others, so that every set of
sensors goes through the same weights. The linear path starts as principal components of what the decoders
rebuild; the first `SMALL` values stand alone, and a residual is learned on top.
"""

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

_HIDDEN = 96


@dataclass(frozen=True)
class Fused:
    """Embeddings of centre pixels: values and their predicted spread, both (Q, 32, h, w)."""

    values: Tensor
    spread: Tensor


class LinearStart(Declaration):
    """How the fusion's linear path begins; chosen on the probes (docs/model-card.md)."""

    states: int = Field(default=5, ge=1, le=SMALL, description="of the first 7 values, those led by the context")
    ridge: float = Field(default=0.003, gt=0, description="holds back the correction toward the centre date")
    companion_weight: float = Field(default=0.5, ge=0, description="weight of sensors that do not set the dates")
    detail_weight: float = Field(default=2.0, ge=0, description="weight of the centre date in the last 25 values")

    def views(self, sensors: Sequence[Sensor], rebuild: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of `rebuild` weighted as smooth trajectories, as whole contexts, and summed up as the centre date."""
        trajectory, everything, centre = [], [], []
        row = 0
        for sensor in sensors:
            bands, offsets = len(sensor.bands), len(sensor.offsets)
            weight = 1.0 if sensor.sets_dates else self.companion_weight
            nodes = rebuild[row : row + offsets * bands]
            detail = rebuild[row + offsets * bands : row + (offsets + 1) * bands]
            trajectory.append(weight * nodes)
            everything.extend([weight * nodes, self.detail_weight * weight * detail])
            if sensor.sets_dates:
                nearest = sensor.offsets.index(0) * bands
                centre.append(nodes[nearest : nearest + bands] + detail)
            row += (offsets + 1) * bands
        if not centre:
            raise UsageError("none of the sensors sets the dates: fusion needs one that does")
        return torch.cat(trajectory), torch.cat(everything), torch.cat(centre)


class Fusion(nn.Module):
    """Encodings of several sensors -> one nested embedding, and back to each sensor's encoding."""

    mean: Tensor
    covariance: Tensor
    embedding_scale: Tensor
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
        self.heads = nn.ModuleDict({sensor.name: _Head(sensor.encoding_size) for sensor in self.sensors})
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("covariance", torch.eye(total))
        self.register_buffer("embedding_scale", torch.ones(FULL))
        self.register_buffer("quantiles", torch.tensor([0.674, 0.994, 1.282, 1.645, 1.960]))

    def forward(self, encodings: Mapping[str, Encoding]) -> Fused:
        """Fuse encodings by sensor name; a sensor that is absent, or unseen at a pixel, is filled."""
        joined, evidence, seen = self._gather(encodings)
        completed = self._complete(joined, seen) - self.mean
        deviation = self.covariance.diagonal().clamp(min=1e-6).sqrt()
        base = self.linear(completed)
        values = base + self.residual(torch.cat([completed / deviation, evidence], -1)) * self.embedding_scale
        spread = self.spread(torch.cat([(values / self.embedding_scale).detach(), evidence], -1))
        spread = F.softplus(spread - 2) * self.embedding_scale
        return Fused(values.movedim(-1, 1), spread.movedim(-1, 1))

    def __call__(self, *inputs: Any, **named: Any) -> Fused:
        """See `forward`."""
        return cast(Fused, super().__call__(*inputs, **named))

    def encoding(self, embedding: Tensor, sensor: str, size: int = FULL) -> Tensor:
        """The sensor's encoding (Q, E, h, w) from the first `size` values of an embedding (Q, 32, h, w)."""
        kept = (torch.arange(FULL, device=embedding.device) < size).to(embedding.dtype)
        pixels = (embedding * kept[:, None, None]).movedim(1, -1)
        head = cast(_Head, self.heads[sensor])
        return cast(Tensor, head(pixels, pixels / self.embedding_scale)).movedim(-1, 1)

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
    def fit_linear(self, joined: Tensor, dates: Tensor, rebuild: Tensor, start: LinearStart) -> None:
        """Start the linear paths from encodings seen in training.

        The first values are principal components of how places differ on one date, corrected toward the centre
        date like a Kalman filter's state toward an observation; the next ones hold what the centre date shows
        beyond that; the others describe what is left of the whole context.

        Args:
            joined: (N, D), encodings of all sensors side by side.
            dates: (N,), which scene (tile and date) each is from.
            rebuild: (P, D), the decoders' linear paths, block-diagonal: what each encoding stands for.
            start: sizes and weights of the parts.
        """
        joined, rebuild = joined.double(), rebuild.double()
        mean = joined.mean(0)
        covariance = torch.cov((joined - mean).T)
        scenes = torch.zeros(int(dates.max()) + 1, joined.shape[1], dtype=joined.dtype).index_reduce(
            0, dates, joined, "mean", include_self=False
        )
        contrast = torch.cov((joined - scenes[dates]).T)
        trajectory, everything, centre = start.views(self.sensors, rebuild)

        def components(of: Tensor, view: Tensor, count: int) -> Tensor:
            axes = torch.linalg.eigh(view @ of @ view.T)[1].flip(1)[:, :count]
            return axes.T @ view

        def regression(target: Tensor, on: Tensor) -> Tensor:
            return torch.linalg.solve(on @ covariance @ on.T, on @ covariance @ target.T).T

        state = components(contrast, trajectory, start.states)
        observed = regression(centre, state)
        normal = observed.T @ observed
        gain = torch.linalg.solve(
            normal + start.ridge * normal.trace() / len(normal) * torch.eye(len(normal)), observed.T
        )
        state = state + gain @ (centre - observed @ state)
        beyond = centre - regression(centre, state) @ state
        state = torch.cat([state, components(covariance, beyond, SMALL - start.states)])
        context = everything - regression(everything, state) @ state
        axes = torch.cat([state, components(covariance, context, FULL - SMALL)])

        spread = (axes @ covariance @ axes.T).diagonal().sqrt()
        axes = axes / spread[0]  # one common factor: distances keep their meaning, values stay of order one
        self.mean.copy_(mean)
        self.covariance.copy_(covariance)
        self.linear.weight.copy_(axes)
        self.embedding_scale.copy_(spread / spread[0])
        back = regression(torch.eye(len(mean), dtype=joined.dtype), axes)
        parts = zip(
            self.sensors, back.split(list(self.sizes.values())), mean.split(list(self.sizes.values())), strict=True
        )
        for sensor, weight, bias in parts:
            head = cast(_Head, self.heads[sensor.name])
            head.linear.weight.copy_(weight)
            head.linear.bias.copy_(bias)

    def intervals(self, spread: Tensor, level: float) -> Tensor:
        """Half-width of the interval that holds the value with probability `level` (one of QUANTILE_LEVELS)."""
        return spread * self.quantiles[QUANTILE_LEVELS.index(level)]


class _Head(nn.Module):
    """From an embedding to one sensor's encoding: a linear path and a residual that starts at zero."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(FULL, size)
        self.residual = _perceptron(FULL, size)

    def forward(self, pixels: Tensor, standardised: Tensor) -> Tensor:
        """(..., 32) and the same in standard deviations -> (..., E)."""
        return cast(Tensor, self.linear(pixels) + self.residual(standardised))


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Two layers whose output starts at zero."""
    last = nn.Linear(_HIDDEN, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.GELU(), last)
