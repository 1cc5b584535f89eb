"""State of the miniature's training: an interrupted stage resumes with the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg.diffusion.miniature import fitting


class FewImages:
    images = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))


def fit(folder: Path, interrupt_at: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Linear(8, 4)
    dataset: Any = FewImages()

    def loss(index: Tensor, random: torch.Generator) -> Tensor:
        return network(dataset.images[index]).square().mean() + torch.randn((), generator=random)

    def interrupt(stage: str, step: int, steps: int, value: float) -> None:
        if step == interrupt_at:
            raise KeyboardInterrupt

    stage = fitting.Stage("stage", steps=16, rate=1e-2, batch=4, seed=0, checkpoint_every=5, average=0.9)
    fitting.fit(stage, network, loss, len(dataset.images), folder, interrupt, "cpu")
    return network


def test_an_interrupted_stage_resumes_with_the_same_weights(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", interrupt_at=13)
    resumed = fit(tmp_path / "parts")
    for expected, found in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, found)
