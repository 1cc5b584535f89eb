"""Zarr stores, opened such that a truncated chunk raises an error instead of returning wrong numbers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from zipfile import ZipFile

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore, ZipStore

_HEADER_BYTES = 16
"""Size of a Blosc chunk's header; its last four bytes hold the chunk's length."""

_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_MAX_DEPTH = 16


class CheckedChunkStore(WrapperStore[Store]):
    """Store that checks the length of Blosc chunks, since the decoder reads beyond the end of a truncated chunk."""

    def __init__(self, store: Store, in_blosc: frozenset[str] = frozenset()) -> None:
        """Wrap a store.

        Args:
            store: the store.
            in_blosc: paths of the arrays whose chunks are compressed with Blosc.
        """
        super().__init__(store)
        self._in_blosc = in_blosc

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self._in_blosc)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the bytes of a key, None if it does not exist.

        Raises:
            ValueError: a chunk's length differs from the length in its header.
        """
        buffer = await super().get(key, prototype, byte_range)
        if buffer is not None and byte_range is None and self._is_blosc(key):
            expected = int.from_bytes(buffer[_HEADER_BYTES - 4 : _HEADER_BYTES].to_bytes(), "little")
            if len(buffer) != expected:
                raise ValueError(f"chunk {key} has {len(buffer)} bytes, expected {max(expected, _HEADER_BYTES)}")
        return buffer

    def _is_blosc(self, key: str) -> bool:
        array, _, chunk = key.partition("/c/") if "/c/" in key else key.rpartition("/")
        while array and array not in self._in_blosc:  # chunks of Zarr format 2 may be nested
            array, _, rest = array.rpartition("/")
            chunk = f"{rest}/{chunk}"
        return bool(array) and not chunk.endswith((".zarray", ".zattrs", "zarr.json"))


def open_store(path: Path) -> Store:
    """Open a folder or a zip file as a store for reading.

    Each array's metadata are read separately first, since zarr reads many at once and prints all errors but the first.

    Args:
        path: the folder or zip file.

    Raises:
        ValueError: metadata cannot be read. zarr raises other kinds.
    """
    documents = dict(_metadata_of_folder(path) if path.is_dir() else _metadata_of_zip(path))
    store: Store = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r")
    in_blosc = set()
    for key, content in documents.items():
        document = _parsed(key, content)
        folder, _, name = key.rpartition("/")
        if name == ".zarray" or document.get("node_type") == "array":
            array = zarr.open_array(store, path=folder, mode="r")
            if array.compressors and "blosc" in type(array.compressors[-1]).__name__.lower() and array.shards is None:
                in_blosc.add(folder)
    return CheckedChunkStore(store, frozenset(in_blosc))


def _metadata_of_folder(folder: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield (key, content) of the metadata documents of a folder's groups and arrays."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"groups nest more than {_MAX_DEPTH} deep")
    is_group = False
    for name in _METADATA:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            yield prefix + name, content
            is_group |= name == ".zgroup" or (
                name == "zarr.json" and _parsed(name, content).get("node_type") == "group"
            )
    if is_group:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir():
                yield from _metadata_of_folder(entry, f"{prefix}{entry.name}/", depth + 1)


def _metadata_of_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with ZipFile(path) as file:
        for key in file.namelist():
            if key.rpartition("/")[2] in _METADATA:
                yield key, file.read(key)


def _parsed(key: str, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key} holds no JSON that can be read") from error
    if not isinstance(document, dict):
        raise ValueError(f"{key} holds no JSON object")
    return document
