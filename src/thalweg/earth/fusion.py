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

_HIDDEN = 128


@dataclass(frozen=True)
class Fused:
    """Embeddings of centre pixels: values and their predicted spread, both (Q, 32, h, w)."""

    values: Tensor
    spread: Tensor


class LinearStart(Declaration):
    """How the fusion's linear path begins; chosen on the probes (docs/model-card.md)."""

    companion_weight: float = Field(
        default=0.35, ge=0, description="weight in the first 7 values of sensors that do not set the dates"
    )
    centre_components: int = Field(
        default=6, ge=0, le=FULL - SMALL, description="components of the centre date mixed into the last 25"
    )

    def views(self, sensors: Sequence[Sensor], rebuild: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of `rebuild`: smooth trajectories weighted, the same alike, and summed up as the centre date."""
        trajectory, alike, centre = [], [], []
        row = 0
        for sensor in sensors:
            bands, offsets = len(sensor.bands), len(sensor.offsets)
            nodes = rebuild[row : row + offsets * bands]
            trajectory.append(nodes * (1.0 if sensor.sets_dates else self.companion_weight))
            alike.append(nodes)
            if sensor.sets_dates:
                nearest = sensor.offsets.index(0) * bands
                centre.append(nodes[nearest : nearest + bands] + rebuild[row + offsets * bands :][:bands])
            row += (offsets + 1) * bands
        if not centre:
            raise UsageError("none of the sensors sets the dates: fusion needs one that does")
        return torch.cat(trajectory), torch.cat(alike), torch.cat(centre)


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
        self.small_heads = nn.ModuleDict({sensor.name: _Head(SMALL, sensor.encoding_size) for sensor in self.sensors})
        self.full_heads = nn.ModuleDict({sensor.name: _Head(FULL, sensor.encoding_size) for sensor in self.sensors})
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("covariance", torch.eye(total))
        self.register_buffer("embedding_scale", torch.ones(FULL))
        self.register_buffer("quantiles", torch.tensor([0.674, 0.994, 1.282, 1.645, 1.960]))

    def forward(self, encodings: Mapping[str, Encoding]) -> Fused:
        """Fuse encodings by sensor name; a sensor that is absent, or unseen at a pixel, is filled."""
        completed, evidence = self.join(encodings)
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
    def fit_linear(self, joined: Tensor, scenes: Tensor, rebuild: Tensor, start: LinearStart) -> None:
        """Start the linear paths from encodings seen in training.

        The first values are principal components of how the contexts of places differ on one date; the others
        mix, evenly spread, what the centre date shows beyond that and what is left of the whole context.

        Args:
            joined: (N, D), encodings of all sensors side by side.
            scenes: (N,), which scene (tile and date) each is from.
            rebuild: (P, D), the decoders' linear paths, block-diagonal: what each encoding stands for.
            start: sizes and weights of the parts.
        """
        joined, rebuild = joined.double(), rebuild.double()
        mean = joined.mean(0)
        covariance = torch.cov((joined - mean).T)
        counts = torch.bincount(scenes).to(joined.dtype)
        centres = torch.zeros(len(counts), joined.shape[1], dtype=joined.dtype).index_add_(0, scenes, joined)
        contrast = torch.cov((joined - (centres / counts[:, None])[scenes]).T)
        trajectory, alike, centre = start.views(self.sensors, rebuild)

        def components(of: Tensor, view: Tensor, count: int) -> Tensor:
            axes = torch.linalg.eigh(view @ of @ view.T)[1].flip(1)[:, :count]
            return axes.T @ view

        def regression(target: Tensor, on: Tensor) -> Tensor:
            return torch.linalg.solve(on @ covariance @ on.T, on @ covariance @ target.T).T

        def beyond(view: Tensor, known: Tensor) -> Tensor:
            return view - regression(view, known) @ known

        axes = components(contrast, trajectory, SMALL)
        axes = torch.cat([axes, components(covariance, beyond(centre, axes), start.centre_components)])
        axes = torch.cat([axes, components(covariance, beyond(alike, axes), FULL - len(axes))])
        axes = torch.cat([axes[:SMALL], _cosines(FULL - SMALL, axes) @ axes[SMALL:]])

        spread = (axes @ covariance @ axes.T).diagonal().sqrt()
        axes = axes / spread[0]  # one common factor: distances keep their meaning, values stay of order one
        self.mean.copy_(mean)
        self.covariance.copy_(covariance)
        self.linear.weight.copy_(axes)
        self.embedding_scale.copy_(spread / spread[0])
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


def _cosines(size: int, like: Tensor) -> Tensor:
    """An orthogonal matrix that spreads variance evenly over values (the discrete cosine transform).

    Whoever standardises the values then weighs the components by their variance, not all alike.
    """
    steps = torch.arange(size, dtype=like.dtype)
    matrix = torch.cos(torch.pi / size * steps[:, None] * (steps[None] + 0.5)) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix.T


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Three layers whose output starts at zero."""
    last = nn.Linear(_HIDDEN, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), last)
