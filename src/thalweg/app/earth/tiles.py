"""Map tiles: 256 x 256 pixels at most, read from their own window of one date, within a budget of chunks."""

import io
import math
from typing import TYPE_CHECKING

import numpy as np

from thalweg.app.earth.open_stores import OpenStore
from thalweg.earth.sensors import Quality
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

TILE = 256
"""Pixels of a tile each way; at level L it covers TILE * 2**L pixels of the store."""

CHUNKS = 256
"""Most chunks of a variable that a tile of one date reads."""

SIMILARITY_CHUNKS, SIMILARITY_READS = 64, 1024
"""Most chunks of a date, and of all dates together, that a tile of similarity reads."""

LAYERS = ("picture", "components", "quality", "similarity")

QUALITY_COLOURS: dict[Quality, tuple[int, int, int]] = {
    Quality.CLEAR: (74, 145, 86),
    Quality.WATER: (58, 118, 184),
    Quality.CLOUD: (214, 160, 60),
    Quality.MISSING: (150, 90, 130),
    Quality.NEVER_OBSERVED: (96, 96, 104),
    Quality.OUTSIDE: (190, 190, 196),
}

QUALITY_WORDS: dict[Quality, str] = {
    Quality.CLEAR: "clear",
    Quality.WATER: "water, seen clearly",
    Quality.CLOUD: "cloud or its shadow",
    Quality.MISSING: "missing on this date",
    Quality.NEVER_OBSERVED: "never observed",
    Quality.OUTSIDE: "outside the record",
}


def levels(scene: OpenStore) -> int:
    """How many zoom levels there are; the last shows the whole store in one tile."""
    return 1 + max(0, math.ceil(math.log2(max(scene.shape) / TILE)))


def stride(scene: OpenStore, level: int, most: int = CHUNKS) -> int:
    """Which pixels a tile shows: every so-manyth each way, so that it touches `most` chunks or fewer."""
    step = 2**level
    while _touched(scene, level, step) > most:
        step *= 2
    return step


def similarity_dates(scene: OpenStore, level: int) -> int:
    """On how many dates a tile of similarity compares at most; the same for all tiles of a level."""
    return max(1, SIMILARITY_READS // _touched(scene, level, stride(scene, level, SIMILARITY_CHUNKS)))


def _touched(scene: OpenStore, level: int, step: int) -> int:
    """Chunks of one date that a whole tile touches when it takes every `step`-th pixel."""
    covered = TILE * 2**level
    along = [
        min(math.ceil(covered / max(step, side)), math.ceil(size / side))
        for side, size in zip(scene.block, scene.shape, strict=True)
    ]
    return along[0] * along[1]


def window(scene: OpenStore, level: int, column: int, row: int, step: int) -> "xr.Dataset":
    """Every `step`-th pixel of a tile's window; `UsageError` where there is no such tile."""
    if not 0 <= level < levels(scene):
        raise UsageError(f"level {level}: expected 0 to {levels(scene) - 1}")
    covered = TILE * 2**level
    rows, columns = scene.shape
    if not (0 <= row * covered < rows and 0 <= column * covered < columns):
        raise UsageError(f"tile {column} {row} of level {level} lies outside the store")
    return scene.dataset.isel(
        y=slice(row * covered, min((row + 1) * covered, rows), step),
        x=slice(column * covered, min((column + 1) * covered, columns), step),
    )


def draw(
    scene: OpenStore, layer: str, level: int, column: int, row: int, date: int, pixel: tuple[int, int] | None = None
) -> bytes:
    """Draw a tile as PNG, transparent where nothing was seen.

    Args:
        scene: the store.
        layer: one of `LAYERS`.
        level: 0 is one pixel a pixel, each further level half of that.
        column: counted in tiles from the left.
        row: counted in tiles from the top.
        date: index of the date; similarity is over all dates.
        pixel: row and column that similarity is to.

    Raises:
        UsageError: no such layer, level, tile, date or pixel.
    """
    scene.check_date(date)
    if layer == "similarity":
        if pixel is None:
            raise UsageError("similarity: expected the row and column of a pixel too")
        scene.check_pixel(*pixel)
        part = window(scene, level, column, row, stride(scene, level, SIMILARITY_CHUNKS))
        alike = scene.likeness(*pixel, similarity_dates(scene, level)).of(part)
        return _png(_ramp(alike))
    part = window(scene, level, column, row, stride(scene, level)).isel(time=date)
    if layer == "picture":
        return _png(_seen(np.moveaxis(part.picture.values, 0, -1), part.quality.values <= Quality.WATER))
    if layer == "components":
        return _png(_components(scene, part.embeddings.values))
    if layer == "quality":
        return _png(_flags(part.quality.values))
    raise UsageError(f"layer {layer!r}: expected one of {', '.join(LAYERS)}")


def _components(scene: OpenStore, vectors: np.ndarray) -> np.ndarray:
    seen = np.isfinite(vectors).all(0)
    colours = scene.axes.colours(vectors)
    three = np.concatenate([colours, np.zeros((*seen.shape, 3 - colours.shape[-1]))], -1)
    return _seen((255 * three).round().astype(np.uint8), seen)


def _ramp(alike: np.ndarray) -> np.ndarray:
    import matplotlib

    colours = matplotlib.colormaps["viridis"](np.nan_to_num(alike), bytes=True)[..., :3]
    return _seen(colours, np.isfinite(alike))


def _flags(quality: np.ndarray) -> np.ndarray:
    colours = np.zeros((256, 3), np.uint8)
    for flag, colour in QUALITY_COLOURS.items():
        colours[flag] = colour
    return _seen(colours[quality], np.ones(quality.shape, bool))


def _seen(colours: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W, 4), transparent where not seen."""
    return np.concatenate([np.where(seen[..., None], colours, 0), 255 * seen[..., None]], -1).astype(np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", compress_level=3)
    return out.getvalue()
