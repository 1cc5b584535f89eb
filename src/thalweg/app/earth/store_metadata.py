"""Metadata of a Zarr store, looked at before a library believes them: sizes that nothing could hold are refused."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thalweg.errors import UsageError
from thalweg.io.json_files import read_json
from thalweg.limits import shown

MAX_SIDE = 2_000_000
"""Rows or columns of a store: their coordinates are read when it is opened."""
MAX_DATES = 20_000
"""Dates of a store, for the same reason, and since a pixel's series holds them all."""
MAX_COORDINATE_CHUNKS = 1000
"""Chunks of a coordinate, each of them read when the store is opened."""
MAX_DIMENSIONS = 4096
"""Dimensions of an embedding, or bands of a preview."""
MAX_CHUNK_BYTES = 512 * 2**20
"""Largest chunk: the least that is read for one pixel."""
MAX_SHARD_CHUNKS = 1_000_000
"""Chunks of a shard: their index is read with the first of them."""
MAX_ARRAYS = 1000
_UNKNOWN_ITEM = 8
_LIMITS = {"time": MAX_DATES, "x": MAX_SIDE, "y": MAX_SIDE}


def check_metadata(folder: Path, name: str) -> None:
    """Raise a `UsageError` where a store's metadata can't be read, or declare what no memory could hold.

    Args:
        folder: where the store lies.
        name: what a message calls it.
    """
    for array, metadata in _arrays(folder, name):
        where = f"{name}: its array {shown(array)}"
        shape = _sizes(metadata.get("shape"), where, "shape")
        names = metadata.get("dimension_names")
        dimensions = names if isinstance(names, list) and len(names) == len(shape) else [None] * len(shape)
        if len(shape) == 1 and dimensions == [None]:
            dimensions = [array]  # a coordinate is called as its dimension
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
    """Whether a store is one of embeddings, or too damaged to tell, which opening it will say."""
    try:
        found = read_json(folder / "zarr.json")
    except UsageError:
        return True
    attributes = found.get("attributes") if isinstance(found, dict) else None
    return "geoemb:model" in attributes if isinstance(attributes, dict) else True


def _arrays(folder: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The arrays of a store, with what its root says of them, or each of itself."""
    root = _metadata(folder / "zarr.json", name)
    consolidated = root.get("consolidated_metadata")
    listed = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    parts = dict(listed) if isinstance(listed, dict) else {}
    for number, part in enumerate(sorted(folder.iterdir())):
        if number >= MAX_ARRAYS:
            raise UsageError(f"{name}: expected at most {MAX_ARRAYS:,} arrays in the store")
        # One that the root names is opened by what the root says of it.
        if part.name not in parts and (part / "zarr.json").exists():
            parts[part.name] = _metadata(part / "zarr.json", f"{name}: its array {shown(part.name)}")
    for array, metadata in parts.items():
        if not isinstance(metadata, dict):
            raise UsageError(f"{name}: its array {shown(array)}: expected metadata, got {shown(metadata)}")
        if metadata.get("node_type") == "array":
            yield array, metadata


def _metadata(path: Path, where: str) -> dict[str, Any]:
    if not path.exists():
        return {}  # of an older format, or no store: opening it says which
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
    """The shapes of an array's chunks; of shards, those of the chunks in them."""
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
    """The shape of an array's shards, each of which holds an index of its chunks; none where there are no shards."""
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
    """Bytes of one value."""
    kind = metadata.get("data_type")
    if isinstance(kind, dict):
        configuration = kind.get("configuration")
        length = configuration.get("length_bytes") if isinstance(configuration, dict) else None
        return length if isinstance(length, int) and length > 0 else _UNKNOWN_ITEM
    digits = str(kind).lstrip("abcdefghijklmnopqrstuvwxyz")
    return max(1, int(digits) // 8) if digits.isdecimal() and len(digits) < 4 else _UNKNOWN_ITEM
