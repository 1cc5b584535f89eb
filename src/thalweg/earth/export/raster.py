"""Export of embeddings to cloud-optimised GeoTIFFs (COG): per date one of each layer."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.export.date_layers import DateLayer, date_layers
from thalweg.earth.export.date_names import Progress, date_name
from thalweg.io.atomic import atomic_folder

if TYPE_CHECKING:
    import xarray as xr

TILE = 256
"""Side of the tiles of a GeoTIFF in pixels; its smallest overview fits into one tile."""

_VRT_TYPES = {"float32": "Float32", "int8": "Int8", "int16": "Int16", "uint8": "Byte", "uint16": "UInt16"}


def write_cogs(dataset: "xr.Dataset", out: str | Path, progress: Progress | None = None) -> Path:
    """Write cloud-optimised GeoTIFFs per date: of the embeddings, of their uncertainty, and of the quality flags.

    Embeddings and uncertainty have one band per dimension: float32, or the integers of a quantized store with their
    scale and offset. The overviews of embeddings are renormalized means, those of uncertainty means, and those of
    quality the lowest flag.

    Args:
        dataset: embeddings as `thalweg.open` returns them.
        out: folder to write; must not exist.
        progress: callback with the number of finished dates and their total.

    Returns:
        The folder, with `DATE.tif`, `DATE_uncertainty.tif` and `DATE_quality.tif` per date.

    Raises:
        UsageError: `out` exists.
        ThalwegError: the folder cannot be written.
    """
    from rasterio.errors import RasterioError

    dates, layers = dataset.sizes["time"], date_layers(dataset)
    with atomic_folder(out, RasterioError) as folder:
        for index in range(dates):
            for layer in layers:
                write_cog(dataset, index, layer, folder / layer.file_name(date_name(dataset, index)))
            if progress:
                progress(index + 1, dates)
    return Path(out)


def write_cog(dataset: "xr.Dataset", index: int, layer: DateLayer, path: Path) -> None:
    """Write one layer of a date as a cloud-optimised GeoTIFF, strip by strip."""
    from rasterio.shutil import copy

    rows, columns = dataset.sizes["y"], dataset.sizes["x"]
    factors = [1]
    while max(rows, columns) > TILE * factors[-1]:
        factors.append(2 * factors[-1])
    with tempfile.TemporaryDirectory(prefix=".cog-", dir=path.parent) as scratch:
        levels = [Path(scratch) / f"{factor}.tif" for factor in factors]
        _write_levels(dataset, index, layer, dict(zip(factors, levels, strict=True)))
        mosaic = Path(scratch) / "levels.vrt"
        mosaic.write_text(_virtual_raster(dataset, index, layer, levels))
        copy(
            mosaic,
            path,
            driver="COG",
            compress="ZSTD",
            predictor="STANDARD",
            blocksize=TILE,
            overviews="FORCE_USE_EXISTING",
            bigtiff="IF_SAFER",
        )


def _profile(dataset: "xr.Dataset", layer: DateLayer, factor: int) -> dict[str, Any]:
    """Return rasterio's profile of the GeoTIFF of one level, reduced by `factor`."""
    from rasterio.transform import Affine

    step, _, left, _, _, top = dataset.attrs["spatial:transform"]
    return {
        "driver": "GTiff",
        "dtype": layer.dtype,
        "count": len(layer.bands),
        "height": -(-dataset.sizes["y"] // factor),
        "width": -(-dataset.sizes["x"] // factor),
        "crs": dataset.attrs["proj:wkt2"],
        "transform": Affine(step * factor, 0, left, 0, -step * factor, top),
        "nodata": layer.nodata,
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "bigtiff": "IF_SAFER",
    }


def _write_levels(dataset: "xr.Dataset", index: int, layer: DateLayer, levels: dict[int, Path]) -> None:
    """Write a layer at full resolution and its overviews, each computed from the pixels at full resolution."""
    import rasterio
    from rasterio.windows import Window

    files = {factor: rasterio.open(path, "w", **_profile(dataset, layer, factor)) for factor, path in levels.items()}
    try:
        height = max(TILE, *levels)  # a multiple of the rows of every level
        for top in range(0, dataset.sizes["y"], height):
            values = layer.values(dataset, index, slice(top, top + height))
            for factor, file in files.items():
                part = layer.stored(values if factor == 1 else layer.reduce(values, factor))
                file.write(part, window=Window(0, top // factor, part.shape[2], part.shape[1]))
    finally:
        for file in files.values():
            file.close()


def _virtual_raster(dataset: "xr.Dataset", index: int, layer: DateLayer, levels: list[Path]) -> str:
    """Return a virtual raster whose overviews are these files; the COG driver copies them unchanged."""
    from xml.etree.ElementTree import Element, SubElement, tostring

    profile = _profile(dataset, layer, 1)
    root = Element("VRTDataset", rasterXSize=str(profile["width"]), rasterYSize=str(profile["height"]))
    SubElement(root, "SRS").text = profile["crs"]
    SubElement(root, "GeoTransform").text = ", ".join(map(repr, map(float, profile["transform"].to_gdal())))
    tags = SubElement(root, "Metadata")
    moment = np.datetime_as_string(dataset.time.values[index], "s")
    described = {"datetime": f"{moment}Z", "model": dataset.attrs["thalweg:model"], "description": layer.description}
    for key, value in described.items():
        SubElement(tags, "MDI", key=key).text = value
    for band, name in enumerate(layer.bands, 1):
        element = SubElement(root, "VRTRasterBand", dataType=_VRT_TYPES[layer.dtype], band=str(band))
        SubElement(element, "Description").text = name
        SubElement(element, "NoDataValue").text = f"{layer.nodata:g}"
        if layer.encoding:
            SubElement(element, "Offset").text = repr(layer.encoding.offset)
            SubElement(element, "Scale").text = repr(layer.encoding.scale)
        for level in levels[1:]:
            overview = SubElement(element, "Overview")
            SubElement(overview, "SourceFilename", relativeToVRT="0").text = str(level)
            SubElement(overview, "SourceBand").text = str(band)
        source = SubElement(element, "SimpleSource")
        SubElement(source, "SourceFilename", relativeToVRT="0").text = str(levels[0])
        SubElement(source, "SourceBand").text = str(band)
    return tostring(root, encoding="unicode")
