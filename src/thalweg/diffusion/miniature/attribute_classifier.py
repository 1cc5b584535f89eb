"""Attribute classifier of synthetic images, for the evaluation of the miniature; no part of the model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from thalweg.diffusion.miniature.renderer import ATTRIBUTES, SIZE
from thalweg.errors import UsageError


class AttributeClassifier(nn.Module):
    """Small convolutional network with one softmax per attribute."""

    def __init__(self) -> None:
        super().__init__()
        widths = (24, 48, 96, 160)
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1), nn.SiLU()]
        for before, after in zip(widths, (*widths[1:], widths[-1]), strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.SiLU()]
        self.features = nn.Sequential(*layers, nn.Flatten())
        positions = (SIZE // 16) ** 2
        self.trunk = nn.Sequential(nn.Linear(widths[-1] * positions, 128), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(128, len(values)) for name, values in ATTRIBUTES.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits (N, values) by attribute for images (N, 3, 64, 64) in 0..1.

        Raises:
            UsageError: images of another shape.
        """
        if images.shape[1:] != (3, SIZE, SIZE):
            raise UsageError(f"expected images (N, 3, {SIZE}, {SIZE}), got {tuple(images.shape)}")
        trunk = self.trunk(self.features(2 * images - 1))
        return {name: head(trunk) for name, head in self.heads.items()}

    def probabilities(self, images: Tensor) -> dict[str, Tensor]:
        """Return probabilities (N, values) by attribute for images (N, 3, 64, 64) in 0..1; differentiable."""
        return {name: logits.softmax(dim=-1) for name, logits in self(images).items()}

    @torch.no_grad()
    def predict(self, images: Tensor) -> dict[str, list[str]]:
        """Return, by attribute, the most probable value in each of the images (N, 3, 64, 64) in 0..1."""
        return {
            name: [ATTRIBUTES[name][index] for index in logits.argmax(dim=-1).tolist()]
            for name, logits in self(images).items()
        }

    def adherence(self, images: Tensor, named: Mapping[str, str]) -> dict[str, float]:
        """Return, by attribute in `named`, the share of images (N, 3, 64, 64) that show its value."""
        predicted = self.predict(images)
        return {name: predicted[name].count(value) / len(images) for name, value in named.items()}


def spread(values: list[str], attribute: str) -> float:
    """Return the entropy of an attribute's `values` over images, as a share of the uniform distribution's entropy."""
    counts = torch.tensor([values.count(value) for value in ATTRIBUTES[attribute]], dtype=torch.float64)
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * shares.log()).sum() / torch.tensor(float(len(counts))).log()
    return float(entropy.clamp(min=0))


def load(path: Path) -> AttributeClassifier:
    """Load an attribute classifier from a safetensors file.

    Raises:
        ThalwegError: weights that are missing, unexpected or not finite, or an incomplete file.
    """
    from thalweg.diffusion.checkpoints.weight_files import fill

    classifier = AttributeClassifier()
    fill(classifier, path, f"{path.name}: the attribute classifier")
    return classifier.eval().requires_grad_(False)
