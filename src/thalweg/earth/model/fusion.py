"""Stage 2: any number of frozen encoders, one nested embedding.

What an absent sensor would have said is filled by its conditional mean given the others, so that every set of
sensors goes through the same weights. The embedding is minimum noise fractions of what the decoders rebuild, of which
the first `SMALL` stand alone; after them come the colours of the centre date. A residual is learned on top.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from thalweg.earth.model.context import conditional_fill
from thalweg.earth.model.encoder import Encoding, kernel, log_support
from thalweg.earth.sensors import Declaration, Sensor
from thalweg.errors import UsageError

SMALL, FULL = 7, 32
"""Values of the embedding that stand alone (the paper's size), and all of them."""

QUANTILE_LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Coverage levels at which the predicted spread is calibrated."""

COLOURS, BESIDE = 6, 2
"""Values after the seventh that hold the centre date, and those that hold what its companions say of it."""

_HIDDEN = 128
_DARKEST, _BRIGHTEST = 0.005, 2.0  # reflectance: under it a logarithm tells noise, above it nothing real
_LEAST, _DULL = 1e-6, 1e-3  # a variance, and a deviation of a colour, under which nothing varies


@dataclass(frozen=True)
class Fused:
    """Embeddings of centre pixels: values and their predicted spread, both (Q, 32, h, w)."""

    values: Tensor
    spread: Tensor


class LinearStart(Declaration):
    """How the fusion's fractions begin; chosen on the probes (docs/model-card.md)."""

    small_companion_weight: float = Field(
        default=0.02, ge=0, description="weight in the first 7 values of sensors that do not set the dates"
    )
    small_reach_days: float = Field(
        default=70.0, gt=0, description="standard deviation in days of how near the first 7 values look"
    )
    companion_weight: float = Field(
        default=0.35, ge=0, description="weight after the colours of sensors that do not set the dates"
    )
    noise_floor: float = Field(
        default=0.1, gt=0, description="noise of every direction at least, as a share of the mean noise"
    )

    def views(
        self, sensors: Sequence[Sensor], rebuild: Tensor, companion_weight: float, reach_days: float = math.inf
    ) -> tuple[Tensor, Tensor]:
        """Rows of `rebuild`: the smooth trajectories, and those of companions at the centre date."""
        trajectory, companions = [], [rebuild[:0]]
        row = 0
        for sensor in sensors:
            bands, offsets = len(sensor.bands), len(sensor.offsets)
            weight = 1.0 if sensor.is_reference else companion_weight
            nodes = rebuild[row : row + offsets * bands]
            away = torch.tensor(sensor.offsets, dtype=rebuild.dtype).repeat_interleave(bands)
            trajectory.append(weight * torch.exp(-0.5 * (away / reach_days) ** 2)[:, None] * nodes)
            if not sensor.is_reference:
                companions.append(weight * nodes[sensor.offsets.index(0) * bands :][:bands])
            row += (offsets + 1) * bands
        return torch.cat(trajectory), torch.cat(companions)


class Fusion(nn.Module):
    """Encodings of several sensors -> one nested embedding, and back to each sensor's encoding.

    Where nothing but the centre date was seen, the fractions are what its colours let expect.
    """

    mean: Tensor
    covariance: Tensor
    spectrum: Tensor
    spectrum_mean: Tensor
    spectrum_scale: Tensor
    colour_axes: Tensor
    colour_mean: Tensor
    colour_inverse: Tensor
    expected: Tensor
    lone_support: Tensor
    embedding_scale: Tensor
    spread_scale: Tensor
    quantiles: Tensor

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        super().__init__()
        self.sensors = tuple(sensors)
        if not any(sensor.is_reference for sensor in self.sensors):
            raise UsageError("none of the sensors sets the dates: fusion needs one that does")
        self.reference = next(sensor for sensor in self.sensors if sensor.is_reference)
        self.sizes = {sensor.name: sensor.encoding_size for sensor in self.sensors}
        total, bands = sum(self.sizes.values()), len(self.reference.bands)
        evidence = sum(len(sensor.offsets) + 1 for sensor in self.sensors)
        self.linear = nn.Linear(total, FULL - COLOURS, bias=False)
        self.residual = _perceptron(total + evidence, FULL)
        self.spread = _perceptron(FULL + evidence, FULL)
        self.small_heads = nn.ModuleDict({sensor.name: _Head(SMALL, sensor.encoding_size) for sensor in self.sensors})
        self.full_heads = nn.ModuleDict(
            {sensor.name: _Head(FULL + bands, sensor.encoding_size) for sensor in self.sensors}
        )
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("covariance", torch.eye(total))
        self.register_buffer("spectrum", torch.eye(bands, total))
        self.register_buffer("spectrum_mean", torch.ones(bands))
        self.register_buffer("spectrum_scale", torch.ones(bands))
        self.register_buffer("colour_axes", torch.eye(COLOURS, bands))
        self.register_buffer("colour_mean", torch.zeros(bands))
        self.register_buffer("colour_inverse", torch.eye(bands, COLOURS))
        self.register_buffer("expected", torch.zeros(FULL - COLOURS, COLOURS))
        self.register_buffer("lone_support", _lone_support(self.sensors), persistent=False)
        self.register_buffer("embedding_scale", torch.ones(FULL))
        self.register_buffer("spread_scale", torch.ones(FULL))
        self.register_buffer("quantiles", torch.tensor([0.674, 0.994, 1.282, 1.645, 1.960]))

    def forward(self, encodings: Mapping[str, Encoding]) -> Fused:
        """Fuse encodings by sensor name; a sensor that is absent, or unseen at a pixel, is filled."""
        completed, evidence = self.join(encodings)
        deviation = self.covariance.diagonal().clamp(min=1e-6).sqrt()
        repair = self.residual(torch.cat([completed / deviation, evidence], -1)) * self.embedding_scale
        values = self.base(completed, evidence) + self.context_share(evidence) * repair
        spread = self.spread(torch.cat([(values / self.embedding_scale).detach(), evidence], -1))
        spread = F.softplus(spread - 2) * self.spread_scale
        return Fused(values.movedim(-1, 1), spread.movedim(-1, 1))

    def __call__(self, *inputs: Any, **named: Any) -> Fused:
        """See `forward`."""
        return cast(Fused, super().__call__(*inputs, **named))

    def base(self, completed: Tensor, evidence: Tensor) -> Tensor:
        """Values before the residual, (..., 32), of what `join` gives."""
        colours, share = self.colours(completed), self.context_share(evidence)
        fractions = share * self.linear(completed) + (1 - share) * (colours @ self.expected.T)
        return _in_order(fractions, colours)

    def context_share(self, evidence: Tensor) -> Tensor:
        """How much context was seen beside the centre date: 0 none, 1 enough to tell the season; (..., 1)."""
        return (evidence - self.lone_support).amax(-1, keepdim=True).clamp(0, 1)

    def colours(self, completed: Tensor) -> Tensor:
        """The centre date's colours, (..., 6): neighbours compared among the bands that say most, and the last band.

        Reflectances are compared by their logarithms: a colour is a ratio of bands.
        """
        return (self._tone(completed @ self.spectrum.T + self.spectrum_mean) - self.colour_mean) @ self.colour_axes.T

    def _tone(self, spectrum: Tensor) -> Tensor:
        return spectrum.clamp(min=_DARKEST).log() if self.reference.units == "reflectance" else spectrum

    def _told_spectrum(self, colours: Tensor) -> Tensor:
        """The centre date's spectrum (..., C) from its colours (..., 6), standardised."""
        tone = colours @ self.colour_inverse.T + self.colour_mean
        spectrum = tone.clamp(max=math.log(_BRIGHTEST)).exp() if self.reference.units == "reflectance" else tone
        return (spectrum - self.spectrum_mean) / self.spectrum_scale

    def encoding(self, embedding: Tensor, sensor: str, size: int = FULL) -> Tensor:
        """The sensor's encoding (Q, E, h, w) from the first `size` (7 or 32) values of an embedding (Q, K, h, w)."""
        head = cast(_Head, (self.small_heads if size == SMALL else self.full_heads)[sensor])
        pixels = embedding[:, :size].movedim(1, -1)
        standardised = pixels / self.embedding_scale[:size]
        if size == FULL:
            told = self._told_spectrum(pixels[..., SMALL : SMALL + COLOURS])
            pixels, standardised = torch.cat([pixels, told], -1), torch.cat([standardised, told], -1)
        return cast(Tensor, head(pixels, standardised)).movedim(-1, 1)

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
    def fit_linear(
        self, joined: Tensor, moved: Tensor, rebuild: Tensor, spectrum: tuple[Tensor, Tensor], start: LinearStart
    ) -> None:
        """Fit all that is linear to encodings seen in training.

        The first values are minimum noise fractions of the context (Green et al. 1988,
        doi:10.1109/36.3001): directions in which places and dates differ most, in units of how far they move
        when half of the context is hidden. After the colours come components of what the other sensors say of the
        centre date, and the same fractions of what these and the first leave of the context.

        Args:
            joined: (N, D), encodings of all sensors side by side.
            moved: (M, D), how encodings move when half of the context dates are hidden.
            rebuild: (P, D), the decoders' linear paths, block-diagonal: what each encoding stands for.
            spectrum: weight (C, E) and offset (C) of the centre date's bands from an encoding of the sensor that
                sets the dates.
            start: weights of the parts.
        """
        joined, moved, rebuild = joined.double(), moved.double(), rebuild.double()
        mean = joined.mean(0)
        covariance, noise = torch.cov((joined - mean).T), moved.T @ moved / len(moved)
        near, _ = start.views(self.sensors, rebuild, start.small_companion_weight, start.small_reach_days)
        trajectory, companions = start.views(self.sensors, rebuild, start.companion_weight)

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

        self.mean.copy_(mean)
        self.covariance.copy_(covariance)
        completed = (joined - mean).float()
        self._fit_colours(completed, spectrum)
        axes = noise_fractions(near, SMALL)
        # What is held of the centre date has no noise of this kind: it counts as much as the seventh value.
        like_seventh = deviation(axes)[-1]
        held = components(beyond(companions, axes), BESIDE)
        axes = torch.cat([axes, held * (like_seventh / deviation(held))[:, None]])
        axes = torch.cat([axes, noise_fractions(beyond(trajectory, axes), FULL - COLOURS - len(axes))])
        spread = deviation(axes)
        self.linear.weight.copy_(axes / spread[0])  # one common factor: distances keep their meaning
        self.colour_axes.mul_(like_seventh / spread[0])
        self.colour_inverse.div_(like_seventh / spread[0])
        spread = _in_order(spread, like_seventh.expand(COLOURS)) / spread[0]
        self.embedding_scale.copy_(spread)
        self.spread_scale.copy_(spread)
        colours, fractions = self.colours(completed), self.linear(completed)
        self.expected.copy_(_regression(colours, fractions)[0])
        values = _in_order(fractions, colours)
        told = torch.cat([values, self._told_spectrum(colours)], 1)
        sizes = list(self.sizes.values())
        for known, heads in ((values[:, :SMALL], self.small_heads), (told, self.full_heads)):
            back, offset = _regression(known, joined)
            for sensor, weight, bias in zip(self.sensors, back.split(sizes), offset.split(sizes), strict=True):
                head = cast(_Head, heads[sensor.name])
                head.linear.weight.copy_(weight)
                head.linear.bias.copy_(bias)

    def _fit_colours(self, completed: Tensor, spectrum: tuple[Tensor, Tensor]) -> None:
        """Choose bands, and scale their colours to a deviation of one, from completed encodings (N, D)."""
        first = 0
        for sensor in self.sensors:
            if sensor is self.reference:
                self.spectrum.zero_()
                self.spectrum[:, first : first + sensor.encoding_size] = spectrum[0]
            first += sensor.encoding_size
        self.spectrum_mean.copy_(spectrum[1] + self.spectrum @ self.mean)
        seen = completed @ self.spectrum.T + self.spectrum_mean
        self.spectrum_scale.copy_(seen.std(0).clamp(min=1e-6))
        tones = self._tone(seen).double()
        middle = tones.mean(0)
        chosen = _most_telling(torch.cov(tones.T), COLOURS)
        axes = torch.zeros(COLOURS, len(middle), dtype=tones.dtype)
        for row, (band, following) in enumerate(pairwise(chosen)):
            axes[row, following], axes[row, band] = 1, -1
        axes[len(chosen) - 1, chosen[-1]] = 1
        colours = (tones - middle) @ axes.T
        axes = axes / colours.std(0).clamp(min=_DULL)[:, None]
        self.colour_mean.copy_(middle)
        self.colour_axes.copy_(axes)
        self.colour_inverse.copy_(_regression((tones - middle) @ axes.T, tones)[0])

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


def _in_order(fractions: Tensor, colours: Tensor) -> Tensor:
    """Values as an embedding has them, (..., 32): seven fractions, the colours, the other fractions."""
    return torch.cat([fractions[..., :SMALL], colours, fractions[..., SMALL:]], -1)


def _lone_support(sensors: Sequence[Sensor]) -> Tensor:
    """The evidence that the centre date alone gives away from it; what says nothing of a context is infinite."""
    alone: list[float] = []
    for sensor in sensors:
        alone.extend(
            float(log_support(kernel(torch.tensor(offset), offset))) if offset else math.inf
            for offset in sensor.offsets
        )
        alone.append(math.inf)
    return torch.tensor(alone)


def _most_telling(covariance: Tensor, count: int) -> list[int]:
    """Up to `count` bands, in order, each the one that those chosen before leave most of (pivoted Cholesky)."""
    left = covariance
    chosen: list[int] = []
    for _ in range(min(count, len(covariance))):
        band = int(left.diagonal().index_fill(0, torch.tensor(chosen, dtype=torch.long), -1.0).argmax())
        chosen.append(band)
        left = left - torch.outer(left[:, band], left[band]) / left[band, band].clamp(min=_LEAST**2)
    return sorted(chosen)


def _regression(known: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (M, K) and offset (M) of targets (N, M) on what is known (N, K), held back where it is collinear."""
    known, target = known.double(), target.double()
    middle, offset = known.mean(0), target.mean(0)
    moments = (known - middle).T @ (known - middle) / len(known)
    moments = moments + _LEAST * torch.eye(len(moments), dtype=moments.dtype)
    weights = torch.linalg.solve(moments, (known - middle).T @ (target - offset) / len(known)).T
    return weights, offset - weights @ middle


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Three layers whose output starts at zero."""
    last = nn.Linear(_HIDDEN, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), last)
