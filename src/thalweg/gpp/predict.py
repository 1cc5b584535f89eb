"""GPP from a fitted model: a tower's daily series, or a daily map of a whole cube, with intervals."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg._version import __version__
from thalweg.earth.cube.cube import Cube, Grid, Window
from thalweg.earth.sensors import Quality
from thalweg.errors import UsageError
from thalweg.gpp.data.gap_filling import MIN_DATES, fill_to_days
from thalweg.gpp.data.radiation import POTENTIAL_RADIATION, potential_radiation
from thalweg.gpp.data.windows import DAYS, Windows, make_windows
from thalweg.gpp.models.checkpoint import SavedModel
from thalweg.gpp.tables.plausible_values import GPP_UNITS
from thalweg.io.atomic import new_folder, write_whole
from thalweg.io.zarr_chunks import checked_compressor

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.model.earth_model import EarthModel

BLOCK = 16
"""Pixels of a block each way: what is predicted at once, and the chunk of the map."""

_NAMES = ("lower", "gpp", "upper")


def predict_series(saved: SavedModel, table: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    """Predict a tower's days.

    Args:
        saved: the model.
        table: a daily table with the model's features.
        level: of the intervals.

    Returns:
        Columns site, time, gpp, lower, upper (gC m-2 d-1): every day that ends a window.

    Raises:
        UsageError: a feature is not in the table, or it is too short.
    """
    if missing := [name for name in saved.card.features if name not in table]:
        raise UsageError(
            f"the model needs {missing[0]!r}, which the features lack ({', '.join(saved.card.features)} in all): "
            "give the tower's daily table with --flux, or use another model"
        )
    windows = make_windows(table, saved.card.features, with_target=False)
    lower, gpp, upper = saved.model.predict_interval(windows, level).T
    series = pd.DataFrame({"site": windows.site, "time": windows.time, "gpp": gpp, "lower": lower, "upper": upper})
    series.attrs["units"] = dict.fromkeys(_NAMES, GPP_UNITS)
    return series


def write_series(series: pd.DataFrame, path: Path) -> None:
    """Write a predicted series as CSV; GPP in gC m-2 d-1.

    Raises:
        UsageError: the file exists already.
    """
    if path.exists():
        raise UsageError(f"{path}: exists already: choose another name or remove it")
    write_whole(path, series.to_csv(index=False, date_format="%Y-%m-%d", float_format="%.5g").encode())


@dataclass(frozen=True)
class _Block:
    """What a part of a cube shows: (T, K, h, w) embeddings and (T, h, w) whether they may be used."""

    window: Window
    embeddings: NDArray[np.float32]
    usable: NDArray[np.bool_]


class MapJob:
    """A map to be predicted: everything that decides the result.

    Args:
        source: a satellite cube, embedded block by block, or an embedding cube.
        saved: the model; it may need embedding values and potential radiation, no more, since a map has neither
            meteorology nor spreads.
        earth: embeds a satellite cube; the shipped weights by default.
        level: of the intervals.
        where: what to call the source in a message.

    Raises:
        UsageError: the model needs what a map does not have, or was trained on other embeddings.
    """

    def __init__(
        self,
        source: "Cube | xr.Dataset",
        saved: SavedModel,
        earth: "EarthModel | None" = None,
        level: float = 0.9,
        where: str = "cube",
    ) -> None:
        self.saved, self.level = saved, level
        recipe = saved.card.recipe
        values = [f"e{index + 1}" for index in range(recipe.size)]
        if unknown := [name for name in saved.card.features if name not in (*values, POTENTIAL_RADIATION)]:
            raise UsageError(
                f"the model needs {unknown[0]!r}, which a map does not have: predict a tower with --tower, or train "
                "on embedding values and potential radiation alone"
            )
        if recipe.gap_filling != "linear":
            raise UsageError(
                f"the model was trained on gaps filled by {recipe.gap_filling}, too slow for every pixel of a map: "
                "train on linear, or predict a tower with --tower"
            )
        if isinstance(source, Cube):
            from thalweg.earth.inference.job import Job
            from thalweg.earth.model.earth_model import EarthModel

            job = Job(source, earth or EarthModel.load(), recipe.size, BLOCK)
            identifier, self.grid, self.dates = job.model.identifier, source.grid, job.dates
            self._read = _embedding(job)
        else:
            identifier, self.grid = str(source.attrs["geoemb:model"]), Grid.of(source, where)
            if source.sizes["embedding"] < recipe.size:
                raise UsageError(f"{where}: {source.sizes['embedding']} values, the model needs {recipe.size}")
            self.dates = source.time.values.astype("datetime64[ns]")
            self._read = _reading(source, recipe.size)
        saved.check_embedding(identifier, where)
        first, last = self.dates[[0, -1]].astype("datetime64[D]")
        self.days = np.arange(first, last + 1).astype("datetime64[ns]")
        if len(self.days) < DAYS:
            raise UsageError(f"{where}: {len(self.days)} days from first to last date, expected at least {DAYS}")

    @property
    def time(self) -> NDArray[np.datetime64]:
        """The days that get a prediction: those that end a window."""
        return self.days[DAYS - 1 :]

    def windows(self) -> list[Window]:
        """The blocks that cover the grid."""
        rows, columns = self.grid.shape
        return [
            Window(top, left, min(BLOCK, rows - top), min(BLOCK, columns - left))
            for top in range(0, rows, BLOCK)
            for left in range(0, columns, BLOCK)
        ]

    def predict(self, window: Window) -> NDArray[np.float32]:
        """(3, days, height, width) lower, gpp, upper; NaN where a pixel was seen on too few dates."""
        block = self._read(window)
        latitude = _latitudes(self.grid, window)
        features = self.saved.card.features
        places, daily = [], []
        for row, column in np.ndindex(window.height, window.width):
            seen = block.usable[:, row, column]
            if seen.sum() < MIN_DATES:
                continue
            filled = fill_to_days(self.dates[seen], block.embeddings[seen, :, row, column], "linear")
            if len(filled.time) < DAYS:
                continue
            columns = {f"e{index + 1}": series for index, series in enumerate(filled.values.T)}
            if POTENTIAL_RADIATION in features:
                columns[POTENTIAL_RADIATION] = potential_radiation(latitude[row, column], filled.time)
            start = int((filled.time[0] - self.days[0]) / np.timedelta64(1, "D"))
            places.append((start, row, column))
            daily.append(np.stack([columns[name] for name in features], 1).astype(np.float32))
        predicted = np.full((3, len(self.time), window.height, window.width), np.nan, np.float32)
        if not daily:
            return predicted
        windows = _pixel_windows(features, daily, [self.days[start] for start, _, _ in places])
        bounds = self.saved.model.predict_interval(windows, self.level).T
        ends = np.cumsum([len(days) - DAYS + 1 for days in daily])
        for (start, row, column), own in zip(places, np.split(bounds, ends[:-1], 1), strict=True):
            predicted[:, start : start + own.shape[1], row, column] = own
        return predicted


def predict_map(job: MapJob, out: str | Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write a daily GPP map as Zarr: gpp, lower and upper (gC m-2 d-1) over time, y and x.

    Args:
        job: what to predict.
        out: the store; it grows under a hidden name beside it and gets its own when complete.
        progress: called with pixels done and pixels in all.

    Raises:
        UsageError: `out` exists already.
        ThalwegError: it can not be written.
    """
    import zarr

    rows, columns = job.grid.shape
    with new_folder(out) as folder:
        _create(job, folder)
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        done = 0
        for window, block in ((window, job.predict(window)) for window in job.windows()):
            box = (slice(window.top, window.top + window.height), slice(window.left, window.left + window.width))
            for name, values in zip(_NAMES, block, strict=True):
                array = group[name]
                assert isinstance(array, zarr.Array)
                array[:, box[0], box[1]] = values
            done += window.height * window.width
            if progress is not None:
                progress(done, rows * columns)
    return Path(out)


def _create(job: MapJob, path: Path) -> None:
    """Write the map's metadata and coordinates; no data yet."""
    import dask.array
    import rioxarray  # noqa: F401  (gives datasets their .rio)
    import xarray as xr
    import zarr

    shape = (len(job.time), *job.grid.shape)
    chunks = (min(shape[0], 366), BLOCK, BLOCK)
    names = {
        "gpp": "gross primary production",
        "lower": f"lower bound of the {job.level:.0%} interval",
        "upper": f"upper bound of the {job.level:.0%} interval",
    }
    dataset = xr.Dataset(
        {
            name: (
                ("time", "y", "x"),
                dask.array.full(shape, np.nan, dtype=np.float32, chunks=chunks),
                {"long_name": text, "units": GPP_UNITS},
            )
            for name, text in names.items()
        },
        coords={
            "time": ("time", job.time),
            "y": ("y", job.grid.y, {"units": "m", "standard_name": "projection_y_coordinate"}),
            "x": ("x", job.grid.x, {"units": "m", "standard_name": "projection_x_coordinate"}),
        },
        attrs={
            "Conventions": "CF-1.8",
            "title": "Daily gross primary production",
            "thalweg:version": __version__,
            "thalweg:gpp_model": job.saved.card.content_hash,
            "thalweg:embedding_model": job.saved.card.recipe.embedding_model,
        },
    ).rio.write_crs(job.grid.crs)
    encoding: dict[str, dict[str, Any]] = {name: {"chunks": chunks, "_FillValue": np.nan} for name in names}
    encoding["time"] = {"units": "days since 1970-01-01", "dtype": "int64"}
    for variable in dataset.variables:
        encoding.setdefault(str(variable), {})["compressors"] = (checked_compressor(),)
    dataset.to_zarr(path, mode="w", encoding=encoding, compute=False, zarr_format=3, consolidated=False)
    # Named here, the reference system is a coordinate to any reader that decodes CF.
    zarr.open_group(path, mode="r+").attrs["coordinates"] = "spatial_ref"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # consolidation is no part of format 3 yet
        zarr.consolidate_metadata(path)


def _embedding(job: Any) -> Callable[[Window], _Block]:
    from thalweg.earth.inference.job import embed_block

    def read(window: Window) -> _Block:
        block = embed_block(job, window)
        return _Block(window, block.embeddings, block.quality <= Quality.WATER)

    return read


def _reading(dataset: "xr.Dataset", size: int) -> Callable[[Window], _Block]:
    def read(window: Window) -> _Block:
        part = dataset.isel(
            y=slice(window.top, window.top + window.height),
            x=slice(window.left, window.left + window.width),
            embedding=slice(0, size),
        )
        return _Block(window, part.embeddings.values, part.quality.values <= Quality.WATER)

    return read


def _latitudes(grid: Grid, window: Window) -> NDArray[np.float64]:
    """(height, width) degrees north."""
    from pyproj import Transformer

    x, y = np.meshgrid(
        grid.x[window.left : window.left + window.width], grid.y[window.top : window.top + window.height]
    )
    return np.asarray(Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)[1])


def _pixel_windows(features: tuple[str, ...], daily: list[NDArray[np.float32]], starts: list[np.datetime64]) -> Windows:
    """Windows over pixels' days, each (D, F) from its own first day on and a site of its own."""
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
