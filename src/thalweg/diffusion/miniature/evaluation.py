"""Evaluation of the miniature: the figures of its model card."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.diffusion.miniature import (
    ATTRIBUTE_CLASSIFIER,
    captions,
    load,
    load_attribute_classifier,
    load_scorer,
    renderer,
)
from thalweg.diffusion.miniature.attribute_classifier import AttributeClassifier, spread

ALWAYS_NAMED = ("shape", "colour", "background")
"""Attributes that every caption of the evaluation names."""
FIRST_SEED = 77_000_000
"""First of the seeds of the evaluation, beyond those of the training."""


def evaluate(
    folder: Path,
    *,
    classifier_weights: Path = ATTRIBUTE_CLASSIFIER,
    images: int = 500,
    renderings: int = 2000,
    seeds: int = 64,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Measure the model in `folder` with the attribute classifier.

    Args:
        folder: a trained miniature.
        classifier_weights: weights of the attribute classifier.
        images: number of images for unseen captions.
        renderings: number of unseen renderings.
        seeds: number of images per shape from which the spread is measured.
        progress: called with the number of images done and their total.

    Returns:
        `reader`: by attribute, accuracy of the classifier on unseen renderings; `scorer`: by attribute, share of unseen
        renderings that are nearer to their own full caption than to one with this attribute changed;
        `autoencoder_psnr_db` on unseen renderings; `adherence`: by attribute, share of `images` that show the value
        which an unseen caption names; `spread`: by attribute, entropy over seeds for captions that name the shape
        alone, as a share of the uniform distribution's entropy.

    Raises:
        MissingPathError: no model in the folder, or no weights of the classifier.
        ThalwegError: weights that are missing, unexpected or not finite.
    """
    random = torch.Generator().manual_seed(FIRST_SEED)
    classifier, generator = load_attribute_classifier(classifier_weights), load(folder, gradient=None)
    total = images + seeds * len(renderer.ATTRIBUTES["shape"])
    objects = renderer.draw_attributes(renderings, random)
    rendered = torch.cat([renderer.render(objects[start : start + 250], random) for start in range(0, renderings, 250)])
    figures: dict[str, Any] = {
        "reader": accuracy(classifier, rendered, objects),
        "scorer": _caption_accuracy(folder, rendered[:300], objects[:300], random),
        "autoencoder_psnr_db": _psnr(generator, rendered[:200]),
    }
    adheres: dict[str, list[bool]] = {name: [] for name in renderer.ATTRIBUTES}
    for index in range(images):
        attributes = renderer.draw_attributes(1, random)[0]
        drawn = captions.draw_named(attributes, random)
        named = {name: value for name, value in attributes.items() if name in drawn or name in ALWAYS_NAMED}
        image = generator.render(generator.embed(captions.caption(named, random)), [FIRST_SEED + index])
        for name, share in classifier.adherence(image, named).items():
            adheres[name].append(share == 1)
        progress(index + 1, total)
    figures["adherence"] = {name: sum(values) / len(values) for name, values in adheres.items()}
    spreads: dict[str, list[float]] = {name: [] for name in renderer.ATTRIBUTES if name != "shape"}
    for number, shape in enumerate(renderer.ATTRIBUTES["shape"]):
        shown = generator.render(generator.embed(f"a {shape}"), range(FIRST_SEED, FIRST_SEED + seeds))
        for name, values in classifier.predict(shown).items():
            if name in spreads:
                spreads[name].append(spread(values, name))
        progress(images + seeds * (number + 1), total)
    figures["spread"] = {name: sum(values) / len(values) for name, values in spreads.items()}
    return figures


def accuracy(classifier: AttributeClassifier, images: Tensor, objects: list[dict[str, str]]) -> dict[str, float]:
    """Return, by attribute, the share of `images` (N, 3, 64, 64) whose predicted value is that of its object."""
    predicted = classifier.predict(images)
    return {
        name: sum(value == item[name] for value, item in zip(predicted[name], objects, strict=True)) / len(objects)
        for name in renderer.ATTRIBUTES
    }


def _caption_accuracy(
    folder: Path, images: Tensor, objects: list[dict[str, str]], random: torch.Generator
) -> dict[str, float]:
    """Return, by attribute, the share of images whose own caption scores above one that differs in this attribute."""
    scorer = load_scorer(folder)
    features = scorer.embed_images(images)
    shares: dict[str, float] = {}
    for name, values in renderer.ATTRIBUTES.items():
        wins = 0
        for feature, item in zip(features, objects, strict=True):
            others = [value for value in values if value != item[name]]
            other = others[int(torch.randint(len(others), (1,), generator=random))]
            seed = int(torch.randint(2**31, (1,), generator=random))
            true, false = (_caption(attributes, seed) for attributes in (item, {**item, name: other}))
            wins += bool(feature @ scorer.embed_text(true) > feature @ scorer.embed_text(false))
        shares[name] = wins / len(objects)
    return shares


def _caption(attributes: Mapping[str, str], seed: int) -> str:
    return captions.caption(attributes, torch.Generator().manual_seed(seed))


@torch.no_grad()
def _psnr(generator: Any, images: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio, dB, of images reconstructed by the autoencoder."""
    vae = generator.adapter.pipeline.vae
    reconstructed = vae.decode(vae.encode(2 * images - 1).latent_dist.mean).sample.clamp(-1, 1)
    error = ((reconstructed - (2 * images - 1)) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())
