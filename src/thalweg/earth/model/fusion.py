"""Fusion of several sensors (stage 2 of arXiv 2511.11706): frozen encoders to one nested embedding.

The encoding of an absent sensor is filled with its conditional mean given the others, so that every set of sensors
uses the same weights. The dimensions of an embedding are, in this order:

- 7 minimum noise fractions of the context, the small embedding (the size in the paper), usable alone;
- 6 band ratios of the reference sensor on the centre date;
- 2 dimensions of the auxiliary sensors on the centre date;
- 17 further minimum noise fractions of the context.

A learned residual is added to all of them. The linear part is fitted in `linear_baseline`, the residual in training.

Shapes: Q centre dates, h x w pixels, C bands of the reference sensor, E dimensions of one sensor's encoding, D
dimensions of all encodings together, N evidence entries (one per day offset of each sensor and one per sensor).
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
from thalweg.earth.model.encoder import Encoding, log_support, temporal_kernel
from thalweg.errors import UsageError

SMALL_SIZE, FULL_SIZE = 7, 32
"""Numbers of dimensions of the small embedding and of the full one, which starts with the small one."""

NUM_BAND_RATIOS = 6
"""Dimensions 8 to 13: band ratios of the reference sensor on the centre date."""

NUM_AUX_DIMS = 2
"""Dimensions 14 and 15: the auxiliary sensors on the centre date."""

QUANTILE_LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Coverage levels at which the predicted spread is calibrated."""

MIN_REFLECTANCE, MAX_REFLECTANCE = 0.005, 2.0
"""Bounds of reflectance on a logarithmic scale: below is noise, above is no surface."""

MIN_VARIANCE = 1e-6
HIDDEN_SIZE = 128


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

    Where only the centre date was observed, the fractions are the linear prediction from its band ratios.

    Names of parameters and buffers are those in the weight files; `colour_*` belong to the band ratios.

    Attributes:
        sensors: declarations of the sensors, in the order of their encodings.
        reference: the reference sensor, whose dates the embeddings have.
        sizes: dimensions of each sensor's encoding, by name.
        mean: (D,), mean of all encodings together.
        covariance: (D, D), their covariance, by which absent sensors are filled.
        spectrum: (C, D), linear map from centred encodings to the reference sensor's bands on the centre date.
        spectrum_mean: (C,), mean of these bands, in the sensor's units.
        spectrum_scale: (C,), their standard deviation.
        colour_axes: (6, C), linear map from centred log reflectance to band ratios.
        colour_mean: (C,), mean log reflectance.
        colour_inverse: (C, 6), linear map from band ratios back to centred log reflectance.
        expected: (26, 6), linear prediction of the other dimensions from the band ratios.
        centre_support: (N,), evidence that the centre date alone gives.
        embedding_scale: (32,), standard deviation of each dimension.
        spread_scale: (32,), calibrated unit of the predicted spread.
        quantiles: (5,), half-widths of intervals at `QUANTILE_LEVELS`, in units of the spread.
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
    centre_support: Tensor
    embedding_scale: Tensor
    spread_scale: Tensor
    quantiles: Tensor

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        super().__init__()
        self.sensors = tuple(sensors)
        if not any(sensor.is_reference for sensor in self.sensors):
            names = ", ".join(sensor.name for sensor in self.sensors) or "none"
            raise UsageError(f"no reference sensor among {names}: fusion needs one, such as sentinel-2")
        self.reference = next(sensor for sensor in self.sensors if sensor.is_reference)
        self.sizes = {sensor.name: sensor.encoding_size for sensor in self.sensors}
        total, bands = sum(self.sizes.values()), len(self.reference.bands)
        evidence = sum(len(sensor.offsets) + 1 for sensor in self.sensors)
        self.linear = nn.Linear(total, FULL_SIZE - NUM_BAND_RATIOS, bias=False)
        self.residual = _perceptron(total + evidence, FULL_SIZE)
        self.spread = _perceptron(FULL_SIZE + evidence, FULL_SIZE)
        self.small_heads = nn.ModuleDict(
            {sensor.name: EncodingHead(SMALL_SIZE, sensor.encoding_size) for sensor in self.sensors}
        )
        self.full_heads = nn.ModuleDict(
            {sensor.name: EncodingHead(FULL_SIZE + bands, sensor.encoding_size) for sensor in self.sensors}
        )
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("covariance", torch.eye(total))
        self.register_buffer("spectrum", torch.eye(bands, total))
        self.register_buffer("spectrum_mean", torch.ones(bands))
        self.register_buffer("spectrum_scale", torch.ones(bands))
        self.register_buffer("colour_axes", torch.eye(NUM_BAND_RATIOS, bands))
        self.register_buffer("colour_mean", torch.zeros(bands))
        self.register_buffer("colour_inverse", torch.eye(bands, NUM_BAND_RATIOS))
        self.register_buffer("expected", torch.zeros(FULL_SIZE - NUM_BAND_RATIOS, NUM_BAND_RATIOS))
        self.register_buffer("centre_support", _centre_support(self.sensors), persistent=False)
        self.register_buffer("embedding_scale", torch.ones(FULL_SIZE))
        self.register_buffer("spread_scale", torch.ones(FULL_SIZE))
        self.register_buffer("quantiles", torch.tensor([0.674, 0.994, 1.282, 1.645, 1.960]))

    def forward(self, encodings: Mapping[str, Encoding]) -> FusionOutput:
        """Fuse the encodings of some or all sensors.

        Args:
            encodings: at least one, by sensor name, all of the same Q, h and w. A sensor that is absent, or not
                observed at a pixel, is filled.

        Returns:
            Embeddings and spread, both (Q, 32, h, w).
        """
        completed, evidence = self.complete(encodings)
        deviation = self.covariance.diagonal().clamp(min=MIN_VARIANCE).sqrt()
        residual = self.residual(torch.cat([completed / deviation, evidence], -1)) * self.embedding_scale
        values = self.linear_embedding(completed, evidence) + self.context_share(evidence) * residual
        spread = self.spread(torch.cat([(values / self.embedding_scale).detach(), evidence], -1))
        spread = F.softplus(spread - 2) * self.spread_scale
        return FusionOutput(values.movedim(-1, 1), spread.movedim(-1, 1))

    def __call__(self, *inputs: Any, **named: Any) -> FusionOutput:
        """Fuse encodings; see `forward`."""
        return cast(FusionOutput, super().__call__(*inputs, **named))

    def complete(self, encodings: Mapping[str, Encoding]) -> tuple[Tensor, Tensor]:
        """Concatenate encodings and fill those of absent sensors.

        Args:
            encodings: by sensor name; values (Q, E, h, w).

        Returns:
            Centred encodings (Q, h, w, D) and the evidence (Q, h, w, N): each sensor's support per day offset and
            whether it was observed.
        """
        joined, evidence, observed = self._concatenate(encodings)
        return self._fill(joined, observed) - self.mean, evidence

    def linear_embedding(self, completed: Tensor, evidence: Tensor) -> Tensor:
        """Return embeddings without the residual, (..., 32), from (..., D) and (..., N) as `complete` gives them."""
        ratios, share = self.band_ratios(completed), self.context_share(evidence)
        fractions = share * self.linear(completed) + (1 - share) * (ratios @ self.expected.T)
        return concatenate_dimensions(fractions, ratios)

    def context_share(self, evidence: Tensor) -> Tensor:
        """Return how much of the context was observed, (..., 1), from evidence (..., N).

        0: the centre date alone; 1: enough to know the season.
        """
        return (evidence - self.centre_support).amax(-1, keepdim=True).clamp(0, 1)

    def band_ratios(self, completed: Tensor) -> Tensor:
        """Return the band ratios of the centre date, (..., 6), from centred encodings (..., D).

        Five are log ratios of consecutive bands among the six most informative ones, the last is the log reflectance
        of the sixth. Each has a standard deviation of about one.
        """
        spectrum = completed @ self.spectrum.T + self.spectrum_mean
        return (self.log_reflectance(spectrum) - self.colour_mean) @ self.colour_axes.T

    def log_reflectance(self, spectrum: Tensor) -> Tensor:
        """Return the natural logarithm of a spectrum (..., C); one that is not reflectance is returned unchanged."""
        return spectrum.clamp(min=MIN_REFLECTANCE).log() if self.reference.units == "reflectance" else spectrum

    def reconstructed_spectrum(self, ratios: Tensor) -> Tensor:
        """Return the standardised spectrum of the centre date, (..., C), from its band ratios (..., 6)."""
        spectrum = ratios @ self.colour_inverse.T + self.colour_mean
        if self.reference.units == "reflectance":
            spectrum = spectrum.clamp(max=math.log(MAX_REFLECTANCE)).exp()
        return (spectrum - self.spectrum_mean) / self.spectrum_scale

    def sensor_encoding(self, embeddings: Tensor, sensor: str, size: int = FULL_SIZE) -> Tensor:
        """Return the encoding of a sensor that embeddings stand for, as input of its decoder.

        Args:
            embeddings: (Q, K, h, w), K at least `size`.
            sensor: name of the sensor.
            size: number of dimensions to use, 7 or 32.

        Returns:
            (Q, E, h, w).
        """
        head = cast(EncodingHead, (self.small_heads if size == SMALL_SIZE else self.full_heads)[sensor])
        pixels = embeddings[:, :size].movedim(1, -1)
        standardised = pixels / self.embedding_scale[:size]
        if size == FULL_SIZE:
            spectrum = self.reconstructed_spectrum(pixels[..., SMALL_SIZE : SMALL_SIZE + NUM_BAND_RATIOS])
            pixels, standardised = torch.cat([pixels, spectrum], -1), torch.cat([standardised, spectrum], -1)
        return cast(Tensor, head(pixels, standardised)).movedim(-1, 1)

    def interval_half_width(self, spread: Tensor, level: float) -> Tensor:
        """Return the half-width of the interval that holds the value with a given probability.

        Args:
            spread: any shape, as `FusionOutput.spread`.
            level: the probability, one of `QUANTILE_LEVELS`.
        """
        return spread * self.quantiles[QUANTILE_LEVELS.index(level)]

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
                evidence.append(empty.expand(-1, -1, -1, len(sensor.offsets) + 1))
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

    def forward(self, pixels: Tensor, standardised: Tensor) -> Tensor:
        """Return encodings (..., E) from embeddings (..., K) and the same in standard deviations (..., K)."""
        return cast(Tensor, self.linear(pixels) + self.residual(standardised))


def concatenate_dimensions(fractions: Tensor, ratios: Tensor) -> Tensor:
    """Return the dimensions of an embedding in order, (..., 32), from fractions (..., 26) and band ratios (..., 6)."""
    return torch.cat([fractions[..., :SMALL_SIZE], ratios, fractions[..., SMALL_SIZE:]], -1)


def _centre_support(sensors: Sequence[Sensor]) -> Tensor:
    """Return the evidence (N,) of the centre date alone; infinite where an entry does not count as context."""
    support: list[float] = []
    for sensor in sensors:
        support.extend(
            float(log_support(temporal_kernel(torch.tensor(offset), offset))) if offset else math.inf
            for offset in sensor.offsets
        )
        support.append(math.inf)
    return torch.tensor(support)


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Return a perceptron of three layers whose output is zero before training."""
    last = nn.Linear(HIDDEN_SIZE, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN_SIZE), nn.GELU(), nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE), nn.GELU(), last
    )
