"""Choice of a gradient mode by measurement: similarity to the full gradient, and denoiser calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.generator import ChainGenerator
from thalweg.gradient_modes import Gradient

CANDIDATES: tuple[Gradient, ...] = ("full", "last_k", "one_step", "shortcut")
"""Modes that are compared; the random one is better only on average over many points."""
NOISE_CANDIDATES: tuple[Gradient, ...] = ("full", "shortcut")
"""Those of them whose gradient reaches the start noise of a chain of any length."""


@dataclass(frozen=True)
class GradientChoice:
    """Measured gradient modes.

    Attributes:
        gradient: the mode with the largest cosine per denoiser call.
        cosines: each mode's cosine with the full gradient.
        calls: denoiser calls of one image with its gradient in each mode.
    """

    gradient: Gradient
    cosines: Mapping[Gradient, float]
    calls: Mapping[Gradient, int]


def choose_gradient(
    generator: ChainGenerator,
    gradient: Callable[[ChainGenerator], Tensor],
    modes: Sequence[Gradient] = CANDIDATES,
) -> GradientChoice:
    """Measure the gradient modes at one point, and choose the one that gains most per denoiser call.

    A short step of a fixed length along a gradient gains in proportion to its cosine with the full one.

    Args:
        generator: the model.
        gradient: computes the gradient (n) at the point with a model in a mode.
        modes: the modes to compare, "full" among them.

    Raises:
        UsageError: as `gradient`.
    """
    gradients: dict[Gradient, Tensor] = {}
    calls: dict[Gradient, int] = {}
    for mode in modes:
        before = generator.calls
        gradients[mode] = gradient(generator.with_gradient(mode))
        calls[mode] = max(generator.calls - before, 1)
    cosines: dict[Gradient, float] = {
        mode: float(torch.cosine_similarity(found, gradients["full"], dim=0)) for mode, found in gradients.items()
    }
    return GradientChoice(max(modes, key=lambda mode: cosines[mode] / calls[mode]), cosines, calls)
