"""Interpolation between two embeddings: lines, arcs per token row, transport of rows; steps of equal image distance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import Generator, render_all, with_suitable_threads
from thalweg.limits import MAX_FRAMES, MAX_STRENGTH, check_choice, check_count, check_number
from thalweg.seeds import check_seeds
from thalweg.steer.image_features import Features, image_features, pooled_features
from thalweg.steer.path_methods import METHODS, Method


def lerp(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """Return the point at `weight` on the line from `start` (0) to `end` (1); other weights extrapolate."""
    return torch.lerp(start, end, weight) if start.is_floating_point() else start


def slerp(start: Tensor, end: Tensor, weight: float, centre: Tensor | None = None) -> Tensor:
    """Return the point at `weight` on the arc from `start` to `end`, each row independently.

    The direction from `centre` turns at a constant rate, the distance from it changes linearly. Rows that are zero or
    have the same direction are interpolated on a line; between opposite rows the arc passes the axis that is most
    orthogonal to them, since no arc is shortest.

    Args:
        start: rows (..., width).
        end: rows of the same shape.
        weight: 0 is the start, 1 the end; other weights extrapolate along the arc.
        centre: centre of the rotation, of the same shape; None: zero.
    """
    origin = torch.zeros_like(start) if centre is None else centre
    first, last, about = start.double(), end.double(), origin.double()
    first, last = first - about, last - about
    first_length, last_length = first.norm(dim=-1, keepdim=True), last.norm(dim=-1, keepdim=True)
    unit = first / first_length.clamp(min=1e-12)
    cosine, across = _plane(unit, last / last_length.clamp(min=1e-12))
    angle = torch.acos(cosine) * weight
    length = torch.lerp(first_length, last_length, weight).clamp(min=0)
    arc = about + length * (angle.cos() * unit + angle.sin() * across)
    straight = (torch.minimum(first_length, last_length) < 1e-12) | (cosine > 1 - 1e-12)
    moved = torch.where(straight, about + torch.lerp(first, last, weight), arc).to(start.dtype)
    if weight in (0, 1):  # the ends exactly, not to rounding
        return (start if weight == 0 else end).clone()
    return moved


def _plane(unit: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cosine (..., 1) of two unit rows, and the unit row orthogonal to the first in the plane of both."""
    cosine = (unit * other).sum(dim=-1, keepdim=True).clamp(-1 + 1e-13, 1 - 1e-13)  # acos has a finite gradient there
    axis = torch.nn.functional.one_hot(unit.abs().argmin(dim=-1), unit.shape[-1]).to(unit)
    other = torch.where(cosine < -1 + 1e-9, axis, other)
    across = other - (unit * other).sum(dim=-1, keepdim=True) * unit
    return cosine, across / across.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def transport(start: Tensor, end: Tensor) -> Tensor:
    """Return `end` with its rows reordered so that the sum of distances to the rows of `start` is smallest.

    Cross-attention treats token rows as a set: a text-to-image model makes the same image from them in any order, but
    a path on which the same word keeps its row is smoother. Single vectors have no rows to reorder.

    Args:
        start: rows (tokens, width).
        end: rows (tokens, width).
    """
    from scipy.optimize import linear_sum_assignment

    if start.ndim != 2:
        return end
    cost = torch.cdist(start.double(), end.double()).square()
    _, order = linear_sum_assignment(cost.detach().cpu().numpy())
    return end[torch.as_tensor(order, device=end.device)]


def between(
    start: Embedding, end: Embedding, weight: float, method: Method = "slerp", centre: Embedding | None = None
) -> dict[str, Tensor]:
    """Return the floating tensors at `weight` on the path from `start` (0) to `end` (1).

    Args:
        start: the first embedding.
        end: the last one, of the same model and layout.
        weight: position on the path; weights outside 0..1 extrapolate.
        method: "lerp", "slerp" or "transport", see `path`.
        centre: centre of arcs; None: zero.

    Raises:
        UsageError: an unknown method, or embeddings of different models or layouts.
    """
    check_choice("`method`", method, METHODS)
    check_number("the weight on a path", weight, -MAX_STRENGTH, MAX_STRENGTH)
    for other in (end, centre):
        if other is not None:
            check_same_layout(start, other)
    if method == "transport" and len(start.floating) < len(start.tensors):
        raise UsageError("a path by transport exchanges token rows, which a mask forbids; use slerp for this model")
    moved = {}
    for name, tensor in start.floating.items():
        goal = end.tensors[name]
        if method == "lerp":
            moved[name] = lerp(tensor, goal, weight)
        else:
            goal = transport(tensor, goal) if method == "transport" else goal
            moved[name] = slerp(tensor, goal, weight, None if centre is None else centre.tensors[name])
    return moved


def check_same_layout(first: Embedding, second: Embedding) -> None:
    """Refuse two embeddings of different models or layouts.

    Raises:
        UsageError: the models or the tensors' shapes differ.
    """
    second.check_model(first.lineage.model)
    shapes, others = (
        {name: tuple(tensor.shape) for name, tensor in embedding.tensors.items()} for embedding in (first, second)
    )
    if shapes != others:
        raise UsageError(f"expected two embeddings of one layout, got {shapes} and {others}")


def path(
    start: Embedding, end: Embedding, count: int, method: Method = "slerp", centre: Embedding | None = None
) -> list[Embedding]:
    """Return embeddings from `start` to `end`, both included, at equal steps in the embedding.

    Args:
        start: the first embedding.
        end: the last one, of the same model; with transport its rows come in another order.
        count: number of embeddings, at least 2.
        method: "lerp": lines. "slerp": arcs per token row. "transport": arcs between the rows that are nearest.
        centre: centre of arcs, for instance the embedding of the empty prompt; None: zero.

    Raises:
        UsageError: fewer than 2, an unknown method, or embeddings of different models or layouts.
    """
    check_count("the embeddings on a path", count, 2, MAX_FRAMES)
    return [_point(start, end, index / (count - 1), method, centre) for index in range(count)]


def _point(start: Embedding, end: Embedding, weight: float, method: Method, centre: Embedding | None) -> Embedding:
    tensors = between(start, end, weight, method, centre)
    centred = {} if centre is None else {"centre": centre.hash}
    return start.derive(tensors, "path", end, method=method, weight=weight, **centred)


@dataclass(frozen=True)
class PathConfig:
    """Configuration of a path with equal image distances.

    Attributes:
        count: number of embeddings, at least 2.
        method: "lerp", "slerp" or "transport", see `path`.
        centre: centre of arcs; None: zero.
        features: images (S, 3, H, W) in 0..1 to features (S, d) in which distance is image distance.
        renders: number of embeddings to render, at least 3; None: 4 times `count`.

    Raises:
        UsageError: a number out of range or an unknown method.
    """

    count: int
    method: Method = "slerp"
    centre: Embedding | None = None
    features: Features = pooled_features
    renders: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that are invalid whatever the model is."""
        check_count("the embeddings on a path", self.count, 2, MAX_FRAMES)
        check_choice("`method`", self.method, METHODS)
        check_count("renders to space a path", self.max_renders, 3, 4 * MAX_FRAMES)

    @property
    def max_renders(self) -> int:
        """Number of embeddings that are rendered."""
        return 4 * self.count if self.renders is None else self.renders


@with_suitable_threads
def equal_image_steps(
    generator: Generator,
    start: Embedding,
    end: Embedding,
    seeds: Sequence[int],
    config: PathConfig,
    progress: Callable[[], None] | None = None,
) -> list[Embedding]:
    """Return embeddings from `start` to `end` with equal image distances from one to the next.

    The path is rendered at the middle of its longest segment until `config.renders` are used up, and divided into equal
    lengths of the polyline of image features. Where images change abruptly, no spacing gives equal distances.

    Args:
        generator: the model.
        start: the first embedding.
        end: the last one.
        seeds: seeds of the images; the distance is the mean over them.
        config: number of embeddings, method, features and number of renders.
        progress: called after each rendering.

    Raises:
        UsageError: invalid seeds, or embeddings of different models or layouts.
    """
    seeds = check_seeds(seeds)
    count, renders, method, centre = config.count, config.max_renders, config.method, config.centre
    features_at: dict[float, Tensor] = {}

    def render(weights: Sequence[float]) -> None:
        points = [_point(start, end, weight, method, centre) for weight in weights]
        for weight, images in zip(weights, render_all(generator, points, seeds), strict=True):
            features_at[weight] = image_features(images, config.features)
            if progress is not None:
                progress()

    first = min(renders, count + 1)
    render([index / (first - 1) for index in range(first)])
    for _ in range(renders - first):
        weights = sorted(features_at)
        _, before, after = max((float((features_at[b] - features_at[a]).norm()), a, b) for a, b in pairwise(weights))
        render([(before + after) / 2])
    weights = sorted(features_at)
    steps = [float((features_at[b] - features_at[a]).norm()) for a, b in pairwise(weights)]
    lengths = torch.tensor([0.0, *steps], dtype=torch.float64).cumsum(0)
    cuts = [_cut(weights, lengths, float(lengths[-1]) * index / (count - 1)) for index in range(1, count - 1)]
    return [_point(start, end, weight, method, centre) for weight in (0.0, *cuts, 1.0)]


def _cut(weights: Sequence[float], lengths: Tensor, length: float) -> float:
    """Return the weight at which the polyline has the length `length`."""
    after = int(torch.searchsorted(lengths, length).clamp(1, len(weights) - 1))
    segment = float(lengths[after] - lengths[after - 1])
    fraction = (length - float(lengths[after - 1])) / segment if segment > 0 else 0.0
    return weights[after - 1] + fraction * (weights[after] - weights[after - 1])
