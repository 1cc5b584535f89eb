"""Stage 1: one sensor's context-aware autoencoder."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from thalweg.earth.context import SensorContext
from thalweg.earth.decoder import Decoder
from thalweg.earth.encoder import Encoder
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
        """Start the linear paths as the principal components of trajectories (N, samples)."""
        mean = trajectories.mean(0)
        axes = torch.linalg.eigh(torch.cov((trajectories - mean).T.double()))[1]
        axes = axes.flip(1)[:, : self.sensor.encoding_size].T.float()
        self.encoder.linear.weight.copy_(axes)
        self.encoder.linear.bias.copy_(-axes @ mean)
        self.decoder.linear.weight.copy_(axes.T)
        self.decoder.linear.bias.copy_(mean)

    def rebuild(self, encoding: Tensor, days: Tensor) -> Tensor:
        """(Q, E, h, w), days from each centre date (Q, K) -> (Q, K, C, h, w) in the range 0..1."""
        rebuilt: Tensor = self.decoder(encoding, days)
        return self.encoder.unstandardise(rebuilt)
