"""Published seed-invariant embedding (2308.12059, tool 3), with its schedule and with corrections.

As published: one vector stands in all rows but the first and begins as the prompt's last row. For the denoising steps
k = 0, 1, 2 in turn, 40 iterations each, the latents after step k from three new seeds' start noise are pulled toward
those of the target seed (by cosine). The noise is mixed: an arc from the target seed's own noise toward the other
seed's, at a weight that begins at 0.01 in each phase.

Corrections: the weight grows to 1 within each phase (as published it ends at 0.203, so no other seed's own noise is
ever used); each phase compares latents after the same step (as published the first phase compares latents after step 0
with finished ones); the target seed is never among the new ones; the embedding that is best by held-out seeds and their
own noise is kept (as published the last one is); the gradient passes through all steps up to k.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import ChainGenerator
from thalweg.steer.imprinting.noise_approach import NoiseApproach

PHASES = 3
"""Denoising steps that are compared, one after the other."""
LEARNING_RATE = 0.01
FIRST_WEIGHT = 0.01
LOSS_SCALE = 1e4
"""Published factor on the loss; it keeps the gradient large against the optimizer's epsilon (1e-3)."""


class RepeatedMove:
    """Embeddings whose trainable prompt rows are all one vector; offsets (width) count from the start's last row.

    Attributes:
        spread: the offsets' unit (width): 1, the vector's own unit.
    """

    def __init__(self, generator: ChainGenerator, start: Embedding) -> None:
        """Begin at the last row of `start`.

        Raises:
            UsageError: the embedding has no prompt rows (tokens, width).
        """
        rows = start.tensors.get("prompt")
        if rows is None or rows.ndim != 2:
            raise UsageError("`mode=paper` needs an embedding with a tensor prompt (tokens, width); use `mode=image`")
        self._rows = rows
        self._mask = generator.trainable_masks(start)["prompt"].to(rows.device)
        self._lineage = start.lineage
        self._tensors = start.tensors
        self.spread = rows.new_ones(rows.shape[1])

    def embedding(self, offsets: Tensor) -> Embedding:
        """Return the embedding at `offsets`, differentiable in them."""
        vector = (self._rows[-1] + offsets).to(self._rows.dtype)
        return Embedding({**self._tensors, "prompt": torch.where(self._mask, vector, self._rows)}, self._lineage)

    def split(self, offsets: Tensor) -> tuple[Tensor, ...]:
        """Return the one vector."""
        return (offsets,)

    def drift(self, offsets: Tensor) -> float:
        """Return the root mean square of `offsets`."""
        return float(offsets.square().mean().sqrt())

    def project(self, offsets: Tensor) -> Tensor:
        """Return `offsets` unchanged: the published method has no bounds."""
        return offsets


class LatentObjective:
    """Dissimilarity (by cosine) of other seeds' latents after an early step from the target seed's."""

    def __init__(
        self, generator: ChainGenerator, start: Embedding, target_seed: int, held_out: Sequence[int], steps: int
    ) -> None:
        """Compute the target seed's latents under `start` after each of the first steps.

        Args:
            generator: the model.
            start: the embedding before the imprint.
            target_seed: the seed whose latents are copied.
            held_out: seeds on which embeddings are evaluated.
            steps: number of iterations, all phases together.

        Raises:
            UsageError: the chain has fewer steps than there are phases.
        """
        if generator.steps < PHASES:
            raise UsageError(f"`mode=paper` compares the first {PHASES} steps, this chain has {generator.steps}")
        self._generator = generator
        self._held_out = held_out
        self._phase_length = -(-steps // PHASES)
        with torch.no_grad():
            self._approach = NoiseApproach(generator, target_seed)
            self._targets = [generator.latents(start, self._approach.target, phase + 1) for phase in range(PHASES)]

    def loss(self, embedding: Embedding, seeds: Sequence[int], step: int) -> Tensor:
        """Return the scaled sum of negative cosines at an iteration, differentiable in the embedding."""
        phase, iteration = divmod(step, self._phase_length)
        weight = FIRST_WEIGHT + (1 - FIRST_WEIGHT) * iteration / max(self._phase_length - 1, 1)
        return -LOSS_SCALE * self._cosines(embedding, self._approach.noise(seeds, weight), phase).sum()

    @torch.no_grad()
    def evaluate(self, embedding: Embedding) -> float:
        """Return 1 minus the mean cosine after the last phase's step, from the held-out seeds' own noise."""
        return 1 - float(self._cosines(embedding, self._generator.noise(self._held_out), PHASES - 1).mean())

    def _cosines(self, embedding: Embedding, noise: Tensor, phase: int) -> Tensor:
        latents = self._generator.latents(embedding, noise, phase + 1)
        return torch.cosine_similarity(latents.flatten(1), self._targets[phase].flatten(1), dim=1)
