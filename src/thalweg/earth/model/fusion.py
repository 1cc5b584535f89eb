"""Fusion of all sensors into one embedding per pixel and date (stage 2 of arXiv 2511.11706).

The 32 dimensions of an embedding:

- the first 7, the state: what the sensors show, or would show, at the pixel on the date. Usable alone (the size in the
  paper);
- 25 of context: the rest of the state, and the season, the trajectory and the neighbourhood around it.

Shapes: Q centre dates, h x w pixels, E dimensions of one sensor's encoding, D dimensions of all encodings together, N
entries of evidence (the support of each sensor and whether it was observed), F inputs of the linear path.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.earth.declarations import Sensor
from thalweg.earth.model.context import conditional_fill
from thalweg.earth.model.encoder import support_size
from thalweg.earth.model.sensor_encoding import Encoding
from thalweg.errors import UsageError

SMALL_SIZE, FULL_SIZE = 7, 32
"""Numbers of dimensions of the small embedding and of the full one, which starts with the small one."""

QUANTILE_LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Coverage levels at which the predicted spread is calibrated."""


@dataclass(frozen=True)
class Trait:
    """Quantity that an embedding can be decoded to besides the sensors' bands.

    Attributes:
        title: what it is.
        units: its units.
        largest: largest value it can have; the smallest is 0.
    """

    title: str
    units: str
    largest: float = math.inf


TRAITS = {
    "lai": Trait("green leaf area index", "m2 m-2"),
    "fapar": Trait("fraction of absorbed photosynthetically active radiation", "1", 1.0),
    "chlorophyll": Trait("chlorophyll of green leaves", "ug cm-2"),
    "soil_moisture": Trait("soil moisture of the topsoil", "m3 m-3", 1.0),
}
"""Traits by name, learned on simulated landscapes."""

LOG_OFFSET = 0.02
"""Reflectance that is added before a logarithm, so that noise of dark surfaces is not amplified."""

MAX_INPUT = 8.0
"""Bound of standardised inputs of the networks."""

BOUND = 6.0
"""Bound of an embedding, in standard deviations of each dimension."""

MIN_VARIANCE = 1e-6
HIDDEN_SIZE = 192


@dataclass(frozen=True)
class FusionOutput:
    """Embeddings of Q centre dates.

    Attributes:
        values: (Q, 32, h, w), float32, the embeddings.
        spread: (Q, 32, h, w), float32, positive, their predicted spread (`Fusion.interval_half_width`).
    """

    values: Tensor
    spread: Tensor


class Fusion(nn.Module):
    """Fusion of the encodings of several sensors into one embedding, and the heads that lead back to each encoding.

    Attributes:
        sensors: declarations of the sensors, in the order of their encodings.
        reference: the reference sensor, whose dates the embeddings have by default.
        sizes: dimensions of each sensor's encoding, by name.
        mean: (D,), mean of all encodings together.
        covariance: (D, D), their covariance, by which absent sensors are filled.
        band_mean: (B,), mean of the bands of all sensors in 0..1.
        band_scale: (B,), their standard deviation.
        log_mean: (L,), mean logarithm of the reflectance bands.
        log_scale: (L,), standard deviation of the logarithm.
        embedding_mean: (32,), mean of each dimension.
        embedding_scale: (32,), standard deviation of each dimension.
        spread_scale: (2, 32), calibrated unit of the predicted spread where the reference sensor's centre date is
            hidden, and where it is observed.
        quantiles: (2, 5), half-widths of intervals at `QUANTILE_LEVELS`, in units of the spread: of the first 7
            dimensions, whose errors have heavier tails, and of all.
    """

    mean: Tensor
    covariance: Tensor
    band_mean: Tensor
    band_scale: Tensor
    log_mean: Tensor
    log_scale: Tensor
    embedding_mean: Tensor
    embedding_scale: Tensor
    spread_scale: Tensor
    quantiles: Tensor
    band_positions: Tensor
    log_positions: Tensor

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        super().__init__()
        self.sensors = tuple(sensors)
        if not any(sensor.is_reference for sensor in self.sensors):
            names = ", ".join(sensor.name for sensor in self.sensors) or "none"
            raise UsageError(f"no reference sensor among {names}: fusion needs one, such as sentinel-2")
        self.reference = next(sensor for sensor in self.sensors if sensor.is_reference)
        self.sizes = {sensor.name: sensor.encoding_size for sensor in self.sensors}
        total = sum(self.sizes.values())
        positions, logs = _positions_of_bands(self.sensors)
        evidence = sum(support_size(sensor) + 1 for sensor in self.sensors)
        self.linear = nn.Linear(total + len(logs), FULL_SIZE)
        self.residual = _perceptron(total + len(logs) + evidence, FULL_SIZE)
        self.spread = _perceptron(FULL_SIZE + evidence, FULL_SIZE)
        self.small_heads = nn.ModuleDict(
            {sensor.name: EncodingHead(SMALL_SIZE, sensor.encoding_size) for sensor in self.sensors}
        )
        self.full_heads = nn.ModuleDict(
            {sensor.name: EncodingHead(FULL_SIZE, sensor.encoding_size) for sensor in self.sensors}
        )
        self.small_traits = nn.ModuleDict({name: TraitHead(SMALL_SIZE) for name in TRAITS})
        self.traits = nn.ModuleDict({name: TraitHead(FULL_SIZE) for name in TRAITS})
        self.register_buffer("band_positions", positions, persistent=False)
        self.register_buffer("log_positions", logs, persistent=False)
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("covariance", torch.eye(total))
        self.register_buffer("band_mean", torch.zeros(len(positions)))
        self.register_buffer("band_scale", torch.ones(len(positions)))
        self.register_buffer("log_mean", torch.zeros(len(logs)))
        self.register_buffer("log_scale", torch.ones(len(logs)))
        self.register_buffer("embedding_mean", torch.zeros(FULL_SIZE))
        self.register_buffer("embedding_scale", torch.ones(FULL_SIZE))
        self.register_buffer("spread_scale", torch.ones(2, FULL_SIZE))
        self.register_buffer("quantiles", torch.tensor([0.674, 0.994, 1.282, 1.645, 1.960]).repeat(2, 1))

    def forward(self, encodings: Mapping[str, Encoding]) -> FusionOutput:
        """Fuse the encodings of some or all sensors.

        Args:
            encodings: at least one, by sensor name, all of the same Q, h and w. A sensor that is absent, or not
                observed at a pixel, is filled.

        Returns:
            Embeddings and spread, both (Q, 32, h, w).
        """
        completed, evidence = self.complete(encodings)
        inputs = self.inputs(completed)
        values = self.linear(inputs) + self.residual(torch.cat([inputs, evidence], -1)) * self.embedding_scale
        values = self.bounded(values)
        standardised = (values - self.embedding_mean) / self.embedding_scale
        spread = F.softplus(self.spread(torch.cat([standardised.detach(), evidence], -1)) - 2) * self.embedding_scale
        share = self.centre_share(encodings)
        spread = spread * torch.lerp(self.spread_scale[0], self.spread_scale[1], share)
        return FusionOutput(values.movedim(-1, 1), spread.movedim(-1, 1))

    def __call__(self, *inputs: Any, **named: Any) -> FusionOutput:
        """Fuse encodings; see `forward`."""
        return cast(FusionOutput, super().__call__(*inputs, **named))

    def bounded(self, values: Tensor) -> Tensor:
        """Bound embeddings (..., 32) smoothly to `BOUND` standard deviations from their mean."""
        reach = BOUND * self.embedding_scale
        return self.embedding_mean + reach * torch.tanh((values - self.embedding_mean) / reach)

    def complete(self, encodings: Mapping[str, Encoding]) -> tuple[Tensor, Tensor]:
        """Concatenate encodings and fill those of absent sensors.

        Args:
            encodings: by sensor name; values (Q, E, h, w).

        Returns:
            Encodings (Q, h, w, D) and the evidence (Q, h, w, N): each sensor's support and whether it was observed.
        """
        joined, evidence, observed = self._concatenate(encodings)
        return self._fill(joined, observed), evidence

    def inputs(self, completed: Tensor) -> Tensor:
        """Return the inputs of the linear path, (..., F): standardised encodings (..., D) and logarithms of bands."""
        deviation = self.covariance.diagonal().clamp(min=MIN_VARIANCE).sqrt()
        logs = self.logarithms(self.bands(completed)[..., self.log_positions])
        inputs = torch.cat([(completed - self.mean) / deviation, logs], -1)
        return inputs.clamp(-MAX_INPUT, MAX_INPUT)

    def bands(self, encodings: Tensor) -> Tensor:
        """Return the bands of all sensors on the centre date in 0..1, (..., B), from encodings (..., D)."""
        return encodings[..., self.band_positions] * self.band_scale + self.band_mean

    def logarithms(self, reflectance: Tensor) -> Tensor:
        """Return the standardised logarithm (..., L) of reflectance bands (..., L) in 0..1."""
        logs: Tensor = (reflectance.clamp(min=0) + LOG_OFFSET).log()
        return (logs - self.log_mean) / self.log_scale

    def centre_share(self, encodings: Mapping[str, Encoding]) -> Tensor:
        """Return whether the reference sensor observed the centre date, (Q, h, w, 1)."""
        encoding = encodings.get(self.reference.name)
        if encoding is None:
            first = next(iter(encodings.values()))
            return torch.zeros_like(first.observed).movedim(1, -1)
        return encoding.support[:, len(self.reference.offsets), ..., None]

    def sensor_encoding(self, embeddings: Tensor, sensor: str, size: int = FULL_SIZE) -> Tensor:
        """Return the encoding of a sensor that embeddings stand for, as input of its decoder.

        Args:
            embeddings: (Q, K, h, w), K at least `size`.
            sensor: name of the sensor.
            size: number of dimensions to use, 7 or 32.

        Returns:
            (Q, E, h, w).
        """
        head = (self.small_heads if size == SMALL_SIZE else self.full_heads)[sensor]
        return cast(Tensor, head(self.standardised(embeddings, size))).movedim(-1, 1)

    def standardised(self, embeddings: Tensor, size: int = FULL_SIZE) -> Tensor:
        """Return embeddings (Q, K, h, w) in standard deviations from their mean, (Q, h, w, size)."""
        pixels = embeddings[:, :size].movedim(1, -1)
        return (pixels - self.embedding_mean[:size]) / self.embedding_scale[:size]

    def trait(
        self, embeddings: Tensor, name: str, size: int = FULL_SIZE, bounded: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return a trait (Q, h, w) and the half-width of its 68 % interval.

        Args:
            embeddings: (Q, K, h, w), K at least `size`.
            name: one of `TRAITS`.
            size: number of dimensions to use, 7 or 32.
            bounded: cut the trait to the values it can have.
        """
        value, half_width = self.trait_head(name, size)(self.standardised(embeddings, size))
        return value.clamp(0, TRAITS[name].largest) if bounded else value, half_width

    def trait_head(self, name: str, size: int = FULL_SIZE) -> "TraitHead":
        """Return the head of a trait that reads the first 7 or all 32 dimensions."""
        return cast(TraitHead, (self.small_traits if size == SMALL_SIZE else self.traits)[name])

    def interval_half_width(self, spread: Tensor, level: float, size: int = FULL_SIZE) -> Tensor:
        """Return the half-width of the interval that holds the value with a given probability.

        Args:
            spread: any shape, as `FusionOutput.spread`.
            level: the probability, one of `QUANTILE_LEVELS`.
            size: size of the embeddings, 7 or 32.
        """
        return spread * self.interval_factors(size)[QUANTILE_LEVELS.index(level)]

    def interval_factors(self, size: int) -> Tensor:
        """Return the half-widths of intervals at `QUANTILE_LEVELS`, (5,), of embeddings of a size, 7 or 32."""
        return self.quantiles[0 if size == SMALL_SIZE else 1]

    def _concatenate(self, encodings: Mapping[str, Encoding]) -> tuple[Tensor, Tensor, Tensor]:
        """Return encodings (Q, h, w, D), evidence (Q, h, w, N), and whether each sensor was observed (Q, h, w, S)."""
        first = next(iter(encodings.values()))
        count, _, height, width = first.values.shape
        values, evidence, observed = [], [], []
        for sensor in self.sensors:
            encoding = encodings.get(sensor.name)
            if encoding is None:
                empty = first.values.new_zeros(count, height, width, 1)
                values.append(empty.expand(-1, -1, -1, sensor.encoding_size))
                evidence.append(empty.expand(-1, -1, -1, support_size(sensor) + 1))
                observed.append(empty)
            else:
                values.append(encoding.values.movedim(1, -1))
                here = encoding.observed.movedim(1, -1)
                evidence.extend([encoding.support.movedim(1, -1), here])
                observed.append(here)
        return torch.cat(values, -1), torch.cat(evidence, -1), torch.cat(observed, -1) > 0

    def _fill(self, joined: Tensor, observed: Tensor) -> Tensor:
        """Fill encodings (..., D) of sensors that are not observed (..., S) with their conditional mean.

        Pixels are grouped by the combination of sensors observed there, as a binary number.
        """
        powers = 2 ** torch.arange(len(self.sensors), device=joined.device)
        combinations = (observed * powers).sum(-1)
        sizes = torch.tensor(list(self.sizes.values()), device=joined.device)
        occurring = combinations.unique()
        completed = joined.clone() if len(occurring) > 1 else joined
        for combination in occurring:
            present = ((combination // powers) % 2 == 1).repeat_interleave(sizes)
            if bool(present.all()):
                continue
            matrix, offset = conditional_fill(self.mean, self.covariance, present)
            if len(occurring) == 1:
                return joined @ matrix.T + offset
            chosen = combinations == combination
            completed[chosen] = joined[chosen] @ matrix.T + offset
        return completed


class EncodingHead(nn.Module):
    """Map from an embedding to one sensor's encoding: a linear path and a residual that is zero before training."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.residual = _perceptron(inputs, outputs)

    def forward(self, standardised: Tensor) -> Tensor:
        """Return encodings (..., E) from standardised embeddings (..., K)."""
        return cast(Tensor, self.linear(standardised) + self.residual(standardised))


class TraitHead(nn.Module):
    """Map from an embedding to one trait and its interval, in the trait's units.

    Attributes:
        mean: (), mean of the trait over the training data.
        scale: (), its standard deviation; 0 before training.
        half_width: (), calibrated half-width of the 68 % interval in units of the predicted spread.
    """

    mean: Tensor
    scale: Tensor
    half_width: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.network = _perceptron(inputs, 2)
        self.linear = nn.Linear(inputs, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("half_width", torch.ones(()))

    @property
    def is_trained(self) -> bool:
        """True if training data held the trait."""
        return float(self.scale) > 0

    def forward(self, standardised: Tensor) -> tuple[Tensor, Tensor]:
        """Return the trait (...) and its half-width (...) from standardised embeddings (..., K)."""
        correction, spread = self.network(standardised).unbind(-1)
        value = self.linear(standardised)[..., 0] + correction
        return value * self.scale + self.mean, F.softplus(spread) * self.scale * self.half_width

    def __call__(self, *inputs: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """Decode embeddings; see `forward`."""
        return cast(tuple[Tensor, Tensor], super().__call__(*inputs, **named))


def _positions_of_bands(sensors: Sequence[Sensor]) -> tuple[Tensor, Tensor]:
    """Return the positions (B,) of all bands in the joined encodings, and which of them (L,) are reflectance."""
    positions: list[int] = []
    logs: list[int] = []
    end = 0
    for sensor in sensors:
        end += sensor.encoding_size
        if sensor.units == "reflectance":
            logs.extend(range(len(positions), len(positions) + len(sensor.bands)))
        positions.extend(range(end - len(sensor.bands), end))
    return torch.tensor(positions), torch.tensor(logs, dtype=torch.long)


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Return a perceptron of three layers whose output is zero before training."""
    last = nn.Linear(HIDDEN_SIZE, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN_SIZE), nn.GELU(), nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE), nn.GELU(), last
    )
