"""Trust region: the embeddings near a start that a tool may reach, and the drift from the start."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import Generator
from thalweg.limits import MAX_RADIUS, MIN_RADIUS, check_number


class TrustRegion:
    """The embeddings near a start, as offsets (n): one vector of all trainable values, in units of their spread.

    A tensor's spread is the standard deviation of its trainable values in the start. Its *drift* is the root mean
    square of its offsets: at a drift of 1 its values have moved, on average, as far as they differ from each other. A
    tensor with a spread of zero, such as the zeros of an empty prompt, takes the spread of another tensor of its shape,
    or 1.

    Args:
        generator: the model, which says which entries are trainable.
        start: the embedding at offsets of zero.
        radius: the largest drift of any tensor.
        scale: "tensor", or "row": each row of a tensor (rows, width) has a spread of its own, so that a step moves rows
            of small values less.

    Attributes:
        start: the embedding at offsets of zero.
        radius: the largest drift of any tensor.
        size: the number of trainable values, n.
        spread: the spread of each trainable value (n), float32.

    Raises:
        UsageError: the radius is out of range, the embedding belongs to another model, or all its entries are frozen.
        NotFiniteError: the embedding holds NaN or infinity.
    """

    def __init__(
        self, generator: Generator, start: Embedding, radius: float, scale: Literal["tensor", "row"] = "tensor"
    ) -> None:
        check_number("`radius`", radius, MIN_RADIUS, MAX_RADIUS)
        start.check_model(generator.model)
        start.check_finite()
        self.start = start
        self.radius = radius
        masks = {
            name: mask.expand(start.tensors[name].shape).to(start.tensors[name].device)
            for name, mask in generator.trainable_masks(start).items()
        }
        self._masks = {name: mask for name, mask in masks.items() if bool(mask.any())}
        if not self._masks:
            raise UsageError("expected an embedding with trainable entries, the generator freezes all of them")
        self._counts = [int(mask.sum()) for mask in self._masks.values()]
        self.size = sum(self._counts)
        spreads = zip(self._masks.items(), self._spreads(), strict=True)
        self.spread = torch.cat(
            [
                self._row_spreads(name, mask, spread) if scale == "row" else spread.expand(int(mask.sum()))
                for (name, mask), spread in spreads
            ]
        )

    def _row_spreads(self, name: str, mask: Tensor, spread: Tensor) -> Tensor:
        """Return the spread of each trainable value's row, the tensor's `spread` where a row has none."""
        values = self.start.tensors[name].float()
        counts = mask.sum(-1, keepdim=True).clamp(min=1)
        centred = (values - (values * mask).sum(-1, keepdim=True) / counts) * mask
        rows = (centred.square().sum(-1, keepdim=True) / counts).sqrt()
        return torch.where(rows > 0, rows, spread).expand(values.shape)[mask]

    def _spreads(self) -> list[Tensor]:
        own = {name: self.start.tensors[name][mask].float().std(correction=0) for name, mask in self._masks.items()}
        spreads = []
        for name, spread in own.items():
            shape = self.start.tensors[name].shape
            same_shape = [
                value for other, value in own.items() if self.start.tensors[other].shape == shape and value > 0
            ]
            spreads.append(spread if spread > 0 else same_shape[0] if same_shape else torch.ones_like(spread))
        return spreads

    def tensors(self, offsets: Tensor) -> dict[str, Tensor]:
        """Return the tensors at `offsets` (n), in the start's types; differentiable in the offsets."""
        parts = (offsets * self.spread).split(self._counts)
        moved = {}
        for (name, mask), part in zip(self._masks.items(), parts, strict=True):
            start = self.start.tensors[name]
            shift = torch.zeros_like(start, dtype=part.dtype).masked_scatter(mask, part)
            moved[name] = (start.to(part.dtype) + shift).to(start.dtype)
        return moved

    def embedding(self, offsets: Tensor) -> Embedding:
        """Return the embedding at `offsets` (n), with the start's provenance; differentiable in the offsets."""
        return Embedding({**self.start.tensors, **self.tensors(offsets)}, self.start.lineage)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the trainable values (n) of tensors of the start's shapes, not in units of the spread.

        Raises:
            UsageError: a trainable tensor is missing or has another shape.
        """
        parts = []
        for name, mask in self._masks.items():
            if name not in tensors or tensors[name].shape != mask.shape:
                got = tuple(tensors[name].shape) if name in tensors else "none"
                raise UsageError(f"expected a tensor {name} {tuple(mask.shape)}, got {got}")
            parts.append(tensors[name].to(self.spread.device)[mask].to(self.spread.dtype))
        return torch.cat(parts)

    def split(self, offsets: Tensor) -> tuple[Tensor, ...]:
        """Return the part of a vector (n) that belongs to each tensor."""
        return offsets.split(self._counts)

    def drifts(self, offsets: Tensor) -> list[float]:
        """Return the drift of each tensor at `offsets` (n)."""
        return [float(part.square().mean().sqrt()) for part in self.split(offsets)]

    def drift(self, offsets: Tensor) -> float:
        """Return the drift of the tensor that moved furthest at `offsets` (n)."""
        return max(self.drifts(offsets))

    def project(self, offsets: Tensor) -> Tensor:
        """Return the nearest offsets (n) within the radius, tensor by tensor."""
        shrink = [min(1.0, self.radius / drift) if drift > 0 else 1.0 for drift in self.drifts(offsets)]
        return torch.cat([part * factor for part, factor in zip(offsets.split(self._counts), shrink, strict=True)])

    def with_start_moments(self, offsets: Tensor) -> Tensor:
        """Return offsets (n) at which each tensor's trainable values have the start's mean and standard deviation."""
        start = self.flatten(self.start.tensors)
        parts = []
        for before, after in zip(
            start.split(self._counts), (start + offsets * self.spread).split(self._counts), strict=True
        ):
            spread = after.std(correction=0).clamp(min=torch.finfo(after.dtype).tiny)
            parts.append((after - after.mean()) / spread * before.std(correction=0) + before.mean() - before)
        return torch.cat(parts) / self.spread
