"""Candidates of a navigation: points on the path to endpoints, at equal image distances from the current embedding."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError
from thalweg.generator import Generator, render_all
from thalweg.steer.diverse_subset import max_min_subset
from thalweg.steer.image_features import Features, image_features
from thalweg.steer.navigation.proposals import Endpoint, PromptNeighbourhood
from thalweg.steer.path_methods import Method

MAX_WEIGHT = 1.5
"""Largest weight on the path to an endpoint, beyond the endpoint, at which a candidate may lie."""
TOLERANCE = 1.15
"""Ratio of a candidate's image distance to the step up to which both count as equal."""
MAX_RATIO = 1.3
"""Ratio up to which a candidate competes to be shown; others only fill the round."""
_NO_CHANGE = "no direction changes the images: expected a model whose images follow its embedding"


@dataclass(frozen=True, eq=False)
class Candidate:
    """One of the embeddings shown in a round.

    Attributes:
        embedding: the candidate.
        images: its images (S, 3, H, W) in 0..1, one per seed.
        label: its description.
        distance: its image distance from the current embedding.
        features: its image features (d), float64.
        weight: its position on the path to its endpoint: 0 is the current embedding, 1 the endpoint.
        words: words of the endpoint's prompt by group.
        point: coordinates (k) of the endpoint in the subspace of preferences, float64.
    """

    embedding: Embedding
    images: Tensor
    label: str
    distance: float
    features: Tensor
    weight: float
    words: Mapping[str, str]
    point: Tensor


class CandidateRenderer:
    """Renders candidates and measures their image distances.

    Args:
        generator: the model.
        neighbourhood: the prompt neighbourhood.
        seeds: seeds of the images.
        features: images (S, 3, H, W) to features (S, d) in which distance is image distance.
        method: path from the current embedding to an endpoint.
    """

    def __init__(
        self,
        generator: Generator,
        neighbourhood: PromptNeighbourhood,
        seeds: Sequence[int],
        features: Features,
        method: Method,
    ) -> None:
        self._generator = generator
        self._neighbourhood = neighbourhood
        self._seeds = seeds
        self._features = features
        self._method = method
        self._rendered: dict[str, Tensor] = {}

    def images(self, embedding: Embedding) -> Tensor:
        """Return the images (S, 3, H, W) of an embedding, rendered once."""
        self._render([embedding])
        return self._rendered[embedding.hash]

    def _render(self, embeddings: Iterable[Embedding]) -> None:
        """Render the embeddings that are not rendered yet."""
        missing = {embedding.hash: embedding for embedding in embeddings if embedding.hash not in self._rendered}
        rendered = render_all(self._generator, list(missing.values()), self._seeds)
        self._rendered.update(zip(missing, rendered, strict=True))

    def forget_others(self, embedding: Embedding) -> None:
        """Drop all rendered images but those of `embedding`."""
        self._rendered = {key: images for key, images in self._rendered.items() if key == embedding.hash}

    def at(self, current: Embedding, endpoint: Endpoint, weight: float = 1.0) -> Candidate:
        """Return the candidate at `weight` on the path from `current` to an endpoint."""
        embedding = endpoint.embedding
        if weight != 1 or self._method == "transport":
            embedding = self._neighbourhood.toward(current, embedding, weight, self._method)
        images = self.images(embedding)
        features = image_features(images, self._features)
        distance = float((features - image_features(self.images(current), self._features)).norm())
        return Candidate(embedding, images, endpoint.label, distance, features, weight, endpoint.words, endpoint.point)

    def at_equal_steps(
        self,
        current: Embedding,
        endpoints: Sequence[Endpoint],
        count: int,
        step: float | None,
        quantile: float,
        renders: int,
    ) -> list[Candidate]:
        """Return `count` candidates that differ as much as possible, at equal image distances from `current`.

        Args:
            current: the current embedding.
            endpoints: at least `count`, the most promising first; its candidate is always returned.
            count: number of candidates.
            step: the image distance; None: a quantile of the endpoints' own distances.
            quantile: the quantile, 0 to 1.
            renders: number of times each candidate may be rendered.

        Raises:
            ThalwegError: no endpoint changes the images.
        """
        if self._method != "transport":
            self._render(endpoint.embedding for endpoint in endpoints)
        at_endpoints = [self.at(current, endpoint) for endpoint in endpoints]
        distances = [candidate.distance for candidate in at_endpoints if candidate.distance > 0]
        if not distances:
            raise ThalwegError(_NO_CHANGE)
        if step is None:
            step = sorted(distances)[round(quantile * (len(distances) - 1))]
        found = [
            self._at_step(current, endpoint, candidate, step, renders)
            for endpoint, candidate in zip(endpoints, at_endpoints, strict=True)
        ]
        by_fit = sorted(range(len(found)), key=lambda index: max(_ratio(found[index], step), MAX_RATIO))
        fitting = max(count, sum(_ratio(candidate, step) <= MAX_RATIO for candidate in found))
        near = [found[index] for index in by_fit[:fitting]]
        chosen = max_min_subset(torch.stack([candidate.features for candidate in near]), count, required=0)
        return [near[index] for index in sorted(chosen)]

    def one_by_one(self, current: Embedding, endpoints: Iterable[Endpoint], weight: float) -> Iterator[Candidate]:
        """Yield the candidate at `weight` on the path to each endpoint as it is rendered, if its images differ.

        Raises:
            ThalwegError: no endpoint changes the images.
        """
        found = 0
        for endpoint in endpoints:
            candidate = self.at(current, endpoint, weight)
            if candidate.distance > 0:
                found += 1
                yield candidate
        if not found:
            raise ThalwegError(_NO_CHANGE)

    def _at_step(
        self, current: Embedding, endpoint: Endpoint, at_endpoint: Candidate, step: float, renders: int
    ) -> Candidate:
        """Search the path to an endpoint for the point at the step's distance, by a bounded regula falsi.

        Images may change abruptly along the path; then the nearest distance found is returned.
        """
        best, last = at_endpoint, at_endpoint
        low, low_distance, high, high_distance = 0.0, 0.0, float("inf"), float("inf")
        for _ in range(renders - 1):
            if _ratio(best, step) <= TOLERANCE or (last.distance < step and last.weight >= MAX_WEIGHT):
                break
            if last.distance < step:
                low, low_distance = last.weight, last.distance
            else:
                high, high_distance = last.weight, last.distance
            if high == float("inf"):
                weight = min(low * step / max(low_distance, 1e-9), MAX_WEIGHT)
            else:
                fraction = (step - low_distance) / max(high_distance - low_distance, 1e-9)
                weight = low + min(max(fraction, 0.2), 0.8) * (high - low)
            last = self.at(current, endpoint, weight)
            best = min(best, last, key=lambda candidate: _ratio(candidate, step))
        return best


def _ratio(candidate: Candidate, step: float) -> float:
    """Return the ratio, at least 1, of a candidate's image distance and the step; infinity for equal images."""
    return max(candidate.distance / step, step / candidate.distance) if candidate.distance > 0 else float("inf")
