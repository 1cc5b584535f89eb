"""Objective of an imprint: other seeds take the target's aspect and stay as they were in the rest."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import ChainGenerator, Generator
from thalweg.steer.imprinting.aspect import Aspect
from thalweg.steer.imprinting.imprint_config import DescentConfig
from thalweg.steer.imprinting.noise_approach import NoiseApproach

EPS = 1e-12
"""Mean squared distance below which features count as equal."""
FIRST_WEIGHT = 0.1
"""Weight of other seeds' own noise at the first step, where their noise approaches from the target's."""
APPROACH = 0.6
"""Part of the steps after which it is each seed's own."""


class AspectObjective:
    """Distance of other seeds' images from the target in the aspect, and from themselves in the rest.

    The reference of each seed is its own image under the start embedding, except in the aspect, where it is the
    target's. Both terms are relative: to the distance from the target at the start (1 at the start, 0 at the target;
    the mean over the aspect's parts), and to the distance of two seeds (0 at the start, 1 where a seed is as far from
    itself as from other seeds). Where nothing has to stay, training seeds begin near the target seed's noise.

    Args:
        generator: the model.
        start: the embedding before the imprint.
        aspect: features of the aspect and of the rest.
        target: the target's seed and image (3, H, W) in 0..1.
        held_out: seeds on which embeddings are evaluated.
        descent: weight of the rest's term, and number of steps.

    Raises:
        UsageError: the held-out seeds agree with the target in the aspect already.
    """

    def __init__(
        self,
        generator: Generator,
        start: Embedding,
        aspect: Aspect,
        target: tuple[int, Tensor],
        held_out: Sequence[int],
        descent: DescentConfig,
    ) -> None:
        seed, image = target
        self._generator = generator
        self._start = start
        self._aspect = aspect
        self._rest_weight = descent.rest_weight
        self._approach_steps = APPROACH * descent.steps
        self._approach = None
        if aspect.rest is None and isinstance(generator, ChainGenerator):
            self._approach = NoiseApproach(generator, seed)
        self._held_out = held_out
        self._rests: dict[int, Tensor] = {}
        with torch.no_grad():
            images = generator.render(start, held_out)
            self._target = aspect.kept(image[None]).float()
            start_distances = (aspect.kept(images).float() - self._target).square().mean(0)
            if not float(start_distances.sum()) > EPS:
                raise UsageError(
                    f"seeds already agree in the aspect to keep ({aspect.name}): nothing to imprint; choose another one"
                )
            self._weights = _part_weights(start_distances, aspect.parts or (len(start_distances),))
            self._spread = 0.0
            if aspect.rest is not None:
                rests = aspect.rest(images)
                self._rests.update(zip(held_out, rests, strict=True))
                self._spread = diversity(rests)

    def loss(self, embedding: Embedding, seeds: Sequence[int], step: int) -> Tensor:
        """Return the mean loss over `seeds` at a step, differentiable in the embedding."""
        weight = FIRST_WEIGHT + (1 - FIRST_WEIGHT) * step / self._approach_steps
        if self._approach is None or weight >= 1:
            return self._mean_loss(self._generator.render(embedding, seeds), seeds)
        return self._mean_loss(self._approach.images(embedding, seeds, weight), seeds)

    @torch.no_grad()
    def evaluate(self, embedding: Embedding) -> float:
        """Return the loss on the held-out seeds."""
        return float(self._mean_loss(self._generator.render(embedding, self._held_out), self._held_out))

    def _mean_loss(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        loss = ((self._aspect.kept(images).float() - self._target).square() @ self._weights).mean()
        if self._aspect.rest is None or not self._spread > EPS:
            return loss
        missing = [seed for seed in seeds if seed not in self._rests]
        if missing:
            with torch.no_grad():
                rests = self._aspect.rest(self._generator.render(self._start, missing))
            self._rests.update(zip(missing, rests, strict=True))
        own = torch.stack([self._rests[seed] for seed in seeds])
        return loss + self._rest_weight * squared_distances(self._aspect.rest(images), own).mean() / self._spread


def _part_weights(start_distances: Tensor, parts: Sequence[int]) -> Tensor:
    """Return the weights (d) of squared differences whose sum is 1 at the start, the same for each part that differs.

    Args:
        start_distances: mean squared differences (d) at the start.
        parts: widths of the parts.
    """
    totals = [part.sum().expand(len(part)) for part in start_distances.split(list(parts))]
    different = [total > EPS / len(parts) for total in totals]
    count = sum(bool(part[0]) for part in different)
    return torch.where(torch.cat(different), 1 / torch.cat(totals), 0.0) / count


def squared_distances(features: Tensor, others: Tensor) -> Tensor:
    """Return the squared distances (S) of features (S, d) from others (S, d) or (1, d)."""
    return (features - others).square().sum(1)


def diversity(features: Tensor) -> float:
    """Return the mean squared distance of two different rows of features (S, d); 0 for a single row."""
    return float(2 * features.var(0).sum()) if len(features) > 1 else 0.0
