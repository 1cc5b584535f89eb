"""Layers of an exported date: embeddings, uncertainty and quality, with their bands, encoding and reduction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.declarations import Quality, StorageEncoding
from thalweg.earth.store.overviews.reduction import lowest_flags, means, renormalized_means
from thalweg.earth.store.quantization import quantizations, quantize

if TYPE_CHECKING:
    import xarray as xr

EMBEDDINGS, UNCERTAINTY, QUALITY = "embeddings", "uncertainty", "quality"
"""Names of the layers, which are those of the store's variables."""


@dataclass(frozen=True)
class DateLayer:
    """Layer of an exported date.

    Attributes:
        name: variable of the store.
        bands: descriptions of its bands.
        dtype: type of the stored values.
        nodata: stored value where there is nothing.
        encoding: quantized encoding of the stored values; None if they are the values meant.
        reduce: reduction of (B, H, W) by a factor, for overviews.
        description: meaning of the values.
    """

    name: str
    bands: tuple[str, ...]
    dtype: str
    nodata: float
    encoding: StorageEncoding | None
    reduce: Callable[[NDArray, int], NDArray]
    description: str

    def file_name(self, date: str) -> str:
        """Return the name of the layer's GeoTIFF of a date."""
        return f"{date}.tif" if self.name == EMBEDDINGS else f"{date}_{self.name}.tif"

    def values(self, dataset: "xr.Dataset", index: int, rows: slice) -> NDArray:
        """Return the values (B, h, W) meant in some rows of a date."""
        values = dataset[self.name].isel(time=index, y=rows).values
        return values if values.ndim == 3 else values[None]

    def stored(self, values: NDArray) -> NDArray:
        """Return values meant as they are stored."""
        return quantize(values, self.encoding) if self.encoding else values.astype(self.dtype, copy=False)


def date_layers(dataset: "xr.Dataset") -> tuple[DateLayer, ...]:
    """Return the layers that a dataset has; those of a quantized store keep its integers and their scale."""
    bits = {"int8": 8, "int16": 16}.get(str(dataset.attrs.get("geoemb:data_type")))
    encodings = quantizations(bits)
    numbers = range(1, dataset.sizes["embedding"] + 1)
    described = {
        EMBEDDINGS: ("embedding", renormalized_means, "embedding, one band per dimension"),
        UNCERTAINTY: ("uncertainty", means, "half-width of the 68 % interval of the embedding, one band per dimension"),
    }
    layers = []
    for name, (label, reduce, description) in described.items():
        encoding = encodings.get(name)
        dtype, nodata = (encoding.dtype, float(encoding.fill)) if encoding else ("float32", np.nan)
        bands = tuple(f"{label} {number}" for number in numbers)
        layers.append(DateLayer(name, bands, dtype, nodata, encoding, reduce, description))
    flags = ", ".join(f"{quality.value} {quality.name.lower()}" for quality in Quality)
    layers.append(DateLayer(QUALITY, ("quality",), "uint8", int(Quality.OUTSIDE), None, lowest_flags, flags))
    return tuple(layer for layer in layers if layer.name in dataset)
