"""Aligned space-time cubes of one or more sensors.

A `Cube` puts a user's data (NetCDF, Zarr or rasters, one file per sensor, per date or merged, or xarray objects) on
the grid of the reference sensor. Each sensor keeps its own dates. Pixels are read in windows, so that a cube may be
larger than memory.
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
from thalweg.earth.cube.decoding.value_checks import checked_decoding
from thalweg.earth.cube.grid import (
    PHASE_TOLERANCE,
    check_resolution,
    containing_pixels,
    describe_crs,
    edge_offset,
    enclosing_grid,
    has_same_crs,
    has_same_resolution,
    north_up,
    read_grid,
)
from thalweg.earth.cube.readers.sources import open_datasets
from thalweg.earth.cube.sensor_recognition import recognize_sensors
from thalweg.earth.cube.series import Series, SeriesPart
from thalweg.earth.cube.windows import Window, grid_windows
from thalweg.earth.sensors import Sensor
from thalweg.errors import DataWarning, ThalwegError, UsageError

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

    from thalweg.earth.cube.readers.sources import Source

MIN_CLEAR_FRACTION = 0.035
"""Smallest fraction of usable pixels of a date that gets embeddings (the paper's data section)."""

MIN_DAMAGED_SIDE = 16
"""Side, in pixels, below which an unreadable window is not divided further to find its readable parts."""


@dataclass(frozen=True)
class Cube:
    """Aligned series of one or more sensors. Build one with `Cube.open`.

    Attributes:
        name: name of the file or folder, for messages.
        grid: pixel grid of the reference sensor, north-up, in metres.
        x: centres of the columns in metres, float64 (W,), rising.
        y: centres of the rows in metres, float64 (H,), falling.
        series: series of each sensor by its name, the reference sensor first.
    """

    name: str
    grid: "GeoBox"
    x: np.ndarray
    y: np.ndarray
    series: Mapping[str, Series]

    @classmethod
    def open(
        cls,
        source: "Source",
        sensors: tuple[str, ...] | None = None,
        assume_clear: bool = False,
    ) -> "Cube":
        """Open a cube without reading its pixels.

        Absent bands, variables that are not understood, and values that are impossible or look shifted cause a
        `DataWarning`.

        Args:
            source: a NetCDF file, a Zarr store (a folder or zipped), a raster, a folder of these, an xarray Dataset or
                DataArray, or a mapping of Datasets or DataArrays by sensor name.
            sensors: names of the sensors to open; None for all that are found.
            assume_clear: take a sensor without a cloud mask as clear everywhere instead of refusing it.

        Returns:
            The cube, on the grid of the reference sensor, with reflectance as a fraction and backscatter in dB.

        Raises:
            MissingPathError: the path does not exist.
            UsageError: the source is not a cube; the message says what was found and what to do.
        """
        found: dict[str, list[_SensorFile]] = {}
        unknown = []
        for where, hint, dataset in open_datasets(source):
            recognized = recognize_sensors(dataset, hint, where, sensors, assume_clear)
            if not recognized and dataset.sizes and sensors is None:
                unknown.append(where)
            for sensor, part in recognized:
                part = north_up(part)
                found.setdefault(sensor.name, []).append(_SensorFile(sensor, part, where, *read_grid(part, where)))
        name = Path(source).name if isinstance(source, str | Path) else "cube"
        if not found:
            wanted = f" of {', '.join(sensors)}" if sensors else " of a known sensor"
            raise UsageError(f"{name}: not a cube, no bands{wanted} in it (`thalweg earth sensors` lists them)")
        if unknown:
            files = ", ".join(Path(where).name for where in unknown)
            warnings.warn(f"{name}: left out, no bands of a known sensor: {files}", DataWarning, stacklevel=2)
        return cls._aligned(name, found)

    @classmethod
    def _aligned(cls, name: str, found: "dict[str, list[_SensorFile]]") -> "Cube":
        ordered = sorted(found.values(), key=lambda files: not files[0].sensor.is_reference)
        joined = [_join(files) for files in ordered]
        leader, main = ordered[0][0], joined[0]
        if leader.sensor.is_reference:
            check_resolution(main.grid, leader.sensor, leader.where)
        series = {}
        for files, own in zip(ordered, joined, strict=True):
            sensor, where = files[0].sensor, files[0].where
            if not has_same_crs(own.grid, main.grid):
                raise UsageError(
                    f"{where}: {sensor.title} is in {describe_crs(own.grid)}, {leader.sensor.title} in "
                    f"{describe_crs(main.grid)}: reproject it first, for example with ds.rio.reproject_match(...)"
                )
            rows, columns = containing_pixels(main.grid, main.x, main.y, own.grid)
            if not ((rows >= 0).any() and (columns >= 0).any()):
                raise UsageError(f"{where}: {sensor.title} has no common footprint with {leader.where}")
            parts = tuple(
                SeriesPart(
                    file.dataset,
                    file.where,
                    _indices_in_part(rows, top, file.grid.height),
                    _indices_in_part(columns, left, file.grid.width),
                    file.decode(),
                )
                for file, (top, left) in zip(files, own.origins, strict=True)
            )
            series[sensor.name] = Series.of(sensor, parts, own.grid)
            if note := series[sensor.name].alignment_note(main.grid, leader.sensor):
                warnings.warn(f"{where}: {note}", DataWarning, stacklevel=4)
        return cls(name, main.grid, main.x, main.y, series)

    @property
    def reference(self) -> Series:
        """Series of the reference sensor, whose dates the embeddings have."""
        return next(iter(self.series.values()))

    @property
    def whole(self) -> Window:
        """Window that covers the grid."""
        return Window(0, 0, *self.grid.shape)

    def windows(self, side: int = 64) -> Iterator[Window]:
        """Yield windows of `side` by `side` pixels that cover the grid, row by row; smaller at its edges."""
        return grid_windows(self.grid.shape, side)

    def crop(self, rows: slice, columns: slice) -> "Cube":
        """Return the cube on some of its rows and columns.

        Args:
            rows: rows of the grid, with non-negative bounds and no step.
            columns: columns of the grid, likewise.
        """
        rows, columns = slice(*rows.indices(self.grid.height)), slice(*columns.indices(self.grid.width))
        series = {name: series.crop(rows, columns) for name, series in self.series.items()}
        return Cube(self.name, self.grid[rows, columns], self.x[columns], self.y[rows], series)

    def usable_fraction(self, sensor: str, counts: "Counter[str] | None" = None) -> np.ndarray:
        """Read a sensor's whole series and return the fraction of usable pixels on each date.

        Pixels that cannot be read count as not usable and cause a `DataWarning`.

        Args:
            sensor: name of the sensor.
            counts: counter to which the pixels masked because of their values are added, by kind.

        Returns:
            Fraction of the grid's pixels that are clear or water, float64 (T,).

        Raises:
            ThalwegError: no pixel can be read.
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
        pixels = self.grid.height * self.grid.width
        lost = sum(window.height * window.width for window, _ in damaged)
        if damaged and lost == pixels:
            raise damaged[0][1]
        if damaged:
            window, reason = damaged[0]
            warnings.warn(
                f"{lost} pixels of {self.name} cannot be read, the first at row {window.top}, column {window.left}: "
                f"{reason}",
                DataWarning,
                stacklevel=2,
            )
        return clear / pixels

    def eligible(self) -> np.ndarray:
        """Return the indices of the reference dates with enough usable pixels, rising (N,).

        The first call reads the whole reference series; later calls return the same array.

        Raises:
            UsageError: fewer than two dates have enough usable pixels.
            ThalwegError: no pixel can be read.
        """
        return self._eligible

    @cached_property
    def _eligible(self) -> np.ndarray:
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
class _SensorFile:
    """One sensor's data in one file or dataset, and its grid."""

    sensor: Sensor
    dataset: "xr.Dataset"
    where: str
    grid: "GeoBox"
    x: np.ndarray
    y: np.ndarray

    def decode(self) -> Decoding:
        """Decide the decoding of the stored numbers; warn of values that look wrong."""
        decoding, notes = checked_decoding(self.dataset, self.sensor, self.where)
        for note in notes:
            warnings.warn(note, DataWarning, stacklevel=5)
        return decoding

    @property
    def bands(self) -> list[str]:
        return [name for name in self.sensor.band_names if name in self.dataset]


@dataclass(frozen=True)
class _JoinedGrid:
    """The grid that contains all files of a sensor, and the row and column of it at which each file begins."""

    grid: "GeoBox"
    x: np.ndarray
    y: np.ndarray
    origins: list[tuple[int, int]]


def _join(files: list[_SensorFile]) -> _JoinedGrid:
    """Return the grid that contains all files of a sensor.

    Raises:
        UsageError: the files are not parts of one series: they differ in bands or grid, are apart or are copies.
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
        if not has_same_crs(file.grid, first.grid):
            raise UsageError(
                f"{where}, in {describe_crs(first.grid)} instead of {describe_crs(file.grid)}: reproject one of them, "
                "for example with ds.rio.reproject_match(...)"
            )
        if not has_same_resolution(file.grid, first.grid):
            raise UsageError(
                f"{where}, with pixels of {first.grid.resolution.x:g} instead of {file.grid.resolution.x:g} m: give "
                "one of them"
            )
        offset = edge_offset(file.grid, first.grid)
        if max(np.abs(offset)) > PHASE_TOLERANCE:
            raise UsageError(
                f"{where}, on a grid that is {offset[0]:.2g} rows and {offset[1]:.2g} columns off: reproject one of "
                "them, for example with ds.rio.reproject_match(...)"
            )
        copies = (other for other in files[:index] if _is_copy(file, other))
        if (other := next(copies, None)) is not None:
            raise UsageError(f"{file.where}: {title} is also in {other.where}: give one of them")
    grid, origins = enclosing_grid([file.grid for file in files])
    connected, apart = {0}, set(range(1, len(files)))
    while near := {one for one in apart if any(_touch(origins, files, one, other) for other in connected)}:
        connected, apart = connected | near, apart - near
    if apart:
        where = files[min(apart)].where
        raise UsageError(f"{where}: {title} is also in {first.where}, and is apart from it: give one of them")
    if grid is first.grid:
        return _JoinedGrid(grid, first.x, first.y, origins)
    step, (top, left) = grid.resolution.x, origins[0]
    x = first.x[0] + step * (np.arange(grid.width) - left)
    y = first.y[0] - step * (np.arange(grid.height) - top)
    return _JoinedGrid(grid, x, y, origins)


def _touch(origins: list[tuple[int, int]], files: list[_SensorFile], one: int, other: int) -> bool:
    """Return whether the footprints of two files overlap or are adjacent."""
    return all(
        origins[one][axis] <= origins[other][axis] + files[other].grid.shape[axis]
        and origins[other][axis] <= origins[one][axis] + files[one].grid.shape[axis]
        for axis in (0, 1)
    )


def _is_copy(one: _SensorFile, other: _SensorFile) -> bool:
    """Return whether two files have the same dates, grid and numbers, by the first band on the first date."""
    if one.grid.shape != other.grid.shape or (one.x[0], one.y[0]) != (other.x[0], other.y[0]):
        return False
    if not np.array_equal(one.dataset.time.values, other.dataset.time.values):
        return False
    first, second = (file.dataset[file.bands[0]].isel(time=0).values for file in (one, other))
    return bool(np.array_equal(first, second, equal_nan=np.issubdtype(first.dtype, np.floating)))


def _indices_in_part(index: np.ndarray, start: int, length: int) -> np.ndarray:
    """Convert indices on a joined grid to indices in a part of it, -1 outside the part."""
    return np.where((index >= start) & (index < start + length), index - start, -1)
