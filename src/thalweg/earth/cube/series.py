"""What one sensor saw, read window by window onto a cube's grid, from one file or several."""

import os
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.decoding.band_decoding import Decoding
from thalweg.earth.cube.decoding.series_decoding import told_of
from thalweg.earth.cube.grid import PHASE_TOLERANCE, Grid
from thalweg.earth.cube.measurements import averaged_power, measurements
from thalweg.earth.cube.mosaics import Mosaic, overpasses, solar_days
from thalweg.earth.sensors import Quality, Sensor
from thalweg.errors import DataWarning, ThalwegError, UsageError

if TYPE_CHECKING:
    import xarray as xr

_ORBIT_STATE = ("orbit_state", "sat:orbit_state")
_ORBIT_NUMBER = ("relative_orbit", "sat:relative_orbit")


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

    def quarters(self) -> "list[Window]":
        """The four windows that it is made of, each at least a pixel large where it is two each way."""
        down, right = self.height // 2, self.width // 2
        return [
            Window(top, left, height, width)
            for top, height in ((self.top, down), (self.top + down, self.height - down))
            for left, width in ((self.left, right), (self.left + right, self.width - right))
        ]


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
class Part:
    """What one dataset holds of a sensor.

    Attributes:
        dataset: its bands, lazily read.
        where: the file, for messages.
        rows: for each row of the cube's grid, the dataset's, or -1 beyond its footprint.
        columns: the same for columns.
        decoding: how its numbers become values.
    """

    dataset: "xr.Dataset"
    where: str
    rows: np.ndarray
    columns: np.ndarray
    decoding: Decoding

    @cached_property
    def times(self) -> np.ndarray:
        """Times of its entries, datetime64[ns]."""
        return self.dataset.time.values.astype("datetime64[ns]")

    def per_entry(self, names: tuple[str, ...]) -> list[str]:
        """The first of some variables or attributes that it has, as text for each entry; empty where it has none."""
        for name in names:
            given = self.dataset[name].values if name in self.dataset else self.dataset.attrs.get(name)
            if given is not None and np.size(given) in (1, len(self.times)):
                return [str(value) for value in np.broadcast_to(np.ravel(given), len(self.times))]
        return []

    def read(
        self, window: Window, sensor: Sensor, counts: "Counter[str] | None" = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values (T, C, H, W) and quality (T, H, W) of each entry in a window of the cube's grid.

        Pixels masked for what their values are, by kind, are added to `counts`.

        Raises:
            ThalwegError: a variable cannot be read; the line names it and the file.
        """
        rows = self.rows[max(window.top, 0) : max(window.top + window.height, 0)]
        columns = self.columns[max(window.left, 0) : max(window.left + window.width, 0)]
        count = len(self.times)
        values = np.full((count, len(sensor.bands), window.height, window.width), np.nan, np.float32)
        quality = np.full((count, window.height, window.width), Quality.OUTSIDE, np.uint8)
        rows_in, columns_in = rows >= 0, columns >= 0
        if rows_in.any() and columns_in.any():
            box = tuple(slice(int(index.min()), int(index.max()) + 1) for index in (rows[rows_in], columns[columns_in]))
            seen, state = measurements(self._loaded(*box), sensor, self.where, self.decoding, counts)
            inner = np.ix_(rows[rows_in] - box[0].start, columns[columns_in] - box[1].start)
            at = np.ix_(
                np.flatnonzero(rows_in) + max(-window.top, 0), np.flatnonzero(columns_in) + max(-window.left, 0)
            )
            values[:, :, at[0], at[1]] = seen[:, :, inner[0], inner[1]]
            quality[:, at[0], at[1]] = state[:, inner[0], inner[1]]
        return values, quality

    def _loaded(self, rows: slice, columns: slice) -> "xr.Dataset":
        block = self.dataset.isel(y=rows, x=columns)
        for name, variable in block.variables.items():
            try:
                variable.load()
            except Exception as error:  # whatever a reader raises, the file is damaged there
                reason = " ".join(str(error).split())[:120] or type(error).__name__
                raise ThalwegError(
                    f"{self.where}: {name} cannot be read ({reason}): the file is damaged: fetch or write it again"
                ) from error
        return block


@dataclass(frozen=True)
class Series:
    """One sensor's acquisitions, read window by window onto the cube's grid.

    Attributes:
        sensor: the declared sensor.
        parts: what the datasets hold of it; one, or several that follow or complete one another.
        overpasses: for each date its entries, as numbers over all parts one after another.
        grid: the sensor's own grid.
    """

    sensor: Sensor
    parts: tuple[Part, ...]
    overpasses: tuple[tuple[int, ...], ...]
    grid: Grid

    @classmethod
    def of(cls, sensor: Sensor, parts: tuple[Part, ...], grid: Grid) -> "Series":
        """Build a series from parts: entries of one overpass become one date, the newer baseline preferred.

        Warns (`DataWarning`) of dates without a time of day that come more than once.

        Raises:
            UsageError: entries of two orbits have the very same time.
        """
        times = np.concatenate([part.times for part in parts])
        states, orbits = (
            list(chain.from_iterable(part.per_entry(names) or [""] * len(part.times) for part in parts))
            for names in (_ORBIT_STATE, _ORBIT_NUMBER)
        )
        baselines = np.concatenate([told_of(part.dataset, part.where).baseline for part in parts])
        passes = list(zip(states, orbits, strict=True))
        groups = overpasses(times, solar_days(times, grid.longitude), passes)
        _check_instants(groups, times, passes, f"{parts[0].where}: {sensor.title}")
        ranked = (tuple(sorted(group, key=lambda entry: -np.nan_to_num(baselines[entry]))) for group in groups)
        return cls(sensor, parts, tuple(ranked), grid)

    @property
    def dataset(self) -> "xr.Dataset":
        """The first part's dataset: all of the series where it is in one file."""
        return self.parts[0].dataset

    @property
    def where(self) -> str:
        """The file, or the folder of several."""
        if len(self.parts) == 1:
            return self.parts[0].where
        folder = os.path.commonpath([str(Path(part.where).parent) for part in self.parts])
        return folder if folder else f"{len(self.parts)} datasets"

    @property
    def rows(self) -> np.ndarray:
        """For each row of the cube's grid, the one of the first part's dataset, or -1."""
        return self.parts[0].rows

    @property
    def columns(self) -> np.ndarray:
        """For each column of the cube's grid, the one of the first part's dataset, or -1."""
        return self.parts[0].columns

    @cached_property
    def dates(self) -> np.ndarray:
        """Acquisition dates, datetime64[ns] (T,); of an overpass when it began."""
        times = np.concatenate([part.times for part in self.parts])
        return np.array([times[list(group)].min() for group in self.overpasses], "datetime64[ns]")

    @cached_property
    def present_bands(self) -> np.ndarray:
        """Which of the sensor's bands the cube has, boolean (C,)."""
        return np.array([name in self.dataset for name in self.sensor.band_names])

    @cached_property
    def is_assumed_clear(self) -> bool:
        """Whether the sensor should have a mask and has none: it was opened with `assume_clear`."""
        masks = self.sensor.masks
        return bool(masks) and not all(any(mask.variable in part.dataset for mask in masks) for part in self.parts)

    @property
    def items(self) -> list[str]:
        """Source item ids of each date, where the cube names them, else an empty list."""
        names = [part.per_entry(("item_id", "id", "product_id")) for part in self.parts]
        if not all(names):
            return []
        entries = list(chain.from_iterable(names))
        return [" ".join(dict.fromkeys(entries[entry] for entry in group)) for group in self.overpasses]

    def cut(self, rows: slice, columns: slice) -> "Series":
        """The series on some rows and columns of the cube's grid."""
        parts = tuple(replace(part, rows=part.rows[rows], columns=part.columns[columns]) for part in self.parts)
        return replace(self, parts=parts)

    def layout_lines(self, grid: Grid) -> list[str]:
        """Lines on what is not plain of its layout: pixels of another size than the grid's, entries that are joined."""
        lines = []
        if not grid.has_same_resolution(self.grid):
            lines.append(
                f"own pixels of {self.grid.resolution:g} m; each of the cube's takes the one holding its centre"
            )
        entries = sum(len(part.times) for part in self.parts)
        if len(self.parts) > 1 or entries > len(self.overpasses):
            lines.append(f"{entries} entries in {len(self.parts)} file(s); those of one overpass are one date")
        return lines

    def shift_note(self, grid: Grid, leader: Sensor) -> str | None:
        """A line on pixels that lie off those of the cube's grid by a part of a pixel, if they do."""
        down, right = self.grid.shift_against(grid)
        if max(abs(down), abs(right)) <= PHASE_TOLERANCE:
            return None
        return (
            f"the pixels of {self.sensor.title} lie {right + 0.0:+.2g} px in x and {0.0 - down:+.2g} px in y off "
            f"those of {leader.title}: each of these takes the one that holds its centre (expected x and y of both to "
            "be pixel centres, not corners)"
        )

    def read(self, window: Window, counts: "Counter[str] | None" = None) -> Observations:
        """Read a window, on the cube's grid, in the sensor's units.

        Args:
            window: the pixels.
            counts: pixels masked for what their values are, by kind, are added to it.

        Raises:
            ThalwegError: a file is damaged there.
        """
        read = [part.read(window, self.sensor, counts) for part in self.parts]
        values, quality = (np.concatenate(arrays) for arrays in zip(*read, strict=True))
        if len(self.parts) > 1 or self.overpasses != tuple((entry,) for entry in range(len(values))):
            values, quality = self._mosaics(values, quality)
        if self.sensor.averaged_acquisitions > 1:
            values = averaged_power(values, self.sensor.averaged_acquisitions)
        return Observations(values, quality)

    def _mosaics(self, values: np.ndarray, quality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The entries of each overpass laid under one another."""
        nothing = np.where((quality == Quality.OUTSIDE).all(0), Quality.OUTSIDE, Quality.MISSING).astype(np.uint8)
        dates = []
        for group in self.overpasses:
            mosaic = Mosaic({"values": np.full_like(values[0], np.nan), "quality": nothing.copy()})
            for entry in group:
                has = ~np.isin(quality[entry], (Quality.OUTSIDE, Quality.MISSING))
                mosaic.add({"values": values[entry], "quality": quality[entry]}, has)
            dates.append(mosaic.numbers)
        return np.stack([date["values"] for date in dates]), np.stack([date["quality"] for date in dates])


def _check_instants(groups: list[list[int]], times: np.ndarray, passes: list[tuple[str, str]], what: str) -> None:
    """Say which entries have the very same time and may be of different overpasses."""
    same = [group for group in groups if len(group) > 1 and len(set(times[group])) == 1]
    for group in same:
        known = sorted({" ".join(orbit).strip() for entry in group if any(orbit := passes[entry])})
        if len(known) > 1:
            raise UsageError(
                f"{what}: entries of orbits {' and '.join(known)} have the same time {times[group[0]]!s:.19}: "
                "write the time of day of each"
            )
    dates = [times[group[0]] for group in same if times[group[0]] == times[group[0]].astype("datetime64[D]")]
    if dates:
        warnings.warn(
            f"{what}: {len(dates)} date(s) without a time of day come more than once, the first {dates[0]!s:.10}: "
            "taken as tiles of one overpass",
            DataWarning,
            stacklevel=5,
        )
