"""Export of maps of numbers: one cloud-optimised GeoTIFF (COG) with a named band per quantity."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.io.atomic import atomic_file, write_failure

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

BLOCK = 256
"""Side of the tiles of a map in pixels."""


def write_bands(
    path: str | Path,
    bands: Mapping[str, NDArray[np.floating]],
    geobox: "GeoBox",
    units: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Write maps as one cloud-optimised GeoTIFF of float32, complete or not at all; NaN is no data.

    Args:
        path: file to write; an existing one is replaced, the parents are created.
        bands: maps (H, W) by name, in the order of the file.
        geobox: pixel grid of the maps, H x W.
        units: units by the name of a band.
        tags: metadata of the file.

    Raises:
        ThalwegError: the file cannot be written.
    """

    def fill(file: Any) -> None:
        for number, (name, values) in enumerate(bands.items(), 1):
            file.write(np.asarray(values, np.float32), number)
            file.set_band_description(number, name)
            if units and name in units:
                file.set_band_unit(number, units[name])
        file.update_tags(**(tags or {}))

    return save_cog(path, geobox, fill, "AVERAGE", dtype="float32", count=len(bands), nodata=np.nan)


def save_cog(path: str | Path, geobox: "GeoBox", fill: Callable[[Any], None], resampling: str, **profile: Any) -> Path:
    """Write a cloud-optimised GeoTIFF, complete or not at all.

    Args:
        path: file to write; an existing one is replaced, the parents are created.
        geobox: pixel grid.
        fill: function that writes values, colours and metadata into the dataset that rasterio opened.
        resampling: GDAL's name of the resampling of the overviews.
        profile: rasterio's `dtype`, `count` and `nodata`.

    Raises:
        ThalwegError: the file cannot be written.
    """
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.shutil import copy

    path = Path(path)
    rows, columns = geobox.shape
    grid = {"height": rows, "width": columns, "crs": str(geobox.crs), "transform": geobox.affine}
    options = {"compress": "DEFLATE", "predictor": "YES", "blocksize": BLOCK, "bigtiff": "IF_SAFER"}
    try:
        with atomic_file(path) as unfinished, tempfile.TemporaryDirectory(prefix=".cog-", dir=path.parent) as scratch:
            plain = Path(scratch) / "plain.tif"
            with rasterio.open(plain, "w", driver="GTiff", bigtiff="IF_SAFER", **grid, **profile) as file:
                fill(file)
            copy(plain, unfinished, driver="COG", overview_resampling=resampling, **options)
    except (OSError, RasterioError) as error:
        raise write_failure(path, error) from error
    return path
