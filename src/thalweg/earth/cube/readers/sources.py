"""Opening of paths and xarray objects as lazily read datasets with dimensions time, y and x."""

import os
import warnings
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from thalweg.earth.cube.readers.axes import MAX_SIDE, as_dataset, with_date, with_standard_axes
from thalweg.earth.cube.readers.concatenation import concatenate_dates
from thalweg.earth.cube.readers.raster_names import date_in
from thalweg.earth.cube.readers.rasters import RASTER_SUFFIXES, SIDECAR_SUFFIXES, open_rasters
from thalweg.earth.sensors import known_sensors, sensor_by_name
from thalweg.errors import DataWarning, MissingPathError, UsageError
from thalweg.io.redaction import redact

if TYPE_CHECKING:
    import xarray as xr

    Opened = Iterator[tuple[str, str | None, xr.Dataset]]
    Source = str | Path | xr.Dataset | xr.DataArray | Mapping[str, xr.Dataset | xr.DataArray]

CUBE_SUFFIXES = (".nc", ".nc4", ".cdf", ".netcdf", ".h5", ".hdf5", ".zarr", ".zip")
_EXPECTED = "expected NetCDF, Zarr or GeoTIFF"
_ENGINES = {b"\x89HDF\r\n\x1a\n": "h5netcdf", b"CDF\x01": "scipy", b"CDF\x02": "scipy", b"PK\x03\x04": "zarr"}
_RASTERS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+", b"<VRTDataset", b"\x00\x00\x00\x0cjP  ")
_ZARR_METADATA = ("zarr.json", ".zgroup", ".zmetadata", ".zarray")


def open_datasets(source: "Source") -> "Opened":
    """Open everything in a source.

    Args:
        source: a NetCDF file, a Zarr store (a folder or zipped), a raster, a folder of these, an xarray Dataset or
            DataArray, or a mapping of Datasets or DataArrays by sensor name.

    Yields:
        The file for messages, the name of the sensor or None if it is not known, and the dataset.

    Raises:
        MissingPathError: the path does not exist.
        UsageError: something cannot be read or understood; the message says what to do.
    """
    import xarray as xr

    if isinstance(source, xr.Dataset | xr.DataArray):
        yield "dataset", None, _standard(source, "dataset")
    elif isinstance(source, Mapping):
        for name, data in cast("Mapping[str, xr.Dataset | xr.DataArray]", source).items():
            where = f"dataset {name!r}"
            yield where, sensor_by_name(name).name, _standard(data, where)
    elif not isinstance(source, str | os.PathLike):
        raise UsageError(
            f"a cube of type {type(source).__name__}: expected a path, or a Dataset or DataArray of xarray"
        )
    else:
        path = Path(source)
        if not path.exists():
            raise MissingPathError(f"{redact(str(path))}: no such file or folder")
        if path.is_dir() and not _is_zarr(path):
            yield from _open_folder(path)
        elif _is_raster(path):
            yield from open_rasters([path], path.parent)
        else:
            yield from _open_cube(path)


def _standard(data: "xr.Dataset | xr.DataArray", where: str) -> "xr.Dataset":
    import xarray as xr

    if not isinstance(data, xr.Dataset | xr.DataArray):
        raise UsageError(f"{where}: {type(data).__name__}, expected an xarray Dataset or DataArray")
    return with_standard_axes(as_dataset(data) if isinstance(data, xr.DataArray) else data, where)


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and (path.suffix == ".zarr" or any((path / name).exists() for name in _ZARR_METADATA))


def _is_raster(path: Path) -> bool:
    if not path.is_file():
        return False
    return path.suffix.lower() in RASTER_SUFFIXES or _start(path).lstrip().startswith(_RASTERS)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): {_EXPECTED}") from error


def _open_folder(folder: Path) -> "Opened":
    """Open the cubes of a folder, and the rasters in it and its sub-folders."""
    cubes, rasters, others = [], [], []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        below = sorted(file for file in entry.rglob("*") if file.suffix.lower() in RASTER_SUFFIXES)
        if _is_zarr(entry) or (entry.is_file() and entry.suffix.lower() in CUBE_SUFFIXES):
            cubes.append(entry)
        elif entry.is_file() and entry.suffix.lower() in RASTER_SUFFIXES:
            rasters.append(entry)
        elif entry.is_dir() and below:
            rasters += below
        elif entry.suffix.lower() not in SIDECAR_SUFFIXES:
            others.append(entry.name)
    if not cubes and not rasters:
        held = f" (it holds {', '.join(others[:5])})" if others else ""
        raise UsageError(f"{folder}: no NetCDF (.nc), Zarr (.zarr) or GeoTIFF (.tif) in this folder{held}")
    if others:
        warnings.warn(f"{folder.name}: left out, not a cube: {', '.join(others)}", DataWarning, stacklevel=2)
    opened = chain.from_iterable(map(_open_cube, cubes))
    yield from concatenate_dates(chain(opened, open_rasters(rasters, folder) if rasters else ()))


def _open_cube(path: Path) -> "Opened":
    names = {sensor.name for sensor in known_sensors()}
    for group, dataset in _open_groups(path).items():
        where = f"{path}{group}" if group != "/" else str(path)
        hint = group.strip("/")
        dataset = _dated(with_standard_axes(_with_indexes(dataset, where), where), path)
        yield where, hint if hint in names else None, dataset


def _with_indexes(dataset: "xr.Dataset", where: str) -> "xr.Dataset":
    """Check the length of a dataset's axes, then add its indexes and load its small variables."""
    long = [f"{name} ({size})" for name, size in dataset.sizes.items() if size > MAX_SIDE]
    if long:
        raise UsageError(f"{where}: dimensions of {', '.join(long)}, expected at most {MAX_SIDE}: the file is damaged")
    for name in dataset.dims:
        if name in dataset.coords and dataset[name].dims == (name,):
            try:
                dataset = dataset.assign_coords({name: (name, dataset[name].values, dataset[name].attrs)})
            except Exception as error:  # readers raise many kinds for a damaged file
                raise _unreadable(where, error, f"its coordinate {name}") from error
    for name, variable in dataset.variables.items():
        if variable.ndim < 2:  # scalars and variables over time
            try:
                variable.load()
            except Exception as error:  # readers raise many kinds for a damaged file
                raise _unreadable(where, error, f"its variable {name}") from error
    return dataset


def _dated(dataset: "xr.Dataset", path: Path) -> "xr.Dataset":
    """Give a dataset of a single date, which is only in its file's name, the dimension time."""
    if {"y", "x"} <= set(dataset.dims) and "time" not in dataset.variables and "time" not in dataset.dims:
        date = date_in(path.name.split(".")[0], str(path))
        if date is not None:
            return with_date(dataset, date)
    return dataset


def _open_groups(path: Path) -> "Mapping[str, xr.Dataset]":
    import xarray as xr

    engine = _engine(path)
    options: dict[str, Any] = {"mask_and_scale": False, "decode_times": False, "decode_coords": "all"}
    source: Any = path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing metadata are reported later, in one line
            if engine == "scipy":
                # read as a whole, since a memory map would end the process if the file were truncated later
                dataset = xr.open_dataset(path, engine="scipy", create_default_indexes=False, mmap=False, **options)
                return {"/": dataset}
            if engine == "zarr":
                from thalweg.earth.cube.readers.zarr_stores import open_store

                options["consolidated"] = False  # consolidated metadata may be out of date
                source = open_store(path)
            if engine == "h5netcdf":
                import h5py

                # an unreadable root fails here, since h5netcdf would leave a half-opened file that prints errors
                with h5py.File(path) as file:
                    dict(file.attrs)
            return xr.open_groups(source, engine=engine, create_default_indexes=False, **options)
    except Exception as error:  # readers raise many kinds for an unreadable file
        raise _unreadable(str(path), error) from error


def _engine(path: Path) -> str:
    """Return the name of the xarray backend that reads a cube, by the file's first bytes."""
    if path.is_dir():
        return "zarr"
    start = _start(path)
    for magic, engine in _ENGINES.items():
        if start.startswith(magic):
            return engine
    kind = "CDF-5" if start.startswith(b"CDF") else f"it starts with {start[:8]!r}"
    raise UsageError(f"{path}: not a readable cube ({kind}): {_EXPECTED}")


def _unreadable(where: str, error: Exception, what: str = "") -> UsageError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return UsageError(f"{where}: not a readable cube ({what}{': ' if what else ''}{reason}): {_EXPECTED}")
