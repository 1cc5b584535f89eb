"""Objective of an optimization: a metric's mean over the images of several seeds, and its gradient."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import Generator
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.optimization.noise_region import NoiseRegion
from thalweg.steer.trust_region import TrustRegion


@dataclass(frozen=True)
class Measurement:
    """Images and scores at one point.

    Attributes:
        images: images (S, 3, H, W) in 0..1.
        scores: scores (S) of the metric.
        constraint: values (S) of the constraint; NaN without a constraint.
        judge: values (S) of the judge; NaN without a judge.
        gradient: computes the gradient (n) of the objective.
    """

    images: Tensor
    scores: Tensor
    constraint: Tensor
    judge: Tensor
    gradient: Callable[[], Tensor]


class Objective:
    """A metric's mean over seeds, more is better, as a function of a trust region's offsets.

    Args:
        generator: the model.
        region: the trust region whose offsets are the variables.
        metric: the metric to improve.
        seeds: seeds of the images.
        constraint: a metric that must not fall far below its value at the start.
        retained_fraction: fraction of the constraint's value at the start that must remain.
        judge: a metric that must not fall below its value at the start, and that no gradient sees.
        batch: images rendered at once; None: all.
    """

    def __init__(
        self,
        generator: Generator,
        region: TrustRegion | NoiseRegion,
        metric: Metric,
        seeds: Sequence[int],
        constraint: Metric | None = None,
        retained_fraction: float = 1.0,
        judge: Metric | None = None,
        batch: int | None = None,
    ) -> None:
        self.generator = generator
        self.region = region
        self.metric = metric
        self.constraint = constraint
        self.judge = judge
        self.retained_fraction = retained_fraction
        self.batches = [
            seeds[first : first + (batch or len(seeds))] for first in range(0, len(seeds), batch or len(seeds))
        ]
        self.start_constraint = float("nan")
        self.start_judge = float("nan")

    def begin(self, constraint: float, judge: float) -> None:
        """Take the values of constraint and judge at the start, in their units; NaN where there is none."""
        self.start_constraint = self.constraint.sign * constraint if self.constraint else constraint
        self.start_judge = self.judge.sign * judge if self.judge else judge

    def slack(self, constraint: float) -> float:
        """Return the share of the constraint's allowed loss that is left: 1 at the start, negative where it fails."""
        if self.constraint is None:
            return 1.0
        left = self.constraint.sign * constraint - self.min_constraint()
        allowed = self.start_constraint - self.min_constraint()
        return left / allowed if allowed > 0 else math.copysign(1.0, left)

    def convinces_judge(self, value: float) -> bool:
        """Return whether a value of the judge is no worse than at the start."""
        return self.judge is None or self.judge.sign * value >= self.start_judge

    def min_constraint(self) -> float:
        """Return the smallest value of the constraint that is allowed, more is better."""
        return self.start_constraint - (1 - self.retained_fraction) * abs(self.start_constraint)

    def measure(self, offsets: Tensor, differentiable: bool) -> Measurement:
        """Render and score the point at `offsets` (n); its gradient is available where `differentiable`.

        The graph of a single batch is kept until the gradient is computed; several batches are rendered again for it.
        """
        offsets = offsets.detach().requires_grad_(differentiable)
        keeps_graph = differentiable and len(self.batches) == 1
        sizes = [len(batch) for batch in self.batches]
        with torch.set_grad_enabled(keeps_graph):
            images = torch.cat([self._render(offsets, batch) for batch in self.batches])
        shown = images.detach()
        with torch.no_grad():
            parts = shown.split(sizes)
            scores = torch.cat([self.metric(part) for part in parts])
            constraint, judge = (
                torch.cat([metric(part) for part in parts]) if metric else torch.full_like(scores, torch.nan)
                for metric in (self.constraint, self.judge)
            )

        def gradient() -> Tensor:
            at_images = self._image_gradient(shown, constraint)
            size = at_images.abs().amax()  # a model in half precision would lose small values in its backward pass
            total = torch.zeros_like(offsets)
            with torch.enable_grad():
                for batch, part in zip(self.batches, (at_images / size).split(sizes), strict=True):
                    rendered = images if keeps_graph else self._render(offsets, batch)
                    if not rendered.requires_grad:
                        raise self._no_gradient()
                    total += size * torch.autograd.grad(rendered, offsets, part)[0]
            if not bool(torch.isfinite(total).all()):
                raise ThalwegError(f"the gradient of metric {self.metric.name} holds NaN or infinity")
            if not bool(total.any()):
                raise UsageError("the images do not change with the embedding: its gradient is zero")
            if isinstance(self.region, NoiseRegion) and not self._reaches_noise(self.region, total):
                raise self._no_gradient()
            return total

        return Measurement(shown, scores, constraint, judge, gradient)

    def _reaches_noise(self, region: NoiseRegion, gradient: Tensor) -> bool:
        """Return whether the gradient mode reaches the start noise, given its gradient (n) at a point."""
        if getattr(self.generator, "gradient", None) == "random":
            # It draws for each embedding, and its weights make up for points at which it misses the noise.
            return region.moves_embedding
        return region.moves_noise(gradient)

    def _no_gradient(self) -> UsageError:
        """Return the error for images whose gradient does not reach what moves."""
        if not isinstance(self.region, NoiseRegion):
            return UsageError("the generator renders without gradient; use another gradient mode or `search=cma-es`")
        mode = getattr(self.generator, "gradient", None)
        return UsageError(
            f"the gradient mode {mode} does not reach the start noise; set `gradient=full` or shortcut, "
            "or `move=embedding`"
        )

    def _render(self, offsets: Tensor, seeds: Sequence[int]) -> Tensor:
        if isinstance(self.region, NoiseRegion):
            images = self.region.render(offsets, seeds)
        else:
            images = self.generator.render(self.region.embedding(offsets), seeds)
        return images.to(torch.promote_types(images.dtype, torch.float32))

    def _image_gradient(self, images: Tensor, constraint: Tensor) -> Tensor:
        """Return the gradient with respect to images; the constraint's share grows as its slack is used up."""
        gradient = self._mean_gradient(self.metric, images)
        if not bool(gradient.any()):
            raise UsageError(f"metric {self.metric.name} ignores the image: its gradient is zero everywhere")
        if self.constraint is None:
            return gradient
        lost = self.start_constraint - self.constraint.sign * float(constraint.mean())
        slack = self.start_constraint - self.min_constraint()
        weight = min(max(lost / slack, 0.0), 1.0) if slack > 0 else 1.0
        back = self._mean_gradient(self.constraint, images)
        return gradient + weight * gradient.norm() / back.norm().clamp(min=torch.finfo(back.dtype).tiny) * back

    def _mean_gradient(self, metric: Metric, images: Tensor) -> Tensor:
        """Return the gradient of the metric's mean, more is better, with respect to images (S, 3, H, W)."""
        gradients = []
        for part in images.split([len(batch) for batch in self.batches]):
            with torch.enable_grad():
                shown = part.detach().requires_grad_()
                scores = metric(shown)
            if not scores.requires_grad:
                raise UsageError(f"metric {metric.name} has no gradient; search without one: `search=cma-es`")
            value = metric.sign * scores.mean() * (len(part) / len(images))
            gradient = torch.autograd.grad(value, shown, allow_unused=True)[0]
            gradients.append(torch.zeros_like(shown) if gradient is None else gradient)
        return torch.cat(gradients)
