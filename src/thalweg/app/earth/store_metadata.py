"""Checks of a Zarr store's metadata before a library opens it: sizes that no memory could hold are refused."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thalweg.errors import UsageError
from thalweg.io.json_files import read_json
from thalweg.limits import shown

MAX_SIDE = 2_000_000
"""Largest number of rows or columns: their coordinates are read when the store is opened."""
MAX_DATES = 20_000
"""Largest number of dates: their coordinates are read too, and the series of a pixel holds all of them."""
MAX_COORDINATE_CHUNKS = 1000
"""Largest number of chunks of a coordinate: all are read when the store is opened."""
MAX_DIMENSIONS = 4096
"""Largest number of dimensions of an embedding, or of bands of a preview."""
MAX_CHUNK_BYTES = 512 * 2**20
"""Largest chunk in bytes: reading one pixel reads a whole chunk."""
MAX_SHARD_CHUNKS = 1_000_000
"""Largest number of chunks in a shard: reading one of them reads the index of all."""
MAX_ARRAYS = 1000
"""Largest number of arrays in a store."""
_UNKNOWN_ITEM_BYTES = 8
_LIMITS = {"time": MAX_DATES, "x": MAX_SIDE, "y": MAX_SIDE}


def check_metadata(folder: Path, name: str) -> None:
    """Check the metadata of a store.

    Args:
        folder: folder of the store.
        name: name of the store in messages.

    Raises:
        UsageError: The metadata cannot be read, or declare sizes that no memory could hold.
    """
    for array, metadata in _arrays(folder, name):
        where = f"{name}: its array {shown(array)}"
        shape = _sizes(metadata.get("shape"), where, "shape")
        names = metadata.get("dimension_names")
        dimensions = names if isinstance(names, list) and len(names) == len(shape) else [None] * len(shape)
        if len(shape) == 1 and dimensions == [None]:
            dimensions = [array]  # a coordinate has the name of its dimension
        for dimension, size in zip(dimensions, shape, strict=True):
            known = _LIMITS.get(dimension, MAX_DIMENSIONS) if isinstance(dimension, str) else MAX_SIDE
            if size > known:
                raise UsageError(
                    f"{where} has {size:,} along {shown(dimension)}: expected at most {known:,}; restore the store or "
                    "embed again"
                )
        chunks = list(_chunks(metadata))
        shards = [_sizes(chunk, where, "shard shape") for chunk in _shards(metadata)]
        for shard, chunk in zip(shards, chunks, strict=False):
            count = math.prod(shard) // max(1, math.prod(_sizes(chunk, where, "chunk shape")))
            if count > MAX_SHARD_CHUNKS:
                raise UsageError(
                    f"{where} has shards of {count:,} chunks: expected at most {MAX_SHARD_CHUNKS:,}; restore the store "
                    "or embed again"
                )
        for chunk in chunks:
            sides = _sizes(chunk, where, "chunk shape")
            if len(shape) == 1 and sides and shape[0] > MAX_COORDINATE_CHUNKS * sides[0]:
                raise UsageError(
                    f"{where} has {shape[0]:,} values in chunks of {sides[0]:,}: expected at most "
                    f"{MAX_COORDINATE_CHUNKS:,} chunks; restore the store or embed again"
                )
            bytes_of_chunk = math.prod(sides) * _item_size(metadata)
            if bytes_of_chunk > MAX_CHUNK_BYTES:
                raise UsageError(
                    f"{where} has chunks of {bytes_of_chunk:,} bytes: expected at most {MAX_CHUNK_BYTES:,}; restore "
                    "the store or embed again"
                )


def may_hold_embeddings(folder: Path) -> bool:
    """Return whether a store holds embeddings; True also where its metadata are damaged, which opening it reports."""
    try:
        found = read_json(folder / "zarr.json")
    except UsageError:
        return True
    attributes = found.get("attributes") if isinstance(found, dict) else None
    return "geoemb:model" in attributes if isinstance(attributes, dict) else True


def _arrays(folder: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the arrays of a store with their metadata: the consolidated ones of its root, or the array's own."""
    root = _metadata(folder / "zarr.json", name)
    consolidated = root.get("consolidated_metadata")
    listed = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    parts = dict(listed) if isinstance(listed, dict) else {}
    for number, part in enumerate(sorted(folder.iterdir())):
        if number >= MAX_ARRAYS:
            raise UsageError(f"{name}: expected at most {MAX_ARRAYS:,} arrays in the store")
        # Libraries open an array by the consolidated metadata if there are any.
        if part.name not in parts and (part / "zarr.json").exists():
            parts[part.name] = _metadata(part / "zarr.json", f"{name}: its array {shown(part.name)}")
    for array, metadata in parts.items():
        if not isinstance(metadata, dict):
            raise UsageError(f"{name}: its array {shown(array)}: expected metadata, got {shown(metadata)}")
        if metadata.get("node_type") == "array":
            yield array, metadata


def _metadata(path: Path, where: str) -> dict[str, Any]:
    if not path.exists():
        return {}  # of an older format, or no store: opening it reports which
    try:
        found = read_json(path, where)
    except UsageError as error:
        reason = str(error).removeprefix(f"{where} ")
        raise UsageError(
            f"{where}: not a readable Zarr store: its metadata {reason}; restore it or embed again"
        ) from error
    if not isinstance(found, dict):
        raise UsageError(f"{where}: not a readable Zarr store: expected metadata, got {shown(found)}")
    return found


def _chunks(metadata: dict[str, Any]) -> list[Any]:
    """Return the shapes of an array's chunks; for shards, those of the chunks in them."""
    codecs = metadata.get("codecs")
    inner = [
        codec["configuration"].get("chunk_shape")
        for codec in (codecs if isinstance(codecs, list) else [])
        if isinstance(codec, dict)
        and codec.get("name") == "sharding_indexed"
        and isinstance(codec.get("configuration"), dict)
    ]
    return inner or _grid(metadata)


def _shards(metadata: dict[str, Any]) -> list[Any]:
    """Return the shape of an array's shards, each of which holds an index of its chunks; empty without shards."""
    return [] if _chunks(metadata) == _grid(metadata) else _grid(metadata)


def _grid(metadata: dict[str, Any]) -> list[Any]:
    grid = metadata.get("chunk_grid")
    configuration = grid.get("configuration") if isinstance(grid, dict) else None
    return [configuration.get("chunk_shape")] if isinstance(configuration, dict) else []


def _sizes(value: Any, where: str, what: str) -> list[int]:
    if not isinstance(value, list) or any(
        not isinstance(size, int) or isinstance(size, bool) or size < 0 for size in value
    ):
        raise UsageError(f"{where}: expected whole numbers as its {what}, got {shown(value)}")
    return value


def _item_size(metadata: dict[str, Any]) -> int:
    """Return the size of one value in bytes."""
    kind = metadata.get("data_type")
    if isinstance(kind, dict):
        configuration = kind.get("configuration")
        length = configuration.get("length_bytes") if isinstance(configuration, dict) else None
        return length if isinstance(length, int) and length > 0 else _UNKNOWN_ITEM_BYTES
    digits = str(kind).lstrip("abcdefghijklmnopqrstuvwxyz")
    return max(1, int(digits) // 8) if digits.isdecimal() and len(digits) < 4 else _UNKNOWN_ITEM_BYTES
