"""Stage 1: one sensor's context-aware autoencoder."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from thalweg.earth.model.context import SensorContext
from thalweg.earth.model.decoder import Decoder
from thalweg.earth.model.encoder import Encoder
from thalweg.earth.sensors import Sensor


class Autoencoder(nn.Module):
    """An encoder and the decoder that rebuilds its context."""

    def __init__(self, sensor: Sensor) -> None:
        super().__init__()
        self.sensor = sensor
        self.encoder = Encoder(sensor)
        self.decoder = Decoder(sensor)

    def fit_statistics(self, contexts: Iterable[SensorContext]) -> None:
        """Set mean, scale and covariance of the bands from contexts that have all of them."""
        pixels = []
        for context in contexts:
            if bool(context.present.all()):
                clear = context.valid[:, 0] > 0
                pixels.append(context.values.movedim(1, -1)[clear][::97].double())
        values = torch.cat(pixels)
        encoder = self.encoder
        encoder.mean.copy_(values.mean(0))
        encoder.scale.copy_(values.std(0))
        encoder.covariance.copy_(torch.cov(((values - values.mean(0)) / values.std(0)).T))

    @torch.no_grad()
    def fit_linear(self, trajectories: Tensor) -> None:
        """Start the linear paths as the principal components of trajectories (N, O * C)."""
        encoder, decoder = self.encoder, self.decoder
        mean = trajectories.mean(0)
        axes = torch.linalg.eigh(torch.cov((trajectories - mean).T.double()))[1]
        axes = axes.flip(1)[:, : encoder.smooth_size].T.float()
        encoder.linear.weight.copy_(axes)
        encoder.linear.bias.copy_(-axes @ mean)
        bands, nodes = len(self.sensor.bands), encoder.samples
        decoder.linear.weight.zero_()
        decoder.linear.weight[:nodes, : encoder.smooth_size].copy_(axes.T)
        decoder.linear.weight[nodes:, encoder.smooth_size :].copy_(torch.eye(bands))
        decoder.linear.bias.zero_()
        decoder.linear.bias[:nodes].copy_(mean)
        centre = list(self.sensor.offsets).index(0) * bands
        encoder.expected.weight.copy_(axes.T[centre : centre + bands])
        encoder.expected.bias.copy_(mean[centre : centre + bands])

    def centre_spectrum(self) -> tuple[Tensor, Tensor]:
        """Weight (C, E) and offset (C) of the centre date's bands, in the sensor's units, from an encoding."""
        encoder = self.encoder
        low, high = self.sensor.value_range
        scale = encoder.scale * (high - low)
        weight = torch.cat([encoder.expected.weight, torch.eye(len(scale))], 1) * scale[:, None]
        return weight, encoder.expected.bias * scale + encoder.mean * (high - low) + low

    def rebuild(self, encoding: Tensor, days: Tensor) -> Tensor:
        """(Q, E, h, w), days from each centre date (Q, K) -> (Q, K, C, h, w) in the range 0..1."""
        rebuilt: Tensor = self.decoder(encoding, days)
        return self.encoder.unstandardise(rebuilt)
