"""Published architecture of arXiv 2511.11706, a named baseline of benchmarks: one autoencoder per sensor, then fusion.

Known from the description and kept: samples of 11 dates x 15 x 15 px; one token of 4 x 4 x 16 = 256 values per date
from a multi-scale convolution block with channel and spatial attention; a learned embedding of the days since the
sample's first date; 3 transformer layers; 11 tokens reduced to 7 (Sentinel-2) or 6 (Sentinel-1); bottlenecks of 9 and
2 values with Softplus; a decoder that mirrors this; fusion of both bottlenecks at width 128 with 2 transformer layers
over the two tokens, their mean, 7 values with Softplus, and two linear heads to the frozen decoders.

Left open, and chosen as plainly as possible:

- kernels of 1, 3 and 5 px with 16 channels each, two strided 3 x 3 convolutions to 4 x 4, batch normalisation and GELU;
- squeeze-and-excitation with a quarter of the channels, then a 7 x 7 spatial gate;
- transformer layers of torch with 8 heads, a feed-forward part of four times the width, and no dropout;
- tokens reduced by a linear map over the dates; integer days; embeddings that start at 0.02; a sinusoidal position
  for the gap between sensors;
- a band or a sensor that a place lacks is filled by its mean over the training data;
- at the ends of a record the first or last date is repeated, where the published method gives no embedding.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from thalweg.earth.declarations import Declaration, Sensor
from thalweg.earth.model.context import HALO, RECEPTIVE_FIELD, SensorContext
from thalweg.earth.model.paper_samples import (
    CENTRE_DATE,
    CENTRE_PIXEL,
    NUM_DATES,
    PaperSamples,
    absent_samples,
    centred_window,
    paired_window,
    usable_dates,
    window_frames,
)
from thalweg.earth.sensors import sensor_by_name
from thalweg.errors import UsageError
from thalweg.io.checkpoints import ModelFormat, load_state

EMBEDDING_SIZE = 7
"""Dimensions of the embedding."""

MAX_SPAN_DAYS = 200
"""Days that a sample spans at most; longer windows are embedded as if they spanned as many."""

NOMINAL_STEP_DAYS = 10.0
"""Days between the dates that an embedding is decoded to; days between them are interpolated linearly."""

KERNELS, CHANNELS, HIDDEN_CHANNELS, TOKEN_CHANNELS, TOKEN_WIDTH = (1, 3, 5), 16, 32, 16, 4
TOKEN_SIZE = TOKEN_CHANNELS * TOKEN_WIDTH**2
FUSION_SIZE, HEADS, LAYERS, FUSION_LAYERS = 128, 8, 3, 2
SAMPLES_PER_CHUNK = 256
"""Samples that are encoded or decoded together."""


@dataclass(frozen=True)
class BottleneckSize:
    """Published sizes of one sensor's bottleneck.

    Attributes:
        values: values of the bottleneck.
        tokens: tokens before it, reduced from 11.
    """

    values: int
    tokens: int


BOTTLENECKS = {"sentinel-2": BottleneckSize(9, 7), "sentinel-1": BottleneckSize(2, 6)}
"""Sizes by sensor; the first is the reference sensor. The method is defined for these two."""


class PaperCard(Declaration):
    """Contents of the `model.json` of a `paper` baseline."""

    format: int = Field(description="version of this layout")
    kind: str = Field(description="paper")
    bands: dict[str, tuple[str, ...]] = Field(description="names of the bands by sensor")
    content_hash: str = Field(description="SHA-256 of the tensors: names, types, shapes and bytes")
    package_version: str = Field(description="version of thalweg that wrote it")
    training: dict[str, Any] = Field(default={}, description="seed, data and settings it was trained with")
    card_hash: str | None = Field(default=None, description="SHA-256 of all other fields")


PAPER_FORMAT = ModelFormat(PaperCard, version=1, label="a paper baseline", remedy="train it again")
"""Layout of the model folder."""


class ConvolutionAttention(nn.Module):
    """Gate of feature maps (N, K, H, W) by channel and then by place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 4
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))
        self.place = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, maps: Tensor) -> Tensor:
        """Return gated maps of the same shape."""
        maps = maps * self.channel(maps.mean((2, 3))).sigmoid()[..., None, None]
        summary = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], 1)
        return maps * self.place(summary).sigmoid()


class MultiScaleBlock(nn.Module):
    """Parallel convolutions of several widths, then attention: (N, C, H, W) -> (N, 48, H, W)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.Conv2d(inputs, CHANNELS, size, padding=size // 2) for size in KERNELS)
        self.norm = nn.BatchNorm2d(CHANNELS * len(KERNELS))
        self.attention = ConvolutionAttention(CHANNELS * len(KERNELS))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the concatenated features of all widths."""
        features = torch.cat([scale(maps) for scale in self.scales], 1)
        return cast(Tensor, self.attention(F.gelu(self.norm(features))))


def transformer(size: int, layers: int) -> nn.TransformerEncoder:
    """Return transformer layers over tokens (B, N, size)."""
    layer = nn.TransformerEncoderLayer(size, HEADS, 4 * size, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def learned_embedding(count: int, size: int) -> nn.Embedding:
    """Return an embedding that starts small, so that it does not drown the tokens it is added to."""
    embedding = nn.Embedding(count, size)
    nn.init.normal_(embedding.weight, std=0.02)
    return embedding


class PaperAutoencoder(nn.Module):
    """Stage 1: samples of one sensor to a bottleneck of few values, and back to the whole sample.

    Attributes:
        bands: number of bands C.
        size: published sizes of the bottleneck.
        band_mean: (C,), mean of the bands over the training data, in 0..1.
    """

    band_mean: Tensor

    def __init__(self, bands: int, size: BottleneckSize) -> None:
        super().__init__()
        self.bands, self.size = bands, size
        width = CHANNELS * len(KERNELS)
        self.frame_encoder = nn.Sequential(
            MultiScaleBlock(bands),
            nn.Conv2d(width, HIDDEN_CHANNELS, 3, stride=2, padding=1),
            nn.BatchNorm2d(HIDDEN_CHANNELS),
            nn.GELU(),
            nn.Conv2d(HIDDEN_CHANNELS, TOKEN_CHANNELS, 3, stride=2, padding=1),
            nn.BatchNorm2d(TOKEN_CHANNELS),
        )
        self.frame_decoder = nn.Sequential(
            nn.ConvTranspose2d(TOKEN_CHANNELS, HIDDEN_CHANNELS, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(HIDDEN_CHANNELS),
            nn.GELU(),
            nn.ConvTranspose2d(HIDDEN_CHANNELS, CHANNELS, 3, stride=2, padding=1),
            nn.BatchNorm2d(CHANNELS),
            nn.GELU(),
            MultiScaleBlock(CHANNELS),
            nn.Conv2d(width, bands, 1),
        )
        self.encoder_days = learned_embedding(MAX_SPAN_DAYS, TOKEN_SIZE)
        self.decoder_days = learned_embedding(MAX_SPAN_DAYS, TOKEN_SIZE)
        self.encoder, self.decoder = transformer(TOKEN_SIZE, LAYERS), transformer(TOKEN_SIZE, LAYERS)
        self.reduce, self.expand = nn.Linear(NUM_DATES, size.tokens), nn.Linear(size.tokens, NUM_DATES)
        self.bottleneck = nn.Linear(size.tokens * TOKEN_SIZE, size.values)
        self.widen = nn.Linear(size.values, size.tokens * TOKEN_SIZE)
        self.register_buffer("band_mean", torch.full((bands,), 0.5))

    def set_band_mean(self, band_mean: Tensor) -> None:
        """Set the mean of the bands (C,), from which reconstructions start."""
        self.band_mean.copy_(band_mean)
        with torch.no_grad():
            cast(Tensor, cast(nn.Conv2d, self.frame_decoder[-1]).bias).copy_(band_mean)

    def encode(self, samples: PaperSamples) -> Tensor:
        """Encode B samples -> (B, E), not negative."""
        frames = samples.filled(self.band_mean)
        tokens = self.frame_encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).flatten(2)
        tokens = self.encoder(tokens + self.encoder_days(elapsed_days(samples.days)))
        return F.softplus(self.bottleneck(self.reduce(tokens.mT).flatten(1)))

    def decode(self, encoding: Tensor, days: Tensor, dates: Tensor | None = None) -> Tensor:
        """Decode bottlenecks (B, E) to samples.

        Args:
            encoding: (B, E).
            days: (B, 11), days of the sample's dates.
            dates: (N,), positions of the dates to return; all 11 by default.

        Returns:
            (B, N, C, 15, 15), in 0..1.
        """
        tokens = self.expand(self.widen(encoding).unflatten(1, (TOKEN_SIZE, -1))).mT
        tokens = self.decoder(tokens + self.decoder_days(elapsed_days(days)))
        tokens = tokens if dates is None else tokens[:, dates]
        maps = tokens.unflatten(2, (TOKEN_CHANNELS, TOKEN_WIDTH, TOKEN_WIDTH))
        return cast(Tensor, self.frame_decoder(maps.flatten(0, 1))).unflatten(0, maps.shape[:2])


class PaperFusion(nn.Module):
    """Stage 2: bottlenecks of both sensors to 7 values, and back to each bottleneck."""

    frequencies: Tensor

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.project = nn.ModuleDict({name: nn.Linear(size, FUSION_SIZE) for name, size in sizes.items()})
        self.modality = learned_embedding(len(sizes), FUSION_SIZE)
        self.layers = transformer(FUSION_SIZE, FUSION_LAYERS)
        self.output = nn.Linear(FUSION_SIZE, EMBEDDING_SIZE)
        self.heads = nn.ModuleDict({name: nn.Linear(EMBEDDING_SIZE, size) for name, size in sizes.items()})
        steps = torch.arange(0, FUSION_SIZE, 2) / FUSION_SIZE
        self.register_buffer("frequencies", torch.exp(-math.log(10_000.0) * steps), persistent=False)

    def forward(self, encodings: Mapping[str, Tensor], gaps: Mapping[str, Tensor]) -> Tensor:
        """Fuse bottlenecks (B, E) of all sensors, each `gaps` (B,) days from the centre date -> (B, 7)."""
        tokens = [
            project(encodings[name]) + self.modality.weight[number] + self._position(gaps[name])
            for number, (name, project) in enumerate(self.project.items())
        ]
        return F.softplus(self.output(self.layers(torch.stack(tokens, 1)).mean(1)))

    def _position(self, days: Tensor) -> Tensor:
        angles = days[:, None] * self.frequencies
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def elapsed_days(days: Tensor) -> Tensor:
    """Return the whole days (B, 11) since each sample's first date, at most the longest embedded span."""
    return (days - days[:, :1]).round().long().clamp(0, MAX_SPAN_DAYS - 1)


@dataclass(frozen=True)
class PaperOutput:
    """Embeddings of Q centre dates.

    Attributes:
        values: (Q, 7, h, w), float32.
    """

    values: Tensor


class PaperModel(nn.Module):
    """Both autoencoders of the `paper` baseline and their fusion.

    Embedding is slow, which is in the method: every pixel and date needs its own 11 x 15 x 15 patch.

    Attributes:
        autoencoders: by sensor name.
        fusion: fusion of their bottlenecks.
        identifier: `thalweg-paper-` and 12 digits of the hash of all tensors; `untrained` before it is saved.
    """

    def __init__(self) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleDict(
            {name: PaperAutoencoder(len(sensor_by_name(name).bands), size) for name, size in BOTTLENECKS.items()}
        )
        self.fusion = PaperFusion({name: size.values for name, size in BOTTLENECKS.items()})
        self.identifier = "untrained"

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors, the reference sensor first."""
        return tuple(BOTTLENECKS)

    @property
    def reference(self) -> Sensor:
        """Sensor whose dates the embeddings have."""
        return sensor_by_name(self.sensors[0])

    def autoencoder(self, sensor: str) -> PaperAutoencoder:
        """Return the autoencoder of a sensor.

        Raises:
            UsageError: the model does not have the sensor.
        """
        if sensor not in self.autoencoders:
            raise UsageError(f"sensor {sensor!r}: the model knows {', '.join(self.sensors)}")
        return cast(PaperAutoencoder, self.autoencoders[sensor])

    def embed(self, samples: Mapping[str, PaperSamples]) -> Tensor:
        """Embed B samples -> (B, 7); sensors other than the reference may be missing."""
        return self.fuse(*self.encode(samples))

    def fuse(self, encodings: Mapping[str, Tensor], gaps: Mapping[str, Tensor]) -> Tensor:
        """Fuse bottlenecks and gaps, as `encode` returns them -> (B, 7)."""
        return cast(Tensor, self.fusion(encodings, gaps))

    def encode(self, samples: Mapping[str, PaperSamples]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the bottlenecks (B, E) of all sensors and their days (B,) from the reference sensor's centre date."""
        reference = samples[self.reference.name]
        complete = {
            name: samples[name] if name in samples else absent_samples(reference, self.autoencoder(name).bands)
            for name in self.sensors
        }
        centre_days = reference.days[:, CENTRE_DATE]
        gaps = {name: (own.days[:, CENTRE_DATE] - centre_days).abs() for name, own in complete.items()}
        return {name: self.autoencoder(name).encode(own) for name, own in complete.items()}, gaps

    def reconstruct(self, values: Tensor, sensor: str, days: Tensor, dates: Tensor | None = None) -> Tensor:
        """Decode embeddings (B, 7) to samples of a sensor; the other arguments are those of its `decode`."""
        head = cast(nn.Linear, self.fusion.heads[sensor])
        return self.autoencoder(sensor).decode(head(values), days, dates)

    @torch.no_grad()
    def forward(
        self, contexts: Mapping[str, SensorContext], centre_days: Tensor, usable: Mapping[str, Tensor] | None = None
    ) -> PaperOutput:
        """Embed contexts by sliding windows, pixel by pixel and date by date.

        Args:
            contexts: contexts (T, C, H, W) by sensor name, dates ascending; that of the reference sensor among them.
            centre_days: (Q,), float32, days since 2015-01-01.
            usable: positions (N,) of the dates that windows are made of, by sensor name; by default those with at
                least 3.5 % complete pixels, which for a part of a cube need not be those of the whole.

        Returns:
            Embeddings (Q, 7, H - 14, W - 14).

        Raises:
            UsageError: the reference sensor is missing.
        """
        if self.reference.name not in contexts:
            raise UsageError(f"contexts of {', '.join(contexts) or 'no sensor'}: expected {self.reference.name}")
        contexts = {name: contexts[name] for name in self.sensors if name in contexts}
        dates = {name: usable_dates(context) for name, context in contexts.items()} if usable is None else usable
        height, width = (length - 2 * HALO for length in contexts[self.reference.name].values.shape[-2:])
        embedded = []
        for day in centre_days:
            parts = [self.embed(samples) for samples in self._patches(contexts, dates, day)]
            embedded.append(torch.cat(parts).T.unflatten(1, (height, width)))
        return PaperOutput(torch.stack(embedded))

    def __call__(self, *inputs: Any, **named: Any) -> PaperOutput:
        """Embed contexts; see `forward`."""
        return cast(PaperOutput, super().__call__(*inputs, **named))

    def _patches(
        self, contexts: Mapping[str, SensorContext], usable: Mapping[str, Tensor], day: Tensor
    ) -> Iterator[dict[str, PaperSamples]]:
        """Yield the samples of all pixels on a centre date in chunks, row by row."""
        name = self.reference.name
        reference = centred_window(contexts[name].days, usable[name], day)
        sliding = {}
        for name, context in contexts.items():
            own = name == self.reference.name
            window = reference if own else paired_window(reference, context.days, usable[name])
            sliding[name] = (*(_sliding(frames) for frames in window_frames(context, window)), window.days)
        height, width = next(iter(sliding.values()))[0].shape[:2]
        for first in range(0, height * width, SAMPLES_PER_CHUNK):
            pixels = torch.arange(first, min(first + SAMPLES_PER_CHUNK, height * width))
            rows, columns = pixels // width, pixels % width
            yield {
                name: PaperSamples(values[rows, columns], valid[rows, columns], days.expand(len(pixels), -1))
                for name, (values, valid, days) in sliding.items()
            }

    def decode(self, embeddings: Tensor, sensor: str, days: Tensor | float = 0.0, size: int | None = None) -> Tensor:
        """Decode embeddings to the measurements of a sensor at the pixel, in its units.

        The decoder gives 11 dates; they are taken 10 days apart, which is near the mean of the training samples.
        Days between them are interpolated, days beyond get the first or last. Its loss is all but blind to other
        dates than the centre.

        Args:
            embeddings: (Q, 7, h, w), float32; finite.
            sensor: name of one of the model's sensors.
            days: days from the date of each embedding to the date of the measurement: one number for all, or (Q, D).
            size: 7 or None; the embedding is not nested.

        Returns:
            (Q, C, h, w) for one number of days, (Q, D, C, h, w) otherwise: reflectance as a fraction or backscatter
            in dB, float32, differentiable.

        Raises:
            UsageError: the model does not have the sensor, or the embeddings are not of 7 dimensions.
        """
        low, high = sensor_by_name(sensor).value_range if sensor in self.sensors else (0.0, 1.0)
        self.autoencoder(sensor)
        if embeddings.shape[1] != EMBEDDING_SIZE or size not in (None, EMBEDDING_SIZE):
            raise UsageError(f"embeddings of {embeddings.shape[1]} dimensions, decoded from {size}: expected 7")
        wanted = days if isinstance(days, Tensor) else embeddings.new_full((len(embeddings), 1), days)
        nominal = torch.arange(NUM_DATES, device=embeddings.device) * NOMINAL_STEP_DAYS
        weights = _interpolation_weights(wanted / NOMINAL_STEP_DAYS + CENTRE_DATE)
        dates = weights.sum((0, 1)).nonzero()[:, 0]
        pixels = embeddings.movedim(1, -1).flatten(0, 2)
        spectra = torch.cat(
            [
                self.reconstruct(part, sensor, nominal.expand(len(part), -1), dates)[..., CENTRE_PIXEL, CENTRE_PIXEL]
                for part in pixels.split(SAMPLES_PER_CHUNK)
            ]
        ).unflatten(0, (len(embeddings), *embeddings.shape[2:]))
        decoded = torch.einsum("qhwnc,qdn->qdchw", spectra, weights[..., dates]) * (high - low) + low
        return decoded if isinstance(days, Tensor) else decoded[:, 0]

    def save(self, folder: Path, training: Mapping[str, Any]) -> PaperCard:
        """Write the model folder, whole or not at all, with a record of its training (JSON values).

        Raises:
            UsageError: the folder exists.
            ThalwegError: it cannot be written.
        """
        bands = {name: sensor_by_name(name).band_names for name in self.sensors}
        return PAPER_FORMAT.write(folder, self.state_dict(), kind="paper", bands=bands, training=dict(training))

    @classmethod
    def load(cls, folder: str | Path) -> "PaperModel":
        """Load a model, frozen and in evaluation mode.

        Raises:
            MissingPathError: there is no such folder.
            UsageError: it is no paper baseline, damaged, or of other bands than the declared sensors have.
        """
        folder = Path(folder)
        card = PAPER_FORMAT.read_card(folder, "paper")
        model = cls()
        if card.bands != {name: sensor_by_name(name).band_names for name in model.sensors}:
            raise UsageError(f"{folder}: other sensors or bands than {', '.join(model.sensors)} have: train it again")
        load_state(model, PAPER_FORMAT.read_tensors(folder, card.content_hash), folder)
        model.identifier = f"thalweg-paper-{card.content_hash[:12]}"
        return model.eval().requires_grad_(False)


def _sliding(frames: Tensor) -> Tensor:
    """Return a view (h, w, 11, C, 15, 15) of all patches of frames (11, C, H, W)."""
    return frames.unfold(2, RECEPTIVE_FIELD, 1).unfold(3, RECEPTIVE_FIELD, 1).permute(2, 3, 0, 1, 4, 5)


def _interpolation_weights(positions: Tensor) -> Tensor:
    """Return weights (..., 11) of the dates for fractional positions (...) among them."""
    distance = (positions.clamp(0, NUM_DATES - 1)[..., None] - torch.arange(NUM_DATES, device=positions.device)).abs()
    return (1 - distance).clamp(min=0)
