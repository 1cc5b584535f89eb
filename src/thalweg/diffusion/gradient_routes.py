"""Routes of the gradient through a denoising chain: the steps and denoiser calls in the graph, and their weights."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thalweg.gradient_modes import Gradient

SHORTCUT_AT = 0.6
"""Place in the chain, 0 to 1, of the call that "shortcut" passes through: of a chain of 8 calls the sixth, whose cosine
with the full gradient is best or next to best, at the start of an optimization and away from it."""


@dataclass(frozen=True)
class GradientRoute:
    """Part of a chain's graph that is kept.

    Attributes:
        first_step: the first of the scheduler's steps in the graph.
        first_call: the first denoiser call in the graph.
        last_call: the last one; the outputs of later calls are constants.
        weights: factors of the gradient that each call, the first of the chain first, gives to the conditions; empty:
            1.
        noise_weight: factor of the gradient that reaches the start noise.
    """

    first_step: int
    first_call: int
    last_call: int
    weights: tuple[float, ...] = ()
    noise_weight: float = 1.0

    def holds(self, call: int) -> bool:
        """Return whether a denoiser call is in the graph."""
        return self.first_call <= call <= self.last_call

    def conditions(self, call: int, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the conditions of a call, the same values with the call's weight on their gradient."""
        weight = self.weights[call] if self.weights else 1.0
        return [scale_gradient(tensor, weight) for tensor in tensors]


def gradient_route(gradient: Gradient, calls: int, last_k: int, tensors: Sequence[Tensor] = ()) -> GradientRoute:
    """Return the route of a gradient mode.

    The route "random" is the last K calls, K uniform over 1 to `calls` and drawn from a hash of the conditions: one
    point always has the same. A call that is among the last K with probability p has the weight 1 / p, so that the mean
    over draws is the full gradient.

    Args:
        gradient: the mode.
        calls: denoiser calls of the chain.
        last_k: calls of "last_k".
        tensors: the conditions.
    """
    last = calls - 1
    if gradient is None or calls == 0:
        return GradientRoute(calls, calls, -1)
    if gradient == "shortcut":
        call = min(round(SHORTCUT_AT * calls), last)
        return GradientRoute(0, call, call)
    if gradient == "random":
        first = last - _draw(tensors, calls)
        # Call i of n is among the last K where K >= n - i: with probability (i + 1) / n.
        weights = tuple(calls / (call + 1) for call in range(calls))
        return GradientRoute(first, first, last, weights, noise_weight=float(calls))
    first = {"last_k": max(calls - last_k, 0), "one_step": last}.get(gradient, 0)
    return GradientRoute(first, first, last)


def _draw(tensors: Sequence[Tensor], count: int) -> int:
    """Return a number from 0 to `count` - 1, uniform over contents of the tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return int.from_bytes(digest.digest()[:8], "big") % count


def scale_gradient(tensor: Tensor, weight: float) -> Tensor:
    """Return the same values; gradients that pass through them are multiplied by `weight`."""
    if weight == 1:
        return tensor
    scaled: Tensor = _ScaledGradient.apply(tensor, weight)
    return scaled


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.weight * gradients[0], None
