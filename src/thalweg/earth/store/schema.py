"""Contents of an embedding store, in memory and on disk: variables, coordinates and attributes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg._version import __version__
from thalweg.earth.cube.grid import projection
from thalweg.earth.cube.windows import Window
from thalweg.earth.declarations import Quality, StorageEncoding
from thalweg.earth.store.conventions.declared_conventions import GEO_EMBEDDINGS, PROJECTION, SPATIAL
from thalweg.earth.store.conventions.geo_embeddings import depths
from thalweg.earth.store.quantization import quantization_attributes, quantization_convention, quantizations, quantize

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

CONTEXT_DAYS = 120
"""Reach in days of the variable `valid_context_dates` before and after a date."""

INTERVAL_LEVEL = 0.68
"""Probability of the interval whose half-width is the variable `uncertainty`."""

PREVIEW = "picture"
"""Variable with the RGB preview of the reference sensor."""

OBSERVED = "observed"
"""Variable that tells which dates are overpasses of the reference sensor."""

OVERPASS_OF = "whether the date is an overpass of "
"""Beginning of the name of `OBSERVED`, before the title of the reference sensor."""

STORE_LAYOUT = 2
"""Version of the layout that this package writes; an unfinished store of another one is not resumed."""


@dataclass(frozen=True, eq=False)
class StoreSchema:
    """Everything that decides the layout and the metadata of a store.

    Attributes:
        name: name of the embedded cube, for the title.
        model: identifier of the model.
        model_uri: URI of the model.
        dates: dates of the embeddings, datetime64[ns] (T,).
        observed: whether each date is an overpass of the reference sensor, bool (T,).
        reference: title of the reference sensor.
        dimensions: number of dimensions of an embedding, K.
        grid: pixel grid, H x W.
        x: centres of the columns in metres, float64 (W,), rising.
        y: centres of the rows in metres, float64 (H,), falling.
        block: side of a block in pixels; a block is one shard.
        quantize: bits of the quantized encoding, 8 or 16; None for float32.
        sources: provenance of each sensor's data by its name (`thalweg:sources`), JSON values.
        source_uris: URIs of the data of the cube's sensors.
        preview_bands: bands of the reference sensor shown as red, green and blue.
        auxiliary_sensors: names of the model's other sensors, which have a `gap_` variable each.
        interval_factors: half-width of each calibrated interval, relative to that of `INTERVAL_LEVEL`, by its level.
    """

    name: str
    model: str
    model_uri: str
    dates: np.ndarray
    observed: np.ndarray
    reference: str
    dimensions: int
    grid: "GeoBox"
    x: np.ndarray
    y: np.ndarray
    block: int
    quantize: int | None
    sources: Mapping[str, Mapping[str, Any]]
    source_uris: tuple[str, ...]
    preview_bands: tuple[str, ...]
    auxiliary_sensors: tuple[str, ...]
    interval_factors: Mapping[float, float]

    @property
    def quantizations(self) -> dict[str, StorageEncoding]:
        """Encoding of each quantized variable by its name; empty for float32."""
        return quantizations(self.quantize)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the store: conventions `geoemb:`, `proj:` and `spatial:`, and the provenance."""
        crs = projection(self.grid)
        encoding = self.quantizations.get("embeddings")
        return {
            "Conventions": "CF-1.8",
            "title": f"Thalweg embeddings of {self.name}",
            "zarr_conventions": [GEO_EMBEDDINGS, PROJECTION, SPATIAL],
            "geoemb:type": "pixel",
            "geoemb:dimensions": self.dimensions,
            "geoemb:model": self.model_uri,
            "geoemb:depths": depths(self.dimensions),
            "geoemb:source_data": list(self.source_uris),
            "geoemb:data_type": encoding.dtype if encoding else "float32",
            **({"geoemb:quantization": quantization_convention(self.quantize)} if self.quantize else {}),
            "geoemb:gsd": self.grid.resolution.x,
            "geoemb:build_version": __version__,
            **({"proj:code": f"EPSG:{crs.to_epsg()}"} if crs.to_epsg() else {}),
            "proj:wkt2": crs.to_wkt(),
            **spatial_attributes(self.x, self.y, self.grid.resolution.x),
            "thalweg:version": __version__,
            "thalweg:model": self.model,
            "thalweg:sources": {name: dict(source) for name, source in self.sources.items()},
        }


@dataclass(frozen=True)
class Block:
    """Results of one window: T dates, K dimensions, h x w pixels.

    Attributes:
        window: the window.
        embeddings: float32 (T, K, h, w), NaN where there is no embedding.
        uncertainty: half-width of the 68 % interval, float32 (T, K, h, w).
        valid_context_dates: valid dates of all sensors within `CONTEXT_DAYS`, uint16 (T, h, w).
        quality: `Quality` of the reference sensor, uint8 (T, h, w).
        preview: RGB preview of the reference sensor, uint8 (T, 3, h, w), 0 where there is no measurement.
        gaps: signed days to the nearest valid date of each auxiliary sensor by its name, float32 (T, h, w).
    """

    window: Window
    embeddings: np.ndarray
    uncertainty: np.ndarray
    valid_context_dates: np.ndarray
    quality: np.ndarray
    preview: np.ndarray
    gaps: dict[str, np.ndarray]

    def arrays(self, bits: int | None = None) -> dict[str, np.ndarray]:
        """Return the results under the names of the store's variables, quantized to `bits` if given."""
        arrays = {
            "embeddings": self.embeddings,
            "uncertainty": self.uncertainty,
            "valid_context_dates": self.valid_context_dates,
            "quality": self.quality,
            PREVIEW: self.preview,
            **{f"gap_{name}": gap for name, gap in self.gaps.items()},
        }
        return arrays | {name: quantize(arrays[name], encoding) for name, encoding in quantizations(bits).items()}


def spatial_attributes(x: np.ndarray, y: np.ndarray, step: float) -> dict[str, Any]:
    """Return the `spatial:` attributes of a pixel grid.

    Args:
        x: (W,), centres of the columns, in units of the reference system.
        y: (H,), centres of the rows.
        step: side of a pixel.
    """
    left, top = float(x[0]) - step / 2, float(y[0]) + step / 2
    return {
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [step, 0.0, left, 0.0, -step, top],
        "spatial:shape": [len(y), len(x)],
        "spatial:bbox": [left, top - len(y) * step, left + len(x) * step, top],
    }


def fill_value(name: str, dtype: np.dtype) -> Any:
    """Return the value that a variable has where no chunk is written, also for readers without CF, such as GDAL."""
    if name == "quality":
        return int(Quality.OUTSIDE)
    if np.issubdtype(dtype, np.floating):
        return np.nan
    is_quantized = name in ("embeddings", "uncertainty")
    return quantizations(8 * dtype.itemsize)[name].fill if is_quantized else 0


def empty_dataset(schema: StoreSchema, lazy: bool = False) -> "xr.Dataset":
    """Return the dataset of a store with coordinates and attributes, its variables filled with their fill values.

    Args:
        schema: layout and metadata.
        lazy: whether the variables with pixels are dask arrays, which hold no memory.
    """
    import rioxarray  # noqa: F401  (registers .rio)
    import xarray as xr

    def full(shape: tuple[int, ...], value: float, dtype: Any) -> Any:
        if not lazy:
            return np.full(shape, value, dtype)
        import dask.array

        return dask.array.full(shape, value, dtype=dtype, chunks=shape)

    size = (len(schema.y), len(schema.x))
    pixels, vectors = (len(schema.dates), *size), (len(schema.dates), schema.dimensions, *size)
    encodings = schema.quantizations

    def numbers(name: str) -> Any:
        encoding = encodings.get(name)
        return full(vectors, encoding.fill, encoding.dtype) if encoding else full(vectors, np.nan, np.float32)

    context_label = f"valid acquisitions of all sensors within {CONTEXT_DAYS} days at the pixel"  # codespell:ignore
    flags = [quality.name.lower() for quality in Quality]
    pixel, vector = ("time", "y", "x"), ("time", "embedding", "y", "x")
    variables: dict[str, tuple[tuple[str, ...], Any, dict[str, Any]]] = {
        "embeddings": (vector, numbers("embeddings"), {"long_name": "embedding", "units": "1"}),
        "uncertainty": (
            vector,
            numbers("uncertainty"),
            {
                "long_name": "half-width of the 68 % interval of the embedding, were more of the context seen",
                "interval_levels": list(schema.interval_factors),
                "interval_factors": list(schema.interval_factors.values()),
            },
        ),
        "valid_context_dates": (
            pixel,
            full(pixels, 0, np.uint16),
            {"long_name": context_label},
        ),
        "quality": (
            pixel,
            full(pixels, Quality.OUTSIDE, np.uint8),
            {"long_name": "quality flag", "flag_values": [int(q) for q in Quality], "flag_meanings": " ".join(flags)},
        ),
        PREVIEW: (
            ("time", "colour", "y", "x"),
            full((len(schema.dates), 3, *size), 0, np.uint8),
            {"long_name": "reference sensor as a picture", "bands": list(schema.preview_bands)},
        ),
    }
    variables[OBSERVED] = (
        ("time",),
        schema.observed.astype(np.uint8),
        {
            "long_name": f"{OVERPASS_OF}{schema.reference}",
            "flag_values": [0, 1],
            "flag_meanings": "no_overpass overpass",
        },
    )
    for name in schema.auxiliary_sensors:
        variables[f"gap_{name}"] = (
            pixel,
            full(pixels, np.nan, np.float32),
            {"long_name": f"signed days to the nearest valid {name} acquisition", "units": "days"},
        )
    for name, encoding in encodings.items():
        variables[name][2].update(quantization_attributes(encoding))
    dataset = xr.Dataset(
        variables,
        coords={
            "time": ("time", schema.dates),
            "embedding": ("embedding", np.arange(schema.dimensions)),
            "y": ("y", schema.y, {"units": "m", "standard_name": "projection_y_coordinate"}),
            "x": ("x", schema.x, {"units": "m", "standard_name": "projection_x_coordinate"}),
        },
        attrs=schema.attributes(),
    )
    return dataset.rio.write_crs(projection(schema.grid).to_wkt())
