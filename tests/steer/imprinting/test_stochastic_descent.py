"""Tests of the descent's direction and the length of its steps."""

import pytest
import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.steer.imprinting.imprint_config import DescentConfig
from thalweg.steer.imprinting.stochastic_descent import Descent


class Line:
    """Offsets without bounds."""

    spread = torch.ones(4)

    def embedding(self, offsets: Tensor) -> Embedding:
        raise AssertionError("a descent alone renders nothing")

    def drift(self, offsets: Tensor) -> float:
        return float(offsets.square().mean().sqrt())

    def project(self, offsets: Tensor) -> Tensor:
        return offsets


def points(gradients: list[Tensor], steps: int = 10) -> list[Tensor]:
    """Return the point after each gradient."""
    descent = Descent(Line(), DescentConfig(steps=steps, step_length=0.1, radius=2.0))
    found = []
    for gradient in gradients:
        descent.tell(0.0, 1.0, lambda gradient=gradient: gradient)
        found.append(descent.ask())
    return found


def test_steps_have_the_length_that_is_left_whatever_the_gradients_length_is() -> None:
    gradients = list(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    found = points(gradients)
    for one, other in zip(found, points([1000 * gradient for gradient in gradients]), strict=True):
        torch.testing.assert_close(one, other)
    steps = torch.stack([torch.zeros(4), *found]).diff(dim=0)
    lengths = [Line().drift(step) for step in steps]
    assert lengths == pytest.approx([0.2 * (1 - taken / 10) for taken in range(5)])


def test_entries_in_which_seeds_agree_move_furthest() -> None:
    moved = points([torch.tensor([0.1, sign, 0.1, 0.0]) for sign in (1.0, -1.0, 1.0, -1.0, 1.0, -1.0)])[-1]
    assert moved[0] > 3 * moved[1].abs()
    assert moved[0] == moved[2] and moved[3] == 0
