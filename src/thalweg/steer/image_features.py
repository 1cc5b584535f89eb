"""Image features: vectors of images whose distance measures how different two images are."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

Features = Callable[[Tensor], Tensor]
"""Function from images (S, 3, H, W) in 0..1 to features (S, d); image distance is the distance of features."""

CELLS = (16, 8, 4, 2)
"""Cells per side of the grids on which images are compared: from layout to overall colour."""
POOLED_PARTS = tuple(width for cells in CELLS for width in (3 * cells**2, cells**2))
"""Widths of the parts of `pooled_features`: colours and edges of each grid."""


def pooled_features(images: Tensor) -> Tensor:
    """Return colours and edges pooled on grids of several sizes: a plain perceptual space.

    The distance of two images is the root mean square of their differences in colour and in edge strength (both in
    0..1), averaged over the grids.

    Args:
        images: images (S, 3, H, W) in 0..1, float.

    Returns:
        Features (S, d), of the images' type.
    """
    grey = images.mean(dim=1, keepdim=True)
    across = pad(grey, (0, 1, 0, 0), mode="replicate").diff(dim=3)
    down = pad(grey, (0, 0, 0, 1), mode="replicate").diff(dim=2)
    layers = torch.cat([images, (across.square() + down.square() + 1e-12).sqrt()], dim=1)
    pooled = [adaptive_avg_pool2d(layers, cells).flatten(1) for cells in CELLS]
    return torch.cat([part / (part.shape[1] * len(CELLS)) ** 0.5 for part in pooled], dim=1)


def image_features(images: Tensor, features: Features) -> Tensor:
    """Return one vector (d), float64, for the images (S, 3, H, W) of all seeds.

    Distances of such vectors are root mean squares over the seeds.
    """
    return (features(images).flatten() / len(images) ** 0.5).double()
