"""Objective of an imprint: other seeds take the target's aspect and stay as they were in the rest."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import Generator
from thalweg.steer.imprinting.aspect import Aspect

EPS = 1e-12
"""Mean squared distance below which features count as equal."""


class AspectObjective:
    """Distance of other seeds' images from the target in the aspect, and from themselves in the rest.

    The reference of each seed is its own image under the start embedding, except in the aspect, where it is the
    target's. Both terms are relative: to the distance from the target at the start (1 at the start, 0 at the target),
    and to the distance of two seeds (0 at the start, 1 where a seed is as far from itself as from other seeds).

    Args:
        generator: the model.
        start: the embedding before the imprint.
        aspect: features of the aspect and of the rest.
        target: the target's image (3, H, W) in 0..1.
        held_out: seeds on which embeddings are evaluated.
        rest_weight: weight of the rest's term.

    Raises:
        UsageError: the held-out seeds agree with the target in the aspect already.
    """

    def __init__(
        self,
        generator: Generator,
        start: Embedding,
        aspect: Aspect,
        target: Tensor,
        held_out: Sequence[int],
        rest_weight: float,
    ) -> None:
        self._generator = generator
        self._start = start
        self._aspect = aspect
        self._rest_weight = rest_weight
        self._held_out = held_out
        self._rests: dict[int, Tensor] = {}
        with torch.no_grad():
            images = generator.render(start, held_out)
            self._target = aspect.kept(target[None])
            self._start_distance = float(squared_distances(aspect.kept(images), self._target).mean())
            if not self._start_distance > EPS:
                raise UsageError(
                    f"seeds already agree in the aspect to keep ({aspect.name}): nothing to imprint; choose another one"
                )
            self._spread = 0.0
            if aspect.rest is not None:
                rests = aspect.rest(images)
                self._rests.update(zip(held_out, rests, strict=True))
                self._spread = diversity(rests)

    def loss(self, embedding: Embedding, seeds: Sequence[int], step: int) -> Tensor:
        """Return the mean loss over `seeds`, differentiable in the embedding; it does not depend on the step."""
        images = self._generator.render(embedding, seeds)
        loss = squared_distances(self._aspect.kept(images), self._target).mean() / self._start_distance
        if self._aspect.rest is None or not self._spread > EPS:
            return loss
        missing = [seed for seed in seeds if seed not in self._rests]
        if missing:
            with torch.no_grad():
                rests = self._aspect.rest(self._generator.render(self._start, missing))
            self._rests.update(zip(missing, rests, strict=True))
        own = torch.stack([self._rests[seed] for seed in seeds])
        return loss + self._rest_weight * squared_distances(self._aspect.rest(images), own).mean() / self._spread

    @torch.no_grad()
    def evaluate(self, embedding: Embedding) -> float:
        """Return the loss on the held-out seeds."""
        return float(self.loss(embedding, self._held_out, 0))


def squared_distances(features: Tensor, others: Tensor) -> Tensor:
    """Return the squared distances (S) of features (S, d) from others (S, d) or (1, d)."""
    return (features - others).square().sum(1)


def diversity(features: Tensor) -> float:
    """Return the mean squared distance of two different rows of features (S, d); 0 for a single row."""
    return float(2 * features.var(0).sum()) if len(features) > 1 else 0.0
