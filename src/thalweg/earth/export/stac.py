"""Export of embeddings to a STAC collection: an item with GeoTIFFs per date, and an item for the model.

The fields follow the extensions for embeddings (`emb:`, a proposal, version 0.0.1), projection, processing, citation
and machine learning models; docs/store.md lists them.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.export.date_layers import EMBEDDINGS, UNCERTAINTY, DateLayer, date_layers
from thalweg.earth.export.date_names import Progress, date_name
from thalweg.earth.export.mlm_item import copy_model, model_item
from thalweg.earth.export.raster import write_cog
from thalweg.earth.model.earth_model import SHIPPED, EarthModel
from thalweg.earth.sensors import known_sensors
from thalweg.earth.store.conventions.geo_embeddings import source_uri
from thalweg.earth.store.portable import structured
from thalweg.io.atomic import atomic_folder
from thalweg.io.hashing import hash_uri

if TYPE_CHECKING:
    import pystac
    import xarray as xr

EMBEDDING_EXTENSION = "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json"
"""Schema of the embedding extension."""

PROCESSING_EXTENSION = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
"""Schema of the processing extension."""

SCIENTIFIC_EXTENSION = "https://stac-extensions.github.io/scientific/v1.0.0/schema.json"
"""Schema of the extension for citations."""

RASTER_EXTENSION = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
"""Schema of the raster extension."""

COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
"""Media type of a cloud-optimised GeoTIFF."""

_PUBLICATION = {
    "doi": "10.48550/arXiv.2511.11706",
    "citation": (
        "Peters et al. (2025): Context-Aware Multimodal Representation Learning for Spatio-Temporally Explicit "
        "Environmental Modelling. arXiv:2511.11706"
    ),
}


def write_catalogue(
    dataset: "xr.Dataset", out: str | Path, model: str | Path | None = None, progress: Progress | None = None
) -> Path:
    """Write a self-contained STAC collection: one item per date with GeoTIFFs, and the model as an item.

    GeoTIFFs are those of `write_cogs`. All links between the files are relative, and the model's weights are copied.

    Args:
        dataset: embeddings as `thalweg.open` returns them.
        out: folder to write; must not exist.
        model: folder of the model of the embeddings; the shipped weights by default.
        progress: callback with the number of finished dates and their total.

    Returns:
        The folder, with `collection.json` and one folder per item.

    Raises:
        MissingPathError: there is no folder `model`.
        UsageError: `out` exists, or the embeddings are those of another model.
        ThalwegError: the folder cannot be written.
    """
    import pystac

    folder = Path(model) if model is not None else SHIPPED
    loaded = EarthModel.load(folder)
    loaded.check_made(dataset)
    dates, layers = dataset.sizes["time"], date_layers(dataset)
    with atomic_folder(out) as root:
        collection = _collection(dataset, layers)
        model_entry = model_item(loaded, folder)
        copy_model(loaded, folder, root / model_entry.id)
        collection.add_item(model_entry)
        for index in range(dates):
            item = _item(dataset, index, layers)
            (root / item.id).mkdir()
            for layer in layers:
                write_cog(dataset, index, layer, root / item.id / layer.file_name(item.id))
            collection.add_item(item)
            if progress:
                progress(index + 1, dates)
        collection.add_link(pystac.Link("emb:model", model_entry, "application/geo+json", "the encoder"))
        collection.add_link(pystac.Link("emb:decoder", model_entry, "application/geo+json", "rebuilds each sensor"))
        for name, source in structured(dataset.attrs, "thalweg:sources").items():
            title = f"{name}: {', '.join(source['bands'])}"
            collection.add_link(pystac.Link("emb:source-data", _source_address(name), title=title))
        collection.normalize_hrefs(f"{root.as_posix()}/")  # without the slash, a name with a dot counts as a file
        collection.save(pystac.CatalogType.SELF_CONTAINED)
    return Path(out)


def _moment(value: np.datetime64) -> datetime:
    return datetime.fromtimestamp(float(value.astype("datetime64[ms]").astype(np.int64)) / 1000, UTC)


def _bounds(dataset: "xr.Dataset") -> list[float]:
    """Return west, south, east and north of the grid in degrees."""
    from pyproj import Transformer

    to_bounds = Transformer.from_crs(dataset.attrs["proj:wkt2"], "EPSG:4326", always_xy=True)
    return [float(value) for value in to_bounds.transform_bounds(*dataset.attrs["spatial:bbox"])]


def _outline(dataset: "xr.Dataset") -> dict[str, Any]:
    """Return the outline of the grid in degrees as GeoJSON."""
    from pyproj import Transformer
    from shapely.geometry import Polygon, mapping

    left, bottom, right, top = dataset.attrs["spatial:bbox"]
    to_bounds = Transformer.from_crs(dataset.attrs["proj:wkt2"], "EPSG:4326", always_xy=True)
    corners = to_bounds.transform([left, right, right, left], [bottom, bottom, top, top])
    outline: dict[str, Any] = mapping(Polygon(zip(*corners, strict=True)))
    return outline


def _extensions(layers: tuple[DateLayer, ...], *others: str) -> list[str]:
    """Return the extensions of an object; integers are described by the raster extension."""
    return [*others, *([RASTER_EXTENSION] if any(layer.encoding for layer in layers) else [])]


def _source_address(name: str) -> str:
    """Return the address of the data of a sensor."""
    return next((source_uri(sensor) for sensor in known_sensors() if sensor.name == name), hash_uri(name))


def _software(dataset: "xr.Dataset") -> dict[str, Any]:
    """Return the processing fields of embeddings."""
    return {"processing:software": {"thalweg": dataset.attrs["thalweg:version"]}, "processing:level": "L4"}


def _uncertainty(dataset: "xr.Dataset") -> dict[str, Any]:
    """Return the field `emb:uncertainty`; empty if the dataset has none."""
    if UNCERTAINTY not in dataset:
        return {}
    method = "calibrated interval of each dimension"
    return {"emb:uncertainty": {"method": method, "description": str(dataset.uncertainty.attrs["long_name"])}}


def _asset_fields(layer: DateLayer) -> dict[str, Any]:
    """Return the fields of a layer's asset that are the same for all dates."""
    encoding = layer.encoding
    scale = {"raster:scale": encoding.scale, "raster:offset": encoding.offset} if encoding else {}
    band = {"data_type": layer.dtype, "nodata": "nan" if np.isnan(layer.nodata) else layer.nodata, **scale}
    return {
        "type": COG_TYPE,
        "roles": ["data"] if layer.name == EMBEDDINGS else [layer.name],
        "title": layer.description,
        "bands": [{"name": name, **band} for name in layer.bands],
    }


def _collection(dataset: "xr.Dataset", layers: tuple[DateLayer, ...]) -> "pystac.Collection":
    import pystac

    times = [_moment(dataset.time.values[index]) for index in (0, -1)]
    name = dataset.attrs["title"].rpartition(" of ")[2]
    has_all_observed = "observed" not in dataset or bool(dataset.observed.values.all())
    return pystac.Collection(
        id=f"embeddings-{name}",
        title=dataset.attrs["title"],
        description=(
            f"{dataset.sizes['embedding']} values per pixel and {'clear date' if has_all_observed else 'day'}, learned "
            f"from {', '.join(structured(dataset.attrs, 'thalweg:sources'))} by {dataset.attrs['thalweg:model']}."
        ),
        extent=pystac.Extent(pystac.SpatialExtent([_bounds(dataset)]), pystac.TemporalExtent([[times[0], times[1]]])),
        license="other",
        providers=[pystac.Provider("Thalweg", roles=[pystac.ProviderRole.PROCESSOR], extra_fields=_software(dataset))],
        stac_extensions=_extensions(layers, EMBEDDING_EXTENSION, PROCESSING_EXTENSION, SCIENTIFIC_EXTENSION),
        extra_fields={
            "emb:type": "pixel",
            "emb:dimensions": dataset.sizes["embedding"],
            **({"emb:temporal_resolution": "single_acquisition"} if has_all_observed else {}),
            "emb:fit_for_use": ["similarity_search", "classification", "regression", "change_detection"],
            **_uncertainty(dataset),
            "data_type": next(layer.dtype for layer in layers if layer.name == EMBEDDINGS),
            "gsd": dataset.attrs["geoemb:gsd"],
            "item_assets": {layer.name: _asset_fields(layer) for layer in layers},
            "sci:publications": [_PUBLICATION],
        },
    )


def _item(dataset: "xr.Dataset", index: int, layers: tuple[DateLayer, ...]) -> "pystac.Item":
    import pystac
    from pystac.extensions.projection import ProjectionExtension

    identifier = date_name(dataset, index)
    sources = structured(dataset.attrs, "thalweg:sources")
    properties: dict[str, Any] = {
        "gsd": dataset.attrs["geoemb:gsd"],
        "emb:runtime_parameters": {
            "model": dataset.attrs["thalweg:model"],
            "thalweg_version": dataset.attrs["thalweg:version"],
            "sensors": {name: source["bands"] for name, source in sources.items()},
        },
        **_uncertainty(dataset),
        **_software(dataset),
        "processing:lineage": f"embedded by {dataset.attrs['thalweg:model']} from {', '.join(sources)}",
    }
    if "observed" in dataset:
        properties["thalweg:observed"] = bool(dataset.observed.values[index])
    if "geoemb:quantization" in dataset.attrs:
        stored = structured(dataset.attrs, "geoemb:quantization")
        properties["emb:quantization"] = {
            **{key: stored[key] for key in ("method", "original_dtype", "quantized_dtype")},
            "scale": [stored["scale"]["scale"]],
            "offset": [stored["scale"]["offset"]],
        }
    item = pystac.Item(
        id=identifier,
        geometry=_outline(dataset),
        bbox=_bounds(dataset),
        datetime=_moment(dataset.time.values[index]),
        properties=properties,
        stac_extensions=_extensions(layers, EMBEDDING_EXTENSION, PROCESSING_EXTENSION),
    )
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    code = dataset.attrs.get("proj:code")
    projection.apply(
        code=code,
        wkt2=None if code else dataset.attrs["proj:wkt2"],
        shape=[*map(int, dataset.attrs["spatial:shape"])],
        transform=[*map(float, dataset.attrs["spatial:transform"])],
        bbox=[*map(float, dataset.attrs["spatial:bbox"])],
    )
    for layer in layers:
        fields = _asset_fields(layer)
        asset = pystac.Asset(
            f"./{layer.file_name(identifier)}",
            media_type=fields.pop("type"),
            roles=fields.pop("roles"),
            title=fields.pop("title"),
            extra_fields=fields,
        )
        item.add_asset(layer.name, asset)
    return item
