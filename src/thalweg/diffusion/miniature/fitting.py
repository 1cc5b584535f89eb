"""Optimisation of one network of the miniature, resumable to the same weights."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from thalweg.io.state import read_state, write_state

Progress = Callable[[str, int, int, float], None]
"""Called with the stage, the step, the number of steps and the loss."""


@dataclass(frozen=True)
class Stage:
    """Optimisation of one network.

    Attributes:
        name: name of the stage, and of its state file.
        steps: number of steps.
        rate: highest learning rate.
        batch: batch size.
        seed: seed of the batches.
        checkpoint_every: steps between two checkpoints.
        average: decay of a running average of the weights, which then replaces them; None for none.
    """

    name: str
    steps: int
    rate: float
    batch: int
    seed: int
    checkpoint_every: int
    average: float | None = None


def fit(
    stage: Stage,
    network: nn.Module,
    loss: Callable[[Tensor, torch.Generator], Tensor],
    count: int,
    folder: Path,
    progress: Progress,
    device: str,
) -> None:
    """Train `network` in place on `count` images: AdamW with warm-up and cosine decay, in bfloat16."""
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=stage.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    averaged = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path = folder / "training" / f"{stage.name}.safetensors"
    start = _restore(path, network, optimizer, averaged) if path.is_file() else 0
    for step, index, random in _batches(count, stage.batch, stage.seed, start):
        if (step % stage.checkpoint_every == 0 and step > start) or step == stage.steps:
            _save(path, network, optimizer, averaged, step)
        if step >= stage.steps:
            break
        fraction = min(1.0, (step + 1) / 200) * (
            0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * step / stage.steps)).item()
        )
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * fraction
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            value = loss(index, random)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        weight = min(stage.average, (1 + step) / (10 + step)) if stage.average else 0.0
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                averaged[name].lerp_(tensor, 1 - weight) if tensor.is_floating_point() else averaged[name].copy_(tensor)
        progress(stage.name, step + 1, stage.steps, float(value.detach()))
    network.load_state_dict(averaged)
    network.eval()


def _save(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, averaged: Mapping[str, Tensor], step: int
) -> None:
    """Write the state of a stage after `step` steps."""
    moments = optimizer.state_dict()
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"averaged.{name}": tensor for name, tensor in averaged.items()}
    for index, values in moments["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
    write_state(path, tensors, {"step": step, "param_groups": moments["param_groups"]})


def _restore(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, averaged: Mapping[str, Tensor]) -> int:
    """Restore the state of a stage in place; return the number of steps taken."""
    tensors, values = read_state(path)
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    network.load_state_dict(parts["network"])
    for name, tensor in averaged.items():
        tensor.copy_(parts["averaged"][name])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, value = name.partition(".")
        moments.setdefault(int(index), {})[value] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": values["param_groups"]})
    return int(values["step"])


def _batches(count: int, batch: int, seed: int, start: int) -> Iterator[tuple[int, Tensor, torch.Generator]]:
    """Yield batches without end from step `start` on; a step's draws depend only on the seed and the step."""
    step = start
    while True:
        random = torch.Generator().manual_seed(seed * 1_000_003 + step)
        yield step, torch.randint(count, (batch,), generator=random), random
        step += 1
