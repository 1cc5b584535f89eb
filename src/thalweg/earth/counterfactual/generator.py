"""The Earth model as a `thalweg.generator.Generator`: embeddings of pixels and scenes to decoded images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.quantities import Quantity
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.lookup import LocatedEmbedding, embedding_at_place
from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import UsageError
from thalweg.seeds import check_seeds

if TYPE_CHECKING:
    import xarray as xr

WHITE_REFLECTANCE = 0.3
"""Reflectance that is white in an RGB preview, as in an embedding store's."""
MISSING_VALUE = 0.85
"""Value of pixels without an embedding in rendered images: a light grey in RGB previews."""
MAX_DIRECTIONS = 6
"""Largest number of principal directions that a navigation is offered."""


@dataclass(frozen=True)
class DecodedView:
    """Image that is decoded from an embedding: an RGB preview, the bands of a sensor, or a map of a quantity.

    Attributes:
        channels: number of channels, C.
        decode: embeddings (Q, K, h, w) to images (Q, C, h, w), differentiable.
    """

    channels: int
    decode: Callable[[Tensor], Tensor]


class EarthGenerator:
    """The fused embedding and the decoder of a sensor as a `thalweg.generator.Generator`.

    An embedding has a tensor `embedding`, (K,) for a pixel or (K, h, w) for a scene, and may have `uncertainty` of the
    same shape, which tools do not change.

    **Seeds.** The decoder is deterministic. Seed 0 renders the embedding itself; any other seed renders a draw from the
    embedding's own uncertainty: one normal draw per dimension, the same for all pixels of a scene. Dimensions are drawn
    independently, because a store does not hold the covariance of their errors. Without a tensor `uncertainty` all
    seeds render the same.

    Args:
        earth: the Earth model.
        size: dimensions of an embedding, 7 or 32; those of `dataset` if there is one.
        dataset: embedding dataset in which `embed` looks places up.
        distribution: distribution of real embeddings, whose principal directions a navigation is offered.
        view: image that `render` decodes; the true-colour preview of the reference sensor by default.

    Raises:
        UsageError: Another model made the dataset, or the embeddings of the distribution.
    """

    def __init__(
        self,
        earth: EarthModel,
        size: int = 32,
        dataset: "xr.Dataset | None" = None,
        distribution: EmbeddingDistribution | None = None,
        view: DecodedView | None = None,
    ) -> None:
        self.earth = earth
        self.dataset = dataset
        self.distribution = distribution
        self.size = size if dataset is None else dataset.sizes["embedding"]
        if dataset is not None:
            earth.check_made(dataset)
        if distribution is not None:
            distribution.check_model(earth.identifier)
        self.view = rgb_view(earth) if view is None else view

    @property
    def model(self) -> ModelIdentity:
        """Identifier of the Earth model, and the digits of its content hash."""
        return ModelIdentity(self.earth.identifier, self.earth.identifier.rpartition("-")[2])

    def showing(self, view: "DecodedView | Quantity | str") -> Self:
        """Return the same generator with another view.

        Args:
            view: a view; a quantity, whose map is rendered; or the name of a sensor, whose bands are rendered.

        Raises:
            UsageError: The model does not have the sensor.
        """
        if isinstance(view, str):
            view = band_view(self.earth, view)
        elif isinstance(view, Quantity):
            view = quantity_view(view)
        return type(self)(self.earth, self.size, self.dataset, self.distribution, view)

    def embed(self, prompt: str) -> Embedding:
        """Return the embedding of a place of the dataset.

        Args:
            prompt: `POSITION@DATE` such as `pixel:30,12@2019-07-01` for a pixel, `DATE` alone for the whole scene
                (`thalweg.earth.store.lookup.parse_place`).

        Raises:
            UsageError: There is no such place, or the generator has no dataset.
        """
        if self.dataset is None:
            raise UsageError("Earth embeddings have no text: give the generator a dataset, and a place of it")
        return self.embedding(embedding_at_place(self.dataset, prompt))

    def embedding(self, located: LocatedEmbedding) -> Embedding:
        """Return an embedding of a dataset as an `Embedding`, with the place as the prompt of its lineage."""
        tensors = {"embedding": torch.tensor(located.vector), "uncertainty": torch.tensor(located.uncertainty)}
        return Embedding(tensors, Lineage(self.model, located.place))

    def render(self, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        """Render the view.

        Args:
            embedding: of a pixel, whose image is 1 x 1, or of a scene.
            seeds: seeds of the draws from the uncertainty; 0 for the embedding itself.

        Returns:
            Images (S, C, h, w), float32, one per seed: RGB previews in 0..1, bands in the sensor's units, maps in the
            quantity's unit; `MISSING_VALUE` where there is no embedding. Differentiable in `embedding`.

        Raises:
            UsageError: The embedding is another model's or has another shape, or a seed is invalid.
        """
        seeds = check_seeds(seeds)
        embedding.check_model(self.model)
        vectors = embedding.tensors["embedding"]
        if vectors.ndim not in (1, 3) or len(vectors) != self.size:
            raise UsageError(f"expected an embedding ({self.size},) or ({self.size}, h, w), got {tuple(vectors.shape)}")
        field = vectors if vectors.ndim == 3 else vectors[:, None, None]
        shifted = torch.stack([field + self._draw(embedding, seed, field) for seed in seeds])
        finite = torch.isfinite(shifted).all(1, keepdim=True)
        return torch.where(finite, self.view.decode(torch.where(finite, shifted, 0.0)), MISSING_VALUE)

    def trainable_masks(self, embedding: Embedding) -> Mapping[str, Tensor]:
        """Return masks by name: the embedding is trainable where it is finite, its uncertainty is not."""
        masks = {name: torch.zeros_like(tensor, dtype=torch.bool) for name, tensor in embedding.floating.items()}
        masks["embedding"] = torch.isfinite(embedding.tensors["embedding"])
        return masks

    def directions(self, embedding: Embedding) -> Mapping[str, Mapping[str, Tensor]]:
        """Return moves of two standard deviations either way along the principal directions, by name.

        Directions are counted from 1.

        Raises:
            UsageError: The generator has no distribution.
        """
        if self.distribution is None:
            raise UsageError(
                "no directions: give the generator the `distribution` of real embeddings, "
                "EmbeddingDistribution.of(dataset)"
            )
        axes, stds = self.distribution.axes
        shape = embedding.tensors["embedding"].shape
        found = {}
        for index in range(min(MAX_DIRECTIONS, self.size)):
            for sign, word in ((1, "up"), (-1, "down")):
                shift = torch.from_numpy(sign * 2 * stds[index] * axes[index]).float()
                found[f"direction {index + 1} {word}"] = {
                    "embedding": shift.reshape(-1, *(1 for _ in shape[1:])).expand(shape)
                }
        return found

    def _draw(self, embedding: Embedding, seed: int, field: Tensor) -> Tensor:
        if seed == 0 or "uncertainty" not in embedding.tensors:
            return torch.zeros_like(field[:, :1, :1])
        normal = torch.randn(self.size, generator=torch.Generator().manual_seed(seed))
        return embedding.tensors["uncertainty"].reshape(field.shape) * normal.to(field)[:, None, None]


def rgb_view(earth: EarthModel) -> DecodedView:
    """Return the view of the reference sensor's first RGB preview, brightened like the previews of a store."""
    sensor = earth.reference
    names = sensor.rgb_previews[0] if sensor.rgb_previews else 3 * (sensor.band_names[0],)
    indices = [sensor.band_names.index(name) for name in names]

    def decode(embeddings: Tensor) -> Tensor:
        bands = earth.decode(embeddings, sensor.name)[:, indices] / WHITE_REFLECTANCE
        return bands.clamp(1e-4, 1).sqrt()

    return DecodedView(3, decode)


def band_view(earth: EarthModel, sensor: str) -> DecodedView:
    """Return the view of the decoded bands of a sensor, in its units.

    Raises:
        UsageError: The model does not have the sensor.
    """
    count = len(earth.autoencoder(sensor).sensor.bands)
    return DecodedView(count, lambda embeddings: earth.decode(embeddings, sensor))


def quantity_view(quantity: Quantity) -> DecodedView:
    """Return the view of a map of one quantity."""
    return DecodedView(1, lambda embeddings: quantity.evaluate(embeddings)[:, None])
