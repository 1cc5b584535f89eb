"""What an embedding store holds: its variables, coordinates and attributes, alike in memory and on disk."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg._version import __version__
from thalweg.earth.cube.grid import projection
from thalweg.earth.inference.job import CONTEXT_DAYS, Block, Job
from thalweg.earth.model.fusion import QUANTILE_LEVELS
from thalweg.earth.sensors import Quality
from thalweg.earth.store.quantization import convention, quantizations
from thalweg.io.redaction import redact
from thalweg.io.zarr_chunks import checked_compressor

if TYPE_CHECKING:
    import xarray as xr

_CONVENTIONS = [
    {"name": "geoemb:", "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c"},
    {"name": "spatial:", "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"},
    {"name": "proj:", "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f"},
]


def attributes(job: Job) -> dict[str, Any]:
    """The store's attributes: conventions `geoemb:`, `proj:`, `spatial:`, and the provenance."""
    grid = job.cube.grid
    crs = projection(grid)
    coding = quantizations(job.quantise).get("embeddings")
    return {
        "Conventions": "CF-1.8",
        "title": f"Thalweg embeddings of {job.cube.name}",
        "zarr_conventions": _CONVENTIONS,
        "geoemb:type": "pixel",
        "geoemb:dimensions": job.size,
        "geoemb:model": job.model.identifier,
        "geoemb:source_data": [series.sensor.title for series in job.cube.series.values()],
        "geoemb:data_type": coding.dtype.name if coding else "float32",
        **({"geoemb:quantization": convention(job.quantise)} if job.quantise else {}),
        "geoemb:gsd": grid.resolution.x,
        "geoemb:build_version": __version__,
        **({"proj:code": f"EPSG:{crs.to_epsg()}"} if crs.to_epsg() else {}),
        "proj:wkt2": crs.to_wkt(),
        **spatial_attributes(job.cube.x, job.cube.y, grid.resolution.x),
        "thalweg:version": __version__,
        "thalweg:model": job.model.identifier,
        "thalweg:sources": {
            name: {
                "where": redact(Path(series.where).name),
                "dates": len(series.dates),
                "bands": [
                    band for band, here in zip(series.sensor.band_names, series.present_bands, strict=True) if here
                ],
                "items": [redact(item) for item in series.items],
                **({"assumed_clear": True} if series.is_assumed_clear else {}),
            }
            for name, series in job.cube.series.items()
            if name in job.model.sensors
        },
    }


def spatial_attributes(x: np.ndarray, y: np.ndarray, step: float) -> dict[str, Any]:
    """The `spatial:` attributes of pixel centres `step` apart."""
    left, top = float(x[0]) - step / 2, float(y[0]) + step / 2
    return {
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [step, 0.0, left, 0.0, -step, top],
        "spatial:shape": [len(y), len(x)],
        "spatial:bbox": [left, top - len(y) * step, left + len(x) * step, top],
    }


def check_layout(dataset: "xr.Dataset") -> None:
    """Raise `ValueError` where what an embedding store says of itself does not agree: its metadata are damaged.

    What the attributes and the coordinates both say is compared: shape, pixel size, place, dimensions, scale.
    """
    expected = ("time", "embedding", "y", "x")
    for name in ("embeddings", "uncertainty"):
        if name in dataset and dataset[name].dims != expected:
            raise ValueError(f"{name} has dimensions {', '.join(map(str, dataset[name].dims))}")
    missing = [name for name in expected if name not in dataset.coords]
    if missing:
        raise ValueError(f"no coordinate {', '.join(missing)}")
    if not np.issubdtype(dataset.time.dtype, np.datetime64):
        raise ValueError("time holds no dates")
    attrs, x, y = dataset.attrs, dataset.x.values, dataset.y.values
    if attrs["geoemb:dimensions"] != dataset.sizes["embedding"]:
        raise ValueError(f"geoemb:dimensions {attrs['geoemb:dimensions']} of {dataset.sizes['embedding']}")
    for name, value in spatial_attributes(x, y, attrs["geoemb:gsd"]).items():
        agrees = value == attrs[name] if name == "spatial:dimensions" else np.allclose(value, attrs[name], rtol=1e-9)
        if not agrees:
            raise ValueError(f"{name} is not that of x and y")
    for name in (name for name in ("x", "y") if dataset.sizes[name] > 1):
        if not np.allclose(np.abs(np.diff(dataset[name].values)), attrs["geoemb:gsd"], rtol=1e-6):
            raise ValueError(f"{name} is not in steps of geoemb:gsd")
    for name in ("embeddings", "uncertainty"):
        stated = {key: dataset[name].attrs.get(key) for key in ("scale_factor", "add_offset", "_FillValue")}
        bits = 8 * dataset[name].dtype.itemsize if dataset[name].dtype.kind in "iu" else None
        if bits is not None:
            coding = quantizations(bits)[name]
            if stated != {**coding.attributes, "_FillValue": coding.missing}:
                raise ValueError(f"{name} of {bits} bits with {stated}")
    for key, variable in dataset.data_vars.items():
        if variable.encoding.get("shards"):  # as `create_store` wrote it, not another program since
            name, written = str(key), np.asarray(variable.encoding.get("fill_value"))
            own = _unwritten(name, variable)
            if not np.array_equal(written, own, equal_nan=variable.dtype.kind == "f"):
                raise ValueError(f"{name} is {written} where nothing is written, expected {own}")


def _unwritten(name: str, variable: "xr.DataArray") -> Any:
    """What stands for no data where no chunk is written, to readers that know no CF, such as GDAL, too."""
    if name == "quality":
        return int(Quality.OUTSIDE)
    if np.issubdtype(variable.dtype, np.floating):
        return np.nan
    is_coded = name in ("embeddings", "uncertainty")
    return quantizations(8 * variable.dtype.itemsize)[name].missing if is_coded else 0


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

    coded = quantizations(job.quantise)

    def numbers(name: str) -> Any:
        coding = coded.get(name)
        return full(vectors, coding.missing, coding.dtype) if coding else full(vectors, np.nan, np.float32)

    levels = [float(value) for value in job.model.fusion.quantiles]
    unit = levels[QUANTILE_LEVELS.index(0.68)]
    flags = [quality.name.lower() for quality in Quality]
    pixel, vector = ("time", "y", "x"), ("time", "embedding", "y", "x")
    variables: dict[str, tuple[tuple[str, ...], Any, dict[str, Any]]] = {
        "embeddings": (vector, numbers("embeddings"), {"long_name": "embedding", "units": "1"}),
        "uncertainty": (
            vector,
            numbers("uncertainty"),
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
    for name, coding in coded.items():
        variables[name][2].update(coding.attributes)
    dataset = xr.Dataset(
        variables,
        coords={
            "time": ("time", job.dates),
            "embedding": ("embedding", np.arange(job.size)),
            "y": ("y", job.cube.y, {"units": "m", "standard_name": "projection_y_coordinate"}),
            "x": ("x", job.cube.x, {"units": "m", "standard_name": "projection_x_coordinate"}),
        },
        attrs=attributes(job),
    )
    return dataset.rio.write_crs(projection(grid).to_wkt())


def block_arrays(block: Block, bits: int | None = None) -> dict[str, np.ndarray]:
    """A block's results under the names of the store's variables, as codes of `bits` where asked for."""
    gaps = {f"gap_{name}": gap for name, gap in block.gaps.items()}
    arrays = {
        "embeddings": block.embeddings,
        "uncertainty": block.uncertainty,
        "valid_context_dates": block.valid_context_dates,
        "quality": block.quality,
        "picture": block.picture,
        **gaps,
    }
    return {**arrays, **{name: coding.encode(arrays[name]) for name, coding in quantizations(bits).items()}}


def _place_of(block: Block) -> tuple[slice, slice]:
    window = block.window
    return slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)


def place(dataset: "xr.Dataset", block: Block) -> None:
    """Write a block's results into a dataset in memory."""
    rows, columns = _place_of(block)
    for variable, values in block_arrays(block).items():
        dataset[variable].values[..., rows, columns] = values


def create_store(job: Job, path: Path) -> None:
    """Write a Zarr store's metadata and coordinates; no chunk of data yet."""
    import zarr

    dataset = empty_dataset(job, lazy=True)
    dates, side = len(job.dates), job.block
    coded = quantizations(job.quantise)
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in dataset.data_vars.items():
        inner = variable.shape[1:-2]  # one chunk holds whole vectors of one date
        floating = np.issubdtype(variable.dtype, np.floating)
        missing = coded[str(name)].missing if name in coded else np.nan if floating else None
        encoding[str(name)] = {
            "chunks": (1, *inner, side, side),
            "shards": (dates, *inner, side, side),
            "_FillValue": missing,
            "fill_value": _unwritten(str(name), variable),
        }
        for key in coded[str(name)].attributes if name in coded else ():
            del variable.attrs[key]  # written below: here they would make xarray encode the codes once more
    encoding["time"] = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    for name in dataset.variables:
        encoding.setdefault(str(name), {})["compressors"] = (checked_compressor(),)
    with warnings.catch_warnings():
        # Consolidation is no part of format 3 yet, and the record of what is done is no part of the store.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        dataset.to_zarr(path, mode="a", encoding=encoding, compute=False, zarr_format=3, consolidated=False)
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        for name, coding in coded.items():
            group[name].attrs.update(coding.attributes)
        # Named here, the reference system is a coordinate to any reader that decodes CF.
        group.attrs["coordinates"] = "spatial_ref"
        zarr.consolidate_metadata(path)


def write_block(path: Path, block: Block, bits: int | None = None) -> None:
    """Write a block's results to the shards of a store that are its own."""
    import zarr

    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    rows, columns = _place_of(block)
    for variable, values in block_arrays(block, bits).items():
        array = group[variable]
        assert isinstance(array, zarr.Array)
        array[..., rows, columns] = values
