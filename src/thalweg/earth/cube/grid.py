"""Pixel grids: `GeoBox`es read from datasets and checked, and how the pixels of two grids lie to each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.reference_systems import (
    Affine,
    crs_name,
    has_reference_system,
    reference_system,
    same_reference_system,
    transforms,
)
from thalweg.earth.sensors import Sensor
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from pyproj import CRS

SPACING_TOLERANCE = 1e-3
"""Largest difference between the steps of an evenly spaced axis, in pixels."""

PHASE_TOLERANCE = 0.02
"""Largest shift between two grids that count as aligned, in pixels."""

RESOLUTION_TOLERANCE = 0.02
"""Largest relative difference between a grid's pixel size on the ground and the resolution that a sensor declares."""

EDGE_TOLERANCE = 1e-6
"""Distance from a pixel's edge, in pixels, within which a centre counts as on the edge."""

_UNITS = {
    "degrees": ("degree", "degrees", "deg", "°"),
    "kilometres": ("km", "kilometre", "kilometer", "kilometres", "kilometers"),
    "feet": ("ft", "foot", "feet", "us-ft", "us survey foot", "us_survey_foot"),
}


def read_grid(dataset: "xr.Dataset", where: str) -> "tuple[GeoBox, np.ndarray, np.ndarray]":
    """Read the pixel grid of a dataset.

    The coordinates are returned in addition to the `GeoBox`, whose own coordinates may differ from the dataset's by
    rounding.

    Args:
        dataset: dataset with dimensions y (falling) and x (rising).
        where: file or dataset that messages name.

    Returns:
        The grid with square, north-up pixels in metres, the centres of its columns x (W,) and of its rows y (H,) in
        metres, float64.

    Raises:
        UsageError: the grid is not regular, north-up, in metres and georeferenced, or the dataset contradicts itself
            about its pixels.
    """
    from affine import Affine as Transform
    from odc.geo.geobox import GeoBox

    if not {"x", "y"} <= set(dataset.dims):
        raise UsageError(f"{where}: expected dimensions time, y, x, found {', '.join(map(str, dataset.dims))}")
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
    _check_spacing(x, "x", where)
    _check_spacing(-y, "y", where)
    crs = reference_system(dataset, where) if has_reference_system(dataset) else None
    _check_units(dataset, crs, x, y, where)
    x_step, y_step = _step(x), _step(-y)
    if x_step and y_step and abs(x_step - y_step) > SPACING_TOLERANCE * x_step:
        raise UsageError(f"{where}: pixels of {x_step:g} x {y_step:g}, expected square ones: reproject it")
    if crs is None:
        raise UsageError(f"{where}: no coordinate reference system: write one with ds.rio.write_crs(...)")
    affines = list(transforms(dataset))
    step = x_step or y_step or _stated_pixel_size(dataset, affines)
    if step is None:
        raise UsageError(f"{where}: a single pixel of unknown size: write its size with ds.rio.write_transform(...)")
    for name, affine in affines:
        _check_transform(name, affine, x, y, step, where)
    scale = 1000.0 if "kilometres" in {_unit(dataset, "x"), _unit(dataset, "y")} else 1.0
    x, y, step = scale * x, scale * y, scale * step
    corner = Transform(step, 0, float(x[0]) - step / 2, 0, -step, float(y[0]) + step / 2)
    return GeoBox((len(y), len(x)), corner, crs.to_wkt()), x, y


def pixel_centers(grid: "GeoBox") -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of a grid's columns x (W,) and of its rows y (H,), float64."""
    (height, width), affine = grid.shape, grid.affine
    return affine.c + affine.a * (np.arange(width) + 0.5), affine.f + affine.e * (np.arange(height) + 0.5)


def projection(grid: "GeoBox") -> "CRS":
    """Return a grid's coordinate reference system as pyproj's class."""
    assert grid.crs is not None
    return grid.crs.proj


def describe_crs(grid: "GeoBox") -> str:
    """Return the EPSG code or the name of a grid's reference system, for messages."""
    return crs_name(projection(grid))


def has_same_crs(one: "GeoBox", other: "GeoBox") -> bool:
    """Return whether two grids are in the same reference system, regardless of its spelling."""
    return same_reference_system(projection(one), projection(other))


def ground_resolution(grid: "GeoBox") -> float:
    """Return the pixel size on the ground at the grid's centre, in metres, without the scale of the projection."""
    from pyproj import Proj, Transformer

    crs = projection(grid)
    lon, lat = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(*_center(grid))
    areal = Proj(crs).get_factors(lon, lat).areal_scale if np.isfinite([lon, lat]).all() else np.nan
    resolution = grid.resolution.x
    return float(resolution / np.sqrt(areal)) if np.isfinite(areal) and areal > 0 else resolution


def center_longitude(grid: "GeoBox") -> float:
    """Return the longitude of the grid's centre in degrees."""
    from pyproj import Transformer

    return float(Transformer.from_crs(projection(grid), "EPSG:4326", always_xy=True).transform(*_center(grid))[0])


def has_same_resolution(one: "GeoBox", other: "GeoBox") -> bool:
    """Return whether pixels of two grids differ so little in size that they do not drift by half a pixel."""
    longest = max(*one.shape, *other.shape)
    return bool(abs(one.resolution.x / other.resolution.x - 1) * longest < 0.5)


def edge_offset(grid: "GeoBox", other: "GeoBox") -> tuple[float, float]:
    """Return how far the pixel edges of a grid lie from those of another.

    Returns:
        Offset in rows (down) and in columns (right), -0.5 to 0.5, in pixels of the finer grid; (0, 0) where one pixel
        size is no multiple of the other, so that the edges never coincide.
    """
    finer, coarser = sorted((grid.resolution.x, other.resolution.x))
    if abs(coarser / finer - round(coarser / finer)) > PHASE_TOLERANCE:
        return 0.0, 0.0
    offsets = (other.affine.f - grid.affine.f) / finer, (grid.affine.c - other.affine.c) / finer
    down, right = (float(offset - np.floor(offset + 0.5 + EDGE_TOLERANCE)) for offset in offsets)
    return down, right


def containing_pixels(grid: "GeoBox", x: np.ndarray, y: np.ndarray, other: "GeoBox") -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of another grid that contain the pixel centres of a grid.

    A centre on the edge between two pixels belongs to the upper or left one, in all rows and columns.

    Args:
        grid: the grid whose centres are looked up.
        x: centres of its columns (W,), in the units of the reference system.
        y: centres of its rows (H,).
        other: the grid that is searched, in the same reference system.

    Returns:
        Row index for each row (H,) and column index for each column (W,), -1 outside the other grid.
    """
    is_same = has_same_resolution(grid, other)

    def containing(position: np.ndarray, size: int) -> np.ndarray:
        index = np.ceil(position - EDGE_TOLERANCE).astype(int) - 1
        if is_same:  # one shift for all centres, so that rounding neither drops nor repeats a pixel
            middle = len(index) // 2
            index = np.arange(len(index)) + index[middle] - middle
        return np.where((index >= 0) & (index < size), index, -1)

    step, height, width = other.resolution.x, *other.shape
    return containing((other.affine.f - y) / step, height), containing((x - other.affine.c) / step, width)


def check_resolution(grid: "GeoBox", sensor: Sensor, where: str) -> None:
    """Raise `UsageError` if a grid's pixels are not of the size that a sensor declares."""
    resolution, on_the_ground = grid.resolution.x, ground_resolution(grid)
    if abs(on_the_ground / sensor.resolution - 1) > RESOLUTION_TOLERANCE:
        stretched = abs(on_the_ground / resolution - 1) > RESOLUTION_TOLERANCE
        on_ground = f" ({on_the_ground:.3g} m on the ground)" if stretched else ""
        raise UsageError(
            f"{where}: pixels of {resolution:g} m{on_ground} in {describe_crs(grid)}, expected {sensor.resolution:g} "
            f"m, the resolution of {sensor.title} that the model was trained on: resample its bands to "
            f"{sensor.resolution:g} m"
        )


def north_up(dataset: "xr.Dataset") -> "xr.Dataset":
    """Return a dataset with rows from north to south and columns from west to east."""
    for name, rising in (("y", False), ("x", True)):
        if name in dataset.coords and dataset[name].dims == (name,):
            axis = dataset[name].values
            if len(axis) > 1 and (axis[-1] > axis[0]) != rising and axis[-1] != axis[0]:
                dataset = dataset.isel({name: slice(None, None, -1)})
    return dataset


def enclosing_grid(grids: "Sequence[GeoBox]") -> "tuple[GeoBox, list[tuple[int, int]]]":
    """Return the smallest grid that contains aligned grids of one resolution.

    The first grid itself is returned if all of them are equal to it.

    Returns:
        The grid, and the row and column of it at which each of the grids begins.
    """
    first, step = grids[0], grids[0].resolution.x
    corners = [
        (round((first.affine.f - grid.affine.f) / step), round((grid.affine.c - first.affine.c) / step))
        for grid in grids
    ]
    top, left = min(row for row, _ in corners), min(column for _, column in corners)
    origins = [(row - top, column - left) for row, column in corners]
    if all(grid.shape == first.shape and origin == (0, 0) for grid, origin in zip(grids, origins, strict=True)):
        return first, origins
    height = max(row + grid.height for (row, _), grid in zip(origins, grids, strict=True))
    width = max(column + grid.width for (_, column), grid in zip(origins, grids, strict=True))
    return first.translate_pix(left, top).crop((height, width)), origins


def _center(grid: "GeoBox") -> tuple[float, float]:
    """Return x and y of the centre of the middle pixel."""
    x, y = grid.pix2wld(grid.width // 2 + 0.5, grid.height // 2 + 0.5)
    return float(x), float(y)


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


def _check_spacing(axis: np.ndarray, name: str, where: str) -> None:
    """Raise `UsageError` if an axis does not rise in even steps."""
    steps = np.diff(axis)
    if not np.isfinite(axis).all() or (
        len(steps) and not (steps.min() > 0 and np.ptp(steps) <= SPACING_TOLERANCE * steps.mean())
    ):
        raise UsageError(f"{where}: {name} is not evenly spaced: reproject it onto a regular grid")


def _step(axis: np.ndarray) -> float | None:
    return float(axis[-1] - axis[0]) / (len(axis) - 1) if len(axis) > 1 else None


def _unit(dataset: "xr.Dataset", name: str) -> str | None:
    stated = str(dataset[name].attrs.get("units", "")).strip().lower()
    return next((unit for unit, names in _UNITS.items() if stated in names or stated.startswith("degree")), None)


def _check_units(dataset: "xr.Dataset", crs: "CRS | None", x: np.ndarray, y: np.ndarray, where: str) -> None:
    """Raise `UsageError` if the axes are not in metres by the reference system, their units or their values."""
    units = {_unit(dataset, "x"), _unit(dataset, "y")}
    small = np.abs(x).max() <= 360 and np.abs(y).max() <= 90 and (_step(x) or _step(-y) or 1.0) < 0.1
    name = "none" if crs is None else crs_name(crs)
    if (crs is not None and crs.is_geographic) or "degrees" in units or (small and "kilometres" not in units):
        into = "ds.rio.reproject(ds.rio.estimate_utm_crs(), resolution=10)"
        if crs is None or not crs.is_geographic:
            raise UsageError(
                f"{where}: x and y are in degrees, its reference system is {name}: name the true one with "
                f"ds.rio.write_crs('EPSG:4326'), then reproject with {into}"
            )
        raise UsageError(f"{where}: x and y are in degrees ({name}), expected metres: reproject it with {into}")
    if crs is None:
        return
    into = "reproject it with ds.rio.reproject('EPSG:32631', resolution=10), in the UTM zone of its location"
    if not crs.is_projected:
        raise UsageError(f"{where}: {name} is no map projection, expected one in metres: {into}")
    unit = crs.axis_info[0].unit_name if crs.axis_info else "unknown"
    factor = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 0.0
    if abs(factor - 1) > 1e-9 or "feet" in units:
        raise UsageError(
            f"{where}: x and y are in {'feet' if 'feet' in units else unit} ({name}), expected metres: {into}"
        )


def _stated_pixel_size(dataset: "xr.Dataset", affines: list[tuple[str, Affine]]) -> float | None:
    """Return the pixel size by the dataset's transforms or attributes, None if neither states it."""
    if affines:
        return abs(affines[0][1][0])
    for key in ("geoemb:gsd", "resolution", "res"):
        value = np.atleast_1d(np.asarray(dataset.attrs.get(key, np.nan)))
        if np.issubdtype(value.dtype, np.number) and value.size and np.isfinite(value[0]) and value[0] > 0:
            return float(value[0])
    return None


def _check_transform(name: str, affine: Affine, x: np.ndarray, y: np.ndarray, step: float, where: str) -> None:
    """Raise `UsageError` if an affine transform and the pixel centres differ by a fraction of a pixel."""
    a, b, c, d, e, f = affine
    if abs(b) + abs(d) > 1e-9 * (abs(a) + abs(e)):
        raise UsageError(f"{where}: {name} is rotated, expected a north-up grid: reproject it")
    if max(abs(abs(a) / step - 1), abs(abs(e) / step - 1)) > SPACING_TOLERANCE:
        raise UsageError(
            f"{where}: {name} has pixels of {abs(a):g} x {abs(e):g}, its coordinates x and y of {step:g}: remove the "
            "wrong one"
        )
    shifts = [abs(shift - round(shift)) for shift in ((x[0] - c - a / 2) / a, (y[0] - f - e / 2) / e)]
    if max(shifts) > PHASE_TOLERANCE:
        raise UsageError(
            f"{where}: {name} puts pixel centres {max(shifts):.2g} pixel off x and y, expected them at the centres "
            "(stackstac: xy_coords='center'): correct them, or remove the wrong one"
        )
