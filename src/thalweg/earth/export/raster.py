"""Export of embeddings to cloud-optimised GeoTIFFs (COG), one per date."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.export.date_names import Progress, date_name
from thalweg.earth.store.overviews.reduction import renormalized_means
from thalweg.io.atomic import atomic_folder

if TYPE_CHECKING:
    import xarray as xr

TILE = 256
"""Side of the tiles of a GeoTIFF in pixels; its smallest overview fits into one tile."""


def write_cogs(dataset: "xr.Dataset", out: str | Path, progress: Progress | None = None) -> Path:
    """Write one cloud-optimised GeoTIFF per date: float32, one band per dimension, overviews as renormalized means.

    Args:
        dataset: embeddings as `thalweg.open` returns them.
        out: folder to write; must not exist.
        progress: callback with the number of finished dates and their total.

    Returns:
        The folder, with one file `DATE.tif` per date.

    Raises:
        UsageError: `out` exists.
        ThalwegError: the folder cannot be written.
    """
    from rasterio.errors import RasterioError

    dates = dataset.sizes["time"]
    with atomic_folder(out, RasterioError) as folder:
        for index in range(dates):
            write_cog(dataset, index, folder / f"{date_name(dataset, index)}.tif")
            if progress:
                progress(index + 1, dates)
    return Path(out)


def write_cog(dataset: "xr.Dataset", index: int, path: Path) -> None:
    """Write one date as a cloud-optimised GeoTIFF, strip by strip."""
    from rasterio.shutil import copy

    rows, columns = dataset.sizes["y"], dataset.sizes["x"]
    factors = [1]
    while max(rows, columns) > TILE * factors[-1]:
        factors.append(2 * factors[-1])
    with tempfile.TemporaryDirectory(prefix=".cog-", dir=path.parent) as scratch:
        levels = [Path(scratch) / f"{factor}.tif" for factor in factors]
        _write_levels(dataset, index, dict(zip(factors, levels, strict=True)))
        mosaic = Path(scratch) / "levels.vrt"
        mosaic.write_text(_virtual_raster(dataset, index, levels))
        copy(
            mosaic,
            path,
            driver="COG",
            compress="DEFLATE",
            predictor="YES",
            blocksize=TILE,
            overviews="FORCE_USE_EXISTING",
            bigtiff="IF_SAFER",
        )


def _profile(dataset: "xr.Dataset", factor: int) -> dict[str, Any]:
    """Return rasterio's profile of the GeoTIFF of one level, reduced by `factor`."""
    from rasterio.transform import Affine

    step, _, left, _, _, top = dataset.attrs["spatial:transform"]
    return {
        "driver": "GTiff",
        "dtype": "float32",
        "count": dataset.sizes["embedding"],
        "height": -(-dataset.sizes["y"] // factor),
        "width": -(-dataset.sizes["x"] // factor),
        "crs": dataset.attrs["proj:wkt2"],
        "transform": Affine(step * factor, 0, left, 0, -step * factor, top),
        "nodata": np.nan,
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "bigtiff": "IF_SAFER",
    }


def _write_levels(dataset: "xr.Dataset", index: int, levels: dict[int, Path]) -> None:
    """Write a date at full resolution and its overviews, each computed from the pixels at full resolution."""
    import rasterio
    from rasterio.windows import Window

    files = {factor: rasterio.open(path, "w", **_profile(dataset, factor)) for factor, path in levels.items()}
    try:
        height = max(TILE, *levels)  # a multiple of the rows of every level
        for top in range(0, dataset.sizes["y"], height):
            vectors = dataset.embeddings.isel(time=index, y=slice(top, top + height)).values
            for factor, file in files.items():
                part = vectors if factor == 1 else renormalized_means(vectors, factor)
                file.write(part, window=Window(0, top // factor, part.shape[2], part.shape[1]))
    finally:
        for file in files.values():
            file.close()


def _virtual_raster(dataset: "xr.Dataset", index: int, levels: list[Path]) -> str:
    """Return a virtual raster whose overviews are these files; the COG driver copies them unchanged."""
    from xml.etree.ElementTree import Element, SubElement, tostring

    profile = _profile(dataset, 1)
    root = Element("VRTDataset", rasterXSize=str(profile["width"]), rasterYSize=str(profile["height"]))
    SubElement(root, "SRS").text = profile["crs"]
    SubElement(root, "GeoTransform").text = ", ".join(map(repr, map(float, profile["transform"].to_gdal())))
    tags = SubElement(root, "Metadata")
    moment = np.datetime_as_string(dataset.time.values[index], "s")
    for key, value in (("datetime", f"{moment}Z"), ("model", dataset.attrs["thalweg:model"])):
        SubElement(tags, "MDI", key=key).text = value
    for band in range(1, profile["count"] + 1):
        element = SubElement(root, "VRTRasterBand", dataType="Float32", band=str(band))
        SubElement(element, "Description").text = f"embedding {band}"
        SubElement(element, "NoDataValue").text = "nan"
        for level in levels[1:]:
            overview = SubElement(element, "Overview")
            SubElement(overview, "SourceFilename", relativeToVRT="0").text = str(level)
            SubElement(overview, "SourceBand").text = str(band)
        source = SubElement(element, "SimpleSource")
        SubElement(source, "SourceFilename", relativeToVRT="0").text = str(levels[0])
        SubElement(source, "SourceBand").text = str(band)
    return tostring(root, encoding="unicode")
