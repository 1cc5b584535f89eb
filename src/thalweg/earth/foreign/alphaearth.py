"""AlphaEarth embeddings (Google Satellite Embedding, annual): GeoTIFFs of 64 bands, dequantized by the published rule.

The layout is that of the bucket `alphaearth_foundations` and of its copy on Source Cooperative: one folder per year and
UTM zone, `YEAR/ZONE/NAME.tiff`, signed 8-bit integers in the bands A00 to A63, -128 where a pixel is masked. The copy's
files have their rows from south to north; they are opened north first.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

SUFFIXES = (".tif", ".tiff", ".vrt")
"""Suffixes of the files that `open_alphaearth` opens."""

NUM_BANDS = 64
FILL = -128
"""Value of a masked pixel."""

DIVISOR, POWER = 127.5, 2.0
"""Published rule: the value is `sign(v) * (|v| / 127.5) ** 2`."""

MAX_LENGTH_ERROR = 0.03
"""Largest difference between 1 and the median length of dequantized vectors, which rounding leaves below 0.01."""

_BANDS = tuple(f"A{number:02d}" for number in range(NUM_BANDS))
_MAX_BLOCK = 256
_CHECKED_WINDOWS, _CHECKED_SIDE = 4, 32
_PUBLICATION = Publication(
    identifier="alphaearth-foundations-v1",
    title="AlphaEarth Foundations annual embeddings",
    model="https://arxiv.org/abs/2507.22291",
    source_data=("https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_SATELLITE_EMBEDDING_V1_ANNUAL",),
    data_type="int8",
)


def dequantize_alphaearth(integers: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return the values of signed 8-bit integers (any shape), from -1 to 1; NaN where a pixel is masked."""
    scaled = integers.astype(np.float32) / np.float32(DIVISOR)
    values = np.sign(scaled) * np.abs(scaled) ** np.float32(POWER)
    values[integers == FILL] = np.nan
    return values


@dataclass(frozen=True, eq=False)
class _Tile:
    """One file: its year, its grid (north first), and whether its rows run from south to north."""

    path: Path
    year: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    crs: "CRS"
    block: tuple[int, int]
    is_bottom_up: bool

    def read(self, bands: slice, rows: slice, columns: slice) -> NDArray[np.int8]:
        """Return the integers (K, h, w) of spans, north first."""
        import rasterio
        from rasterio.windows import Window

        top = len(self.y) - rows.stop if self.is_bottom_up else rows.start
        window = Window(columns.start, top, columns.stop - columns.start, rows.stop - rows.start)
        with rasterio.open(self.path) as file:
            values: NDArray[np.int8] = file.read([band + 1 for band in range(bands.start, bands.stop)], window=window)
        values = values[:, ::-1] if self.is_bottom_up else values
        return values[:: bands.step, :: rows.step, :: columns.step]


def open_alphaearth(path: str | Path, year: int | None = None) -> "xr.Dataset":
    """Open AlphaEarth embeddings lazily, dequantized.

    Args:
        path: a tile, or a folder with the tiles of one place and one or more years.
        year: year of the embeddings; read from the folders of the path (`YEAR/ZONE/NAME.tiff`) by default.

    Returns:
        Dataset with `embeddings` (time, embedding, y, x), float32, NaN at masked pixels; the time of a year is its
        first day.

    Raises:
        MissingPathError: The path does not exist.
        UsageError: A file is not such a tile, its values are not quantized by the published rule, its year is
            unknown, or the tiles of a folder are not of one place.
    """
    path = Path(path)
    if not path.exists():
        raise MissingPathError(f"{path}: no such file or folder")
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES[:2])
    if not files:
        raise UsageError(f"{path}: no GeoTIFF in it: expected AlphaEarth tiles")
    tiles = sorted((_tile(file, year) for file in files), key=lambda tile: tile.year)
    _check_one_place(tiles, path)
    first = tiles[0]

    def read(spans: Spans) -> NDArray[np.float32]:
        return np.stack([dequantize_alphaearth(tile.read(*spans[1:])) for tile in tiles[spans[0]]])

    grid = VectorGrid(
        path.name, start_of_years([tile.year for tile in tiles]), first.x, first.y, first.crs, NUM_BANDS, first.block
    )
    return grid.dataset(read, _PUBLICATION)


def _check_one_place(tiles: list[_Tile], path: Path) -> None:
    """Raise a `UsageError` unless the tiles are of one place and of different years."""
    first = tiles[0]
    for before, tile in pairwise(tiles):
        is_same = np.array_equal(tile.x, first.x) and np.array_equal(tile.y, first.y) and tile.crs == first.crs
        if not is_same or tile.year == before.year:
            raise UsageError(
                f"{path}: {before.path.name} ({before.year}) and {tile.path.name} ({tile.year}): expected one tile per "
                "year of one place: open one file, or a folder of one place"
            )


def _tile(path: Path, year: int | None) -> _Tile:
    """Read the metadata of a tile and check them and a sample of its values."""
    import rasterio
    from pyproj import CRS
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(path) as file:
            _check_layout(file, path)
            step, skew, left, _, down, top = file.transform[:6]
            if skew or file.transform.d or file.crs is None:
                raise UsageError(f"{path}: no reference system or a rotated grid: expected an AlphaEarth tile")
            x = left + step * (np.arange(file.width) + 0.5)
            y = top + down * (np.arange(file.height) + 0.5)
            block = tuple(min(side, _MAX_BLOCK) for side in file.block_shapes[0])
            crs = CRS.from_wkt(file.crs.to_wkt())
    except RasterioError as error:
        raise UsageError(
            f"{path}: not a readable GeoTIFF ({one_line(error)[:MAX_REASON]}): expected an AlphaEarth tile"
        ) from error
    is_bottom_up = down > 0
    found = _Tile(path, year_of_path(path, year), x, y[::-1] if is_bottom_up else y, crs, block, is_bottom_up)
    _check_lengths(found)
    return found


def _check_layout(file: Any, path: Path) -> None:
    """Raise a `UsageError` unless a raster has the bands, the type and the no-data value of a tile."""
    kinds = sorted(set(file.dtypes))
    if file.count != NUM_BANDS or kinds != ["int8"]:
        raise UsageError(
            f"{path}: {file.count} band(s) of {', '.join(kinds)}: expected the {NUM_BANDS} bands of int8 of an "
            "AlphaEarth tile, as it was published"
        )
    names = [name for name in file.descriptions if name]
    if names and tuple(names) != _BANDS:
        raise UsageError(f"{path}: bands {names[0]} to {names[-1]}: expected A00 to A63 of an AlphaEarth tile")
    if file.nodata != FILL:
        raise UsageError(f"{path}: no-data value {file.nodata}: expected {FILL}, as AlphaEarth tiles have")
    if set(file.scales) != {1.0} or set(file.offsets) != {0.0}:
        raise UsageError(
            f"{path}: scale {file.scales[0]:g} and offset {file.offsets[0]:g} of another quantization: expected the "
            "integers of an AlphaEarth tile, which have neither"
        )


def _check_lengths(tile: _Tile) -> None:
    """Raise a `UsageError` unless a sample of dequantized vectors has a length of about one."""
    lengths = []
    for share in (np.arange(_CHECKED_WINDOWS) + 0.5) / _CHECKED_WINDOWS:
        top, left = (int(share * max(len(axis) - _CHECKED_SIDE, 0)) for axis in (tile.y, tile.x))
        rows, columns = (
            slice(start, min(start + _CHECKED_SIDE, len(axis)), 1) for start, axis in ((top, tile.y), (left, tile.x))
        )
        vectors = dequantize_alphaearth(tile.read(slice(0, NUM_BANDS, 1), rows, columns))
        lengths.append(np.linalg.norm(vectors, axis=0).ravel())
    known = np.concatenate(lengths)
    known = known[np.isfinite(known)]
    if len(known) and abs(np.median(known) - 1) > MAX_LENGTH_ERROR:
        raise UsageError(
            f"{tile.path}: vectors of length {np.median(known):.3g} after dequantization, AlphaEarth's have length 1: "
            "quantized by another rule: get the published file"
        )
