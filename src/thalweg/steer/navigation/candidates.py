"""Candidates of a navigation: points on the way to endpoints, at equal image distances from the current embedding."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError
from thalweg.generator import Generator
from thalweg.steer.image_features import Features, image_features, max_min_subset
from thalweg.steer.navigation.proposals import Endpoint, PromptNeighbourhood
from thalweg.steer.path_methods import Method

REACH = 1.5
"""How far beyond an endpoint a candidate may lie to look different enough."""
TOLERANCE = 1.15
"""Factor between a candidate's image distance and the step up to which they count as equal."""
LOOSE = 1.3
"""Factor up to which a candidate competes for a place; those beyond only fill the round."""
_ALIKE = "no direction changes the images: expected a model whose images follow its embedding"


@dataclass(frozen=True, eq=False)
class Candidate:
    """One of what is shown.

    Attributes:
        embedding: the candidate.
        images: its images (S, 3, H, W), one a seed.
        label: what it is, in words.
        distance: its image distance to the current embedding.
        look: its features, in which image distance is measured.
        weight: where on the way to its endpoint it lies.
        words: the prompt's words at the endpoint.
        point: where the endpoint lies in the subspace that preferences live in (k).
    """

    embedding: Embedding
    images: Tensor
    label: str
    distance: float
    image_features: Tensor
    weight: float
    words: Mapping[str, str]
    point: Tensor


class Viewer:
    """Renders embeddings and measures how far they look from each other.

    Args:
        generator: the model.
        around: what lies around the prompt.
        seeds: of the images.
        features: images to features in which distance is image distance.
        method: the path from the current embedding to an endpoint.
    """

    def __init__(
        self,
        generator: Generator,
        around: PromptNeighbourhood,
        seeds: Sequence[int],
        features: Features,
        method: Method,
    ) -> None:
        self._generator = generator
        self._around = around
        self._seeds = seeds
        self._features = features
        self._method = method
        self._rendered: dict[str, Tensor] = {}

    def images(self, embedding: Embedding) -> Tensor:
        """Return the images (S, 3, H, W) of an embedding, rendered once."""
        key = embedding.hash
        if key not in self._rendered:
            with torch.no_grad():
                self._rendered[key] = self._generator.render(embedding, self._seeds)
        return self._rendered[key]

    def forget(self, kept: Embedding) -> None:
        """Drop the images rendered so far, but for those of `kept`."""
        self._rendered = {key: images for key, images in self._rendered.items() if key == kept.hash}

    def at(self, current: Embedding, endpoint: Endpoint, weight: float = 1.0) -> Candidate:
        """Return the candidate at `weight` on the way from `current` to an endpoint."""
        embedding = endpoint.embedding
        if weight != 1 or self._method == "transport":
            embedding = self._around.toward(current, embedding, weight, self._method)
        images = self.images(embedding)
        here = image_features(images, self._features)
        distance = float((here - image_features(self.images(current), self._features)).norm())
        return Candidate(embedding, images, endpoint.label, distance, here, weight, endpoint.words, endpoint.point)

    def at_equal_steps(
        self,
        current: Embedding,
        endpoints: Sequence[Endpoint],
        count: int,
        step: float | None,
        quantile: float,
        renders: int,
    ) -> list[Candidate]:
        """Return `count` candidates toward as many of `endpoints`: far from each other, equally far from `current`.

        Args:
            current: the current embedding.
            endpoints: at least `count`, the most promising first: that one is always shown.
            count: how many.
            step: the image distance; None: a quantile of those of the endpoints themselves.
            quantile: which one, 0 to 1.
            renders: how often each may be rendered.

        Raises:
            ThalwegError: no endpoint looks different from `current`.
        """
        whole = [self.at(current, endpoint) for endpoint in endpoints]
        differing = [candidate.distance for candidate in whole if candidate.distance > 0]
        if not differing:
            raise ThalwegError(_ALIKE)
        if step is None:
            step = sorted(differing)[round(quantile * (len(differing) - 1))]
        found = [
            self._at_step(current, endpoint, candidate, step, renders)
            for endpoint, candidate in zip(endpoints, whole, strict=True)
        ]
        by_fit = sorted(range(len(found)), key=lambda index: max(_factor(found[index], step), LOOSE))
        fitting = max(count, sum(_factor(candidate, step) <= LOOSE for candidate in found))
        near = [found[index] for index in by_fit[:fitting]]
        chosen = max_min_subset(torch.stack([candidate.image_features for candidate in near]), count, kept=0)
        return [near[index] for index in sorted(chosen)]

    def one_by_one(self, current: Embedding, endpoints: Iterable[Endpoint], weight: float) -> Iterator[Candidate]:
        """Yield what lies at `weight` on the way to each endpoint, as it is rendered and where it looks different.

        Raises:
            ThalwegError: no endpoint looks different from `current`.
        """
        found = 0
        for endpoint in endpoints:
            candidate = self.at(current, endpoint, weight)
            if candidate.distance > 0:
                found += 1
                yield candidate
        if not found:
            raise ThalwegError(_ALIKE)

    def _at_step(
        self, current: Embedding, endpoint: Endpoint, whole: Candidate, step: float, renders: int
    ) -> Candidate:
        """Search the way to an endpoint for the point at the step's distance, by regula falsi kept off the ends.

        Images may jump along the way; then the nearest distance found is taken.
        """
        best, here = whole, whole
        low, low_distance, high, high_distance = 0.0, 0.0, float("inf"), float("inf")
        for _ in range(renders - 1):
            if _factor(best, step) <= TOLERANCE or (here.distance < step and here.weight >= REACH):
                break
            if here.distance < step:
                low, low_distance = here.weight, here.distance
            else:
                high, high_distance = here.weight, here.distance
            if high == float("inf"):
                weight = min(low * step / max(low_distance, 1e-9), REACH)
            else:
                share = (step - low_distance) / max(high_distance - low_distance, 1e-9)
                weight = low + min(max(share, 0.2), 0.8) * (high - low)
            here = self.at(current, endpoint, weight)
            best = min(best, here, key=lambda candidate: _factor(candidate, step))
        return best


def _factor(candidate: Candidate, step: float) -> float:
    """The factor, at least 1, between a candidate's image distance and the step; infinite where it looks the same."""
    return max(candidate.distance / step, step / candidate.distance) if candidate.distance > 0 else float("inf")
