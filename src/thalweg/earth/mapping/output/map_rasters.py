"""Cloud-optimised GeoTIFFs of a map, written window by window, with a colour table and a style for QGIS."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.export.categorical import distinct_colours, rgb
from thalweg.earth.export.raster import TILE
from thalweg.earth.mapping.learning.mapping_model import MappingModel
from thalweg.earth.mapping.output.prediction_windows import PredictedWindow
from thalweg.earth.positions import dataset_geobox

if TYPE_CHECKING:
    import xarray as xr

MAP, PROBABILITIES, PLAUSIBLE, DISSIMILARITY = "map", "probabilities", "plausible", "dissimilarity"
"""Names of the rasters."""

PERCENT_FILL = 255
"""Fill value of percentages and of plausible classes."""

CACHE_MB = 64
"""Cache of the raster library in megabytes."""


@dataclass(frozen=True)
class RasterLayer:
    """Raster of a map.

    Attributes:
        name: name of its file, without the suffix.
        bands: descriptions of its bands.
        dtype: type of its values.
        fill: value of pixels without a prediction.
        overviews: resampling of its overviews.
        scale: factor from the stored values to the values meant.
    """

    name: str
    bands: tuple[str, ...]
    dtype: str
    fill: float
    overviews: str
    scale: float = 1.0


def map_layers(model: MappingModel) -> tuple[RasterLayer, ...]:
    """Return the rasters of a model's maps."""
    distance = RasterLayer(DISSIMILARITY, ("dissimilarity index",), "float32", np.nan, "AVERAGE")
    if not model.classes:
        return RasterLayer(MAP, (model.column,), "float32", np.nan, "AVERAGE"), distance
    classes = model.classes
    return (
        RasterLayer(MAP, (model.column,), "uint8", 0, "MODE"),
        RasterLayer(PROBABILITIES, classes, "uint8", PERCENT_FILL, "AVERAGE", 0.01),
        RasterLayer(PLAUSIBLE, ("number of plausible classes", *classes), "uint8", PERCENT_FILL, "NEAREST"),
        distance,
    )


def layer_values(predicted: PredictedWindow, model: MappingModel) -> dict[str, NDArray]:
    """Return the stored values (B, h, w) of each raster in a window."""
    distance = {DISSIMILARITY: predicted.dissimilarity[None]}
    if not model.classes:
        return {MAP: predicted.values, **distance}
    is_mapped = predicted.is_mapped
    percent = np.rint(100 * np.where(is_mapped, predicted.values, 0)).astype(np.uint8)
    plausible = predicted.plausible(model.threshold)
    plausible_bands = np.concatenate([plausible.sum(0, keepdims=True), plausible]).astype(np.uint8)
    return {
        MAP: predicted.codes()[None],
        PROBABILITIES: np.where(is_mapped, percent, PERCENT_FILL).astype(np.uint8),
        PLAUSIBLE: np.where(is_mapped, plausible_bands, PERCENT_FILL).astype(np.uint8),
        **distance,
    }


@contextlib.contextmanager
def open_rasters(dataset: "xr.Dataset", model: MappingModel, folder: Path, side: int) -> Iterator["MapRasters"]:
    """Yield rasters to fill; at the end of the block they become cloud-optimised GeoTIFFs in `folder`.

    Args:
        dataset: the store that is mapped.
        model: mapping model.
        folder: folder to write to.
        side: side of the windows that are written.
    """
    import rasterio
    from rasterio.shutil import copy

    layers = map_layers(model)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_NUM_THREADS=1):
        drafts = {layer.name: folder / f".{layer.name}.tif" for layer in layers}
        with contextlib.ExitStack() as stack:
            files = {
                layer.name: stack.enter_context(
                    rasterio.open(drafts[layer.name], "w", **_profile(dataset, layer, side))
                )
                for layer in layers
            }
            for layer in layers:
                _describe(files[layer.name], layer, model, dataset)
            yield MapRasters(model, files)
        for layer in layers:
            copy(
                drafts[layer.name],
                folder / f"{layer.name}.tif",
                driver="COG",
                compress="DEFLATE",
                predictor="YES",
                blocksize=TILE,
                overview_resampling=layer.overviews,
                bigtiff="IF_SAFER",
            )
            drafts[layer.name].unlink()


@dataclass(frozen=True, eq=False)
class MapRasters:
    """Rasters of a map that are being written."""

    model: MappingModel
    files: dict[str, Any]

    def write(self, predicted: PredictedWindow) -> None:
        """Write a window to all rasters."""
        from rasterio.windows import Window

        here = predicted.window
        window = Window(here.left, here.top, here.width, here.height)
        for name, values in layer_values(predicted, self.model).items():
            self.files[name].write(values, window=window)


def _profile(dataset: "xr.Dataset", layer: RasterLayer, side: int) -> dict[str, Any]:
    """Return rasterio's profile of a draft; one of its tiles is one window."""
    return {
        "driver": "GTiff",
        "dtype": layer.dtype,
        "count": len(layer.bands),
        "height": dataset.sizes["y"],
        "width": dataset.sizes["x"],
        "crs": dataset.attrs["proj:wkt2"],
        "transform": dataset_geobox(dataset).affine,
        "nodata": layer.fill,
        "tiled": True,
        "blockxsize": side,
        "blockysize": side,
        "compress": "DEFLATE",
        "bigtiff": "IF_SAFER",
    }


def _describe(file: Any, layer: RasterLayer, model: MappingModel, dataset: "xr.Dataset") -> None:
    """Set the names, scales, colours and tags of a draft."""
    file.descriptions = layer.bands
    if layer.scale != 1:
        file.scales = [layer.scale] * len(layer.bands)
    tags = {"model": dataset.attrs["thalweg:model"], "column": model.column, "learner": model.learner}
    if layer.name == MAP and model.classes:
        file.write_colormap(1, {code: (*colour, 255) for code, colour in class_colours(len(model.classes)).items()})
        tags |= {f"class_{code}": name for code, name in enumerate(model.classes, 1)}
    if layer.name == DISSIMILARITY:
        tags |= {"limit_95": f"{model.applicability.limits[0]:.6g}", "limit_99": f"{model.applicability.limits[1]:.6g}"}
    file.update_tags(**tags)


def class_colours(count: int) -> dict[int, tuple[int, int, int]]:
    """Return a colour (red, green and blue, 0 to 255) by the code of each class, from 1."""
    return {code: rgb(colour) for code, colour in enumerate(distinct_colours(count), 1)}
