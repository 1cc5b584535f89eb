"""Principal directions of real embeddings and the spectra that are decoded along them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.generator import rgb_view
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Standard deviations from the mean of the distribution at which a direction is decoded."""


@dataclass(frozen=True, eq=False)
class PrincipalDirection:
    """One principal direction of a distribution of embeddings.

    Attributes:
        variance_share: fraction of the distribution's variance along it.
        std: standard deviation along it.
        axis: (K,), unit vector.
        bands: by sensor, decoded bands (steps, C) at `STEPS`, in the sensor's units.
        rgb: (steps, 3), RGB preview at `STEPS`, in 0..1.
    """

    variance_share: float
    std: float
    axis: NDArray[np.floating]
    bands: dict[str, NDArray[np.float32]]
    rgb: NDArray[np.float32]


def principal_directions(
    dataset: "xr.Dataset",
    model: EarthModel | None = None,
    distribution: EmbeddingDistribution | None = None,
    count: int = 4,
) -> list[PrincipalDirection]:
    """Decode spectra along the first principal directions of real embeddings.

    A direction is what varies together in the distribution, not one cause; its sign has no meaning.

    Args:
        dataset: an embedding dataset.
        model: the model that made it; the shipped weights by default.
        distribution: distribution of real embeddings; that of the dataset by default.
        count: number of directions.

    Raises:
        UsageError: Another model made the embeddings, or there are fewer dimensions than `count`.
    """
    model = EarthModel.load() if model is None else model
    model.check_made(dataset)
    distribution = EmbeddingDistribution.of(dataset) if distribution is None else distribution
    distribution.check_model(model.identifier)
    if not 1 <= count <= distribution.size:
        raise UsageError(f"{count} directions: expected 1 to {distribution.size}, the dimensions of an embedding")
    axes, stds = distribution.axes
    shares = stds**2 / (stds**2).sum()
    directions = []
    for axis, std, share in zip(axes[:count], stds, shares, strict=False):
        points = distribution.mean + np.array(STEPS)[:, None] * std * axis
        vectors = torch.from_numpy(points.astype(np.float32))[..., None, None]
        with torch.inference_mode():
            bands = {name: model.decode(vectors, name)[..., 0, 0].numpy() for name in model.sensors}
            rgb = rgb_view(model).decode(vectors)[..., 0, 0].numpy()
        directions.append(PrincipalDirection(float(share), float(std), axis, bands, rgb))
    return directions
