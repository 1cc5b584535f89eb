"""Metrics of pixel statistics: sharpness, contrast, colourfulness, symmetry, and distances from colours."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from thalweg.errors import UsageError
from thalweg.steer.metrics.expression import read_colour
from thalweg.steer.metrics.metric import Metric

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
_LAPLACIAN = ((1.0, 1.0, 1.0), (1.0, -8.0, 1.0), (1.0, 1.0, 1.0))
EPS = 1e-8
"""Constant under square roots, with which a flat image's standard deviation has a finite gradient."""


def grey(images: Tensor) -> Tensor:
    """Return the luma (S, 1, H, W) of images (S, 3, H, W)."""
    return (images * images.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)


def laplacian_variance(images: Tensor) -> Tensor:
    """Return the variance (S,) of the 3 x 3 Laplacian, centre -8, of the grey images (2308.12059, section 4.1)."""
    kernel = images.new_tensor(_LAPLACIAN)[None, None]
    return functional.conv2d(grey(images), kernel).flatten(1).var(1)


def sharpness() -> Metric:
    """Return the metric sharpness: the variance of the Laplacian, more is better."""
    return Metric("sharpness", laplacian_variance)


def blur() -> Metric:
    """Return the metric blur: the variance of the Laplacian, less is better."""
    return Metric("blur", laplacian_variance, maximize=False)


def colourfulness() -> Metric:
    """Return the metric colourfulness: Hasler and Suesstrunk (2003), M3, on 0..255; about 0 (none) to 110 (extreme)."""

    def score(images: Tensor) -> Tensor:
        red, green, blue = (255 * images).flatten(2).unbind(1)
        opponents = torch.stack([red - green, (red + green) / 2 - blue])
        spread = (opponents.var(2, correction=0).sum(0) + EPS).sqrt()
        return spread + 0.3 * (opponents.mean(2).square().sum(0) + EPS).sqrt()

    return Metric("colourfulness", score)


def contrast() -> Metric:
    """Return the metric contrast: the standard deviation of the grey image (root mean square contrast)."""
    return Metric("contrast", lambda images: (grey(images).flatten(1).var(1, correction=0) + EPS).sqrt())


def symmetry() -> Metric:
    """Return the metric symmetry: the correlation of an image with its left-right mirror image; 1 is symmetric."""

    def score(images: Tensor) -> Tensor:
        centred = images - images.mean((2, 3), keepdim=True)
        product = (centred * centred.flip(3)).sum((1, 2, 3))
        return product / (centred.square().sum((1, 2, 3)) + EPS)

    return Metric("symmetry", score)


def colour(value: str) -> Metric:
    """Return the metric colour: the distance of an image's mean colour from a colour, in RGB of 0..1.

    Args:
        value: the colour, such as "#ff0000" or a CSS name.

    Raises:
        UsageError: `value` is no colour.
    """
    target = read_colour(value)

    def score(images: Tensor) -> Tensor:
        return ((images.mean((2, 3)) - images.new_tensor(target)).square().sum(1) + EPS).sqrt()

    return Metric(f"colour: {value}", score, maximize=False)


def palette(values: Sequence[str]) -> Metric:
    """Return the metric palette: the distance of an image from a palette, in RGB of 0..1.

    It is the mean distance of the pixels from the palette's nearest colour, plus the mean distance of the palette's
    colours from their nearest pixel; an image that uses one of the colours only therefore scores badly.

    Args:
        values: the colours, such as "#ff0000" or CSS names; at least one.

    Raises:
        UsageError: there are no colours, or a value is no colour.
    """
    if not values:
        raise UsageError("expected a palette of colours like '#ff0000 #ffffff', got none")
    targets = [read_colour(value) for value in values]

    def score(images: Tensor) -> Tensor:
        pixels = images.flatten(2).mT[:, :, None]
        distances = ((pixels - images.new_tensor(targets)).square().sum(3) + EPS).sqrt()
        return distances.amin(2).mean(1) + distances.amin(1).mean(1)

    return Metric(f"palette: {' '.join(values)}", score, maximize=False)
