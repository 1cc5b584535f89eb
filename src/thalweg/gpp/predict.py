"""Prediction with intervals by a fitted model of GPP or another target: a tower's daily series, or a daily map."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg._version import __version__
from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import projection, read_grid
from thalweg.earth.cube.windows import Window, grid_windows
from thalweg.earth.store.portable import model_of
from thalweg.earth.store.zarr_chunks import checked_compressors
from thalweg.errors import UsageError
from thalweg.gpp.data.features import model_columns
from thalweg.gpp.data.gap_filling import fill_to_days
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.data.windows import DAYS, Windows, make_windows
from thalweg.gpp.footprint.footprint import MIN_DATES
from thalweg.gpp.footprint.footprint_series import embedding_names
from thalweg.gpp.models.checkpoint import GppModel
from thalweg.gpp.tables.daily_table import with_model_classes
from thalweg.gpp.tables.physical_limits import POTENTIAL_RADIATION
from thalweg.gpp.tables.target_columns import FluxTarget, target_of
from thalweg.io.atomic import atomic_folder, atomic_write, refuse_existing

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.model.earth_model import EarthModel

BLOCK = 16
"""Side of the blocks of a map in pixels; a block is predicted at once and is a chunk of the map."""


def _names(target: FluxTarget) -> tuple[str, str, str]:
    """Return the names of the lower bound, the prediction and the upper bound."""
    return "lower", target.column, "upper"


def predict_series(model: GppModel, table: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    """Predict the days of a tower.

    Args:
        model: Fitted model.
        table: Daily table with the model's features, such as from `tower_table`.
        level: Level of the intervals, 0 to 1.

    Returns:
        Columns site, time, the target's (such as gpp), lower, upper in its units, one row per day that ends a window.

    Raises:
        UsageError: A feature is not in the table, the table is too short, or of another target.
    """
    table = with_model_classes(table, model.card.features)
    if missing := [name for name in model.card.features if name not in table]:
        raise UsageError(
            f"the model needs {missing[0]!r}, which the features lack ({', '.join(model.card.features)} in all): "
            "add the tower's daily table (`flux`), or use another model"
        )
    target = model.target
    held = target_of(table)
    if held.column in table and table[held.column].notna().any():  # a table of features alone has no target yet
        model.check_target(held.name, "the table")
    windows = make_windows(table, model.card.features, with_target=False)
    lower, predicted, upper = model.ensemble.predict_interval(windows, level).T
    series = pd.DataFrame(
        {"site": windows.site, "time": windows.time, target.column: predicted, "lower": lower, "upper": upper}
    )
    series.attrs["units"] = dict.fromkeys(_names(target), target.units)
    return series


def write_series(series: pd.DataFrame, path: Path) -> None:
    """Write a predicted series as CSV, in the units of its target.

    Args:
        series: Series from `predict_series`.
        path: CSV file; must not exist.

    Raises:
        UsageError: The file exists.
    """
    refuse_existing(path)
    atomic_write(path, series.to_csv(index=False, date_format="%Y-%m-%d", float_format="%.5g").encode())


@dataclass(frozen=True)
class _Block:
    """Part of a cube: (T, K, h, w) embeddings and a (T, h, w) mask of the usable ones."""

    window: Window
    embeddings: NDArray[np.float32]
    usable: NDArray[np.bool_]


class MapJob:
    """Prediction of a map, with everything that determines the result.

    Args:
        source: Satellite cube, which is embedded block by block, or embedding dataset.
        model: Fitted model of an embedding's dimensions and potential radiation; a map has no meteorology and no
            spreads.
        earth: Model that embeds a satellite cube; the shipped weights by default.
        level: Level of the intervals, 0 to 1.
        label: Name of the source in messages.

    Raises:
        UsageError: The model needs features that a map does not have, or was trained on other embeddings.
    """

    def __init__(
        self,
        source: "Cube | xr.Dataset",
        model: GppModel,
        earth: "EarthModel | None" = None,
        level: float = 0.9,
        label: str = "cube",
    ) -> None:
        self.model, self.level = model, level
        recipe = model.card.recipe
        if unknown := [name for name in model.card.features if name not in model_columns(recipe)]:
            raise UsageError(
                f"the model needs {unknown[0]!r}, which a map does not have: predict the series of a tower, or train "
                "on the embedding and potential radiation alone"
            )
        if recipe.gap_filling != "linear":
            raise UsageError(
                f"the model was trained on gaps filled by {recipe.gap_filling}, too slow for every pixel of a map: "
                "train on linear, or predict the series of a tower"
            )
        if isinstance(source, Cube):
            from thalweg.earth.inference.job import Job
            from thalweg.earth.model.earth_model import EarthModel

            job = Job(source, earth or EarthModel.load(), recipe.size, BLOCK)
            identifier, self.dates = job.model.identifier, job.dates()
            self.grid, self.x, self.y = source.grid, source.x, source.y
            self._read = _block_embedder(job)
        else:
            identifier = model_of(source)
            self.grid, self.x, self.y = read_grid(source, label)
            if source.sizes["embedding"] < recipe.size:
                raise UsageError(f"{label}: {source.sizes['embedding']} dimensions, the model needs {recipe.size}")
            self.dates = source.time.values.astype("datetime64[ns]")
            self._read = _block_reader(source, recipe.size)
        model.check_embedding(identifier, label)
        first, last = self.dates[[0, -1]].astype("datetime64[D]")
        self.days = np.arange(first, last + 1).astype("datetime64[ns]")
        if len(self.days) < DAYS:
            raise UsageError(f"{label}: {len(self.days)} days from first to last date, expected at least {DAYS}")

    @property
    def time(self) -> NDArray[np.datetime64]:
        """Days with a prediction, (D,) datetime64[ns]: those that end a window."""
        return self.days[DAYS - 1 :]

    def windows(self) -> Iterator[Window]:
        """Yield the blocks that cover the grid, row by row."""
        return grid_windows(self.grid.shape, BLOCK)

    def predict(self, window: Window) -> NDArray[np.float32]:
        """Predict a block.

        Args:
            window: One of `windows`.

        Returns:
            (3, D, height, width) float32 lower bound, prediction, upper bound in the target's units; NaN where a
            pixel has too few usable dates.
        """
        block = self._read(window)
        latitude = _latitudes(self, window)
        features = self.model.card.features
        pixels, daily = [], []
        for row, column in np.ndindex(window.height, window.width):
            usable = block.usable[:, row, column]
            if usable.sum() < MIN_DATES:
                continue
            filled = fill_to_days(self.dates[usable], block.embeddings[usable, :, row, column], "linear")
            if len(filled.time) < DAYS:
                continue
            columns = dict(zip(embedding_names(filled.values.shape[1]), filled.values.T, strict=True))
            if POTENTIAL_RADIATION in features:
                columns[POTENTIAL_RADIATION] = potential_radiation(latitude[row, column], filled.time)
            start = int((filled.time[0] - self.days[0]) / np.timedelta64(1, "D"))
            pixels.append((start, row, column))
            daily.append(np.stack([columns[name] for name in features], 1).astype(np.float32))
        predicted = np.full((3, len(self.time), window.height, window.width), np.nan, np.float32)
        if not daily:
            return predicted
        windows = _pixel_windows(features, daily, [self.days[start] for start, _, _ in pixels])
        bounds = self.model.ensemble.predict_interval(windows, self.level).T
        ends = np.cumsum([len(days) - DAYS + 1 for days in daily])
        for (start, row, column), own in zip(pixels, np.split(bounds, ends[:-1], 1), strict=True):
            predicted[:, start : start + own.shape[1], row, column] = own
        return predicted


def predict_map(job: MapJob, out: str | Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write a daily map as Zarr: the target (such as gpp), lower and upper in its units over time, y and x.

    Args:
        job: Prediction of the map.
        out: Zarr store to write, atomically; must not exist.
        progress: Called with the numbers of pixels done and in all.

    Returns:
        The store.

    Raises:
        UsageError: `out` exists.
        ThalwegError: The store cannot be written.
    """
    import zarr

    rows, columns = job.grid.shape
    with atomic_folder(out) as folder:
        _create(job, folder)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        done = 0
        for window, block in ((window, job.predict(window)) for window in job.windows()):
            box = (slice(window.top, window.top + window.height), slice(window.left, window.left + window.width))
            for name, values in zip(_names(job.model.target), block, strict=True):
                array = group[name]
                assert isinstance(array, zarr.Array)
                array[:, box[0], box[1]] = values
            done += window.height * window.width
            if progress is not None:
                progress(done, rows * columns)
    return Path(out)


def _create(job: MapJob, path: Path) -> None:
    """Write the metadata and coordinates of the map, without data."""
    import dask.array
    import rioxarray  # noqa: F401  (registers the accessor .rio)
    import xarray as xr
    import zarr

    target = job.model.target
    shape = (len(job.time), *job.grid.shape)
    chunks = (min(shape[0], 366), BLOCK, BLOCK)
    names = {
        target.column: target.long_name,
        "lower": f"lower bound of the {job.level:.0%} interval",
        "upper": f"upper bound of the {job.level:.0%} interval",
    }
    dataset = xr.Dataset(
        {
            name: (
                ("time", "y", "x"),
                dask.array.full(shape, np.nan, dtype=np.float32, chunks=chunks),
                {"long_name": text, "units": target.units},
            )
            for name, text in names.items()
        },
        coords={
            "time": ("time", job.time),
            "y": ("y", job.y, {"units": "m", "standard_name": "projection_y_coordinate"}),
            "x": ("x", job.x, {"units": "m", "standard_name": "projection_x_coordinate"}),
        },
        attrs={
            "Conventions": "CF-1.8",
            "title": f"Daily {target.long_name}",
            "thalweg:version": __version__,
            "thalweg:gpp_model": job.model.card.content_hash,
            "thalweg:embedding_model": job.model.card.recipe.embedding_model,
        },
    ).rio.write_crs(projection(job.grid).to_wkt())
    encoding: dict[str, dict[str, Any]] = {name: {"chunks": chunks, "_FillValue": np.nan} for name in names}
    encoding["time"] = {"units": "days since 1970-01-01", "dtype": "int64"}
    for variable in dataset.variables:
        encoding.setdefault(str(variable), {})["compressors"] = checked_compressors()
    dataset.to_zarr(path, mode="w", encoding=encoding, compute=False, zarr_format=3, consolidated=False)
    # With this attribute, readers that decode CF take the reference system as a coordinate.
    zarr.open_group(path, mode="r+").attrs["coordinates"] = "spatial_ref"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # format 3 does not specify consolidation yet
        zarr.consolidate_metadata(path)


def _block_embedder(job: Any) -> Callable[[Window], _Block]:
    from thalweg.earth.inference.compute import embed_block

    def read(window: Window) -> _Block:
        block = embed_block(job, window)
        return _Block(window, block.embeddings, np.isfinite(block.embeddings).all(1))

    return read


def _block_reader(dataset: "xr.Dataset", size: int) -> Callable[[Window], _Block]:
    def read(window: Window) -> _Block:
        part = dataset.isel(
            y=slice(window.top, window.top + window.height),
            x=slice(window.left, window.left + window.width),
            embedding=slice(0, size),
        )
        vectors = part.embeddings.values
        return _Block(window, vectors, np.isfinite(vectors).all(1))

    return read


def _latitudes(job: MapJob, window: Window) -> NDArray[np.float64]:
    """Return (height, width) degrees north."""
    from pyproj import Transformer

    x, y = np.meshgrid(job.x[window.left : window.left + window.width], job.y[window.top : window.top + window.height])
    return np.asarray(Transformer.from_crs(projection(job.grid), "EPSG:4326", always_xy=True).transform(x, y)[1])


def _pixel_windows(features: tuple[str, ...], daily: list[NDArray[np.float32]], starts: list[np.datetime64]) -> Windows:
    """Return windows over the days of pixels, each (D, F) from its own first day on and a site of its own."""
    lengths = np.array([len(days) for days in daily])
    first = np.cumsum(lengths) - lengths
    ends = [np.arange(DAYS - 1, length) for length in lengths]
    last = np.concatenate([start + end for start, end in zip(first, ends, strict=True)])
    return Windows(
        features=features,
        daily=np.concatenate(daily),
        runs=np.stack([first, first + lengths], 1),
        last=last,
        target=np.full(len(last), np.nan, np.float32),
        site=np.repeat(np.arange(len(daily)).astype(str), lengths - DAYS + 1),
        time=np.concatenate([start + end * np.timedelta64(1, "D") for start, end in zip(starts, ends, strict=True)]),
        vegetation=np.full(len(last), "", dtype=np.str_),
    )
