"""Heterogeneity of soil and plants within and between units: smooth random fields over the pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.land.random_fields import random_field


@dataclass(frozen=True)
class Heterogeneity:
    """Smooth random fields within and across units: (y, x) float32, about standard normal, clipped at 2.5."""

    fertility: NDArray
    drought: NDArray  # sandy or shallow soil, which dries first
    chlorophyll: NDArray
    soil: NDArray  # brightness


def draw_heterogeneity(rng: np.random.Generator, size: int) -> Heterogeneity:
    """Draw the fields: patterns of 50 to 200 m with a finer component."""
    side = max(size, 32)

    def field(length: float, grain: float) -> NDArray:
        mixed = random_field(rng, side, length, 2.2) + grain * random_field(rng, side, 1.2, 2.0)
        return np.clip(mixed / np.hypot(1, grain), -2.5, 2.5)[:size, :size]

    fertility, drought, soil = field(8, 0.35), field(12, 0.25), field(10, 0.35)
    chlorophyll = np.clip(0.55 * fertility + 0.83 * field(5, 0.4), -2.5, 2.5)
    return Heterogeneity(fertility, drought, chlorophyll, soil)


def vigour(heterogeneity: Heterogeneity, stress: NDArray, pixels: NDArray) -> NDArray:
    """Return the deviation of log leaf area at pixels: by fertility, and by drought where the unit lacks water.

    Args:
        heterogeneity: Random fields of the landscape.
        stress: (n,) water stress of the unit of each entry, 0 to 1.
        pixels: (n,) flat pixel index of each entry.

    Returns:
        (n,) in units of the surface's ``variation`` of log leaf area.
    """
    return 0.9 * heterogeneity.fertility.ravel()[pixels] - (0.25 + 1.3 * stress) * heterogeneity.drought.ravel()[pixels]
