"""Folders of maps: a store classified or regressed from labels, and a model applied to another store."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.mapping.features.feature_plan import FeatureReader
from thalweg.earth.mapping.learning.applicability import LIMIT_LEVELS
from thalweg.earth.mapping.learning.mapping_model import MODEL_FILE, MappingModel
from thalweg.earth.mapping.mapping_config import MappingConfig, window_side
from thalweg.earth.mapping.mapping_fit import MappingFit, fit_mapping
from thalweg.earth.mapping.mapping_report import applied_report, write_fit_report
from thalweg.earth.mapping.output.map_rasters import MAP, open_rasters
from thalweg.earth.mapping.output.mapping_figures import draw_map
from thalweg.earth.mapping.output.prediction_windows import MapSummary, predict_windows
from thalweg.earth.mapping.output.qgis_style import write_class_style, write_number_style
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_folder

if TYPE_CHECKING:
    import geopandas
    import xarray as xr

Progress = Callable[[int, int], None]
"""Callback that takes the number of finished pixels and their total."""


@dataclass(frozen=True, eq=False)
class MappingResult:
    """Folder of a map, and what it holds in short.

    Attributes:
        folder: the folder.
        model: mapping model of the map.
        summary: sums over the map.
        fit: how the model was found; None if it was applied only.
    """

    folder: Path
    model: MappingModel
    summary: MapSummary
    fit: MappingFit | None = None

    @property
    def score_line(self) -> str:
        """Sentence with the score on blocks that the model did not see.

        Raises:
            UsageError: The model was applied only, so that there are no labels to score it on.
        """
        if self.fit is None:
            raise UsageError("a model that was applied only has no score: see the report of its labels")
        name = "macro F1" if self.model.classes else "R2"
        blocks = f"blocks of {self.fit.blocks.side} px that it did not see"
        return f"{name} {self.fit.score:.3f} on {blocks}, by {self.model.learner}"

    @property
    def distance_line(self) -> str:
        """Sentence that says how many pixels lie beyond the limits of the training pixels."""
        shares = zip(LIMIT_LEVELS, self.summary.shares_beyond, strict=True)
        parts = [f"{share:.1%} beyond the {level:.0%} limit" for level, share in shares]
        return f"distance from the training pixels: {' and '.join(parts)} of their own"


def map_labels(
    dataset: "xr.Dataset",
    labels: "geopandas.GeoDataFrame",
    column: str,
    out: str | Path,
    is_class: bool,
    config: MappingConfig | None = None,
    name: str = "labels",
    progress: Progress | None = None,
) -> MappingResult:
    """Learn from labels, map the store, and write a folder.

    The folder holds `model.skops`, `map.tif` with `map.qml`, `dissimilarity.tif`, `report.md` with its figures and
    tables, and for classes `probabilities.tif` and `plausible.tif`.

    Args:
        dataset: embeddings as `thalweg.open` returns them.
        labels: points and polygons in any reference system.
        column: column of the labels.
        out: folder to write; must not exist.
        is_class: whether the labels are classes, else numbers.
        config: settings.
        name: name of the labels for messages.
        progress: callback with the number of mapped pixels and their total.

    Raises:
        UsageError: `out` exists, or an input is not usable; nothing is written.
        ThalwegError: The folder cannot be written.
    """
    from rasterio.errors import RasterioError

    with atomic_folder(out, RasterioError) as folder:
        fit = fit_mapping(dataset, labels, column, is_class, config, name)
        summary = _write_rasters(fit.model, fit.reader, folder, fit.side, progress)
        fit.model.save(folder / MODEL_FILE)
        write_fit_report(fit, summary, folder)
    return MappingResult(Path(out), fit.model, summary, fit)


def apply_model(
    model: MappingModel,
    dataset: "xr.Dataset",
    out: str | Path,
    date: str | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> MappingResult:
    """Map another place or year with a model, and write a folder.

    The model's days are taken in the latest year that the store covers. The folder holds the rasters, and `report.md`
    with the distance of the pixels from the training pixels.

    Args:
        model: mapping model.
        dataset: embeddings as `thalweg.open` returns them, of the model's Earth model and dimensions.
        out: folder to write; must not exist.
        date: date to take, for a model of one date.
        memory: memory limit in bytes.
        progress: callback with the number of mapped pixels and their total.

    Raises:
        UsageError: `out` exists, the store is of another model or of other dimensions, or does not cover the days of
            the model; nothing is written.
        ThalwegError: The folder cannot be written.
    """
    from rasterio.errors import RasterioError

    with atomic_folder(out, RasterioError) as folder:
        plan = model.plan.shifted_to(dataset, date)
        side = window_side(plan, memory, 0)
        summary = _write_rasters(model, plan.reader(dataset), folder, side, progress)
        result = MappingResult(Path(out), model, summary)
        (folder / "report.md").write_text(applied_report(model, plan, summary, dataset), "utf-8")
    return result


def _write_rasters(
    model: MappingModel, reader: FeatureReader, folder: Path, side: int, progress: Progress | None
) -> MapSummary:
    """Write the rasters of a map, their style and their figure."""
    dataset = reader.dataset
    total = dataset.sizes["y"] * dataset.sizes["x"]
    summary = MapSummary.empty(model)
    low, high = np.inf, -np.inf
    with open_rasters(dataset, model, folder, side) as rasters:
        for predicted in predict_windows(model, reader, side):
            rasters.write(predicted)
            summary.add(predicted, model.threshold)
            if not model.classes and predicted.is_mapped.any():
                low = min(low, float(np.nanmin(predicted.values)))
                high = max(high, float(np.nanmax(predicted.values)))
            if progress:
                progress(summary.pixels, total)
    style = folder / f"{MAP}.qml"
    if model.classes:
        write_class_style(style, model.classes)
    elif np.isfinite(low):
        write_number_style(style, low, high)
    draw_map(folder / f"{MAP}.tif", model, folder / f"{MAP}.png")
    return summary
