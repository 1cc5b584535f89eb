"""Aspects: what of an image is to be imprinted, and what of it is to stay each seed's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.generator import Generator
from thalweg.steer.image_features import Features, pooled_features
from thalweg.steer.metrics.scorer import Scorer


@dataclass(frozen=True)
class Aspect:
    """A part of what an image shows.

    Attributes:
        name: how it is written in reports.
        kept: features of the aspect; those of other seeds are to become the target's.
        rest: features of all the rest; those of each seed are to stay its own. None: nothing has to stay.
        read: the name of what each image shows of the aspect, where it has names.
    """

    name: str
    kept: Features
    rest: Features | None = None
    read: Callable[[Tensor], Sequence[str]] | None = None


@dataclass(frozen=True)
class Vocabulary:
    """Words that differ in one aspect only, and the sentence they stand in."""

    sentence: str
    words: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """One sentence a word."""
        return [self.sentence.format(word) for word in self.words]


VOCABULARIES = {
    "colour": Vocabulary(
        "a {} object", ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "white")
    ),
    "background": Vocabulary(
        "an object on a {} background",
        ("white", "grey", "black", "beige", "navy", "teal", "maroon", "lavender", "gradient"),
    ),
    "shape": Vocabulary("a {}", ("ball", "cube", "cone", "ring", "cylinder")),
    "material": Vocabulary("a {} object", ("matte", "glossy", "striped")),
    "size": Vocabulary("a {} object", ("small", "medium", "large")),
    "position": Vocabulary(
        "an object {}", ("on the left", "on the right", "at the top", "at the bottom", "in the centre")
    ),
    "light": Vocabulary("an object lit from {}", ("the left", "the right", "above", "the front")),
    "focus": Vocabulary("a {} object", ("sharp", "soft focus", "blurred")),
}
"""Aspects with a name, for `keep="the colour"`."""


def vocabulary(keep: str) -> Vocabulary:
    """Return the vocabulary of the aspect that `keep` names: "colour", "keep the colour".

    Raises:
        UsageError: it names none, or more than one.
    """
    words = keep.lower().replace("color", "colour").split()
    named = [name for name in VOCABULARIES if name in words]
    if len(named) != 1:
        raise UsageError(
            f"keep={keep!r} names {' and '.join(named) or 'no aspect known here'}; expected one of "
            f"{', '.join(VOCABULARIES)}, or texts of your own that differ in the aspect alone"
        )
    return VOCABULARIES[named[0]]


def words_aspect(name: str, texts: Sequence[str], scorer: Scorer) -> Aspect:
    """The aspect in which `texts` differ: the subspace of the scorer's space that their differences span.

    Which of the texts fits an image best depends on the image's vector within that subspace alone, so images that agree
    there are read alike; what is orthogonal to it is the rest.

    Raises:
        UsageError: fewer than two distinct texts.
    """
    texts = list(dict.fromkeys(texts))
    if len(texts) < 2:
        raise UsageError(f"expected two or more texts that differ in the aspect to keep, got {texts}")
    with torch.no_grad():
        vectors = torch.stack([scorer.embed_text(text) for text in texts])
        _, lengths, directions = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
        basis = directions[lengths > 1e-4 * lengths[0]].T

    def kept(images: Tensor) -> Tensor:
        return scorer.embed_images(images) @ basis

    def rest(images: Tensor) -> Tensor:
        seen = scorer.embed_images(images)
        return seen - seen @ basis @ basis.T

    def read(images: Tensor) -> list[str]:
        return [texts[best] for best in (scorer.embed_images(images) @ vectors.T).argmax(1).tolist()]

    return Aspect(name, kept, rest, read)


def mask_aspect(mask: Tensor) -> Aspect:
    """What lies inside `mask` (H, W), 1 where the target is to be copied and 0 where each seed stays its own.

    Raises:
        UsageError: not of two dimensions, values outside 0..1, or nothing inside.
    """
    if mask.ndim != 2:
        raise UsageError(f"expected a mask (H, W), got shape {tuple(mask.shape)}")
    weight = mask.detach().float()
    if not bool(((weight >= 0) & (weight <= 1)).all()) or not bool(weight.any()):
        raise UsageError(
            f"expected a mask of values in 0..1 with something inside, got values from {float(weight.min()):g} to "
            f"{float(weight.max()):g}"
        )

    def part(images: Tensor, weight: Tensor) -> Tensor:
        if images.shape[-2:] != weight.shape:
            raise UsageError(
                f"expected a mask of the images' size {tuple(images.shape[-2:])}, got {tuple(weight.shape)}; resize it"
            )
        return pooled_features(images * weight.to(images))

    return Aspect("mask", lambda images: part(images, weight), lambda images: part(images, 1 - weight))


def whole_aspect(scorer: Scorer | None) -> Aspect:
    """All that an image shows: its vector where a scorer is given, else its colours and edges on coarse grids."""
    return Aspect("everything", pooled_features if scorer is None else scorer.embed_images)


def choose_aspect(keep: "str | Sequence[str] | Aspect | None", mask: Tensor | None, scorer: Scorer | None) -> Aspect:
    """Return the aspect that a tool's `keep` and `mask` ask for; everything where neither does.

    Raises:
        UsageError: both are given, or words without a scorer to see them with.
    """
    if keep is not None and mask is not None:
        raise UsageError("expected one of keep and mask, got both; leave one out")
    if mask is not None:
        return mask_aspect(mask)
    if keep is None:
        return whole_aspect(scorer)
    if isinstance(keep, Aspect):
        return keep
    if scorer is None:
        raise UsageError(
            f"keep={keep!r} needs a scorer that sees texts and images in one space; give one, or an Aspect with "
            "features of your own"
        )
    if isinstance(keep, str):
        return words_aspect(keep, vocabulary(keep).texts, scorer)
    return words_aspect(" / ".join(keep), keep, scorer)


class AspectObjective:
    """How far the images of other seeds are from showing the target's aspect while staying themselves in the rest.

    The reference of each seed is its own image under the start embedding, except in the aspect, where it is the
    target's. Both terms are shares: of the way to the target that is left (1 at the start, 0 at the target), and of
    what tells two seeds apart that is lost (0 at the start, 1 where a seed looks like any other).
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
        """Measure the start's images of the seeds `held_out`, on which embeddings are judged; `target` is (3, H, W).

        Raises:
            UsageError: the seeds held out show the target's aspect already.
        """
        self._generator = generator
        self._start = start
        self._aspect = aspect
        self._rest_weight = rest_weight
        self._held_out = held_out
        self._rests: dict[int, Tensor] = {}
        with torch.no_grad():
            images = generator.render(start, held_out)
            self._target = aspect.kept(target[None])
            self._way = float(squared_distances(aspect.kept(images), self._target).mean())
            if not self._way > 1e-12:
                raise UsageError(
                    f"seeds already agree in the aspect to keep ({aspect.name}): nothing to imprint; keep another one"
                )
            self._spread = 0.0
            if aspect.rest is not None:
                rests = aspect.rest(images)
                self._rests.update(zip(held_out, rests, strict=True))
                self._spread = diversity(rests)

    def loss(self, embedding: Embedding, seeds: Sequence[int], step: int) -> Tensor:
        """Return the mean loss over `seeds`, differentiable in the embedding; it is the same at every step."""
        images = self._generator.render(embedding, seeds)
        loss = squared_distances(self._aspect.kept(images), self._target).mean() / self._way
        if self._aspect.rest is None or not self._spread > 1e-12:
            return loss
        missing = [seed for seed in seeds if seed not in self._rests]
        if missing:
            with torch.no_grad():
                rests = self._aspect.rest(self._generator.render(self._start, missing))
            self._rests.update(zip(missing, rests, strict=True))
        own = torch.stack([self._rests[seed] for seed in seeds])
        return loss + self._rest_weight * squared_distances(self._aspect.rest(images), own).mean() / self._spread

    @torch.no_grad()
    def judge(self, embedding: Embedding) -> float:
        """Return the loss on the seeds held out."""
        return float(self.loss(embedding, self._held_out, 0))


def squared_distances(features: Tensor, others: Tensor) -> Tensor:
    """Return the squared distances (S) of features (S, d) from others (S, d) or (1, d)."""
    return (features - others).square().sum(1)


def diversity(features: Tensor) -> float:
    """Return the mean squared distance of two different rows of features (S, d); 0 for a single row."""
    return float(2 * features.var(0).sum()) if len(features) > 1 else 0.0
