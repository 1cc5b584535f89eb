"""The smallest plausible change of an embedding that reaches a target, by projections in whitened coordinates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg.earth.analysis.distribution import EmbeddingDistribution

ITERATIONS = 25
"""Most linearisations of the decoder."""
_HALVINGS = 6
_STILL, _STUCK = 1e-3, 1e-5
"""Steps, in standard deviations, shorter than which a search ends: where the goals are met, and where they are not."""
_INSIDE = 1 - 1e-6
"""A result lies this much inside its region's bounds, so that rounding to float32 does not put it outside."""


@dataclass(frozen=True)
class MinimalPerturbation:
    """Where a search ended.

    Attributes:
        vector: (K,), float32, the changed embedding.
        reached: whether every value is within its tolerance of its goal.
        values: (M,), the values there.
        distance: Mahalanobis length of the change.
        plausible: whether the result lies in the region of real embeddings.
    """

    vector: NDArray[np.float32]
    reached: bool
    values: NDArray[np.floating]
    distance: float
    plausible: bool


def minimal_perturbation(
    population: EmbeddingDistribution,
    start: NDArray,
    measure: Callable[[Tensor], Tensor],
    goals: NDArray,
    tolerances: NDArray,
    level: float | None = 0.95,
) -> MinimalPerturbation:
    """Find the shortest Mahalanobis change of `start` after which `measure` gives `goals`.

    In whitened coordinates the population is a unit ball's worth of directions, and the change sought is the shortest
    vector. The measure is linearised where the search stands; the shortest change that meets the goals of the linear
    measure *and* keeps the result within the region has a closed form (`_nearest`); steps are halved until they bring
    the goals nearer. So the result is the smallest change to first order in the curvature of the decoder.

    Args:
        population: the real embeddings.
        start: (K,), the embedding to change.
        measure: embeddings (Q, K, 1, 1) to values (Q, M), differentiable.
        goals: (M,).
        tolerances: (M,), differences from the goals that do not matter.
        level: share of real embeddings inside the region that the result must lie in; the change is at most as long as
            the median pair of real embeddings lies apart. None: no bounds.
    """
    origin = population.whiten(start)
    bound = np.inf if level is None else population.bound(level) * _INSIDE
    longest = np.inf if level is None else population.apart() * _INSIDE
    factor = torch.from_numpy(population.factor)
    base = torch.from_numpy(np.asarray(start, np.float64))

    def at(change: NDArray) -> tuple[NDArray, NDArray]:
        """Misses in tolerances (M,), and their slopes (M, K)."""
        place = torch.from_numpy(change).requires_grad_()
        vector = (base + factor @ place).float()[None, :, None, None]
        values = measure(vector)[0]
        rows = [torch.autograd.grad(value, place, retain_graph=True)[0] for value in values]
        misses = (values.detach().double().numpy() - goals) / tolerances
        return misses, torch.stack(rows).numpy() / tolerances[:, None]

    here = np.zeros_like(origin)
    misses, slopes = at(here)
    for _ in range(ITERATIONS):
        aim = _nearest(slopes, slopes @ here - misses, origin, bound, longest)
        step = aim - here
        if np.linalg.norm(step) < (_STILL if (np.abs(misses) <= 1).all() else _STUCK):
            break
        # Within a tenth of the tolerances a step may go sideways: toward a shorter change.
        before = max(float(np.linalg.norm(misses)), 0.1)
        for _ in range(_HALVINGS):
            found, their_slopes = at(here + step)
            outside = np.linalg.norm(here + origin) > bound  # the start was: any step toward the region is allowed
            if np.linalg.norm(found) < before or (outside and np.isfinite(found).all()):
                break
            step = step / 2
        else:
            break
        here, misses, slopes = here + step, found, their_slopes
    vector = (np.asarray(start, np.float64) + population.factor @ here).astype(np.float32)
    inside = bool(population.distance(vector) <= population.bound(level or 0.95))
    return MinimalPerturbation(
        vector, bool((np.abs(misses) <= 1).all()), misses * tolerances + goals, float(np.linalg.norm(here)), inside
    )


def _nearest(slopes: NDArray, wanted: NDArray, origin: NDArray, bound: float, longest: float) -> NDArray:
    """The shortest change with `slopes @ change = wanted`, the result `origin + change` within `bound`.

    All changes that meet the equation form a plane; the ball of plausible results cuts a smaller ball out of it, about
    the foot of the perpendicular from the ball's centre. The shortest change is the plane's nearest point, moved into
    the smaller ball where it lies outside. Where the plane misses the ball, the ball's point nearest to it is taken. A
    change longer than `longest` is cut to that.
    """
    inverse = np.linalg.pinv(slopes, rcond=1e-8)
    shortest = inverse @ wanted
    foot = shortest - origin + inverse @ (slopes @ origin)  # the nearest point of the plane to the ball's centre
    from_centre = foot + origin
    gap = float(np.linalg.norm(from_centre))
    if gap >= bound:
        change = from_centre / gap * bound - origin
    else:
        radius = np.sqrt(bound**2 - gap**2) if np.isfinite(bound) else np.inf
        away = shortest - foot
        far = float(np.linalg.norm(away))
        change = foot + away * (radius / far) if far > radius else shortest
    length = float(np.linalg.norm(change))
    return np.asarray(change * (longest / length) if length > longest else change)
