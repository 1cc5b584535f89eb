"""Aligned space-time cubes: what was seen where and when, and why not.

A `Cube` puts what a user has (NetCDF, Zarr or rasters, one file per sensor, per date or merged, or xarray objects)
on the grid of the reference sensor. Each sensor keeps its own dates. Pixels are read in windows, so that a cube may
be larger than memory.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.decoding.band_decoding import Decoding
from thalweg.earth.cube.grid import PHASE_TOLERANCE, Grid, check_resolution, joined_grid, north_up
from thalweg.earth.cube.measurements import recognise
from thalweg.earth.cube.readers.datasets import open_datasets
from thalweg.earth.cube.series import Observations, Part, Series, Window
from thalweg.earth.cube.value_checks import checked_decoding
from thalweg.earth.sensors import Sensor
from thalweg.errors import DataWarning, ThalwegError, UsageError

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.cube.readers.datasets import Source

__all__ = ["MIN_CLEAR_FRACTION", "Cube", "Grid", "Observations", "Series", "Window"]

MIN_CLEAR_FRACTION = 0.035
"""Share of usable pixels from which a date gets embeddings (the paper's data section)."""

MIN_DAMAGED_SIDE = 16
"""Pixels, each way, below which a window that cannot be read is not divided further to find what can."""


@dataclass(frozen=True)
class Cube:
    """Aligned series of one or more sensors. Build one with `Cube.open`."""

    name: str
    grid: Grid
    series: Mapping[str, Series]

    @classmethod
    def open(
        cls,
        source: "Source",
        sensors: tuple[str, ...] | None = None,
        assume_clear: bool = False,
    ) -> "Cube":
        """Open a cube.

        Args:
            source: a NetCDF file, a Zarr store (a folder or zipped), a raster, a folder of these, an xarray Dataset or
                DataArray, or these by sensor name.
            sensors: names of the sensors wanted; all that are found by default.
            assume_clear: take a sensor without its mask of clouds as clear everywhere, instead of refusing it.

        Warns (`DataWarning`) of bands that are absent, of variables that are not understood, and of values that are
        impossible or look shifted.

        Raises:
            UsageError: where the source is no cube; the line says what came and what to do.
        """
        found: dict[str, list[_Found]] = {}
        unknown = []
        for where, hint, dataset in open_datasets(source):
            recognised = recognise(dataset, hint, where, sensors, assume_clear)
            if not recognised and dataset.sizes and sensors is None:
                unknown.append(where)
            for sensor, part in recognised:
                part = north_up(part)
                found.setdefault(sensor.name, []).append(_Found(sensor, part, where, Grid.of(part, where)))
        name = Path(source).name if isinstance(source, str | Path) else "cube"
        if not found:
            wanted = f" of {', '.join(sensors)}" if sensors else " of a known sensor"
            raise UsageError(f"{name}: not a cube, no bands{wanted} in it (`thalweg earth sensors` lists them)")
        if unknown:
            files = ", ".join(Path(where).name for where in unknown)
            warnings.warn(f"{name}: left out, no bands of a known sensor: {files}", DataWarning, stacklevel=2)
        return cls._aligned(name, found)

    @classmethod
    def _aligned(cls, name: str, found: "dict[str, list[_Found]]") -> "Cube":
        ordered = sorted(found.values(), key=lambda files: not files[0].sensor.sets_dates)
        joined = [_joined(files) for files in ordered]
        grid, leader = joined[0][0], ordered[0][0]
        if leader.sensor.sets_dates:
            check_resolution(grid, leader.sensor, leader.where)
        series = {}
        for files, (own, places) in zip(ordered, joined, strict=True):
            sensor, where = files[0].sensor, files[0].where
            if not own.has_same_crs(grid):
                raise UsageError(
                    f"{where}: {sensor.title} is in {own.describe()}, {leader.sensor.title} in {grid.describe()}: "
                    "reproject it first, for example with ds.rio.reproject_match(...)"
                )
            rows, columns = grid.indices_in(own)
            if not ((rows >= 0).any() and (columns >= 0).any()):
                raise UsageError(f"{where}: {sensor.title} has no common footprint with {leader.where}")
            parts = tuple(
                Part(file.dataset, file.where, _within(rows, top, height), _within(columns, left, width), file.decode())
                for file, (top, left) in zip(files, places, strict=True)
                for height, width in [file.grid.shape]
            )
            series[sensor.name] = Series.of(sensor, parts, own)
            if note := series[sensor.name].shift_note(grid, leader.sensor):
                warnings.warn(f"{where}: {note}", DataWarning, stacklevel=4)
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

    def usable_fraction(self, sensor: str, counts: "Counter[str] | None" = None) -> np.ndarray:
        """Share of the grid's pixels that a sensor saw clearly on each of its dates, (T,).

        Pixels masked for what their values are, by kind, are added to `counts`. What is damaged has no clear pixel,
        which is warned of.

        Raises:
            ThalwegError: nothing can be read.
        """
        series, waiting = self.series[sensor], list(self.windows())
        clear = np.zeros(len(series.dates))
        damaged: list[tuple[Window, ThalwegError]] = []
        while waiting:
            window = waiting.pop(0)
            try:
                clear += series.read(window, counts).valid.sum((1, 2))
            except UsageError:
                raise
            except ThalwegError as error:
                if min(window.height, window.width) > MIN_DAMAGED_SIDE:
                    waiting = [*window.quarters(), *waiting]
                else:
                    damaged.append((window, error))
        lost = sum(window.height * window.width for window, _ in damaged)
        if damaged and lost == self.grid.shape[0] * self.grid.shape[1]:
            raise damaged[0][1]
        if damaged:
            window, reason = damaged[0]
            warnings.warn(
                f"{lost} pixels of {self.name} cannot be read, the first at row {window.top}, column {window.left}: "
                f"{reason}",
                DataWarning,
                stacklevel=2,
            )
        return clear / (self.grid.shape[0] * self.grid.shape[1])

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


@dataclass(frozen=True)
class _Found:
    """What a dataset holds of a sensor, and on which grid."""

    sensor: Sensor
    dataset: "xr.Dataset"
    where: str
    grid: Grid

    def decode(self) -> Decoding:
        """Decide how its numbers become values; warns of what looks wrong with them."""
        decoding, notes = checked_decoding(self.dataset, self.sensor, self.where)
        for note in notes:
            warnings.warn(note, DataWarning, stacklevel=5)
        return decoding

    @property
    def bands(self) -> list[str]:
        return [name for name in self.sensor.band_names if name in self.dataset]


def _joined(files: list[_Found]) -> tuple[Grid, list[tuple[int, int]]]:
    """The grid that holds all files of a sensor, and the first row and column of each on it.

    Raises:
        UsageError: they are not parts of one series: other bands, another grid, apart from one another, or copies.
    """
    first = files[0]
    title = first.sensor.title
    for index, file in enumerate(files[1:], 1):
        where = f"{file.where}: {title} is also in {first.where}"
        if file.bands != first.bands:
            raise UsageError(
                f"{where}, with other bands ({' '.join(file.bands)}; there {' '.join(first.bands)}): give files of the "
                "same bands, or one of them"
            )
        if not file.grid.has_same_crs(first.grid):
            raise UsageError(
                f"{where}, in {first.grid.describe()} instead of {file.grid.describe()}: reproject one of them, for "
                "example with ds.rio.reproject_match(...)"
            )
        if not file.grid.has_same_resolution(first.grid):
            raise UsageError(
                f"{where}, with pixels of {first.grid.resolution:g} instead of {file.grid.resolution:g} m: give one of "
                "them"
            )
        shift = file.grid.shift_against(first.grid)
        if max(np.abs(shift)) > PHASE_TOLERANCE:
            raise UsageError(
                f"{where}, on a grid that lies {shift[0]:.2g} rows and {shift[1]:.2g} columns off: reproject one of "
                "them, for example with ds.rio.reproject_match(...)"
            )
        copies = (other for other in files[:index] if _is_copy(file, other))
        if (other := next(copies, None)) is not None:
            raise UsageError(f"{file.where}: {title} is also in {other.where}: give one of them")
    grid, places = joined_grid([file.grid for file in files])
    reached, apart = {0}, set(range(1, len(files)))
    while near := {one for one in apart if any(_touch(places, files, one, other) for other in reached)}:
        reached, apart = reached | near, apart - near
    if apart:
        where = files[min(apart)].where
        raise UsageError(f"{where}: {title} is also in {first.where}, and lies apart from it: give one of them")
    return grid, places


def _touch(places: list[tuple[int, int]], files: list[_Found], one: int, other: int) -> bool:
    """Whether two files' footprints overlap or lie side by side."""
    return all(
        places[one][axis] <= places[other][axis] + files[other].grid.shape[axis]
        and places[other][axis] <= places[one][axis] + files[one].grid.shape[axis]
        for axis in (0, 1)
    )


def _is_copy(one: _Found, other: _Found) -> bool:
    """Whether two files have the same dates, grid and numbers, by the first band on the first date."""
    if one.grid.shape != other.grid.shape or (one.grid.x[0], one.grid.y[0]) != (other.grid.x[0], other.grid.y[0]):
        return False
    if not np.array_equal(one.dataset.time.values, other.dataset.time.values):
        return False
    first, second = (file.dataset[file.bands[0]].isel(time=0).values for file in (one, other))
    return bool(np.array_equal(first, second, equal_nan=np.issubdtype(first.dtype, np.floating)))


def _within(index: np.ndarray, start: int, length: int) -> np.ndarray:
    """Indices on a joined grid as those of a part of it, -1 beyond."""
    return np.where((index >= start) & (index < start + length), index - start, -1)
