"""Encoding of one sensor, as encoders give it and fusions take it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Encoding:
    """Encoding of one sensor at Q centre dates.

    Attributes:
        values: (Q, E, h, w), float32: E - C dimensions of context, then C dimensions of the centre date.
        support: (Q, N, h, w), float32, how much was observed around each centre date, all in 0 to about 6.
        observed: (Q, 1, h, w), float32, 1 where the sensor has any valid context, otherwise 0.
    """

    values: Tensor
    support: Tensor
    observed: Tensor

    def to(self, device: torch.device | str) -> "Encoding":
        """Return the encoding on a device."""
        return Encoding(self.values.to(device), self.support.to(device), self.observed.to(device))
