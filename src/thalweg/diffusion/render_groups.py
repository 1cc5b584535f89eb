"""Rendering of groups of seeds side by side, forward and backward."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from thalweg.threads import side_by_side

Seeds = Sequence[int]
RenderGroup = Callable[[Sequence[Tensor], Seeds], Tensor]
"""`(tensors, seeds) -> images (S, 3, H, W)`, differentiable in the tensors."""


def differentiable_groups(render: RenderGroup, tensors: Sequence[Tensor], groups: Sequence[Seeds]) -> Tensor:
    """Return the images (S, 3, H, W) of all groups; their gradient is computed group by group, side by side as well.

    The gradient is the sum of the groups' in their order, and therefore does not depend on the number of cores.

    Args:
        render: renders the seeds of one group.
        tensors: conditions of the denoiser; those that require a gradient get one.
        groups: seeds of each group.
    """
    return cast(Tensor, _Groups.apply(render, groups, *tensors))


class _Groups(torch.autograd.Function):
    """Images of groups, each with a graph of its own."""

    @staticmethod
    def forward(ctx: Any, render: RenderGroup, groups: Sequence[Seeds], *tensors: Tensor) -> Tensor:
        def render_group(group: Seeds) -> tuple[list[Tensor], Tensor]:
            leaves = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]
            with torch.enable_grad():
                return leaves, render(leaves, group)

        ctx.parts = side_by_side(render_group, groups)
        return torch.cat([images.detach() for _, images in ctx.parts])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        sizes = [len(images) for _, images in ctx.parts]

        def differentiate(part: tuple[tuple[list[Tensor], Tensor], Tensor]) -> list[Tensor | None]:
            (leaves, images), at_images = part
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            found = iter(torch.autograd.grad(images, wanted, at_images, retain_graph=True, allow_unused=True))
            return [next(found) if leaf.requires_grad else None for leaf in leaves]

        parts = list(zip(ctx.parts, gradient.split(sizes), strict=True))
        by_tensor = zip(*side_by_side(differentiate, parts), strict=True)
        return None, None, *(_sum(gradients) for gradients in by_tensor)


def _sum(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """Return the sum of the groups' gradients of one tensor; None where no group has one."""
    given = [each for each in gradients if each is not None]
    return torch.stack(given).sum(0) if given else None
