"""Quantities that a sample holds: the embedding's dimensions, decoded bands, indices and traits, with uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.counterfactual.quantities import check_quantity_name, quantity_by_name
from thalweg.earth.sensors import known_sensors
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.model.earth_model import EarthModel

EMBEDDING = "embedding"
"""Name that stands for all dimensions of the embedding."""


@dataclass(frozen=True, eq=False)
class SampledQuantities:
    """Quantities of embeddings of K dimensions.

    Attributes:
        dimensions: number of dimensions, K.
        has_embedding: whether the dimensions themselves are among them.
        model: model of the embeddings; None if nothing is decoded.
        decoded: names of the decoded quantities.
    """

    dimensions: int
    has_embedding: bool
    model: "EarthModel | None"
    decoded: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the quantities: `e1`, `e2`, ... and those of the decoded ones, in lower case."""
        dimensions = [f"e{index}" for index in range(1, self.dimensions + 1)] if self.has_embedding else []
        return (*dimensions, *(name.lower() for name in self.decoded))

    @classmethod
    def read(
        cls, what: Sequence[str], dataset: "xr.Dataset", model: "str | Path | EarthModel | None" = None
    ) -> "SampledQuantities":
        """Look up quantities by name.

        Args:
            what: `embedding`, traits, spectral indices and bands of the model's sensors; case does not matter.
            dataset: embedding dataset.
            model: model of the embeddings, or its folder; the shipped weights by default.

        Raises:
            MissingPathError: There is no folder `model`.
            UsageError: There is no such quantity, or the embeddings are those of another model.
        """
        from thalweg.earth.model.earth_model import EarthModel
        from thalweg.earth.model.fusion import TRAITS

        names = list(dict.fromkeys(name.strip() for name in what if name.strip()))
        if not names:
            raise UsageError(f"no quantity to sample: expected {EMBEDDING}, {', '.join(TRAITS)}, an index or a band")
        for name in names:
            check_quantity_name(name, known_sensors(), [EMBEDDING, *TRAITS])
        decoded = tuple(name for name in names if name.lower() != EMBEDDING)
        loaded = None
        if decoded:
            loaded = model if isinstance(model, EarthModel) else EarthModel.load(model)
            loaded.check_made(dataset)
            for name in decoded:
                check_quantity_name(name, loaded.fusion.sensors, [EMBEDDING, *TRAITS])
        return cls(dataset.sizes["embedding"], len(decoded) < len(names), loaded, decoded)

    def evaluate(self, vectors: NDArray, half_widths: NDArray) -> tuple[NDArray, NDArray]:
        """Return the quantities and their uncertainty at embeddings.

        Args:
            vectors: (T, K, N), NaN where there is no embedding.
            half_widths: half-widths of their 68 % intervals, (T, K, N).

        Returns:
            Values and half-widths of their 68 % intervals, (T, M, N) each, in the order of `names`.
        """
        values = [vectors] if self.has_embedding else []
        spreads = [half_widths] if self.has_embedding else []
        for name in self.decoded:
            value, spread = self._decode(name, vectors, half_widths)
            values.append(value[:, None])
            spreads.append(spread[:, None])
        return np.concatenate(values, 1), np.concatenate(spreads, 1)

    def _decode(self, name: str, vectors: NDArray, half_widths: NDArray) -> tuple[NDArray, NDArray]:
        """Return a decoded quantity (T, N) and its uncertainty by the gradient in the embedding."""
        import torch

        from thalweg.earth.model.fusion import TRAITS

        assert self.model is not None
        missing = ~np.isfinite(vectors).all(1)
        embeddings = torch.from_numpy(np.nan_to_num(vectors)[..., None]).requires_grad_(True)
        own = torch.zeros(1)
        if name.lower() in TRAITS:
            value, own = self.model.decode_trait(embeddings, name.lower())
        else:
            value = quantity_by_name(name, self.model).evaluate(embeddings)
        (gradient,) = torch.autograd.grad(value.sum(), embeddings)
        variance = ((gradient[..., 0].numpy() * np.nan_to_num(half_widths)) ** 2).sum(1)
        spread = np.sqrt(variance + own.detach().squeeze(-1).numpy() ** 2)
        return np.where(missing, np.nan, value.detach()[..., 0].numpy()), np.where(missing, np.nan, spread)
