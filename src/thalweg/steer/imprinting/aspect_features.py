"""Features of aspects: of texts that differ in an aspect, of a mask, and of the whole image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.steer.image_features import POOLED_PARTS, pooled_features
from thalweg.steer.imprinting.aspect import Aspect, check_texts, vocabulary
from thalweg.steer.metrics.scorer import Scorer


def text_aspect(name: str, texts: Sequence[str], scorer: Scorer) -> Aspect:
    """Return the aspect in which texts differ: the subspace of the scorer's space that their differences span.

    The text that fits an image best depends only on the image's features within that subspace. The features orthogonal
    to it are the rest.

    Args:
        name: the aspect's name.
        texts: at least two distinct texts that differ only in the aspect.
        scorer: model that maps texts and images to one space.

    Raises:
        UsageError: fewer than two distinct texts.
    """
    texts = check_texts(texts)
    with torch.no_grad():
        vectors = torch.stack([scorer.embed_text(text) for text in texts])
        _, singular_values, directions = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
        basis = directions[singular_values > 1e-4 * singular_values[0]].T

    def kept(images: Tensor) -> Tensor:
        return scorer.embed_images(images) @ basis

    def rest(images: Tensor) -> Tensor:
        features = scorer.embed_images(images)
        return features - features @ basis @ basis.T

    def read(images: Tensor) -> list[str]:
        return [texts[best] for best in (scorer.embed_images(images) @ vectors.T).argmax(1).tolist()]

    return Aspect(name, kept, rest, read)


def mask_aspect(mask: Tensor) -> Aspect:
    """Return the aspect inside a mask.

    Args:
        mask: (H, W) in 0..1: 1 where the target is copied, 0 where each seed stays as it was.

    Raises:
        UsageError: the mask has another number of dimensions, values outside 0..1, or is zero everywhere.
    """
    if mask.ndim != 2:
        raise UsageError(f"expected a mask (H, W), got shape {tuple(mask.shape)}")
    weight = mask.detach().float()
    if not bool(((weight >= 0) & (weight <= 1)).all()) or not bool(weight.any()):
        raise UsageError(
            f"expected a mask of values in 0..1 with something inside, got values from {float(weight.min()):g} to "
            f"{float(weight.max()):g}"
        )

    def features(images: Tensor, weight: Tensor) -> Tensor:
        if images.shape[-2:] != weight.shape:
            raise UsageError(
                f"expected a mask of the images' size {tuple(images.shape[-2:])}, got {tuple(weight.shape)}; resize it"
            )
        return pooled_features(images * weight.to(images))

    return Aspect("mask", lambda images: features(images, weight), lambda images: features(images, 1 - weight))


def whole_aspect(scorer: Scorer | None) -> Aspect:
    """Return the aspect of the whole image: the scorer's features, or without a scorer colours and edges on grids."""
    if scorer is None:
        return Aspect("everything", pooled_features, parts=POOLED_PARTS)
    return Aspect("everything", scorer.embed_images)


def choose_aspect(keep: str | Sequence[str] | Aspect | None, mask: Tensor | None, scorer: Scorer | None) -> Aspect:
    """Return the aspect of `keep` or `mask`; the whole image if both are None.

    Args:
        keep: an aspect's name, texts that differ in it, or an Aspect.
        mask: (H, W) in 0..1, 1 where the target is copied.
        scorer: model that maps texts and images to one space; needed for texts.

    Raises:
        UsageError: both are given, or texts without a scorer.
    """
    if keep is not None and mask is not None:
        raise UsageError("expected one of `keep` and `mask`, got both; leave one out")
    if mask is not None:
        return mask_aspect(mask)
    if keep is None:
        return whole_aspect(scorer)
    if isinstance(keep, Aspect):
        return keep
    if scorer is None:
        raise UsageError(
            f"`keep={keep}` needs a scorer that maps texts and images to one space; give one, or an Aspect with "
            "features of your own"
        )
    if isinstance(keep, str):
        return text_aspect(keep, vocabulary(keep).texts, scorer)
    return text_aspect(" / ".join(keep), keep, scorer)
