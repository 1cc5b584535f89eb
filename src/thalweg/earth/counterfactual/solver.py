"""Minimal perturbation of an embedding that reaches goals, by projections in whitened coordinates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg.earth.analysis.distribution import EmbeddingDistribution

MAX_ITERATIONS = 25
"""Largest number of linearisations of the decoder."""
MAX_HALVINGS = 6
"""Largest number of times that a step is halved."""
MIN_STEP_REACHED = 1e-3
"""Step, in standard deviations, below which the search ends once the goals are met."""
MIN_STEP = 1e-5
"""Step, in standard deviations, below which the search ends while the goals are not met."""
SHRINK = 1 - 1e-6
"""Factor on the bounds during the search, so that rounding to float32 does not put the result outside of them."""
FREE_MISS = 0.1
"""Norm of the misses, in tolerances, below which a step may keep them as they are and only shorten the change."""


@dataclass(frozen=True)
class MinimalPerturbation:
    """Result of a search for the minimal perturbation.

    Attributes:
        vector: (K,), float32, the changed embedding.
        reached: whether every value is within its tolerance of its goal.
        values: (M,), the values of the measure at `vector`.
        norm: Mahalanobis norm of the change.
        plausible: whether `vector` lies in the region of real embeddings.
    """

    vector: NDArray[np.float32]
    reached: bool
    values: NDArray[np.floating]
    norm: float
    plausible: bool


def minimal_perturbation(
    distribution: EmbeddingDistribution,
    start: NDArray,
    measure: Callable[[Tensor], Tensor],
    goals: NDArray,
    tolerances: NDArray,
    level: float | None = 0.95,
) -> MinimalPerturbation:
    """Find the change of `start` with the smallest Mahalanobis norm after which `measure` gives `goals`.

    In whitened coordinates the Mahalanobis norm is the Euclidean one. Each iteration linearises the measure at the
    present point; the shortest change that meets the goals of the linear measure *and* keeps the result within the
    region has a closed form (`_nearest`); the step to it is halved until the misses shrink. The result is minimal to
    first order in the curvature of the decoder.

    Args:
        distribution: distribution of the real embeddings.
        start: (K,), the embedding to change.
        measure: embeddings (Q, K, 1, 1), float32, to values (Q, M); differentiable.
        goals: (M,).
        tolerances: (M,), largest differences from the goals that count as reached.
        level: fraction of real embeddings inside the region that the result must lie in; the norm of the change is at
            most the median distance between two real embeddings. None: no bounds.

    Raises:
        UsageError: `level` is not between 0 and 1.
    """
    origin = distribution.whiten(start)
    radius = np.inf if level is None else distribution.radius_quantile(level) * SHRINK
    max_norm = np.inf if level is None else distribution.pairwise_quantile() * SHRINK
    factor = torch.from_numpy(distribution.factor)
    base = torch.from_numpy(np.asarray(start, np.float64))

    def linearise(change: NDArray) -> tuple[NDArray, NDArray]:
        """Return the misses in tolerances (M,) and their gradients (M, K) at a change (K,)."""
        point = torch.from_numpy(change).requires_grad_()
        vector = (base + factor @ point).float()[None, :, None, None]
        values = measure(vector)[0]
        rows = [torch.autograd.grad(value, point, retain_graph=True)[0] for value in values]
        misses = (values.detach().double().numpy() - goals) / tolerances
        return misses, torch.stack(rows).numpy() / tolerances[:, None]

    change = np.zeros_like(origin)
    misses, gradients = linearise(change)
    for _ in range(MAX_ITERATIONS):
        step = _nearest(gradients, gradients @ change - misses, origin, radius, max_norm) - change
        if np.linalg.norm(step) < (MIN_STEP_REACHED if (np.abs(misses) <= 1).all() else MIN_STEP):
            break
        before = max(float(np.linalg.norm(misses)), FREE_MISS)
        for _ in range(MAX_HALVINGS):
            next_misses, next_gradients = linearise(change + step)
            outside = np.linalg.norm(change + origin) > radius  # then any step toward the region is accepted
            if np.linalg.norm(next_misses) < before or (outside and np.isfinite(next_misses).all()):
                break
            step = step / 2
        else:
            break
        change, misses, gradients = change + step, next_misses, next_gradients
    vector = (np.asarray(start, np.float64) + distribution.factor @ change).astype(np.float32)
    return MinimalPerturbation(
        vector=vector,
        reached=bool((np.abs(misses) <= 1).all()),
        values=misses * tolerances + goals,
        norm=float(np.linalg.norm(change)),
        plausible=bool(distribution.distance(vector) <= distribution.radius_quantile(level or 0.95)),
    )


def _nearest(gradients: NDArray, wanted: NDArray, origin: NDArray, radius: float, max_norm: float) -> NDArray:
    """Return the shortest change with `gradients @ change = wanted` and `origin + change` within `radius`.

    All changes that meet the equation form a plane; the ball of plausible results cuts a smaller ball out of it, around
    the foot of the perpendicular from the ball's centre. The shortest change is the plane's point nearest to zero,
    moved into the smaller ball if it lies outside. If the plane misses the ball, the ball's point nearest to the plane
    is taken. A change longer than `max_norm` is cut to that.
    """
    inverse = np.linalg.pinv(gradients, rcond=1e-8)
    shortest = inverse @ wanted
    foot = shortest - origin + inverse @ (gradients @ origin)
    from_centre = foot + origin
    gap = float(np.linalg.norm(from_centre))
    if gap >= radius:
        change = from_centre / gap * radius - origin
    else:
        inner_radius = np.sqrt(radius**2 - gap**2) if np.isfinite(radius) else np.inf
        offset = shortest - foot
        distance = float(np.linalg.norm(offset))
        change = foot + offset * (inner_radius / distance) if distance > inner_radius else shortest
    norm = float(np.linalg.norm(change))
    return np.asarray(change * (max_norm / norm) if norm > max_norm else change)
