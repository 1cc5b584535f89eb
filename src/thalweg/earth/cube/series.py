"""Series of one sensor: its values and quality, read by window onto a cube's grid, from one file or several."""

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
from thalweg.earth.cube.decoding.measurements import average_power, decode_block
from thalweg.earth.cube.decoding.series_decoding import offset_metadata_of
from thalweg.earth.cube.grid import PHASE_TOLERANCE, center_longitude, edge_offset, has_same_resolution
from thalweg.earth.cube.mosaics import Mosaic, overpass_groups, solar_days
from thalweg.earth.cube.windows import Window
from thalweg.earth.sensors import Quality, Sensor
from thalweg.errors import DataWarning, ThalwegError, UsageError

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

_ORBIT_STATE = ("orbit_state", "sat:orbit_state")
_ORBIT_NUMBER = ("relative_orbit", "sat:relative_orbit")


@dataclass(frozen=True)
class Observations:
    """Observations of one sensor in a window.

    Attributes:
        values: float32 (T, C, H, W) in the sensor's units, NaN where unusable.
        quality: `Quality` of each pixel, uint8 (T, H, W).
    """

    values: np.ndarray
    quality: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """Usable pixels (clear or water), boolean (T, H, W)."""
        return self.quality <= Quality.WATER

    def inner(self, margin: int) -> "Observations":
        """Return the observations without `margin` pixels on every side."""
        inside = (..., slice(margin, -margin), slice(margin, -margin))
        return Observations(self.values[inside], self.quality[inside])


@dataclass(frozen=True)
class SeriesPart:
    """One dataset's part of a sensor's series.

    Attributes:
        dataset: bands and mask, lazily read.
        where: the file, for messages.
        rows: index of the dataset's row for each row of the cube's grid (H,), -1 outside its footprint.
        columns: index of the dataset's column for each column of the cube's grid (W,), -1 outside its footprint.
        decoding: decoding of the stored numbers of each band.
    """

    dataset: "xr.Dataset"
    where: str
    rows: np.ndarray
    columns: np.ndarray
    decoding: Decoding

    @cached_property
    def times(self) -> np.ndarray:
        """Times of the entries, datetime64[ns] (E,)."""
        return self.dataset.time.values.astype("datetime64[ns]")

    def per_entry(self, names: tuple[str, ...]) -> list[str]:
        """Return the first of some variables or attributes that exists, as text per entry; empty if none exists."""
        for name in names:
            given = self.dataset[name].values if name in self.dataset else self.dataset.attrs.get(name)
            if given is not None and np.size(given) in (1, len(self.times)):
                return [str(value) for value in np.broadcast_to(np.ravel(given), len(self.times))]
        return []

    def read(
        self, window: Window, sensor: Sensor, counts: "Counter[str] | None" = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the entries in a window of the cube's grid.

        Args:
            window: the pixels.
            sensor: declaration of the sensor.
            counts: counter to which the pixels masked because of their values are added, by kind.

        Returns:
            Values (E, C, H, W) float32 and quality (E, H, W) uint8 of each entry.

        Raises:
            ThalwegError: a variable cannot be read; the message names it and the file.
        """
        rows = self.rows[max(window.top, 0) : max(window.top + window.height, 0)]
        columns = self.columns[max(window.left, 0) : max(window.left + window.width, 0)]
        count = len(self.times)
        values = np.full((count, len(sensor.bands), window.height, window.width), np.nan, np.float32)
        quality = np.full((count, window.height, window.width), Quality.OUTSIDE, np.uint8)
        rows_in, columns_in = rows >= 0, columns >= 0
        if rows_in.any() and columns_in.any():
            box = tuple(slice(int(index.min()), int(index.max()) + 1) for index in (rows[rows_in], columns[columns_in]))
            decoded, decoded_quality = decode_block(self._loaded(*box), sensor, self.where, self.decoding, counts)
            source = np.ix_(rows[rows_in] - box[0].start, columns[columns_in] - box[1].start)
            target = np.ix_(
                np.flatnonzero(rows_in) + max(-window.top, 0), np.flatnonzero(columns_in) + max(-window.left, 0)
            )
            values[:, :, target[0], target[1]] = decoded[:, :, source[0], source[1]]
            quality[:, target[0], target[1]] = decoded_quality[:, source[0], source[1]]
        return values, quality

    def _loaded(self, rows: slice, columns: slice) -> "xr.Dataset":
        block = self.dataset.isel(y=rows, x=columns)
        for name, variable in block.variables.items():
            try:
                variable.load()
            except Exception as error:  # readers raise many kinds for a damaged file
                reason = " ".join(str(error).split())[:120] or type(error).__name__
                raise ThalwegError(
                    f"{self.where}: {name} cannot be read ({reason}): the file is damaged: fetch or write it again"
                ) from error
        return block


@dataclass(frozen=True)
class Series:
    """All observations of one sensor, read by window onto the cube's grid.

    Attributes:
        sensor: declaration of the sensor.
        parts: the datasets that hold the series; several may follow or complement one another.
        overpasses: for each date its entries, numbered over all parts in order, the newest baseline first.
        grid: the sensor's own grid.
    """

    sensor: Sensor
    parts: tuple[SeriesPart, ...]
    overpasses: tuple[tuple[int, ...], ...]
    grid: "GeoBox"

    @classmethod
    def of(cls, sensor: Sensor, parts: tuple[SeriesPart, ...], grid: "GeoBox") -> "Series":
        """Build a series from parts: entries of one overpass become one date, with the newest baseline preferred.

        Dates without a time of day that occur more than once cause a `DataWarning`.

        Raises:
            UsageError: entries of two orbits have the same time.
        """
        times = np.concatenate([part.times for part in parts])
        states, orbits = (
            list(chain.from_iterable(part.per_entry(names) or [""] * len(part.times) for part in parts))
            for names in (_ORBIT_STATE, _ORBIT_NUMBER)
        )
        baselines = np.concatenate([offset_metadata_of(part.dataset, part.where).baseline for part in parts])
        passes = list(zip(states, orbits, strict=True))
        groups = overpass_groups(times, solar_days(times, center_longitude(grid)), passes)
        _check_equal_times(groups, times, passes, f"{parts[0].where}: {sensor.title}")
        ranked = (tuple(sorted(group, key=lambda entry: -np.nan_to_num(baselines[entry]))) for group in groups)
        return cls(sensor, parts, tuple(ranked), grid)

    @property
    def dataset(self) -> "xr.Dataset":
        """Dataset of the first part, which is the whole series if it is in one file."""
        return self.parts[0].dataset

    @property
    def where(self) -> str:
        """The file, or the folder of several files."""
        if len(self.parts) == 1:
            return self.parts[0].where
        folder = os.path.commonpath([str(Path(part.where).parent) for part in self.parts])
        return folder if folder else f"{len(self.parts)} datasets"

    @property
    def rows(self) -> np.ndarray:
        """Row of the first part's dataset for each row of the cube's grid (H,), -1 outside its footprint."""
        return self.parts[0].rows

    @property
    def columns(self) -> np.ndarray:
        """Column of the first part's dataset for each column of the cube's grid (W,), -1 outside its footprint."""
        return self.parts[0].columns

    @cached_property
    def dates(self) -> np.ndarray:
        """Acquisition dates, datetime64[ns] (T,): the start of each overpass."""
        times = np.concatenate([part.times for part in self.parts])
        return np.array([times[list(group)].min() for group in self.overpasses], "datetime64[ns]")

    @cached_property
    def present_bands(self) -> np.ndarray:
        """Bands of the sensor that the cube has, boolean (C,)."""
        return np.array([name in self.dataset for name in self.sensor.band_names])

    @cached_property
    def is_assumed_clear(self) -> bool:
        """True if the sensor declares masks and the data have none, because it was opened with `assume_clear`."""
        masks = self.sensor.masks
        return bool(masks) and not all(any(mask.variable in part.dataset for mask in masks) for part in self.parts)

    @property
    def items(self) -> list[str]:
        """Ids of the source items of each date (T entries); empty if the cube does not name them."""
        names = [part.per_entry(("item_id", "id", "product_id")) for part in self.parts]
        if not all(names):
            return []
        entries = list(chain.from_iterable(names))
        return [" ".join(dict.fromkeys(entries[entry] for entry in group)) for group in self.overpasses]

    def crop(self, rows: slice, columns: slice) -> "Series":
        """Return the series on some rows and columns of the cube's grid."""
        parts = tuple(replace(part, rows=part.rows[rows], columns=part.columns[columns]) for part in self.parts)
        return replace(self, parts=parts)

    def layout_notes(self, grid: "GeoBox") -> list[str]:
        """Return notes for the user on a pixel size that differs from a grid's, and on entries that are joined."""
        notes = []
        if not has_same_resolution(grid, self.grid):
            notes.append(
                f"own pixels of {self.grid.resolution.x:g} m; each pixel of the cube takes the one that contains its "
                "centre"
            )
        entries = sum(len(part.times) for part in self.parts)
        if len(self.parts) > 1 or entries > len(self.overpasses):
            notes.append(f"{entries} entries in {len(self.parts)} file(s); those of one overpass are one date")
        return notes

    def alignment_note(self, grid: "GeoBox", reference: Sensor) -> str | None:
        """Return a note on pixels shifted by a fraction of a pixel from the reference sensor's, None if aligned."""
        down, right = edge_offset(self.grid, grid)
        if max(abs(down), abs(right)) <= PHASE_TOLERANCE:
            return None
        return (
            f"the pixels of {self.sensor.title} lie {right + 0.0:+.2g} px in x and {0.0 - down:+.2g} px in y off "
            f"those of {reference.title}: each of these takes the one that contains its centre (expected x and y of "
            "both to be pixel centres, not corners)"
        )

    def read(self, window: Window, counts: "Counter[str] | None" = None) -> Observations:
        """Read a window of the cube's grid.

        Args:
            window: the pixels; parts outside the grid are NaN with quality `Quality.OUTSIDE`.
            counts: counter to which the pixels masked because of their values are added, by kind.

        Returns:
            Values (T, C, H, W) in the sensor's units and quality (T, H, W), one entry per date.

        Raises:
            UsageError: the mask does not hold numbers.
            ThalwegError: a file is damaged in the window.
        """
        read = [part.read(window, self.sensor, counts) for part in self.parts]
        values, quality = (np.concatenate(arrays) for arrays in zip(*read, strict=True))
        if len(self.parts) > 1 or self.overpasses != tuple((entry,) for entry in range(len(values))):
            values, quality = self._mosaics(values, quality)
        if self.sensor.averaged_overpasses > 1:
            values = average_power(values, self.sensor.averaged_overpasses)
        return Observations(values, quality)

    def _mosaics(self, values: np.ndarray, quality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Merge the entries of each overpass into one date."""
        unseen = np.where((quality == Quality.OUTSIDE).all(0), Quality.OUTSIDE, Quality.MISSING).astype(np.uint8)
        dates = []
        for group in self.overpasses:
            mosaic = Mosaic({"values": np.full_like(values[0], np.nan), "quality": unseen.copy()})
            for entry in group:
                has_data = ~np.isin(quality[entry], (Quality.OUTSIDE, Quality.MISSING))
                mosaic.add({"values": values[entry], "quality": quality[entry]}, has_data)
            dates.append(mosaic.arrays)
        return np.stack([date["values"] for date in dates]), np.stack([date["quality"] for date in dates])


def _check_equal_times(groups: list[list[int]], times: np.ndarray, passes: list[tuple[str, str]], what: str) -> None:
    """Refuse entries of two orbits with the same time; warn of equal dates without a time of day."""
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
            f"{what}: {len(dates)} date(s) without a time of day occur more than once, the first {dates[0]!s:.10}: "
            "taken as tiles of one overpass",
            DataWarning,
            stacklevel=5,
        )
