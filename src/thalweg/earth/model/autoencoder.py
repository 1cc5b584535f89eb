"""Autoencoder of one sensor: an encoder and the decoder that reconstructs its context (stage 1 of arXiv 2511.11706)."""

from torch import Tensor, nn

from thalweg.earth.declarations import Sensor
from thalweg.earth.model.decoder import Decoder
from thalweg.earth.model.encoder import Encoder


class Autoencoder(nn.Module):
    """Encoder and decoder of one sensor.

    Attributes:
        sensor: declaration of the sensor.
        encoder: context to encoding.
        decoder: encoding to standardised bands.
    """

    def __init__(self, sensor: Sensor) -> None:
        super().__init__()
        self.sensor = sensor
        self.encoder = Encoder(sensor)
        self.decoder = Decoder(sensor)

    def reconstruct(self, encoding: Tensor, days: Tensor) -> Tensor:
        """Reconstruct bands from an encoding.

        Args:
            encoding: (Q, E, h, w).
            days: (Q, D), days from each centre date.

        Returns:
            (Q, D, C, h, w), the sensor's value range mapped to 0..1, float32.
        """
        standardised: Tensor = self.decoder(encoding, days)
        return self.encoder.unstandardise(standardised)
