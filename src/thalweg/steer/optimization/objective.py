"""What tool 1 raises: a metric over several seeds' images at a place in the trust region, and its gradient there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import Generator
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.trust_region import TrustRegion


@dataclass(frozen=True)
class Measurement:
    """Images and scores at one place.

    Attributes:
        images: (S, 3, H, W).
        scores: (S), the metric's.
        kept: (S), those of the metric to be kept; NaN where there is none.
        gradient: computes the gradient (n) of the goal.
    """

    images: Tensor
    scores: Tensor
    kept: Tensor
    gradient: Callable[[], Tensor]


class Objective:
    """A metric's mean over seeds, more is better, as a function of a trust region's offsets.

    Args:
        generator: the model.
        region: what the offsets mean.
        metric: what to raise.
        keep: what must not fall.
        share: share of the start's `keep` that must remain.
        seeds: the images that count.
        batch: images rendered at once.
    """

    def __init__(
        self,
        generator: Generator,
        region: TrustRegion,
        metric: Metric,
        keep: Metric | None,
        share: float,
        seeds: Sequence[int],
        batch: int | None,
    ) -> None:
        self.generator = generator
        self.region = region
        self.metric = metric
        self.keep = keep
        self.share = share
        self.chunks = [
            seeds[first : first + (batch or len(seeds))] for first in range(0, len(seeds), batch or len(seeds))
        ]
        self.start_kept = float("nan")

    def floor(self) -> float:
        """The least that must remain of the metric to be kept, more is better."""
        return self.start_kept - (1 - self.share) * abs(self.start_kept)

    def measure(self, offsets: Tensor, differentiable: bool) -> Measurement:
        """Render and score the place at `offsets` (n); its gradient can be had where `differentiable`.

        One batch's graph is held until the gradient is asked for; several batches are rendered again for it.
        """
        offsets = offsets.detach().requires_grad_(differentiable)
        held = differentiable and len(self.chunks) == 1
        lengths = [len(chunk) for chunk in self.chunks]
        with torch.set_grad_enabled(held):
            images = torch.cat([self._render(offsets, chunk) for chunk in self.chunks])
        shown = images.detach()
        with torch.no_grad():
            parts = shown.split(lengths)
            scores = torch.cat([self.metric(part) for part in parts])
            kept = torch.cat([self.keep(part) for part in parts]) if self.keep else torch.full_like(scores, torch.nan)

        def gradient() -> Tensor:
            slope = self._image_gradient(shown, kept)
            size = slope.abs().amax()  # a model in half precision would lose small values on the way back
            total = torch.zeros_like(offsets)
            with torch.enable_grad():
                for chunk, part in zip(self.chunks, (slope / size).split(lengths), strict=True):
                    rendered = images if held else self._render(offsets, chunk)
                    if not rendered.requires_grad:
                        raise UsageError(
                            "the generator renders without gradient; take another gradient mode or method cma-es"
                        )
                    total += size * torch.autograd.grad(rendered, offsets, part)[0]
            if not bool(torch.isfinite(total).all()):
                raise ThalwegError(f"the gradient of metric {self.metric.name} holds NaN or infinity")
            if not bool(total.any()):
                raise UsageError("the images do not change with the embedding: its gradient is zero")
            return total

        return Measurement(shown, scores, kept, gradient)

    def _render(self, offsets: Tensor, seeds: Sequence[int]) -> Tensor:
        images = self.generator.render(self.region.embedding(offsets), seeds)
        return images.to(torch.promote_types(images.dtype, torch.float32))

    def _image_gradient(self, images: Tensor, kept: Tensor) -> Tensor:
        """Gradient of the goal with respect to the images; that of what must be kept joins as it is used up."""
        slope = self._mean_gradient(self.metric, images)
        if not bool(slope.any()):
            raise UsageError(f"metric {self.metric.name} ignores the image: its gradient is zero everywhere")
        if self.keep is None:
            return slope
        lost, slack = self.start_kept - self.keep.sign * float(kept.mean()), self.start_kept - self.floor()
        weight = min(max(lost / slack, 0.0), 1.0) if slack > 0 else 1.0
        back = self._mean_gradient(self.keep, images)
        return slope + weight * slope.norm() / back.norm().clamp(min=torch.finfo(back.dtype).tiny) * back

    def _mean_gradient(self, metric: Metric, images: Tensor) -> Tensor:
        """Gradient of the metric's mean, more is better, with respect to images (S, 3, H, W)."""
        slopes = []
        for part in images.split([len(chunk) for chunk in self.chunks]):
            with torch.enable_grad():
                shown = part.detach().requires_grad_()
                scores = metric(shown)
            if not scores.requires_grad:
                raise UsageError(f"metric {metric.name} has no gradient; search without one: method cma-es")
            goal = metric.sign * scores.mean() * (len(part) / len(images))
            slope = torch.autograd.grad(goal, shown, allow_unused=True)[0]
            slopes.append(torch.zeros_like(shown) if slope is None else slope)
        return torch.cat(slopes)
