"""Metrics in a scorer's space (CLIP): similarity to a text or an image, and LAION aesthetics."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from thalweg.errors import UsageError
from thalweg.io.safetensors_files import read_tensors
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.metrics.scorer import ImageEncoder, Scorer


def text_similarity(scorer: Scorer, text: str) -> Metric:
    """Return the metric text: the cosine of image and text features of the scorer."""
    with torch.no_grad():
        target = scorer.embed_text(text)
    return Metric(f"text: {text}", lambda images: scorer.embed_images(images) @ target.to(images.device))


def image_similarity(scorer: ImageEncoder, image: Tensor, name: str = "image") -> Metric:
    """Return the metric image: the cosine of the features of an image and of a reference image (3, H, W) in 0..1."""
    with torch.no_grad():
        target = scorer.embed_images(image[None])[0]
    return Metric(name, lambda images: scorer.embed_images(images) @ target.to(images.device))


@dataclass(frozen=True, eq=False)
class AestheticsHead:
    """Linear layers over CLIP image features, down to one score.

    Attributes:
        file: the file they were read from, for messages.
        layers: weights (outputs, inputs) and biases (outputs) or None, float32.
    """

    file: str
    layers: tuple[tuple[Tensor, Tensor | None], ...]

    @property
    def width(self) -> int:
        """Width of the features that the first layer takes."""
        return self.layers[0][0].shape[1]


def read_head(weights: Path | str) -> AestheticsHead:
    """Read an aesthetics head from a safetensors file.

    Args:
        weights: the file; its layers are taken in the order of the numbers in their names, as in the published
            `layers.0.weight`, `layers.2.weight`, ... and, for the single linear layer, `weight`, `bias`.

    Raises:
        UsageError: no such file, layers that do not follow on each other down to one score, or weights that are
            missing, unexpected or not finite.
    """
    path = Path(weights)
    if path.suffix != ".safetensors":
        raise UsageError(
            f"aesthetics: expected the head's weights as safetensors, got {path.name}; pickles (.pth) are refused: "
            "write its state_dict once with safetensors.torch.save_file"
        )
    tensors = read_tensors(path, f"aesthetics: expected the head's weights as safetensors, {weights}", UsageError)
    names = sorted((name for name in tensors if name.endswith("weight")), key=_layer_number)
    biases = {name: f"{name.removesuffix('weight')}bias" for name in names}
    if other := sorted(tensors.keys() - {*names, *biases.values()}):
        raise UsageError(f"{weights}: expected the weights and biases of linear layers alone, got {other[0]} as well")
    if 0 < len(lacking := sorted(set(biases.values()) - tensors.keys())) < len(names):
        raise UsageError(f"{weights}: expected a bias for each layer or for none, {lacking[0]} is missing")
    if bad := sorted(name for name, value in tensors.items() if not _is_finite(value)):
        raise UsageError(f"{weights}: expected finite floating weights, got others in {bad[0]}")
    layers = tuple((tensors[name].float(), tensors.get(biases[name])) for name in names)
    _check_shapes(layers, str(weights))
    return AestheticsHead(str(weights), layers)


def aesthetics(scorer: Scorer, head: AestheticsHead | Path | str) -> Metric:
    """Return the metric aesthetics: LAION's head on unit-length CLIP image features; about 1 (poor) to 10.

    Args:
        scorer: the CLIP model that the head was trained on (ViT-L/14 for the published heads).
        head: the head, or its safetensors file (see `read_head`).

    Raises:
        UsageError: as `read_head`.
    """
    read = head if isinstance(head, AestheticsHead) else read_head(head)

    def score(images: Tensor) -> Tensor:
        values = scorer.embed_images(images)
        if values.shape[1] != read.width:
            raise UsageError(f"{read.file}: expected features of width {read.width}, the scorer has {values.shape[1]}")
        for weight, bias in read.layers:
            values = functional.linear(values, weight.to(values), None if bias is None else bias.to(values))
        return values[:, 0]

    return Metric("aesthetics", score)


def _check_shapes(layers: Sequence[tuple[Tensor, Tensor | None]], file: str) -> None:
    shapes = [tuple(weight.shape) for weight, _ in layers]
    follows = all(before[0] == after[-1] for before, after in itertools.pairwise(shapes))
    fitting = all(bias is None or bias.shape == weight.shape[:1] for weight, bias in layers)
    if not layers or any(len(shape) != 2 for shape in shapes) or not follows or not fitting or shapes[-1][0] != 1:
        raise UsageError(f"{file}: expected linear layers that follow on each other down to 1 score, got {shapes}")


def _is_finite(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isfinite().all())


def _layer_number(name: str) -> int:
    number = re.search(r"\d+", name)
    return int(number[0]) if number else 0
