"""Pixel grids: reference system, axes and resolution, checked against one another; how two grids overlap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.reference_systems import (
    Affine,
    has_reference_system,
    reference_system,
    same_reference_system,
    transforms,
)
from thalweg.earth.sensors import Sensor
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr
    from pyproj import CRS

SPACING_TOLERANCE = 1e-3
"""Largest difference between steps of an even axis, in pixels."""

PHASE_TOLERANCE = 0.02
"""Largest shift, in pixels, of grids that count as aligned."""

RESOLUTION_TOLERANCE = 0.02
"""Largest relative difference between a grid's pixels on the ground and what a sensor declares."""

_TIE = 1e-6
_UNITS = {
    "degrees": ("degree", "degrees", "deg", "°"),
    "kilometres": ("km", "kilometre", "kilometer", "kilometres", "kilometers"),
    "feet": ("ft", "foot", "feet", "us-ft", "us survey foot", "us_survey_foot"),
}


@dataclass(frozen=True)
class Grid:
    """A north-up pixel grid: coordinate reference system, pixel centres in its units.

    Attributes:
        crs: the reference system as WKT.
        x: centres of the columns, rising.
        y: centres of the rows, falling.
        pixel: pixel size where one pixel each way does not tell it.
    """

    crs: str
    x: np.ndarray
    y: np.ndarray
    pixel: float | None = None

    @classmethod
    def of(cls, dataset: "xr.Dataset", where: str) -> "Grid":
        """Read the grid of a dataset.

        Raises:
            UsageError: it is not regular, north-up, in metres and georeferenced, or what it says of its pixels
                disagrees.
        """
        if not {"x", "y"} <= set(dataset.dims):
            raise UsageError(f"{where}: expected dimensions time, y, x, came {', '.join(map(str, dataset.dims))}")
        for name in ("x", "y"):
            if name not in dataset.coords or dataset[name].dims != (name,):
                raise UsageError(
                    f"{where}: no coordinates along {name}: write pixel centres, for example with "
                    f"ds.assign_coords({name}=...)"
                )
        x, y = (_axis(dataset, name, where) for name in ("x", "y"))
        if len(y) > 1 and y[-1] > y[0]:
            raise UsageError(
                f"{where}: y points up ({y[0]:g} to {y[-1]:g}), expected north first: "
                "sort it with ds.sortby('y', ascending=False)"
            )
        x, y = _even(x, "x", where), -_even(-y, "y", where)
        crs = reference_system(dataset, where) if has_reference_system(dataset) else None
        _check_units(dataset, crs, x, y, where)
        x_step, y_step = _step(x), _step(-y)
        if x_step and y_step and abs(x_step - y_step) > SPACING_TOLERANCE * x_step:
            raise UsageError(f"{where}: pixels of {x_step:g} x {y_step:g}, expected square ones: reproject it")
        if crs is None:
            raise UsageError(f"{where}: no coordinate reference system: write one with ds.rio.write_crs(...)")
        scale = 1000.0 if "kilometres" in {_unit(dataset, "x"), _unit(dataset, "y")} else 1.0
        told = list(transforms(dataset))
        step = x_step or y_step or _told_pixel(dataset, told)
        if step is None:
            raise UsageError(
                f"{where}: a single pixel that does not say its size: write it with ds.rio.write_transform(...)"
            )
        for name, affine in told:
            _check_transform(name, affine, x, y, step, where)
        return cls(crs.to_wkt(), scale * x, scale * y, scale * step)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.y), len(self.x)

    @cached_property
    def resolution(self) -> float:
        """Pixel size in units of the reference system."""
        step = _step(self.x) or _step(-self.y) or self.pixel
        if step is None:
            raise UsageError("a grid of a single pixel: expected its size")
        return step

    @cached_property
    def ground_resolution(self) -> float:
        """Pixel size on the ground at the grid's middle, in metres: a projection may enlarge what it shows."""
        from pyproj import Proj, Transformer

        crs = self._crs
        lon, lat = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(
            self.x[len(self.x) // 2], self.y[len(self.y) // 2]
        )
        areal = Proj(crs).get_factors(lon, lat).areal_scale if np.isfinite([lon, lat]).all() else np.nan
        return self.resolution / np.sqrt(areal) if np.isfinite(areal) and areal > 0 else self.resolution

    @cached_property
    def _crs(self) -> "CRS":
        from pyproj import CRS

        return CRS.from_wkt(self.crs)

    @cached_property
    def epsg(self) -> int | None:
        """EPSG code of the reference system, where it has one."""
        return self._crs.to_epsg()

    @cached_property
    def longitude(self) -> float:
        """Longitude of the grid's middle in degrees."""
        from pyproj import Transformer

        middle = self.x[len(self.x) // 2], self.y[len(self.y) // 2]
        return float(Transformer.from_crs(self._crs, "EPSG:4326", always_xy=True).transform(*middle)[0])

    def describe(self) -> str:
        """The reference system in a word, for messages."""
        return f"EPSG:{self.epsg}" if self.epsg else self._crs.name

    def has_same_crs(self, other: "Grid") -> bool:
        """Whether both grids are on the same reference system, however it is written."""
        return self.crs == other.crs or same_reference_system(self._crs, other._crs)

    def part(self, rows: slice, columns: slice) -> "Grid":
        """The grid of some rows and columns."""
        return replace(self, x=self.x[columns], y=self.y[rows], pixel=self.resolution)

    def has_same_resolution(self, other: "Grid") -> bool:
        """Whether pixels are so equal in size that they stay side by side from one end of the grids to the other."""
        longest = max(*self.shape, *other.shape)
        return abs(self.resolution / other.resolution - 1) * longest < 0.5

    def shift_against(self, other: "Grid") -> tuple[float, float]:
        """Rows and columns, -0.5 to 0.5, by which edges of this grid's pixels lie off those of `other`.

        In pixels of the finer grid; (0, 0) where one pixel size is no multiple of the other, so that edges never meet.
        """
        finer, coarser = sorted((self.resolution, other.resolution))
        if abs(coarser / finer - round(coarser / finer)) > PHASE_TOLERANCE:
            return 0.0, 0.0
        half = (self.resolution - other.resolution) / 2
        shifts = (other.y[0] - self.y[0] - half) / finer, (self.x[0] - other.x[0] - half) / finer
        down, right = (float(shift - np.floor(shift + 0.5 + _TIE)) for shift in shifts)
        return down, right

    def indices_in(self, other: "Grid") -> tuple[np.ndarray, np.ndarray]:
        """For each row and column of this grid, the one of `other` that holds its centre, or -1 beyond its footprint.

        A centre on the edge of two pixels takes the upper or the left one, for all rows and columns alike.
        """
        is_same = self.has_same_resolution(other)

        def containing(axis: np.ndarray, target: np.ndarray, step: float) -> np.ndarray:
            position = (axis - target[0]) / step + 0.5
            index = np.ceil(position - _TIE).astype(int) - 1
            if is_same:  # one shift for all, so that rounding neither drops nor repeats a pixel
                middle = len(axis) // 2
                index = np.arange(len(axis)) + index[middle] - middle
            return np.where((index >= 0) & (index < len(target)), index, -1)

        step = other.resolution
        return containing(-self.y, -other.y, step), containing(self.x, other.x, step)


def check_resolution(grid: Grid, sensor: Sensor, where: str) -> None:
    """Raise `UsageError` where a grid's pixels are not of the size that a sensor declares and the model knows."""
    if abs(grid.ground_resolution / sensor.resolution - 1) > RESOLUTION_TOLERANCE:
        stretched = abs(grid.ground_resolution / grid.resolution - 1) > RESOLUTION_TOLERANCE
        on_ground = f" ({grid.ground_resolution:.3g} m on the ground)" if stretched else ""
        raise UsageError(
            f"{where}: pixels of {grid.resolution:g} m{on_ground} in {grid.describe()}, expected {sensor.resolution:g} "
            f"m, as the model knows {sensor.title}: give its bands on a grid of {sensor.resolution:g} m"
        )


def north_up(dataset: "xr.Dataset") -> "xr.Dataset":
    """Turn a dataset so that rows run from north to south and columns from west to east."""
    for name, rising in (("y", False), ("x", True)):
        if name in dataset.coords and dataset[name].dims == (name,):
            axis = dataset[name].values
            if len(axis) > 1 and (axis[-1] > axis[0]) != rising and axis[-1] != axis[0]:
                dataset = dataset.isel({name: slice(None, None, -1)})
    return dataset


def joined_grid(grids: Sequence[Grid]) -> tuple[Grid, list[tuple[int, int]]]:
    """The grid that holds aligned grids of one resolution, and the first row and column of each on it."""
    first, step = grids[0], grids[0].resolution
    corners = [(round((first.y[0] - g.y[0]) / step), round((g.x[0] - first.x[0]) / step)) for g in grids]
    top, left = min(row for row, _ in corners), min(column for _, column in corners)
    places = [(row - top, column - left) for row, column in corners]
    if all(grid.shape == first.shape and place == (0, 0) for grid, place in zip(grids, places, strict=True)):
        return first, places
    height = max(row + grid.shape[0] for (row, _), grid in zip(places, grids, strict=True))
    width = max(column + grid.shape[1] for (_, column), grid in zip(places, grids, strict=True))
    y, x = first.y[0] - step * (np.arange(height) + top), first.x[0] + step * (np.arange(width) + left)
    return Grid(first.crs, x, y, step), places


def _axis(dataset: "xr.Dataset", name: str, where: str) -> np.ndarray:
    values = dataset[name].values
    if not np.issubdtype(values.dtype, np.number):
        raise UsageError(f"{where}: {name} holds {values.dtype}, expected pixel centres as numbers")
    if not len(values):
        raise UsageError(f"{where}: 0 pixels along {name}")
    spacing = np.spacing(np.abs(values).max()) if np.issubdtype(values.dtype, np.floating) else 0.0
    axis = values.astype(float)
    if len(axis) > 2 and values.dtype.itemsize < 8 and np.isfinite(axis).all():
        regular = np.linspace(axis[0], axis[-1], len(axis))
        if np.abs(axis - regular).max() <= spacing < abs(regular[1] - regular[0]) / 10:
            return regular  # uneven only because float32 rounds large coordinates
    return axis


def _even(axis: np.ndarray, name: str, where: str) -> np.ndarray:
    steps = np.diff(axis)
    if not np.isfinite(axis).all() or (
        len(steps) and not (steps.min() > 0 and np.ptp(steps) <= SPACING_TOLERANCE * steps.mean())
    ):
        raise UsageError(f"{where}: {name} is not evenly spaced: reproject it onto a regular grid")
    return axis


def _step(axis: np.ndarray) -> float | None:
    return float(axis[-1] - axis[0]) / (len(axis) - 1) if len(axis) > 1 else None


def _unit(dataset: "xr.Dataset", name: str) -> str | None:
    said = str(dataset[name].attrs.get("units", "")).strip().lower()
    return next((unit for unit, names in _UNITS.items() if said in names or said.startswith("degree")), None)


def _check_units(dataset: "xr.Dataset", crs: "CRS | None", x: np.ndarray, y: np.ndarray, where: str) -> None:
    """Raise `UsageError` where the axes are not in metres, by the reference system, their units or their values."""
    said = {_unit(dataset, "x"), _unit(dataset, "y")}
    small = np.abs(x).max() <= 360 and np.abs(y).max() <= 90 and (_step(x) or _step(-y) or 1.0) < 0.1
    name = "none" if crs is None else f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else crs.name
    if (crs is not None and crs.is_geographic) or "degrees" in said or (small and "kilometres" not in said):
        into = "ds.rio.reproject(ds.rio.estimate_utm_crs(), resolution=10)"
        if crs is None or not crs.is_geographic:
            raise UsageError(
                f"{where}: x and y are in degrees, its reference system is {name}: name the true one with "
                f"ds.rio.write_crs('EPSG:4326'), then reproject with {into}"
            )
        raise UsageError(f"{where}: x and y are in degrees ({name}), expected metres: reproject it with {into}")
    if crs is None:
        return
    into = "reproject it with ds.rio.reproject('EPSG:32631', resolution=10), in the zone where it is"
    if not crs.is_projected:
        raise UsageError(f"{where}: {name} is no map projection, expected one in metres: {into}")
    unit = crs.axis_info[0].unit_name if crs.axis_info else "unknown"
    factor = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 0.0
    if abs(factor - 1) > 1e-9 or "feet" in said:
        raise UsageError(
            f"{where}: x and y are in {'feet' if 'feet' in said else unit} ({name}), expected metres: {into}"
        )


def _told_pixel(dataset: "xr.Dataset", told: list[tuple[str, Affine]]) -> float | None:
    """Pixel size where the axes do not tell it."""
    if told:
        return abs(told[0][1][0])
    for key in ("geoemb:gsd", "resolution", "res"):
        value = np.atleast_1d(np.asarray(dataset.attrs.get(key, np.nan)))
        if np.issubdtype(value.dtype, np.number) and value.size and np.isfinite(value[0]) and value[0] > 0:
            return float(value[0])
    return None


def _check_transform(name: str, affine: Affine, x: np.ndarray, y: np.ndarray, step: float, where: str) -> None:
    """Raise `UsageError` where an affine transform and the pixel centres disagree by more than whole pixels."""
    a, b, c, d, e, f = affine
    if abs(b) + abs(d) > 1e-9 * (abs(a) + abs(e)):
        raise UsageError(f"{where}: {name} is rotated, expected a north-up grid: reproject it")
    if max(abs(abs(a) / step - 1), abs(abs(e) / step - 1)) > SPACING_TOLERANCE:
        raise UsageError(
            f"{where}: {name} has pixels of {abs(a):g} x {abs(e):g}, its coordinates x and y of {step:g}: drop the one "
            "that is wrong"
        )
    shifts = [abs(shift - round(shift)) for shift in ((x[0] - c - a / 2) / a, (y[0] - f - e / 2) / e)]
    if max(shifts) > PHASE_TOLERANCE:
        raise UsageError(
            f"{where}: {name} puts pixel centres {max(shifts):.2g} pixel off x and y, expected them at the centres "
            "(stackstac: xy_coords='center'): correct them, or drop the one that is wrong"
        )
