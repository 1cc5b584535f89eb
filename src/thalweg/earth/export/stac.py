"""Export of embeddings to a STAC collection: an item with a GeoTIFF per date, and an item for the model.

The fields follow the embedding extension (`emb:`, a proposal, version 0.0.1), the projection extension and the machine
learning model extension; docs/store.md lists them.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.export.date_names import Progress, date_name
from thalweg.earth.export.raster import write_cog
from thalweg.earth.model.earth_model import SHIPPED, EarthModel
from thalweg.earth.store.portable import structured
from thalweg.io.atomic import atomic_folder

if TYPE_CHECKING:
    import pystac
    import xarray as xr

EMBEDDING_EXTENSION = "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json"
"""Schema of the embedding extension."""

_MODEL_TASK = "similarity-search"


def write_catalogue(
    dataset: "xr.Dataset", out: str | Path, model: str | Path | None = None, progress: Progress | None = None
) -> Path:
    """Write a self-contained STAC collection with one item and one GeoTIFF per date.

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
    dates = dataset.sizes["time"]
    with atomic_folder(out) as root:
        collection = _collection(dataset)
        model_entry = model_item(loaded, folder)
        collection.add_item(model_entry)
        for index in range(dates):
            item = _item(dataset, index)
            (root / item.id).mkdir()
            write_cog(dataset, index, root / item.id / f"{item.id}.tif")
            collection.add_item(item)
            if progress:
                progress(index + 1, dates)
        collection.add_link(pystac.Link("emb:model", model_entry, "application/geo+json", "the encoder"))
        collection.add_link(pystac.Link("emb:decoder", model_entry, "application/geo+json", "rebuilds each sensor"))
        for name, source in structured(dataset.attrs, "thalweg:sources").items():
            link = pystac.Link("emb:source-data", source["where"], title=f"{name}: {', '.join(source['bands'])}")
            collection.add_link(link)
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


def _collection(dataset: "xr.Dataset") -> "pystac.Collection":
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
        stac_extensions=[EMBEDDING_EXTENSION],
        extra_fields={
            "emb:type": "pixel",
            "emb:dimensions": dataset.sizes["embedding"],
            **({"emb:temporal_resolution": "single_acquisition"} if has_all_observed else {}),
            "emb:fit_for_use": ["similarity_search", "classification", "regression", "change_detection"],
            "data_type": "float32",
            "gsd": dataset.attrs["geoemb:gsd"],
        },
    )


def _item(dataset: "xr.Dataset", index: int) -> "pystac.Item":
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
        stac_extensions=[EMBEDDING_EXTENSION],
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
    bands = [{"name": f"embedding {band}", "data_type": "float32"} for band in range(1, dataset.sizes["embedding"] + 1)]
    item.add_asset(
        "embeddings",
        pystac.Asset(
            f"./{identifier}.tif",
            media_type=pystac.MediaType.COG,
            roles=["data"],
            title="embeddings, one band a value",
            extra_fields={"bands": bands, "nodata": "nan"},
        ),
    )
    return item


def model_item(model: EarthModel, folder: Path) -> "pystac.Item":
    """Return the item of a model by the machine learning model extension: inputs, output and paths of the weights."""
    import pystac
    import torch
    from pystac.extensions.mlm import InputStructure, MLMExtension, ModelInput, ModelOutput, ResultStructure, TaskType
    from pystac.extensions.raster import DataType

    item = pystac.Item(
        id=model.identifier,
        geometry=None,
        bbox=None,
        datetime=None,
        start_datetime=datetime(2015, 1, 1, tzinfo=UTC),  # the epoch of the model's days
        end_datetime=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        properties={"description": "Context-aware encoders of several sensors and their fusion into one embedding."},
    )
    for name in ("fusion", *model.sensors):
        item.add_asset(
            name,
            pystac.Asset(
                (folder / name / "weights.safetensors").resolve().as_uri(),
                media_type="application/octet-stream; framework=safetensors",
                roles=["mlm:model", "mlm:weights"],
                title=f"weights of the {'fusion' if name == 'fusion' else f'encoder and decoder of {name}'}",
                extra_fields={"mlm:artifact_type": "safetensors.torch.save_file"},
            ),
        )
    inputs = [
        ModelInput.create(
            name=sensor.name,
            bands=list(sensor.band_names),
            input=InputStructure.create(
                [-1, len(sensor.bands), -1, -1], ["time", "channel", "height", "width"], DataType.FLOAT32
            ),
            description=f"{sensor.units}, {sensor.value_range[0]:g} to {sensor.value_range[1]:g} mapped to 0 to 1",
        )
        for sensor in model.fusion.sensors
    ]
    total = model.fusion.embedding_scale.numel()
    output = ModelOutput.create(
        name="embedding",
        tasks=[TaskType(_MODEL_TASK)],
        result=ResultStructure.create([-1, total, -1, -1], ["time", "channel", "height", "width"], DataType.FLOAT32),
        description="the first 7 values stand alone",
    )
    parameters = list(model.parameters())
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=model.identifier,
        architecture="context-aware encoders with a fusion (arXiv 2511.11706)",
        tasks=[TaskType(_MODEL_TASK)],
        input=inputs,
        output=[output],
        framework="PyTorch",
        framework_version=torch.__version__.partition("+")[0],
        total_parameters=sum(parameter.numel() for parameter in parameters),
        memory_size=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        pretrained=True,
    )
    return item
