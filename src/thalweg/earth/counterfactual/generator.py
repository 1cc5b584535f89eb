"""Earth as a Generator: an embedding of a pixel or a scene in, the decoded picture out, differentiable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.quantities import Quantity, decoded, reference_sensor
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.lookup import Seen, at_place
from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import UsageError
from thalweg.seeds import check_seeds

if TYPE_CHECKING:
    import xarray as xr

WHITE = 0.3
"""Reflectance that is white in a picture, as in an embedding store's."""
UNSEEN = 0.85
"""Grey of pixels that have no embedding."""
DIRECTIONS = 6
"""Principal directions that a navigation looks along."""


@dataclass(frozen=True)
class SensorView:
    """What is drawn of an embedding: a picture, a sensor's bands, a map of a quantity.

    Attributes:
        channels: how many layers.
        of: embeddings (Q, K, h, w) to layers (Q, channels, h, w).
    """

    channels: int
    of: Callable[[Tensor], Tensor]


class EarthGenerator:
    """The fused embedding and a sensor's decoder as a `thalweg.generator.Generator`.

    An embedding has a tensor `embedding`, (K,) for a pixel or (K, h, w) for a scene, and may have `uncertainty` of the
    same shape, which tools leave as it is.

    **Seeds.** The decoder has no chance in it. Seed 0 shows the embedding itself; any other seed shows a draw from the
    embedding's own uncertainty, one normal draw a value, the same for all pixels of a scene, values drawn
    independently of each other since a store does not say how their errors go together. Without a tensor
    `uncertainty` all seeds show the same.

    Args:
        earth: the Earth model.
        size: values of an embedding, 7 or 32; a dataset's own where one is given.
        dataset: embeddings that `embed` looks places up in.
        population: real embeddings, whose principal directions a navigation looks along.
        view: what `render` draws; the reference sensor's true-colour picture by default.

    Raises:
        UsageError: the dataset or the population is another model's.
    """

    def __init__(
        self,
        earth: EarthModel,
        size: int = 32,
        dataset: "xr.Dataset | None" = None,
        population: EmbeddingDistribution | None = None,
        view: SensorView | None = None,
    ) -> None:
        self.earth = earth
        self.dataset = dataset
        self.population = population
        self.size = size if dataset is None else dataset.sizes["embedding"]
        if dataset is not None:
            check_made_by(dataset, earth)
        if population is not None:
            population.check_model(earth.identifier)
        self.view = picture(earth) if view is None else view

    @property
    def model(self) -> ModelIdentity:
        """The Earth model's identifier and the digits of its content hash."""
        return ModelIdentity(self.earth.identifier, self.earth.identifier.rpartition("-")[2])

    def showing(self, view: "SensorView | Quantity | str") -> Self:
        """Return the same generator with another view: a sensor's bands by its name, or a map of a quantity."""
        if isinstance(view, str):
            view = bands(self.earth, view)
        elif isinstance(view, Quantity):
            view = quantity_map(view)
        return type(self)(self.earth, self.size, self.dataset, self.population, view)

    def embed(self, prompt: str) -> Embedding:
        """Return the embedding of a place: `COLUMN,ROW@DATE` is a pixel, `DATE` alone the whole scene.

        Raises:
            UsageError: no place of the dataset, or a generator without one: Earth embeddings have no text.
        """
        if self.dataset is None:
            raise UsageError("Earth embeddings have no text: give the generator a dataset, and a place of it")
        return self.embedding(at_place(self.dataset, prompt))

    def embedding(self, seen: Seen) -> Embedding:
        """Return what a dataset holds at a place as an embedding."""
        tensors = {"embedding": torch.tensor(seen.vector), "uncertainty": torch.tensor(seen.uncertainty)}
        return Embedding(tensors, Lineage(self.model, seen.name))

    def render(self, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        """Return the view's layers (S, channels, h, w), one a seed; a pixel is an image of 1 x 1.

        Pictures are in 0..1, a sensor's bands in its units, maps in their quantity's unit. Differentiable in
        `embedding`. Pixels without an embedding are grey in pictures.
        """
        seeds = check_seeds(seeds)
        embedding.check_model(self.model)
        vectors = embedding.tensors["embedding"]
        if vectors.ndim not in (1, 3) or len(vectors) != self.size:
            raise UsageError(f"expected an embedding ({self.size},) or ({self.size}, h, w), got {tuple(vectors.shape)}")
        field = vectors if vectors.ndim == 3 else vectors[:, None, None]
        shifted = torch.stack([field + self._draw(embedding, seed, field) for seed in seeds])
        seen = torch.isfinite(shifted).all(1, keepdim=True)
        return torch.where(seen, self.view.of(torch.where(seen, shifted, 0.0)), UNSEEN)

    def trainable_masks(self, embedding: Embedding) -> Mapping[str, Tensor]:
        """Return masks: the embedding moves where there is one, its uncertainty stays."""
        masks = {name: torch.zeros_like(tensor, dtype=torch.bool) for name, tensor in embedding.floating.items()}
        masks["embedding"] = torch.isfinite(embedding.tensors["embedding"])
        return masks

    def directions(self, embedding: Embedding) -> Mapping[str, Mapping[str, Tensor]]:
        """Return, by name, moves of two standard deviations either way along the principal directions.

        Raises:
            UsageError: a generator without a population.
        """
        if self.population is None:
            raise UsageError("no directions: give the generator a population, Population.of(dataset)")
        axes, spreads = self.population.axes
        shape = embedding.tensors["embedding"].shape
        found = {}
        for number in range(min(DIRECTIONS, self.size)):
            for sign, word in ((1, "up"), (-1, "down")):
                shift = torch.from_numpy(sign * 2 * spreads[number] * axes[number]).float()
                found[f"direction {number + 1} {word}"] = {
                    "embedding": shift.reshape(-1, *(1 for _ in shape[1:])).expand(shape)
                }
        return found

    def _draw(self, embedding: Embedding, seed: int, field: Tensor) -> Tensor:
        if seed == 0 or "uncertainty" not in embedding.tensors:
            return torch.zeros_like(field[:, :1, :1])
        normal = torch.randn(self.size, generator=torch.Generator().manual_seed(seed))
        return embedding.tensors["uncertainty"].reshape(field.shape) * normal.to(field)[:, None, None]


def picture(earth: EarthModel) -> SensorView:
    """The reference sensor's first picture, brightened as a store's pictures are: white is a reflectance of 0.3."""
    sensor = earth.autoencoder(reference_sensor(earth)).sensor
    triple = sensor.rgb_previews[0] if sensor.rgb_previews else 3 * (sensor.band_names[0],)
    chosen = [sensor.band_names.index(name) for name in triple]

    def of(embeddings: Tensor) -> Tensor:
        colours = decoded(earth, sensor.name, embeddings)[:, chosen] / WHITE
        return colours.clamp(1e-4, 1).sqrt()

    return SensorView(3, of)


def bands(earth: EarthModel, sensor: str) -> SensorView:
    """A sensor's decoded bands, in its units; `UsageError` for a sensor the model does not know."""
    if sensor not in earth.sensors:
        raise UsageError(f"sensor {sensor!r}: the model knows {', '.join(earth.sensors)}")
    count = len(earth.autoencoder(sensor).sensor.bands)
    return SensorView(count, lambda embeddings: decoded(earth, sensor, embeddings))


def quantity_map(quantity: Quantity) -> SensorView:
    """A map of one quantity."""
    return SensorView(1, lambda embeddings: quantity.of(embeddings)[:, None])


def check_made_by(dataset: "xr.Dataset", earth: EarthModel) -> None:
    """Raise a `UsageError` where another model made a dataset's embeddings."""
    made_by = dataset.attrs.get("thalweg:model")
    if made_by is None:
        raise UsageError("not a dataset of embeddings: open one with thalweg.open(path)")
    if made_by != earth.identifier:
        raise UsageError(f"embeddings of {made_by}, model {earth.identifier}: name the folder of the former")
