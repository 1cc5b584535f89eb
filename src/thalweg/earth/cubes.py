"""Aligned space-time cubes: what was seen where and when, and why not.

A `Cube` puts what a user has (NetCDF or Zarr, one file a sensor or merged, or xarray objects) on the grid of
the sensor that sets the dates. Each sensor keeps its own dates. Pixels are read in windows, so that a cube may
be larger than memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.readers import open_datasets
from thalweg.earth.reading import averaged_power, measurements, recognise
from thalweg.earth.sensors import Quality, Sensor
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

MIN_CLEAR_FRACTION = 0.035
"""Share of usable pixels from which a date gets embeddings (the paper's data section)."""


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels; it may reach beyond the grid, where everything is `Quality.OUTSIDE`."""

    top: int
    left: int
    height: int
    width: int

    def grown(self, margin: int) -> "Window":
        """The window with `margin` pixels more on every side."""
        return Window(self.top - margin, self.left - margin, self.height + 2 * margin, self.width + 2 * margin)


@dataclass(frozen=True)
class Grid:
    """A north-up pixel grid: coordinate reference system, pixel centres in its units."""

    crs: str
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, dataset: "xr.Dataset", where: str) -> "Grid":
        """Read the grid of a dataset; `UsageError` where it is not regular, north-up and georeferenced."""
        import rioxarray  # noqa: F401  (gives datasets their .rio)

        if not {"x", "y"} <= set(dataset.dims):
            raise UsageError(f"{where}: expected dimensions time, y, x, came {', '.join(map(str, dataset.dims))}")
        x, y = dataset.x.values.astype(float), dataset.y.values.astype(float)
        if len(y) > 1 and y[1] > y[0]:
            raise UsageError(
                f"{where}: y points up ({y[0]:g} to {y[-1]:g}), expected north first: "
                "sort it with ds.sortby('y', ascending=False)"
            )
        for name, axis in (("x", x), ("y", -y)):
            steps = np.diff(axis)
            if len(steps) and not (steps.min() > 0 and np.ptp(steps) <= 1e-3 * steps.mean()):
                raise UsageError(f"{where}: {name} is not evenly spaced: reproject it onto a regular grid")
        if len(x) > 1 and len(y) > 1 and abs((x[1] - x[0]) + (y[1] - y[0])) > 1e-3 * (x[1] - x[0]):
            raise UsageError(
                f"{where}: pixels of {x[1] - x[0]:g} x {y[0] - y[1]:g}, expected square ones: reproject it"
            )
        crs = dataset.rio.crs
        if crs is None:
            raise UsageError(f"{where}: no coordinate reference system: write one with ds.rio.write_crs(...)")
        return cls(crs.to_wkt(), x, y)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.y), len(self.x)

    @property
    def resolution(self) -> float:
        """Pixel size in units of the reference system."""
        return float(self.x[1] - self.x[0]) if len(self.x) > 1 else 10.0

    @cached_property
    def epsg(self) -> int | None:
        """EPSG code of the reference system, where it has one."""
        from pyproj import CRS

        return CRS.from_wkt(self.crs).to_epsg()

    def describe(self) -> str:
        """The reference system in a word, for messages."""
        return f"EPSG:{self.epsg}" if self.epsg else self.crs.split('"')[1]

    def indices_in(self, other: "Grid") -> tuple[np.ndarray, np.ndarray]:
        """For each row and column of this grid, the nearest of `other`, or -1 beyond its footprint."""

        def nearest(axis: np.ndarray, target: np.ndarray, step: float) -> np.ndarray:
            index = np.rint((axis - target[0]) / step).astype(int)
            return np.where((index >= 0) & (index < len(target)), index, -1)

        step = other.resolution
        return nearest(-self.y, -other.y, step), nearest(self.x, other.x, step)


@dataclass(frozen=True)
class Observations:
    """What one sensor saw in a window: values (T, C, H, W) in its units, NaN where unusable; quality (T, H, W)."""

    values: np.ndarray
    quality: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """Usable pixels, boolean (T, H, W)."""
        return self.quality <= Quality.WATER

    def inner(self, margin: int) -> "Observations":
        """The same without `margin` pixels on every side."""
        inside = (..., slice(margin, -margin), slice(margin, -margin))
        return Observations(self.values[inside], self.quality[inside])


@dataclass(frozen=True)
class Series:
    """One sensor's acquisitions, read window by window onto the cube's grid."""

    sensor: Sensor
    dataset: "xr.Dataset"
    where: str
    rows: np.ndarray
    columns: np.ndarray

    @cached_property
    def dates(self) -> np.ndarray:
        """Acquisition dates, datetime64[ns] (T,)."""
        return self.dataset.time.values.astype("datetime64[ns]")

    @cached_property
    def present_bands(self) -> np.ndarray:
        """Which of the sensor's bands the cube has, boolean (C,)."""
        return np.array([name in self.dataset for name in self.sensor.band_names])

    @property
    def items(self) -> list[str]:
        """Source item ids, where the cube names them, else an empty list."""
        for name in ("item_id", "id", "product_id"):
            if name in self.dataset:
                return [str(value) for value in np.atleast_1d(self.dataset[name].values)]
        return []

    def read(self, window: Window) -> Observations:
        """Read a window, on the cube's grid, in the sensor's units."""
        rows = self.rows[max(window.top, 0) : max(window.top + window.height, 0)]
        columns = self.columns[max(window.left, 0) : max(window.left + window.width, 0)]
        count = len(self.dates)
        values = np.full((count, len(self.sensor.bands), window.height, window.width), np.nan, np.float32)
        quality = np.full((count, window.height, window.width), Quality.OUTSIDE, np.uint8)
        rows_in, columns_in = rows >= 0, columns >= 0
        if rows_in.any() and columns_in.any():
            box = tuple(slice(int(index.min()), int(index.max()) + 1) for index in (rows[rows_in], columns[columns_in]))
            block = self.dataset.isel(y=box[0], x=box[1])
            seen, state = measurements(block, self.sensor, self.where)
            if self.sensor.averaged_acquisitions > 1:
                seen = averaged_power(seen, self.sensor.averaged_acquisitions)
            inner = np.ix_(rows[rows_in] - box[0].start, columns[columns_in] - box[1].start)
            at = np.ix_(
                np.flatnonzero(rows_in) + max(-window.top, 0), np.flatnonzero(columns_in) + max(-window.left, 0)
            )
            values[:, :, at[0], at[1]] = seen[:, :, inner[0], inner[1]]
            quality[:, at[0], at[1]] = state[:, inner[0], inner[1]]
        return Observations(values, quality)


@dataclass(frozen=True)
class Cube:
    """Aligned series of one or more sensors. Build one with `Cube.open`."""

    name: str
    grid: Grid
    series: Mapping[str, Series]

    @classmethod
    def open(
        cls, source: "str | Path | xr.Dataset | Mapping[str, xr.Dataset]", sensors: tuple[str, ...] | None = None
    ) -> "Cube":
        """Open a cube.

        Args:
            source: a NetCDF file, a Zarr store, a folder of them, an xarray Dataset, or Datasets by sensor name.
            sensors: names of the sensors wanted; all that are found by default.

        Raises:
            UsageError: where the source is no cube; the line says what came and what to do.
        """
        found: dict[str, tuple[Sensor, xr.Dataset, str]] = {}
        for where, hint, dataset in open_datasets(source):
            for sensor, part in recognise(dataset, hint, where):
                if sensors is not None and sensor.name not in sensors:
                    continue
                if sensor.name in found:
                    raise UsageError(f"{where}: {sensor.title} is also in {found[sensor.name][2]}: give one of them")
                found[sensor.name] = (sensor, part, where)
        name = Path(source).name if isinstance(source, str | Path) else "cube"
        if not found:
            wanted = f" of {', '.join(sensors)}" if sensors else " of a known sensor"
            raise UsageError(f"{name}: not a cube, no bands{wanted} in it (`thalweg earth sensors` lists them)")
        return cls._aligned(name, found)

    @classmethod
    def _aligned(cls, name: str, found: "dict[str, tuple[Sensor, xr.Dataset, str]]") -> "Cube":
        ordered = sorted(found.values(), key=lambda entry: not entry[0].sets_dates)
        grids = {sensor.name: Grid.of(dataset, where) for sensor, dataset, where in ordered}
        leader, leader_where = ordered[0][0], ordered[0][2]
        grid = grids[leader.name]
        series = {}
        for sensor, dataset, where in ordered:
            own = grids[sensor.name]
            if not _same_crs(own, grid):
                raise UsageError(
                    f"{where}: {sensor.title} is in {own.describe()}, {leader.title} in {grid.describe()}: "
                    "reproject it first, for example with ds.rio.reproject_match(...)"
                )
            rows, columns = grid.indices_in(own)
            if not ((rows >= 0).any() and (columns >= 0).any()):
                raise UsageError(f"{where}: {sensor.title} has no common footprint with {leader_where}")
            series[sensor.name] = Series(sensor, dataset, where, rows, columns)
        return cls(name, grid, series)

    @property
    def reference(self) -> Series:
        """The series whose dates the embeddings have."""
        return next(iter(self.series.values()))

    @property
    def whole(self) -> Window:
        """The window that covers the grid."""
        return Window(0, 0, *self.grid.shape)

    def windows(self, side: int = 64) -> Iterator[Window]:
        """Windows of `side` pixels each way that cover the grid, row by row; smaller at its edges."""
        rows, columns = self.grid.shape
        for top in range(0, rows, side):
            for left in range(0, columns, side):
                yield Window(top, left, min(side, rows - top), min(side, columns - left))

    def usable_fraction(self, sensor: str) -> np.ndarray:
        """Share of the grid's pixels that a sensor saw clearly on each of its dates, (T,)."""
        series = self.series[sensor]
        counts = sum(series.read(window).valid.sum((1, 2)) for window in self.windows())
        return np.asarray(counts) / (self.grid.shape[0] * self.grid.shape[1])

    @cached_property
    def eligible(self) -> np.ndarray:
        """Indices of the reference dates with enough clear pixels; `UsageError` where there are too few."""
        fraction = self.usable_fraction(self.reference.sensor.name)
        dates = np.flatnonzero(fraction >= MIN_CLEAR_FRACTION)
        where = self.reference.where
        if not fraction.any():
            raise UsageError(f"{where}: no valid pixel on any of {len(fraction)} dates: check its mask and units")
        if len(dates) < 2:
            raise UsageError(
                f"{where}: {len(dates)} date(s) with at least {MIN_CLEAR_FRACTION:.1%} clear pixels, expected "
                "two or more: a context needs neighbours in time"
            )
        return dates


def _same_crs(one: Grid, other: Grid) -> bool:
    from pyproj import CRS

    return one.crs == other.crs or CRS.from_wkt(one.crs).equals(CRS.from_wkt(other.crs), ignore_axis_order=True)
