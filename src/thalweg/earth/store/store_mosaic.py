"""Mosaics of stores: one store from several of one model, on one pixel lattice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg._version import __version__
from thalweg.earth.cube.grid import (
    PHASE_TOLERANCE,
    center_longitude,
    describe_crs,
    edge_offset,
    enclosing_grid,
    has_same_crs,
    has_same_resolution,
    pixel_centers,
)
from thalweg.earth.cube.mosaics import overpass_groups, solar_days
from thalweg.earth.cube.windows import Window, window_at, window_count
from thalweg.earth.declarations import Quality
from thalweg.earth.positions import dataset_geobox
from thalweg.earth.store.conventions.geo_embeddings import is_uri, stated_source_uri
from thalweg.earth.store.overviews.pyramid import write_overviews
from thalweg.earth.store.portable import structured
from thalweg.earth.store.reader import check_alike, fingerprint, open_store
from thalweg.earth.store.schema import OBSERVED, OVERPASS_OF, PREVIEW, STORE_LAYOUT, Block, StoreSchema
from thalweg.earth.store.subsample import block_shape
from thalweg.earth.store.writer import create_store, write_block
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.atomic import refuse_existing, write_failure
from thalweg.io.hashing import hash_uri
from thalweg.io.progress_log import ProgressLog, complete_finalize

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

MAX_BLOCK = 256
"""Largest side of a block of a mosaic in pixels."""

GAP = "gap_"
"""Beginning of the names of the variables with the gaps of auxiliary sensors."""

WITHOUT_EMBEDDING = 1e6
"""Rank of a pixel without an embedding, behind all with one; its `Quality` is added."""

Progress = Callable[[int, int], None]
"""Callback that takes the number of finished pixel-dates and their total."""


@dataclass(frozen=True, eq=False)
class _Tile:
    """A store of a mosaic.

    Attributes:
        path: its path.
        dataset: the opened store.
        top: row of the mosaic at which it begins.
        left: column of the mosaic at which it begins.
        dates: (T,), index of each of its dates in the mosaic.
    """

    path: Path
    dataset: "xr.Dataset"
    top: int
    left: int
    dates: NDArray[np.intp]


def write_mosaic(stores: Sequence[str | Path], out: str | Path, progress: Progress | None = None) -> Path:
    """Write one store from several of one model on one pixel lattice, block by block.

    The grid is the smallest that contains all of theirs. Its dates are all of their dates; times of one overpass, which
    are at most ten minutes apart, become one date, its earliest time. Where stores overlap, a pixel takes all of its
    variables on a date from the store with the lower uncertainty, on average over the dimensions; where none has an
    embedding, from the one with the lower quality flag; of equals, from the one that is named first. Elsewhere it has
    the fill values. A mosaic of stores of one encoding keeps their integers; one of several encodings is float32.

    The mosaic is complete under its name, or not there at all. If the same mosaic is started again after a kill, it
    resumes. Memory is bounded by one block with all dates.

    Args:
        stores: paths of two or more stores.
        out: path of the mosaic; must not exist.
        progress: callback with the number of finished pixel-dates and their total.

    Returns:
        The path of the mosaic.

    Raises:
        MissingPathError: A store does not exist.
        UsageError: `out` exists or another process is writing it; a store is damaged, or differs from the first in
            model, dimensions, reference system, pixel size, pixel lattice or bands of the preview.
        ThalwegError: A chunk of a store cannot be read, or the mosaic cannot be written.
    """
    out, paths = Path(out), [Path(store) for store in stores]
    if complete_finalize(out):
        return out
    refuse_existing(out)
    if len(paths) < 2:
        raise UsageError(f"{len(paths)} store(s): expected two or more for a mosaic")
    datasets = [open_store(path) for path in paths]
    grids = [dataset_geobox(dataset) for dataset in datasets]
    for path, dataset, grid in zip(paths[1:], datasets[1:], grids[1:], strict=True):
        _check_same_lattice(path, dataset, grid, paths[0], datasets[0], grids[0])
    grid, origins = enclosing_grid(grids)
    times, indices = _common_dates([dataset.time.values for dataset in datasets], center_longitude(grid))
    tiles = [_Tile(*parts) for parts in zip(paths, datasets, *zip(*origins, strict=True), indices, strict=True)]
    schema = _schema(tiles, grid, times, out.stem)
    try:
        with ProgressLog(out) as log:
            _write_blocks(tiles, schema, log, progress)
    except ThalwegError:
        raise
    except OSError as error:
        raise write_failure(out, error) from error
    return out


def _check_same_lattice(
    path: Path, dataset: "xr.Dataset", grid: "GeoBox", first: Path, other: "xr.Dataset", lattice: "GeoBox"
) -> None:
    """Check that a store can be part of a mosaic with the first one."""
    check_alike(dataset, str(path), other.attrs["thalweg:model"], other.sizes["embedding"], str(first))
    if not has_same_crs(grid, lattice):
        raise UsageError(
            f"{path}: in {describe_crs(grid)}, but {first} is in {describe_crs(lattice)}: expected one reference "
            "system, embed the cube in that of the first"
        )
    if not has_same_resolution(grid, lattice):
        raise UsageError(
            f"{path}: pixels of {grid.resolution.x:g} m, but {first} has {lattice.resolution.x:g} m: expected one size"
        )
    down, right = map(abs, edge_offset(lattice, grid))
    if max(down, right) > PHASE_TOLERANCE:
        raise UsageError(
            f"{path}: its pixels lie {down:.2g} rows and {right:.2g} columns off those of {first}: expected one pixel "
            "lattice, embed the cube on that of the first"
        )
    bands = [list(one[PREVIEW].attrs["bands"]) for one in (dataset, other)]
    if bands[0] != bands[1]:
        raise UsageError(
            f"{path}: a preview of {', '.join(bands[0])}, but {first} has {', '.join(bands[1])}: expected one set of "
            "bands"
        )


def _common_dates(
    dates: list[NDArray[np.datetime64]], longitude: float
) -> tuple[NDArray[np.datetime64], list[NDArray[np.intp]]]:
    """Return the dates of a mosaic (T,), and for each store the index of each of its dates in them.

    Two dates of one store stay two dates, also where they are of one overpass.
    """
    times = np.concatenate(dates)
    store = np.repeat(np.arange(len(dates)), [len(own) for own in dates])
    groups = []
    for group in overpass_groups(times, solar_days(times, longitude), [0] * len(times)):
        if len(set(store[group])) == len(group):
            groups.append(group)
        else:
            groups += [[one for one in group if times[one] == time] for time in np.unique(times[group])]
    index = np.zeros(len(times), np.intp)
    for number, group in enumerate(groups):
        index[group] = number
    return (
        np.array([times[group].min() for group in groups]),
        [index[store == number] for number in range(len(dates))],
    )


def _schema(tiles: list[_Tile], grid: "GeoBox", times: NDArray[np.datetime64], name: str) -> StoreSchema:
    """Return the layout and the metadata of a mosaic."""
    first = tiles[0].dataset
    observed = np.zeros(len(times), bool)
    for tile in tiles:
        np.logical_or.at(observed, tile.dates, tile.dataset[OBSERVED].values.astype(bool))
    types = {tile.dataset.attrs["geoemb:data_type"] for tile in tiles}
    stated = first.uncertainty.attrs
    x, y = pixel_centers(grid)
    return StoreSchema(
        name=name,
        model=first.attrs["thalweg:model"],
        model_uri=_model_uri(first),
        dates=times,
        observed=observed,
        reference=first[OBSERVED].attrs["long_name"].removeprefix(OVERPASS_OF),
        dimensions=first.sizes["embedding"],
        grid=grid,
        x=x,
        y=y,
        block=min(MAX_BLOCK, *block_shape(first)),
        quantize={"int8": 8, "int16": 16}.get(types.pop()) if len(types) == 1 else None,
        sources=_sources([structured(tile.dataset.attrs, "thalweg:sources") for tile in tiles]),
        source_uris=tuple(
            dict.fromkeys(stated_source_uri(one) for tile in tiles for one in tile.dataset.attrs["geoemb:source_data"])
        ),
        preview_bands=tuple(first[PREVIEW].attrs["bands"]),
        auxiliary_sensors=tuple(str(one).removeprefix(GAP) for one in first.data_vars if str(one).startswith(GAP)),
        interval_factors=dict(
            zip(
                np.atleast_1d(stated["interval_levels"]).tolist(),
                np.atleast_1d(stated["interval_factors"]).tolist(),
                strict=True,
            )
        ),
    )


def _model_uri(dataset: "xr.Dataset") -> str:
    """Return the URI of a store's model; older stores state its identifier."""
    stated = str(dataset.attrs["geoemb:model"])
    return stated if is_uri(stated) else hash_uri(stated)


def _sources(stated: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the provenance of each sensor over all stores; its number of dates is the largest of theirs."""
    merged: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for sources in stated for name in sources):
        parts = [sources[name] for sources in stated if name in sources]
        merged[name] = {
            "where": ", ".join(dict.fromkeys(part["where"] for part in parts)),
            "dates": max(part["dates"] for part in parts),
            "bands": list(dict.fromkeys(band for part in parts for band in part["bands"])),
            "items": list(dict.fromkeys(item for part in parts for item in part["items"])),
            **({"assumed_clear": True} if any(part.get("assumed_clear") for part in parts) else {}),
        }
    return merged


def _write_blocks(tiles: list[_Tile], schema: StoreSchema, log: ProgressLog, progress: Progress | None) -> None:
    """Write the blocks of a mosaic that an earlier run has not written; remove everything if one cannot be."""
    shape = schema.grid.shape
    count, dates, seen = window_count(shape, schema.block), len(schema.dates), 0
    try:
        identity = _identity(tiles, schema)
        done = log.done(identity)
        if done is None:
            log.clear()
            create_store(schema, log.folder)
            log.start(identity)
            done = set()
        for index in range(count):
            window = window_at(shape, schema.block, index)
            if index not in done:
                block = _merged(tiles, window, schema)
                if block is not None:
                    write_block(log.folder, block, schema.quantize)
                log.add_done(index)
            seen += window.height * window.width * dates
            if progress:
                progress(seen, shape[0] * shape[1] * dates)
        write_overviews(log.folder)
    except Exception:
        log.abort()
        raise
    log.finalize()


def _merged(tiles: list[_Tile], window: Window, schema: StoreSchema) -> Block | None:
    """Return a block of a mosaic; None if no store reaches into it."""
    parts = [(tile, *overlap) for tile in tiles if (overlap := _overlap(tile, window)) is not None]
    if not parts:
        return None
    block = _empty_block(window, schema)
    arrays = block.arrays()
    ranks = np.full((len(schema.dates), window.height, window.width), np.inf, np.float32)
    for tile, own, (rows, columns) in parts:
        values = {name: tile.dataset[name].isel(y=own[0], x=own[1]).values for name in arrays}
        has_embedding = np.isfinite(values["embeddings"]).all(1)
        certainty = np.where(has_embedding, np.nan_to_num(values["uncertainty"].mean(1)), 0)
        rank = np.where(has_embedding, certainty, WITHOUT_EMBEDDING + values["quality"]).astype(np.float32)
        is_better = rank < ranks[tile.dates, rows, columns]
        ranks[tile.dates, rows, columns] = np.where(is_better, rank, ranks[tile.dates, rows, columns])
        for name, array in arrays.items():
            taken = is_better[:, None] if array.ndim == 4 else is_better
            array[tile.dates, ..., rows, columns] = np.where(taken, values[name], array[tile.dates, ..., rows, columns])
    return block


Overlap = tuple[tuple[slice, slice], tuple[slice, slice]]
"""Rows and columns of an overlap in a store, and in a block."""


def _overlap(tile: _Tile, window: Window) -> Overlap | None:
    """Return where a store reaches into a window of the mosaic; None if it does not."""
    spans = []
    for start, size, first, length in (
        (tile.top, tile.dataset.sizes["y"], window.top, window.height),
        (tile.left, tile.dataset.sizes["x"], window.left, window.width),
    ):
        begin, end = max(start, first), min(start + size, first + length)
        if begin >= end:
            return None
        spans.append((slice(begin - start, end - start), slice(begin - first, end - first)))
    return (spans[0][0], spans[1][0]), (spans[0][1], spans[1][1])


def _empty_block(window: Window, schema: StoreSchema) -> Block:
    """Return a block of fill values."""
    pixels = (len(schema.dates), window.height, window.width)
    vectors = (pixels[0], schema.dimensions, *pixels[1:])
    return Block(
        window=window,
        embeddings=np.full(vectors, np.nan, np.float32),
        uncertainty=np.full(vectors, np.nan, np.float32),
        valid_context_dates=np.zeros(pixels, np.uint16),
        quality=np.full(pixels, Quality.OUTSIDE, np.uint8),
        preview=np.zeros((pixels[0], 3, *pixels[1:]), np.uint8),
        gaps={name: np.full(pixels, np.nan, np.float32) for name in schema.auxiliary_sensors},
    )


def _identity(tiles: list[_Tile], schema: StoreSchema) -> dict[str, Any]:
    """Return the values that must be equal for a mosaic to resume an unfinished one, as JSON values."""
    return {
        "mosaic": [str(tile.path.resolve()) for tile in tiles],
        "fingerprints": [fingerprint(tile.path) for tile in tiles],
        "grid": schema.attributes()["spatial:transform"],
        "block": schema.block,
        "version": __version__,
        "layout": STORE_LAYOUT,
    }
