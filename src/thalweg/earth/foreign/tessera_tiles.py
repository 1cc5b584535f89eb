"""TESSERA embeddings as arrays: `grid_LON_LAT.npy` of 128 signed 8-bit integers per pixel, and the pixels' scales.

The layout is that of the published archive and of geotessera's downloads: `YEAR/grid_LON_LAT/grid_LON_LAT.npy`, with
`grid_LON_LAT_scales.npy` next to it. A tile covers 0.1 degrees around the point of its name, on pixels of 10 m of the
point's UTM zone. Where the landmask of the tile is there (`global_0.1_degree_tiff_all/grid_LON_LAT.tiff`), it gives the
grid; otherwise the name does, by the rule that the landmasks were made with.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.foreign.foreign_dataset import (
    MAX_REASON,
    Publication,
    Spans,
    VectorGrid,
    start_of_years,
    year_of_path,
)
from thalweg.errors import MissingPathError, UsageError, one_line

if TYPE_CHECKING:
    import xarray as xr
    from pyproj import CRS

NUM_DIMENSIONS = 128
MAX_SCALE = 1.0
"""Scales from this on are no data: the published ones have a median of 0.06 and hardly reach 0.2."""

LANDMASKS = "global_0.1_degree_tiff_all"
"""Folder of the landmasks of a download."""

PUBLICATION = Publication(
    identifier="tessera",
    title="TESSERA annual embeddings",
    model="https://arxiv.org/abs/2506.20380",
    source_data=(
        "https://sentinel.esa.int/web/sentinel/missions/sentinel-1",
        "https://sentinel.esa.int/web/sentinel/missions/sentinel-2",
    ),
    data_type="int8",
)

_NAME = re.compile(r"grid_(?P<lon>-?\d+\.\d+)_(?P<lat>-?\d+\.\d+)")
_SCALES = "_scales"
_HALF_TILE, _PIXEL = 0.05, 10.0
_BLOCK = 64


def dequantize_tessera(integers: NDArray[np.int8], scales: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return integers times their scales.

    Args:
        integers: signed 8-bit integers, any shape.
        scales: scale of each integer, of a shape that broadcasts to theirs.

    Returns:
        Float32, NaN where a scale is not finite, not positive or not below `MAX_SCALE`: water, or no data yet.
    """
    with np.errstate(invalid="ignore"):
        is_valid = np.isfinite(scales) & (scales > 0) & (scales < MAX_SCALE)
    return integers.astype(np.float32) * np.where(is_valid, scales, np.nan).astype(np.float32)


def tile_grid(lon: float, lat: float) -> "tuple[CRS, float, float, int, int]":
    """Return the pixel grid of a tile by its centre.

    Args:
        lon: longitude of the centre, degrees.
        lat: latitude of the centre, degrees.

    Returns:
        Reference system (UTM, WGS 84), easting of the western side, northing of the northern side, rows and columns.
    """
    from pyproj import CRS, Transformer

    crs = CRS.from_epsg((32700 if lat < 0 else 32600) + min(int((lon + 180) // 6) + 1, 60))
    to_map = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    west, east, south, north = lon - _HALF_TILE, lon + _HALF_TILE, lat - _HALF_TILE, lat + _HALF_TILE
    x, y = to_map.transform([west, east, west, east], [north, north, south, south])
    left, top = min(x[0], x[2]), max(y[0], y[1])
    return crs, left, top, round((top - min(y[2], y[3])) / _PIXEL), round((max(x[1], x[3]) - left) / _PIXEL)


@dataclass(frozen=True, eq=False)
class _Tile:
    """A tile of a year: its integers (H, W, 128) and scales (H, W) or (H, W, 128), mapped, not read."""

    path: Path
    year: int
    integers: NDArray[np.int8]
    scales: NDArray[np.float32]

    def read(self, dimensions: slice, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the values (K, h, w) of spans."""
        integers = np.asarray(self.integers[rows, columns, dimensions])
        if self.scales.ndim == 2:
            values = dequantize_tessera(integers, np.asarray(self.scales[rows, columns])[..., None])
        else:
            values = dequantize_tessera(integers, np.asarray(self.scales[rows, columns, dimensions]))
        return np.moveaxis(values, -1, 0)


def open_tessera_tiles(path: str | Path, year: int | None = None) -> "xr.Dataset":
    """Open TESSERA tiles lazily, dequantized.

    Args:
        path: the array of a tile (`grid_LON_LAT.npy`), or a folder with one tile in one or more years.
        year: year of the embeddings; read from the folders of the path by default.

    Returns:
        Dataset with `embeddings` (time, embedding, y, x), float32, NaN where there is none; the time of a year is its
        first day.

    Raises:
        MissingPathError: The path does not exist.
        UsageError: A file is not such a tile, its scales are missing or do not fit, its year is unknown, or a folder
            holds tiles of several places.
    """
    path = Path(path)
    if not path.exists():
        raise MissingPathError(f"{path}: no such file or folder")
    files = [path] if path.is_file() else tile_files(path)
    if not files:
        raise UsageError(f"{path}: no grid_LON_LAT.npy in it: expected a TESSERA tile")
    names = sorted({file.stem for file in files})
    if len(names) > 1:
        raise UsageError(
            f"{path}: tiles of {len(names)} places, {names[0]} and others, each on its own pixels: open one of them"
        )
    tiles = sorted((_tile(file, year) for file in files), key=lambda tile: tile.year)
    years = [tile.year for tile in tiles]
    if len(set(years)) < len(years):
        raise UsageError(f"{path}: several files of {names[0]} of one year: open one of them")
    rows, columns = tiles[0].integers.shape[:2]
    crs, left, top = _georeferencing(files[0], rows, columns)
    for tile in tiles[1:]:
        if tile.integers.shape[:2] != (rows, columns):
            raise UsageError(f"{tile.path}: {tile.integers.shape[:2]} px, other years {(rows, columns)}: get it again")

    def read(spans: Spans) -> NDArray[np.float32]:
        return np.stack([tile.read(*spans[1:]) for tile in tiles[spans[0]]])

    x = left + _PIXEL * (np.arange(columns) + 0.5)
    y = top - _PIXEL * (np.arange(rows) + 0.5)
    grid = VectorGrid(path.name, start_of_years(years), x, y, crs, NUM_DIMENSIONS, (_BLOCK, _BLOCK))
    return grid.dataset(read, PUBLICATION)


def tile_files(folder: Path) -> list[Path]:
    """Return the arrays of tiles in a folder, without their scales."""
    return sorted(file for file in folder.rglob("grid_*.npy") if not file.stem.endswith(_SCALES))


def _tile(path: Path, year: int | None) -> _Tile:
    """Map the arrays of a tile and check them."""
    if not _NAME.fullmatch(path.stem):
        raise UsageError(f"{path}: expected a TESSERA tile, grid_LON_LAT.npy such as grid_0.15_52.05.npy")
    beside = path.with_name(f"{path.stem}{_SCALES}.npy")
    if not beside.is_file():
        raise UsageError(f"{path}: no scales: expected {beside.name} next to it: download it too")
    integers, scales = _array(path), _array(beside)
    if integers.ndim != 3 or integers.shape[2] != NUM_DIMENSIONS or integers.dtype != np.int8:
        raise UsageError(
            f"{path}: {integers.dtype} {integers.shape}: expected int8 (rows, columns, {NUM_DIMENSIONS}) of a TESSERA "
            "tile; another type is another quantization"
        )
    if scales.dtype != np.float32 or scales.shape not in (integers.shape[:2], integers.shape):
        raise UsageError(
            f"{beside}: {scales.dtype} {scales.shape}: expected float32 scales {integers.shape[:2]} of {path.name}"
        )
    known = np.asarray(scales)[np.isfinite(scales)]
    if len(known) and not ((known > 0) & (known < MAX_SCALE)).any():
        raise UsageError(
            f"{beside}: scales around {np.median(known):.3g}, TESSERA's lie between 0 and {MAX_SCALE:g}: quantized by "
            "another rule: get the published files"
        )
    return _Tile(path, year_of_path(path, year), integers, scales)


def _array(path: Path) -> NDArray:
    """Return the array of a file, mapped; pickled objects are refused."""
    try:
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: not an array of numbers ({one_line(error)[:MAX_REASON]}): get it again") from error


def _georeferencing(path: Path, rows: int, columns: int) -> "tuple[CRS, float, float]":
    """Return the reference system, the western and the northern side of a tile, from its landmask or its name.

    Raises:
        UsageError: The array has another shape than the tile's grid.
    """
    import rasterio
    from pyproj import CRS
    from rasterio.errors import RasterioError

    name = _NAME.fullmatch(path.stem)
    assert name is not None
    crs, left, top, *shape = tile_grid(float(name["lon"]), float(name["lat"]))
    source = "its name"
    landmask = next((one for one in (p / LANDMASKS / f"{path.stem}.tiff" for p in path.parents) if one.is_file()), None)
    if landmask is not None:
        try:
            with rasterio.open(landmask) as file:
                if file.crs is None or file.transform.a != _PIXEL or file.transform.e != -_PIXEL:
                    raise UsageError(f"{landmask}: not on north-up pixels of 10 m: expected the landmask of a tile")
                crs, left, top = CRS.from_wkt(file.crs.to_wkt()), file.transform.c, file.transform.f
                shape, source = [file.height, file.width], landmask.name
        except RasterioError as error:
            raise UsageError(f"{landmask}: not a readable GeoTIFF: get the landmask again") from error
    if shape != [rows, columns]:
        raise UsageError(
            f"{path}: {rows} x {columns} px, {source} gives {shape[0]} x {shape[1]}: expected the whole tile; get it, "
            "or its landmask, again"
        )
    return crs, left, top
