"""How embeddings are written and read: Zarr v3, one shard a block, self-describing and resumable."""

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg._version import __version__
from thalweg.earth.embedder import CONTEXT_DAYS, Block, Job, Progress, embed_blocks
from thalweg.earth.fusion import QUANTILE_LEVELS
from thalweg.earth.sensors import Quality
from thalweg.errors import ThalwegError, UsageError

if TYPE_CHECKING:
    import xarray as xr

PROGRESS_FILE = "unfinished.json"

_CONVENTIONS = [
    {"name": "geoemb:", "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c"},
    {"name": "spatial:", "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"},
    {"name": "proj:", "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f"},
]


def attributes(job: Job) -> dict[str, Any]:
    """The store's attributes: conventions `geoemb:`, `proj:`, `spatial:`, and the provenance."""
    grid = job.cube.grid
    step = grid.resolution
    left, top = float(grid.x[0]) - step / 2, float(grid.y[0]) + step / 2
    rows, columns = grid.shape
    return {
        "Conventions": "CF-1.8",
        "title": f"Thalweg embeddings of {job.cube.name}",
        "zarr_conventions": _CONVENTIONS,
        "geoemb:type": "pixel",
        "geoemb:dimensions": job.size,
        "geoemb:model": job.model.identifier,
        "geoemb:source_data": ", ".join(series.sensor.title for series in job.cube.series.values()),
        "geoemb:data_type": "float32",
        "geoemb:gsd": step,
        "proj:code": grid.describe(),
        "proj:wkt2": grid.crs,
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [step, 0.0, left, 0.0, -step, top],
        "spatial:shape": [rows, columns],
        "spatial:bbox": [left, top - rows * step, left + columns * step, top],
        "thalweg:version": __version__,
        "thalweg:model": job.model.identifier,
        "thalweg:sources": {
            name: {
                "where": Path(series.where).name,
                "dates": len(series.dates),
                "bands": [
                    band for band, here in zip(series.sensor.band_names, series.present_bands, strict=True) if here
                ],
                "items": series.items,
            }
            for name, series in job.cube.series.items()
            if name in job.model.sensors
        },
    }


def empty_dataset(job: Job, lazy: bool = False) -> "xr.Dataset":
    """The embedding cube with its coordinates and attributes, filled with "nothing here" values."""
    import rioxarray  # noqa: F401  (gives datasets their .rio)
    import xarray as xr

    grid = job.cube.grid
    shape = (len(job.dates), *grid.shape)
    vectors = (shape[0], job.size, *grid.shape)
    if lazy:
        import dask.array

        def full(of: tuple[int, ...], value: float, dtype: Any) -> Any:
            return dask.array.full(of, value, dtype=dtype, chunks=of)
    else:

        def full(of: tuple[int, ...], value: float, dtype: Any) -> Any:
            return np.full(of, value, dtype)

    levels = [float(value) for value in job.model.fusion.quantiles]
    unit = levels[QUANTILE_LEVELS.index(0.68)]
    flags = [quality.name.lower() for quality in Quality]
    pixel, vector = ("time", "y", "x"), ("time", "embedding", "y", "x")
    variables = {
        "embeddings": (vector, full(vectors, np.nan, np.float32), {"long_name": "embedding", "units": "1"}),
        "uncertainty": (
            vector,
            full(vectors, np.nan, np.float32),
            {
                "long_name": "half-width of the 68 % interval of the embedding, were more of the context seen",
                "interval_levels": list(QUANTILE_LEVELS),
                "interval_factors": [level / unit for level in levels],
            },
        ),
        "valid_context_dates": (
            pixel,
            full(shape, 0, np.uint16),
            {"long_name": f"valid acquisitions of all sensors within {CONTEXT_DAYS} days at the pixel"},
        ),
        "quality": (
            pixel,
            full(shape, Quality.OUTSIDE, np.uint8),
            {"long_name": "quality flag", "flag_values": [int(q) for q in Quality], "flag_meanings": " ".join(flags)},
        ),
    }
    picture_attributes = {"long_name": "reference sensor as a picture", "bands": list(job.picture_bands)}
    pictures = (shape[0], 3, *grid.shape)
    variables["picture"] = (("time", "colour", "y", "x"), full(pictures, 0, np.uint8), picture_attributes)
    for name in job.companions:
        variables[f"gap_{name}"] = (
            pixel,
            full(shape, np.nan, np.float32),
            {"long_name": f"signed days to the nearest valid {name} acquisition", "units": "days"},
        )
    dataset = xr.Dataset(
        variables,
        coords={
            "time": ("time", job.dates),
            "embedding": ("embedding", np.arange(job.size)),
            "y": ("y", grid.y, {"units": "m", "standard_name": "projection_y_coordinate"}),
            "x": ("x", grid.x, {"units": "m", "standard_name": "projection_x_coordinate"}),
        },
        attrs=attributes(job),
    )
    return dataset.rio.write_crs(grid.crs)


def block_arrays(block: Block) -> dict[str, np.ndarray]:
    """A block's results under the names of the store's variables."""
    gaps = {f"gap_{name}": gap for name, gap in block.gaps.items()}
    return {
        "embeddings": block.embeddings,
        "uncertainty": block.uncertainty,
        "valid_context_dates": block.valid_context_dates,
        "quality": block.quality,
        "picture": block.picture,
        **gaps,
    }


def place(dataset: "xr.Dataset", block: Block) -> None:
    """Write a block's results into a dataset in memory."""
    window = block.window
    rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
    for variable, values in block_arrays(block).items():
        dataset[variable].values[..., rows, columns] = values


def embed_to_zarr(job: Job, out: str | Path, progress: Progress | None = None) -> Path:
    """Embed a cube into a Zarr store, block by block.

    The store grows beside `out` under a hidden name and gets its own when complete. A killed run goes on where
    it stopped when the same job is started again; a failed one leaves nothing.

    Raises:
        UsageError: `out` exists already.
        ThalwegError: the store can not be written.
    """
    out = Path(out)
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    unfinished = out.with_name(f".{out.name}.unfinished")
    identity = _identity(job)
    try:
        done = _resume(unfinished, identity)
        if done is None:
            shutil.rmtree(unfinished, ignore_errors=True)
            _create(job, unfinished)
            done = set()
            _record(unfinished, identity, done)
        for index, block in embed_blocks(job, progress, frozenset(done)):
            _write_block(unfinished, block)
            done.add(index)
            _record(unfinished, identity, done)
        (unfinished / PROGRESS_FILE).unlink()
        unfinished.rename(out)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise ThalwegError(f"{out}: could not be written ({error}): free some space or choose another disk") from error
    except Exception:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return out


def _identity(job: Job) -> dict[str, Any]:
    return {
        "model": job.model.identifier,
        "cube": job.cube.name,
        "sources": attributes(job)["thalweg:sources"],
        "modified": [_modified(series.where) for series in job.cube.series.values()],
        "grid": attributes(job)["spatial:transform"],
        "dates": [str(date) for date in job.dates],
        "size": job.size,
        "block": job.block,
        "version": __version__,
    }


def _modified(where: str) -> int | None:
    """When a source's file was last written, in ns; None where it is no single file."""
    for path in (Path(where), Path(where).parent):  # a group's name follows the file's
        if path.is_file():
            return path.stat().st_mtime_ns
    return None


def _resume(unfinished: Path, identity: dict[str, Any]) -> set[int] | None:
    """Blocks done by an earlier run of the same job, or None where there is nothing to go on with."""
    try:
        state = json.loads((unfinished / PROGRESS_FILE).read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return set(state["done"]) if state["identity"] == identity else None


def _record(unfinished: Path, identity: dict[str, Any], done: set[int]) -> None:
    new = unfinished / f"{PROGRESS_FILE}.new"
    new.write_text(json.dumps({"identity": identity, "done": sorted(done)}))
    new.replace(unfinished / PROGRESS_FILE)


def _create(job: Job, path: Path) -> None:
    """Write the store's metadata and coordinates; no chunk of data yet."""
    import zarr

    dataset = empty_dataset(job, lazy=True)
    dates, side = len(job.dates), job.block
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in dataset.data_vars.items():
        inner = variable.shape[1:-2]  # one chunk holds whole vectors of one date
        floating = np.issubdtype(variable.dtype, np.floating)
        encoding[str(name)] = {
            "chunks": (1, *inner, side, side),
            "shards": (dates, *inner, side, side),
            "_FillValue": np.nan if floating else None,
        }
    encoding["time"] = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    dataset.to_zarr(path, mode="w", encoding=encoding, compute=False, zarr_format=3, consolidated=False)
    # Named here, the reference system is a coordinate to any reader that decodes CF.
    zarr.open_group(path, mode="r+").attrs["coordinates"] = "spatial_ref"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # consolidation is no part of format 3 yet
        zarr.consolidate_metadata(path)


def _write_block(path: Path, block: Block) -> None:
    import zarr

    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    window = block.window
    rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
    for variable, values in block_arrays(block).items():
        array = group[variable]
        assert isinstance(array, zarr.Array)
        array[..., rows, columns] = values


def open_embeddings(path: str | Path) -> "xr.Dataset":
    """Open an embedding store lazily; `UsageError` where it is none."""
    import xarray as xr

    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such store")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a store without consolidated metadata is fine
            dataset = xr.open_zarr(path, chunks=None, mask_and_scale=False, decode_coords="all")
    except Exception as error:  # whatever zarr raises, the path holds no readable store
        raise UsageError(f"{path}: not a readable Zarr store: expected one written by `thalweg earth embed`") from error
    if "geoemb:model" not in dataset.attrs or "embeddings" not in dataset:
        raise UsageError(f"{path}: a Zarr store without embeddings: expected one written by `thalweg earth embed`")
    return dataset
