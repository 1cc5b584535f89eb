"""Zarr stores of other people, opened so that a chunk cut short is an error and not other numbers."""

import json
from pathlib import Path
from typing import Any, Self

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore, ZipStore

_HEADER = 16
"""Bytes of a Blosc chunk's header; the last four hold the chunk's length."""

_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_MAX_DEPTH = 16


class WholeChunks(WrapperStore[Store]):
    """A store whose chunks in Blosc are as long as their header says; the decoder would read beyond a shorter one."""

    def __init__(self, store: Store, in_blosc: frozenset[str] = frozenset()) -> None:
        """Wrap a store, given the paths of its arrays whose chunks are stored in Blosc."""
        super().__init__(store)
        self._in_blosc = in_blosc

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self._in_blosc)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the bytes of a key; `ValueError` where a chunk is not as long as it says."""
        buffer = await super().get(key, prototype, byte_range)
        if buffer is not None and byte_range is None and self._is_blosc(key):
            said = int.from_bytes(buffer[_HEADER - 4 : _HEADER].to_bytes(), "little")
            if len(buffer) != said:
                raise ValueError(f"chunk {key} has {len(buffer)} bytes, expected {said}")
        return buffer

    def _is_blosc(self, key: str) -> bool:
        array, _, chunk = key.partition("/c/") if "/c/" in key else key.rpartition("/")
        while array and array not in self._in_blosc:  # chunks of format 2 may be nested
            array, _, rest = array.rpartition("/")
            chunk = f"{rest}/{chunk}"
        return bool(array) and not chunk.endswith((".zarray", ".zattrs", "zarr.json"))


def open_store(path: Path) -> Store:
    """Open a folder or a zip file as a store for reading.

    Raises:
        ValueError: its metadata are no JSON.
    """
    if path.is_dir():
        _check_metadata(path)
    store: Store = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r")
    root = zarr.open_group(store, mode="r", use_consolidated=False)
    arrays = (member for _, member in root.members(max_depth=None) if isinstance(member, zarr.Array))
    return WholeChunks(store, frozenset(array.path for array in arrays if _last_codec_is_blosc(array)))


def _check_metadata(folder: Path, depth: int = 0) -> None:
    """Raise `ValueError` where a group or an array below a folder is not described in JSON.

    The library reads many at once, and prints what it meets besides the first fault.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"groups nest more than {_MAX_DEPTH} deep")
    documents = {}
    for name in _METADATA:
        file = folder / name
        if file.is_file():
            try:
                documents[name] = json.loads(file.read_bytes())
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{folder.name}/{name} holds no JSON that can be read") from error
            if not isinstance(documents[name], dict):
                raise ValueError(f"{folder.name}/{name} holds no JSON object")
    if ".zgroup" in documents or documents.get("zarr.json", {}).get("node_type") == "group":
        for entry in sorted(folder.iterdir()):
            if entry.is_dir():
                _check_metadata(entry, depth + 1)


def _last_codec_is_blosc(array: "zarr.Array[Any]") -> bool:
    return bool(array.compressors) and "blosc" in type(array.compressors[-1]).__name__.lower() and array.shards is None
