"""Chunks of Zarr stores with checksums; reading a damaged chunk raises an error that names the store and the chunk."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends.common import BackendArray
from xarray.core import indexing

from thalweg.errors import ThalwegError

if TYPE_CHECKING:
    import xarray as xr
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

_MAX_REASON = 120
"""Largest number of characters of another library's message that is shown."""


def checked_compressors() -> tuple["BloscCodec", "Crc32cCodec"]:
    """Return the codecs of all chunks that this package writes: Blosc with Zstd, and a checksum of the result.

    The checksum detects changed bytes, which Blosc does not.
    """
    from zarr.codecs import BloscCodec, Crc32cCodec

    return BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()


def with_checked_reading(dataset: "xr.Dataset", path: Path, group: str | None = None) -> "xr.Dataset":
    """Return a dataset opened from a group of a store without decoding, its variables read through `CheckedArray`."""
    import xarray as xr
    import zarr

    opened = zarr.open_group(path, path=group or "", mode="r")
    checked = {}
    for name, variable in dataset.data_vars.items():
        array = opened[str(name)]
        assert isinstance(array, zarr.Array)
        data = indexing.LazilyIndexedArray(CheckedArray(array, path.name, tuple(map(str, variable.dims))))
        checked[name] = xr.Variable(variable.dims, data, variable.attrs, variable.encoding)
    return dataset.assign(checked)


class CheckedArray(BackendArray):
    """Zarr array that xarray reads lazily, with a `ThalwegError` for a chunk that cannot be read.

    Args:
        array: the array.
        store: name of the store, for messages.
        dimensions: names of the array's dimensions.
    """

    def __init__(self, array: "zarr.Array[Any]", store: str, dimensions: tuple[str, ...]) -> None:
        self.shape = array.shape
        self.dtype = array.dtype
        self._array, self._store, self._dimensions = array, store, dimensions

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the values at an index of xarray."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        try:
            return self._array.oindex[key]
        except MemoryError:
            raise
        except Exception as error:  # codecs raise many kinds on damaged bytes
            reason = " ".join(str(error).split())[:_MAX_REASON] or type(error).__name__
            raise ThalwegError(
                f"{self._store}: {self._array.basename} cannot be read at {self._first_damaged(key)} ({reason}): "
                "a damaged chunk: restore the store, write it again, or choose a part without it"
            ) from error

    def _first_damaged(self, key: tuple[Any, ...]) -> str:
        """Describe the first chunk of an index that cannot be read."""
        for chunk in self._chunks(key):
            try:
                self._array[chunk]
            except Exception:
                spans = zip(self._dimensions, chunk, strict=True)
                return ", ".join(f"{name} {span.start} to {span.stop - 1}" for name, span in spans)
        return "some chunk"

    def _chunks(self, key: tuple[Any, ...]) -> Iterator[tuple[slice, ...]]:
        """Yield the chunks that intersect an index."""
        spans = []
        for part, size, side in zip(key, self.shape, self._array.chunks, strict=True):
            touched = np.unique(np.arange(size)[part] // side)
            spans.append([slice(int(i) * side, min((int(i) + 1) * side, size)) for i in touched])
        return itertools.product(*spans)
