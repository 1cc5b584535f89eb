"""Decoder of one sensor (stage 1 of arXiv 2511.11706): an encoding to the bands around its centre date."""

from typing import cast

import torch
from torch import Tensor, nn

from thalweg.earth.declarations import Sensor
from thalweg.earth.model.context import SAME_DAY

HIDDEN_SIZE = 128

INITIAL_STATE_DAYS = 8.0
"""Decay in days of the influence of the centre date on other dates, before training."""


class Decoder(nn.Module):
    """Decoder of one sensor: an encoding to the bands at the pixel on any day near the centre date.

    The network gives one spectrum per day offset of the sensor; spectra on other days are interpolated linearly. The
    bands of the centre date, which the encoding holds, replace the smooth spectrum on that date and fade from there.
    """

    offsets: Tensor

    def __init__(self, sensor: Sensor) -> None:
        super().__init__()
        self.bands = len(sensor.bands)
        nodes = len(sensor.offsets) * self.bands
        self.linear = nn.Linear(sensor.encoding_size, nodes)
        self.residual = nn.Sequential(
            nn.Linear(sensor.encoding_size, HIDDEN_SIZE), nn.GELU(), nn.Linear(HIDDEN_SIZE, nodes)
        )
        last = cast(nn.Linear, self.residual[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.log_state_days = nn.Parameter(torch.full((self.bands,), INITIAL_STATE_DAYS).log())
        self.register_buffer("offsets", torch.tensor(sensor.offsets, dtype=torch.float32), persistent=False)

    def nodes(self, encoding: Tensor) -> Tensor:
        """Decode (Q, E, h, w) -> (Q, O, C, h, w): smooth spectra at the O offsets."""
        pixels = encoding.movedim(1, -1)
        nodes = (self.linear(pixels) + self.residual(pixels)).movedim(-1, 1)
        return nodes.unflatten(1, (-1, self.bands))

    def weights(self, days: Tensor) -> Tensor:
        """Return the interpolation weights (..., O) of the nodes for days (...) from the centre date.

        Days beyond the first or last offset get that offset's spectrum.
        """
        offsets = self.offsets
        clamped = days.clamp(float(offsets[0]), float(offsets[-1]))[..., None]
        right = torch.searchsorted(offsets, clamped.contiguous()).clamp(1, len(offsets) - 1)
        low, high = offsets[right - 1], offsets[right]
        share = (clamped - low) / (high - low)
        weights = torch.zeros(*days.shape, len(offsets), device=days.device)
        weights.scatter_(-1, right - 1, 1 - share)
        weights.scatter_(-1, right, share)
        return weights

    def forward(self, encoding: Tensor, days: Tensor) -> Tensor:
        """Decode (Q, E, h, w) on D days (Q, D) from each centre date -> standardised bands (Q, D, C, h, w)."""
        nodes, weights = self.nodes(encoding), self.weights(days)
        smooth = torch.einsum("qochw,qko->qkchw", nodes, weights)
        at_centre = nodes[:, self.offsets.tolist().index(0.0)]
        distance = torch.where(days.abs() < SAME_DAY, 0.0, days.abs())[..., None]
        share = torch.exp(-distance / self.log_state_days.exp())[..., None, None]
        return smooth + share * (encoding[:, -self.bands :] - at_centre)[:, None]
