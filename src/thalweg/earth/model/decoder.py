"""Rebuilds a sensor's context from its encoding."""

from typing import cast

import torch
from torch import Tensor, nn

from thalweg.earth.sensors import Sensor

_HIDDEN = 64


class Decoder(nn.Module):
    """An encoding -> what the sensor would see at the pixel on any day near the centre date.

    The network gives one spectrum at each of the sensor's day offsets and the centre's own detail; days in
    between are interpolated. The linear path starts as the transpose of the encoder's.
    """

    offsets: Tensor

    def __init__(self, sensor: Sensor) -> None:
        super().__init__()
        self.bands = len(sensor.bands)
        nodes = (len(sensor.offsets) + 1) * self.bands
        self.linear = nn.Linear(sensor.encoding_size, nodes)
        self.residual = nn.Sequential(nn.Linear(sensor.encoding_size, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, nodes))
        last = cast(nn.Linear, self.residual[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("offsets", torch.tensor(sensor.offsets, dtype=torch.float32), persistent=False)

    def nodes(self, encoding: Tensor) -> Tensor:
        """(Q, E, h, w) -> standardised spectra at the offsets, then the centre's detail: (Q, O + 1, C, h, w)."""
        pixels = encoding.movedim(1, -1)
        nodes = (self.linear(pixels) + self.residual(pixels)).movedim(-1, 1)
        return nodes.unflatten(1, (-1, self.bands))

    def weights(self, days: Tensor) -> Tensor:
        """Interpolation weights (..., O + 1) of the nodes for days (...) from the centre date."""
        offsets = self.offsets
        clamped = days.clamp(float(offsets[0]), float(offsets[-1]))[..., None]
        right = torch.searchsorted(offsets, clamped.contiguous()).clamp(1, len(offsets) - 1)
        low, high = offsets[right - 1], offsets[right]
        share = (clamped - low) / (high - low)
        weights = torch.zeros(*days.shape, len(offsets) + 1, device=days.device)
        weights.scatter_(-1, right - 1, 1 - share)
        weights.scatter_(-1, right, share)
        weights[..., -1] = (days.abs() < 0.5).to(weights.dtype)
        return weights

    def forward(self, encoding: Tensor, days: Tensor) -> Tensor:
        """Rebuild (Q, K, C, h, w), standardised, from (Q, E, h, w) on K days (Q, K) from each centre date."""
        return torch.einsum("qochw,qko->qkchw", self.nodes(encoding), self.weights(days))
