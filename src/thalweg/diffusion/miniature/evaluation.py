"""What the miniature can do, measured: the figures of its model card."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.diffusion.miniature import READER, captions, load, load_attribute_classifier, load_scorer, renderer
from thalweg.diffusion.miniature.attribute_classifier import AttributeClassifier, spread

ALWAYS_NAMED = ("shape", "colour", "background")
UNSEEN = 77_000_000
"""Offset of the seeds used here, far from those of the training."""


def evaluate(
    folder: Path,
    *,
    reader_weights: Path = READER,
    images: int = 500,
    renderings: int = 2000,
    seeds: int = 64,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Measure the model in `folder`, as the reader sees it.

    Returns:
        `reader`: by attribute, the share read right on unseen renderings; `scorer`: how often an unseen rendering is
        nearer to its own full caption than to one with one attribute changed; `autoencoder_psnr_db` on unseen
        renderings; `adherence`: by attribute, the share of `images` that show what an unseen caption names;
        `spread`: by attribute, entropy over seeds where a caption names the shape alone, as a share of uniform.
    """
    random = torch.Generator().manual_seed(UNSEEN)
    reader, generator = load_attribute_classifier(reader_weights), load(folder, gradient=None)
    total = images + seeds * len(renderer.ATTRIBUTES["shape"])
    objects = renderer.draw_attributes(renderings, random)
    rendered = torch.cat([renderer.render(objects[start : start + 250], random) for start in range(0, renderings, 250)])
    figures: dict[str, Any] = {
        "reader": read_right(reader, rendered, objects),
        "scorer": _told_apart(folder, rendered[:300], objects[:300], random),
        "autoencoder_psnr_db": _psnr(generator, rendered[:200]),
    }
    right: dict[str, list[bool]] = {name: [] for name in renderer.ATTRIBUTES}
    for index in range(images):
        attributes = renderer.draw_attributes(1, random)[0]
        drawn = captions.draw_named(attributes, random)
        named = {name: value for name, value in attributes.items() if name in drawn or name in ALWAYS_NAMED}
        image = generator.render(generator.embed(captions.caption(named, random)), [UNSEEN + index])
        for name, share in reader.adherence(image, named).items():
            right[name].append(share == 1)
        progress(index + 1, total)
    figures["adherence"] = {name: sum(values) / len(values) for name, values in right.items()}
    spreads: dict[str, list[float]] = {name: [] for name in renderer.ATTRIBUTES if name != "shape"}
    for number, shape in enumerate(renderer.ATTRIBUTES["shape"]):
        shown = generator.render(generator.embed(f"a {shape}"), range(UNSEEN, UNSEEN + seeds))
        for name, values in reader.read(shown).items():
            if name in spreads:
                spreads[name].append(spread(values, name))
        progress(images + seeds * (number + 1), total)
    figures["spread"] = {name: sum(values) / len(values) for name, values in spreads.items()}
    return figures


def read_right(reader: AttributeClassifier, images: Tensor, objects: list[dict[str, str]]) -> dict[str, float]:
    """Return, by attribute, the share of `images` (N, 3, 64, 64) in which the reader sees what was rendered."""
    seen = reader.read(images)
    return {
        name: sum(value == item[name] for value, item in zip(seen[name], objects, strict=True)) / len(objects)
        for name in renderer.ATTRIBUTES
    }


def _told_apart(
    folder: Path, images: Tensor, objects: list[dict[str, str]], random: torch.Generator
) -> dict[str, float]:
    """Return, by attribute, how often the true caption scores above one that differs in this attribute alone."""
    scorer = load_scorer(folder)
    features = scorer.embed_images(images)
    shares: dict[str, float] = {}
    for name, values in renderer.ATTRIBUTES.items():
        wins = 0
        for feature, item in zip(features, objects, strict=True):
            others = [value for value in values if value != item[name]]
            other = others[int(torch.randint(len(others), (1,), generator=random))]
            wording = int(torch.randint(2**31, (1,), generator=random))
            true, false = (_worded(described, wording) for described in (item, {**item, name: other}))
            wins += bool(feature @ scorer.embed_text(true) > feature @ scorer.embed_text(false))
        shares[name] = wins / len(objects)
    return shares


def _worded(attributes: Mapping[str, str], wording: int) -> str:
    return captions.caption(attributes, torch.Generator().manual_seed(wording))


@torch.no_grad()
def _psnr(generator: Any, images: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio, dB, of images rebuilt by the autoencoder."""
    vae = generator.family.pipeline.vae
    rebuilt = vae.decode(vae.encode(2 * images - 1).latent_dist.mean).sample.clamp(-1, 1)
    error = ((rebuilt - (2 * images - 1)) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())
