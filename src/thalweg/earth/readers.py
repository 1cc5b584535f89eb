"""From a path or xarray objects to datasets, lazily read."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from thalweg.earth.sensors import known_sensors, sensor_by_name
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

SUFFIXES = (".nc", ".zarr")


def open_datasets(
    source: "str | Path | xr.Dataset | Mapping[str, xr.Dataset]",
) -> "Iterator[tuple[str, str | None, xr.Dataset]]":
    """Yield (where, sensor name where the caller gave it, dataset) for everything in a source, lazily read."""
    import xarray as xr

    if isinstance(source, xr.Dataset):
        yield "dataset", None, source
    elif isinstance(source, Mapping):
        for name, dataset in cast("Mapping[str, xr.Dataset]", source).items():
            yield f"dataset {name!r}", sensor_by_name(name).name, dataset
    else:
        path = Path(source)
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        if path.is_dir() and path.suffix != ".zarr":
            files = sorted(entry for entry in path.iterdir() if entry.suffix in SUFFIXES)
            if not files:
                raise UsageError(f"{path}: no NetCDF (.nc) or Zarr (.zarr) in this folder")
        else:
            files = [path]
        for file in files:
            for group, dataset in _open_groups(file).items():
                where = f"{file}{group}" if group != "/" else str(file)
                hint = group.strip("/")
                yield where, hint if hint in {s.name for s in known_sensors()} else None, dataset


def _open_groups(path: Path) -> "Mapping[str, xr.Dataset]":
    import xarray as xr

    engine = "zarr" if path.suffix == ".zarr" else "h5netcdf"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is missing is said in one line, later
            return xr.open_groups(path, engine=engine, mask_and_scale=False, decode_coords="all")
    except Exception as error:  # whatever a reader raises, the file is not one it can read
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UsageError(f"{path}: not a readable cube ({reason}): expected NetCDF-4 or Zarr") from error
