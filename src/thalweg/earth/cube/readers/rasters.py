"""Reader of dated rasters (GeoTIFF, VRT, JPEG 2000): one lazy dataset per date and tile."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.cube.grid import containing_pixels, describe_crs, has_same_crs, read_grid
from thalweg.earth.cube.readers.raster_names import (
    band_in,
    baseline_in,
    date_in,
    date_in_tags,
    date_of_writing,
    sensor_in,
    tile_in,
    without_band,
)
from thalweg.errors import DataWarning, UsageError

if TYPE_CHECKING:
    import xarray as xr

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2")
SIDECAR_SUFFIXES = (".xml", ".ovr", ".msk", ".tfw", ".prj", ".qml")
"""Endings of files that belong to a raster in the same folder."""


@dataclass(frozen=True)
class RasterBand:
    """One band of a raster file.

    Attributes:
        path: the file.
        index: index of the band in the file, from 0.
        name: name of the band.
        date: acquisition date.
        sensor: name of the sensor in the path, None if there is none.
        group: part of the name that the files of one date and tile share.
        attrs: fill value, scale, offset, units and tags.
        pixel: pixel size in units of the reference system, to choose the finest of several files.
    """

    path: Path
    index: int
    name: str
    date: np.datetime64
    sensor: str | None
    group: str
    attrs: dict[str, Any]
    pixel: float


def open_rasters(paths: Sequence[Path], root: Path) -> "Iterator[tuple[str, str | None, xr.Dataset]]":
    """Open rasters as one dataset per date and tile.

    The name of a band is its description or is in the file's name. Its date is in the description, the file's name, a
    folder's name or the tags.

    Args:
        paths: the rasters.
        root: folder that contains them.

    Yields:
        The first file for messages, the name of the sensor or None, and the dataset of one date.

    Raises:
        UsageError: a date or band is missing or ambiguous, or a file cannot be read.
    """
    groups: dict[tuple[Any, ...], list[RasterBand]] = {}
    unnamed = []
    for path in paths:
        bands = list(_bands_of(path, root))
        if not bands:
            unnamed.append(path.name)
        for band in bands:
            groups.setdefault((band.sensor or "", band.date, band.group), []).append(band)
    if not groups:
        raise UsageError(
            f"{root}: no raster has a known band ({', '.join(unnamed[:5])}): name them in the bands' descriptions or "
            "in the files' names, as in 2018-06-30_B02.tif"
        )
    if unnamed:
        warnings.warn(f"{root}: left out, no known band: {', '.join(unnamed)}", DataWarning, stacklevel=2)
    for (sensor, date, _), bands in sorted(groups.items()):
        yield _where(bands), sensor or None, _dataset(bands, date)


def _where(bands: list[RasterBand]) -> str:
    return str(bands[0].path)


def _bands_of(path: Path, root: Path) -> Iterator[RasterBand]:
    """Yield the bands of a file that have known names."""
    import rasterio

    texts = [path.stem, *(parent.name for parent in path.relative_to(root.parent).parents if parent.name)]
    sensor = sensor_in(texts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing metadata are reported later, in one line
            with rasterio.open(path) as file:
                tags, count, pixel = file.tags(), file.count, abs(float(file.transform.a))
                descriptions = [text or "" for text in file.descriptions]
                stated = [_band_attributes(file, index) for index in range(count)]
    except rasterio.errors.RasterioError as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"{path}: not a readable raster ({reason}): expected a GeoTIFF or VRT") from error
    own_date = _date_of(path, texts, tags)
    for index, description in enumerate(descriptions):
        described = date_in(description, f"{path}, band {index + 1}")
        name = band_in(description, sensor) if description else None
        if name is None and (count == 1 or described is not None):
            name = next((found for text in texts if (found := band_in(text, sensor))), None)
        if name is None:
            continue
        date = own_date if described is None else described
        if date is None:
            raise UsageError(f"{path}: no date in its name or its tags: name the file as in 2018-06-30_B02.tif")
        attrs = {**tags, **stated[index]}
        if baseline := baseline_in(texts):
            attrs.setdefault("processing_baseline", baseline)
        group = f"{tile_in(texts)} {'' if described is not None else without_band(path.stem, name)}"
        yield RasterBand(path, index, _plain(name), date, sensor, group, attrs, pixel)


def _plain(name: str) -> str:
    """Return a name that is valid for a variable."""
    return name.strip().replace("/", "_")


def _band_attributes(file: Any, index: int) -> dict[str, Any]:
    """Return a band's tags, fill value, scale, offset and units under CF names, without GDAL's defaults 1 and 0."""
    attrs: dict[str, Any] = dict(file.tags(index + 1))
    if file.nodatavals[index] is not None:
        attrs["_FillValue"] = file.nodatavals[index]
    if (file.scales[index], file.offsets[index]) != (1.0, 0.0):
        attrs |= {"scale_factor": file.scales[index], "add_offset": file.offsets[index]}
    if file.units[index]:
        attrs["units"] = file.units[index]
    return attrs


def _date_of(path: Path, texts: list[str], tags: dict[str, str]) -> np.datetime64 | None:
    """Return the date in the tags, the file's name or a folder's name, or else the time of writing."""
    tagged = date_in_tags(tags, str(path))
    named = next((date for text in texts if (date := date_in(text, str(path))) is not None), None)
    if tagged is not None and named is not None and _day(tagged) != _day(named):
        raise UsageError(f"{path}: its name says {_day(named)}, its tags {_day(tagged)}: correct the wrong one")
    return next((date for date in (tagged, named, date_of_writing(tags)) if date is not None), None)


def _day(date: np.datetime64) -> np.datetime64:
    return date.astype("datetime64[D]")


def _dataset(bands: list[RasterBand], date: np.datetime64) -> "xr.Dataset":
    """Return the bands of one date on the grid of the finest band."""
    import xarray as xr

    chosen: dict[str, RasterBand] = {}
    for band in sorted(bands, key=lambda band: band.pixel):
        other = chosen.setdefault(band.name, band)
        if other is not band and other.pixel == band.pixel:
            raise UsageError(f"{band.path}: band {band.name} of {_day(date)} is also in {other.path}")
    arrays = {name: _array(band, date) for name, band in chosen.items()}
    first, *_ = arrays.values()
    where = str(next(iter(chosen.values())).path)
    arrays = {name: _onto(array, first, str(chosen[name].path), where) for name, array in arrays.items()}
    common = dict(set.intersection(*(set(_texts(band.attrs).items()) for band in chosen.values())))
    return xr.Dataset({name: array.variable for name, array in arrays.items()}, first.coords, common)


def _texts(attrs: dict[str, Any]) -> dict[str, str]:
    return {key: value for key, value in attrs.items() if isinstance(value, str)}


def _array(band: RasterBand, date: np.datetime64) -> "xr.DataArray":
    """Return one band as an unread array (time, y, x)."""
    import rioxarray
    import xarray as xr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = rioxarray.open_rasterio(band.path, cache=False, mask_and_scale=False)
    assert isinstance(opened, xr.DataArray)
    array = opened.isel(band=[band.index]).drop_vars("band").rename(band="time").assign_coords(time=[date])
    array.attrs = {key: value for key, value in band.attrs.items() if not key.startswith("STATISTICS_")}
    array.encoding = {}
    return array


def _onto(array: "xr.DataArray", target: "xr.DataArray", where: str, target_where: str) -> "xr.DataArray":
    """Return an array on the grid of a finer one; each pixel takes the one that contains its centre."""
    if array.shape == target.shape and all(array[name].equals(target[name]) for name in ("x", "y")):
        return array
    own, _, _ = read_grid(array.to_dataset(name="band"), where)
    finer, x, y = read_grid(target.to_dataset(name="band"), target_where)
    if not has_same_crs(own, finer):
        raise UsageError(
            f"{where}: in {describe_crs(own)}, {target_where} in {describe_crs(finer)}: reproject one of them"
        )
    rows, columns = containing_pixels(finer, x, y, own)
    if (rows < 0).any() or (columns < 0).any():
        raise UsageError(f"{where}: does not cover the pixels of {target_where}: cut both to one extent")
    return array.isel(y=rows, x=columns)
