"""How far two images look apart: distances in a space of features, and choosing what is far apart in it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

Features = Callable[[Tensor], Tensor]
"""Images (S, 3, H, W) in 0..1 to features (S, d); the distance of two images is that of their features."""

CELLS = (16, 8, 4, 2)
"""Cells a side on which images are compared: from layout to overall colour."""


def pooled_features(images: Tensor) -> Tensor:
    """Return colours and edges pooled on grids of several sizes, (S, d): a plain perceptual space.

    The distance of two images is the root mean square of their differences in colour and in edge strength (both in
    0..1), mean over the grids.
    """
    grey = images.mean(dim=1, keepdim=True)
    across = pad(grey, (0, 1, 0, 0), mode="replicate").diff(dim=3)
    down = pad(grey, (0, 0, 0, 1), mode="replicate").diff(dim=2)
    layers = torch.cat([images, (across.square() + down.square() + 1e-12).sqrt()], dim=1)
    pooled = [adaptive_avg_pool2d(layers, cells).flatten(1) for cells in CELLS]
    return torch.cat([part / (part.shape[1] * len(CELLS)) ** 0.5 for part in pooled], dim=1)


def image_features(images: Tensor, features: Features) -> Tensor:
    """Return one vector (d) for the images of all seeds: distances of it are root mean squares over the seeds."""
    return (features(images).flatten() / len(images) ** 0.5).double()


def max_min_subset(points: Tensor, count: int, kept: int | None = None) -> list[int]:
    """Choose `count` of `points` (N, d) so that the smallest distance between two of them is as large as can be found.

    Each point is added where it is farthest from those chosen, then points are exchanged as long as the smallest
    distance grows. (The published implementation maximises the largest distance instead, which two points satisfy:
    the others may then be alike.)

    Args:
        points: points (N, d).
        count: how many, at most N.
        kept: a point that has to be among them.
    """
    distances = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    first = int(distances.sum(dim=1).argmax()) if kept is None else kept
    chosen = [first]
    while len(chosen) < min(count, len(points)):
        nearest = distances[:, chosen].min(dim=1).values
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    while True:
        exchanged = _exchange(distances, chosen, kept)
        if exchanged is None:
            return chosen
        chosen = exchanged


def _exchange(distances: Tensor, chosen: list[int], kept: int | None) -> list[int] | None:
    """Return `chosen` with one point exchanged so that its smallest distance grows; None where none can be."""
    best = smallest_distance(distances, chosen)
    for place, point in enumerate(chosen):
        if point == kept:
            continue
        rest = [other for other in chosen if other != point]
        if not rest:
            continue
        nearest = distances[:, rest].min(dim=1).values
        nearest[chosen] = -1
        other = int(nearest.argmax())
        if min(float(nearest[other]), smallest_distance(distances, rest)) > best + 1e-12:
            return [*chosen[:place], other, *chosen[place + 1 :]]
    return None


def smallest_distance(distances: Tensor, chosen: list[int]) -> float:
    """Return the smallest of `distances` (N, N) between two of `chosen`; infinite for fewer than two."""
    if len(chosen) < 2:
        return float("inf")
    part = distances[chosen][:, chosen].clone()
    return float(part.fill_diagonal_(float("inf")).min())
