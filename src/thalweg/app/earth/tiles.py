"""Map tiles of at most 256 x 256 pixels, read from their own window of one date within a budget of chunks."""

import io
import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.app.earth.open_stores import OpenStore
from thalweg.earth.positions import PixelIndex
from thalweg.earth.sensors import Quality
from thalweg.errors import UsageError, unknown_name

if TYPE_CHECKING:
    import xarray as xr

TILE_SIZE = 256
"""Height and width of a tile in pixels; at level L it covers TILE_SIZE * 2**L pixels of the store."""

MAX_CHUNKS = 256
"""Largest number of chunks of a variable that a tile of one date reads."""

MAX_SIMILARITY_CHUNKS = 64
"""Largest number of chunks of one date that a tile of similarity reads."""

MAX_SIMILARITY_READS = 1024
"""Largest number of chunks of all dates together that a tile of similarity reads."""

LAYERS = ("preview", "components", "quality", "similarity")
"""Layers of the maps."""

QUALITY_COLOURS: dict[Quality, tuple[int, int, int]] = {
    Quality.CLEAR: (74, 145, 86),
    Quality.WATER: (58, 118, 184),
    Quality.CLOUD: (214, 160, 60),
    Quality.MISSING: (150, 90, 130),
    Quality.NEVER_OBSERVED: (96, 96, 104),
    Quality.OUTSIDE: (190, 190, 196),
    Quality.NO_OVERPASS: (142, 168, 196),
}
"""Colour of each quality flag, red, green and blue in 0..255."""

QUALITY_LABELS: dict[Quality, str] = {
    Quality.CLEAR: "clear",
    Quality.WATER: "clear, water",
    Quality.CLOUD: "cloud or its shadow",
    Quality.MISSING: "missing on this date",
    Quality.NEVER_OBSERVED: "never observed",
    Quality.OUTSIDE: "outside the dates of the record",
    Quality.NO_OVERPASS: "no overpass on this day",
}
"""Label of each quality flag."""


def levels(store: OpenStore) -> int:
    """Return the number of zoom levels; the last one shows the whole store in one tile."""
    return 1 + max(0, math.ceil(math.log2(max(store.shape) / TILE_SIZE)))


def stride(store: OpenStore, level: int, max_chunks: int = MAX_CHUNKS) -> int:
    """Return the step in pixels at which tiles of a level are read, so that a tile touches at most `max_chunks`."""
    step = 2**level
    if max_chunks == MAX_CHUNKS and step in store.overviews:
        return step
    while _touched_chunks(store, level, step) > max_chunks:
        step *= 2
    return step


def similarity_dates(store: OpenStore, level: int) -> int:
    """Return the largest number of dates that a tile of similarity compares; the same for all tiles of a level."""
    step = stride(store, level, MAX_SIMILARITY_CHUNKS)
    return max(1, MAX_SIMILARITY_READS // _touched_chunks(store, level, step))


def _touched_chunks(store: OpenStore, level: int, step: int) -> int:
    """Return the number of chunks of one date that a whole tile touches when it takes every `step`-th pixel."""
    covered = TILE_SIZE * 2**level
    rows, columns = (
        min(math.ceil(covered / max(step, side)), math.ceil(size / side))
        for side, size in zip(store.block, store.shape, strict=True)
    )
    return rows * columns


def tile_slices(store: OpenStore, level: int, row: int, column: int, step: int) -> tuple[slice, slice]:
    """Return the rows and columns of every `step`-th pixel of a tile.

    Raises:
        UsageError: There is no such level or tile.
    """
    if not 0 <= level < levels(store):
        raise UsageError(f"level {level}: expected 0 to {levels(store) - 1}")
    covered = TILE_SIZE * 2**level
    rows, columns = store.shape
    if not (0 <= row * covered < rows and 0 <= column * covered < columns):
        raise UsageError(f"tile row {row}, column {column} of level {level} lies outside the store")
    return (
        slice(row * covered, min((row + 1) * covered, rows), step),
        slice(column * covered, min((column + 1) * covered, columns), step),
    )


def window(store: OpenStore, level: int, row: int, column: int, step: int) -> "xr.Dataset":
    """Return every `step`-th pixel of a tile's window.

    Raises:
        UsageError: There is no such level or tile.
    """
    rows, columns = tile_slices(store, level, row, column, step)
    return store.dataset.isel(y=rows, x=columns)


def overview(store: OpenStore, level: int, row: int, column: int) -> "xr.Dataset":
    """Return a tile's window of the store, or of the overview of its level if the store has one: no pixel is skipped.

    Raises:
        UsageError: There is no such level or tile.
    """
    part = window(store, level, row, column, stride(store, level))
    reduced = store.overviews.get(2**level)
    if reduced is None:
        return part
    rows, columns = (slice(TILE_SIZE * number, TILE_SIZE * (number + 1)) for number in (row, column))
    return reduced.isel(y=rows, x=columns)


def draw_tile(
    store: OpenStore, layer: str, level: int, row: int, column: int, date: int, pixel: PixelIndex | None = None
) -> bytes:
    """Draw a tile as PNG, transparent where there is nothing to show.

    Args:
        store: the store.
        layer: one of `LAYERS`.
        level: zoom level; one pixel of the tile is one pixel of the store at level 0, 2**level pixels otherwise.
        row: row of the tile, from 0 at the top.
        column: column of the tile, from 0 at the left.
        date: index of the date, from 0; similarity is over all dates.
        pixel: pixel that the similarity is to.

    Raises:
        UsageError: There is no such layer, level, tile, date or pixel.
    """
    store.check_date(date)
    if layer == "similarity":
        if pixel is None:
            raise UsageError("similarity: expected the row and column of a pixel too")
        store.check_pixel(pixel)
        part = window(store, level, row, column, stride(store, level, MAX_SIMILARITY_CHUNKS))
        return png(_similarity_colours(store.similarity_to(pixel, similarity_dates(store, level)).compute(part)))
    part = overview(store, level, row, column).isel(time=date)
    if layer == "preview":
        return png(with_alpha(np.moveaxis(part.picture.values, 0, -1), part.quality.values <= Quality.WATER))
    if layer == "components":
        return png(_component_colours(store, part.embeddings.values))
    if layer == "quality":
        return png(_quality_colours(part.quality.values))
    raise unknown_name("layer", layer, LAYERS)


def _component_colours(store: OpenStore, vectors: np.ndarray) -> np.ndarray:
    finite = np.isfinite(vectors).all(0)
    colours = store.components().to_rgb(vectors)
    three = np.concatenate([colours, np.zeros((*finite.shape, 3 - colours.shape[-1]))], -1)
    return with_alpha((255 * three).round().astype(np.uint8), finite)


def _similarity_colours(similarity: np.ndarray) -> np.ndarray:
    import matplotlib

    colours = matplotlib.colormaps["viridis"](np.nan_to_num(similarity), bytes=True)[..., :3]
    return with_alpha(colours, np.isfinite(similarity))


def _quality_colours(quality: np.ndarray) -> np.ndarray:
    colours = np.zeros((256, 3), np.uint8)
    for flag, colour in QUALITY_COLOURS.items():
        colours[flag] = colour
    return with_alpha(colours[quality], np.ones(quality.shape, bool))


def with_alpha(colours: np.ndarray, opaque: np.ndarray) -> np.ndarray:
    """Return colours (H, W, 3), uint8, with an alpha channel (H, W, 4): transparent where not `opaque` (H, W)."""
    return np.concatenate([np.where(opaque[..., None], colours, 0), 255 * opaque[..., None]], -1).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Return colours (H, W, 3) or (H, W, 4), uint8, as a PNG file."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", compress_level=3)
    return out.getvalue()
