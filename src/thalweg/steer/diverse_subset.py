"""Max-min diverse subset: points whose smallest pairwise distance is as large as a local search finds."""

from torch import Tensor, cdist


def max_min_subset(points: Tensor, count: int, required: int | None = None) -> list[int]:
    """Choose points so that the smallest distance between two of them is as large as can be found.

    Each point is added where it is farthest from those chosen. Then points are exchanged as long as the smallest
    distance grows. (The published implementation maximises the largest distance instead, which depends on two points
    only: the others may then be similar.)

    Args:
        points: points (N, d), float.
        count: number of points to choose, at most N.
        required: index of a point that has to be chosen; None: any.

    Returns:
        Indices of the chosen points.
    """
    distances = cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    first = int(distances.sum(dim=1).argmax()) if required is None else required
    chosen = [first]
    while len(chosen) < min(count, len(points)):
        nearest = distances[:, chosen].min(dim=1).values
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    while True:
        exchanged = _exchange(distances, chosen, required)
        if exchanged is None:
            return chosen
        chosen = exchanged


def _exchange(distances: Tensor, chosen: list[int], required: int | None) -> list[int] | None:
    """Return `chosen` with one point exchanged so that its smallest distance grows; None if no exchange does."""
    best = smallest_distance(distances, chosen)
    for index, point in enumerate(chosen):
        if point == required:
            continue
        rest = [other for other in chosen if other != point]
        if not rest:
            continue
        nearest = distances[:, rest].min(dim=1).values
        nearest[chosen] = -1
        other = int(nearest.argmax())
        if min(float(nearest[other]), smallest_distance(distances, rest)) > best + 1e-12:
            return [*chosen[:index], other, *chosen[index + 1 :]]
    return None


def smallest_distance(distances: Tensor, chosen: list[int]) -> float:
    """Return the smallest of `distances` (N, N) between two of `chosen`; infinity for fewer than two."""
    if len(chosen) < 2:
        return float("inf")
    part = distances[chosen][:, chosen].clone()
    return float(part.fill_diagonal_(float("inf")).min())
