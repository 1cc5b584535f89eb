"""Embeddings in other formats: a cloud-optimised GeoTIFF or a GeoParquet table of points for each date."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.io.atomic import atomic_folder

if TYPE_CHECKING:
    import xarray as xr

TILE = 256
"""Pixels of a GeoTIFF's tiles, each way; its smallest overview fits into one."""

Progress = Callable[[int, int], None]
"""Called with dates done and dates in all."""


def renormalised_means(vectors: np.ndarray, factor: int) -> np.ndarray:
    """Average embeddings over `factor` x `factor` pixels, keeping their length.

    A mean of vectors that point apart is shorter than they are and would look like another place; here it is
    scaled to their mean length.

    Args:
        vectors: (K, H, W), NaN where there is none.
        factor: pixels averaged, each way.

    Returns:
        (K, ceil(H / factor), ceil(W / factor)): NaN where no pixel has a vector.
    """
    size, rows, columns = vectors.shape
    missing = ((0, 0), (0, -rows % factor), (0, -columns % factor))
    padded = np.pad(vectors.astype(np.float64), missing, constant_values=np.nan)
    blocks = padded.reshape(size, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor)
    seen = np.isfinite(blocks).all(0)
    number = seen.sum((1, 3))
    total = np.where(seen, blocks, 0).sum((2, 4))
    lengths = np.where(seen, np.linalg.norm(np.where(seen, blocks, 0), axis=0), 0).sum((1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, length = total / number, lengths / number
        shrunk = np.linalg.norm(mean, axis=0)
        scaled = mean * np.where(shrunk > 0, length / shrunk, 1)
    return np.where(number > 0, scaled, np.nan).astype(np.float32)


def day_of(dataset: "xr.Dataset", index: int) -> str:
    """A date's name in files: `2018-06-30`, with the time of day where a day has two."""
    days = dataset.time.values.astype("datetime64[D]")
    moment = dataset.time.values[index]
    unique = (days == days[index]).sum() == 1
    return str(days[index]) if unique else np.datetime_as_string(moment, "s").replace(":", "")


def write_cogs(dataset: "xr.Dataset", out: str | Path, progress: Progress | None = None) -> Path:
    """Write one cloud-optimised GeoTIFF a date, float32, one band a value, overviews as renormalised means.

    Args:
        dataset: embeddings, as `open_store` gives them.
        out: folder to write; must not exist.
        progress: told dates done and in all.

    Raises:
        UsageError: `out` exists already.
        ThalwegError: it can not be written.
    """
    from rasterio.errors import RasterioError

    dates = dataset.sizes["time"]
    with atomic_folder(out, RasterioError) as folder:
        for index in range(dates):
            write_cog(dataset, index, folder / f"{day_of(dataset, index)}.tif")
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
        mosaic.write_text(_with_overviews(dataset, index, levels))
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
    """How a GeoTIFF of one level is created."""
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
    """Write the date at full resolution and its overviews, each computed from the pixels themselves."""
    import rasterio
    from rasterio.windows import Window

    files = {factor: rasterio.open(path, "w", **_profile(dataset, factor)) for factor, path in levels.items()}
    try:
        height = max(TILE, *levels)  # a whole number of rows of every level
        for top in range(0, dataset.sizes["y"], height):
            vectors = dataset.embeddings.isel(time=index, y=slice(top, top + height)).values
            for factor, file in files.items():
                part = vectors if factor == 1 else renormalised_means(vectors, factor)
                file.write(part, window=Window(0, top // factor, part.shape[2], part.shape[1]))
    finally:
        for file in files.values():
            file.close()


def _with_overviews(dataset: "xr.Dataset", index: int, levels: list[Path]) -> str:
    """A virtual raster whose overviews are files of ours, which the COG driver then takes as they are."""
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


def write_geoparquet(dataset: "xr.Dataset", out: str | Path, progress: Progress | None = None) -> Path:
    """Write one GeoParquet table a date: a point for each pixel with an embedding, in the store's reference system.

    Columns: `time`, `embedding` (list of float32), `valid_context_dates`, `quality`, `geometry`.

    Args:
        dataset: embeddings, as `open_store` gives them.
        out: folder to write; must not exist.
        progress: told dates done and in all.

    Raises:
        UsageError: `out` exists already.
        ThalwegError: it can not be written.
    """
    import geopandas
    import shapely

    dates = dataset.sizes["time"]
    x, y = np.meshgrid(dataset.x.values, dataset.y.values)
    with atomic_folder(out) as folder:
        for index in range(dates):
            date = dataset.isel(time=index)
            vectors = date.embeddings.values
            seen = np.isfinite(vectors).all(0)
            columns = {
                "time": np.full(seen.sum(), dataset.time.values[index]),
                "embedding": list(vectors[:, seen].T),
                "valid_context_dates": date.valid_context_dates.values[seen],
                "quality": date.quality.values[seen],
            }
            table = geopandas.GeoDataFrame(
                columns, geometry=shapely.points(x[seen], y[seen]), crs=dataset.attrs["proj:wkt2"]
            )
            table.to_parquet(folder / f"{day_of(dataset, index)}.parquet", index=False, compression="zstd")
            if progress:
                progress(index + 1, dates)
    return Path(out)
