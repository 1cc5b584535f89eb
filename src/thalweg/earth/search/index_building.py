"""Building of an index over stores: a sample for its scales and centroids, then the entries block by block."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.cube.windows import grid_windows
from thalweg.earth.search.entry_table import SEGMENT, SEGMENTS
from thalweg.earth.search.index_manifest import (
    FORMAT,
    MANIFEST,
    IndexedStore,
    IndexFile,
    IndexManifest,
)
from thalweg.earth.search.index_parts import PartFiles, encode_uncertainty
from thalweg.earth.search.index_sample import IndexSample, IndexScales
from thalweg.earth.search.vector_lists import VectorLists, list_count
from thalweg.earth.store.reader import check_alike, open_store
from thalweg.earth.store.subsample import block_shape
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_folder, refuse_existing
from thalweg.limits import check_count

if TYPE_CHECKING:
    import xarray as xr

PART_ENTRIES = 2**23
"""Entries of one part of an index, at most; it bounds the memory of building."""

SAMPLE_VECTORS = 400_000
"""Embeddings that scales and centroids are fitted to, over all stores."""

SAMPLE_CHUNKS = 1024
"""Chunks that the sample is read from, over all stores."""

MAX_BLOCK = 256
"""Largest side of a block in pixels that is read at once."""

DATES_AT_ONCE = 16
"""Dates of a block that are read at once."""

MAX_EVERY = 10_000
"""Largest step between indexed pixels."""

Progress = Callable[[int, int], None]
"""Callback that takes the number of finished pixel-dates and their total."""

Segment = tuple[int, NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32]]
"""Entries of one date of a block: index of the date, their pixels (N,), embeddings and uncertainty (N, K)."""


def build_index(
    stores: Sequence[str | Path], out: str | Path, every: int = 1, progress: Progress | None = None
) -> Path:
    """Index the embeddings of stores of one model, over all their dates.

    The index is a folder that `SearchIndex.open` opens: the vectors in half precision, their uncertainty in 8 bits, and
    the pixel of each. It is complete under its name, or not there at all. Memory is bounded by a sample, one block of a
    store and `PART_ENTRIES` entries, whatever the size of the stores.

    Args:
        stores: paths of embedding stores.
        out: folder to write; must not exist.
        every: step in pixels of the rows and columns that are indexed; 1 for all pixels.
        progress: callback with the number of finished pixel-dates and their total.

    Returns:
        The folder.

    Raises:
        MissingPathError: A store does not exist.
        UsageError: `out` exists; a store is given twice, damaged, or of another model or number of dimensions than the
            first; or the stores hold no embedding.
        ThalwegError: A chunk of a store cannot be read, or the folder cannot be written.
    """
    out, paths = Path(out), [Path(store) for store in stores]
    check_count("every", every, 1, MAX_EVERY)
    refuse_existing(out)
    opened = _open_alike(paths)
    described = tuple(IndexedStore.of(path, dataset) for path, dataset in zip(paths, opened, strict=True))
    sample = IndexSample()
    for dataset in opened:
        sample.read(dataset, max(1, SAMPLE_VECTORS // len(opened)), max(1, SAMPLE_CHUNKS // len(opened)))
    if not sample.found:
        raise UsageError(f"{paths[0]}: the sample of the store(s) holds no embedding: choose others")
    scales, total = sample.scales(), sum(_pixel_dates(dataset, every) for dataset in opened)
    vectors = scales.scaled(np.concatenate(sample.vectors))
    expected = min(PART_ENTRIES, round(total * sample.found / sample.pixels))
    with atomic_folder(out) as folder:
        writer = _EntryWriter(folder, VectorLists.train(vectors, list_count(expected, len(vectors))), scales)
        seen = 0
        for store, dataset in enumerate(opened):
            for pixel_dates, segments in _read_segments(dataset, every):
                for segment in segments:
                    writer.add(store, *segment)
                seen += pixel_dates
                if progress:
                    progress(seen, total)
        writer.finish()
        for store_entry in described:
            store_entry.check_unchanged()  # while it was read
        manifest = IndexManifest(
            format=FORMAT,
            model=opened[0].attrs["thalweg:model"],
            dimensions=opened[0].sizes["embedding"],
            every=every,
            mean=tuple(scales.mean.tolist()),
            scale=tuple(scales.scale.tolist()),
            within=tuple(scales.within.tolist()),
            parts=tuple(writer.parts),
            stores=described,
            files={path.name: IndexFile.of(path) for path in sorted(folder.iterdir())},
        )
        (folder / MANIFEST).write_text(json.dumps(manifest.to_json()), "utf-8")
    return out


def _open_alike(paths: list[Path]) -> "list[xr.Dataset]":
    """Open stores, all of one model and number of dimensions."""
    if not paths:
        raise UsageError("no store: expected at least one embedding store")
    resolved = [path.resolve() for path in paths]
    for path in paths:
        if resolved.count(path.resolve()) > 1:
            raise UsageError(f"{path}: given more than once: name each store once")
    opened = [open_store(path) for path in paths]
    model, size = opened[0].attrs["thalweg:model"], opened[0].sizes["embedding"]
    for path, dataset in zip(paths, opened, strict=True):
        check_alike(dataset, str(path), model, size, str(paths[0]))
    return opened


def _pixel_dates(dataset: "xr.Dataset", every: int) -> int:
    """Return the number of pixel-dates of a store that are indexed, with or without an embedding."""
    return dataset.sizes["time"] * -(-dataset.sizes["y"] // every) * -(-dataset.sizes["x"] // every)


def _read_segments(dataset: "xr.Dataset", every: int) -> Iterator[tuple[int, list[Segment]]]:
    """Read a store block by block, some dates at once; yield the pixel-dates read, and the entries of each date."""
    shape = dataset.sizes["y"], dataset.sizes["x"]
    for window in grid_windows(shape, min(MAX_BLOCK, *block_shape(dataset))):
        rows = np.arange(-(-window.top // every) * every, window.top + window.height, every)
        columns = np.arange(-(-window.left // every) * every, window.left + window.width, every)
        if not len(rows) or not len(columns):
            continue
        pixels = (rows[:, None] * shape[1] + columns).astype(np.uint32)
        for first in range(0, dataset.sizes["time"], DATES_AT_ONCE):
            block = dataset.isel(
                time=slice(first, first + DATES_AT_ONCE),
                y=slice(rows[0], rows[-1] + 1, every),
                x=slice(columns[0], columns[-1] + 1, every),
            )
            vectors = np.moveaxis(block.embeddings.values, 1, -1)
            uncertainty = np.moveaxis(block.uncertainty.values, 1, -1)
            known = np.isfinite(vectors).all(-1)
            yield (
                known.size,
                [
                    (first + index, pixels[here], vectors[index][here], uncertainty[index][here])
                    for index, here in enumerate(known)
                    if here.any()
                ],
            )


class _EntryWriter:
    """Writer of entries: part by part, each with its lists, its pixels and its uncertainty."""

    def __init__(self, folder: Path, lists: VectorLists, scales: IndexScales) -> None:
        self.parts: list[int] = []
        self._folder, self._lists, self._scales = folder, lists, scales
        self._segments: list[tuple[int, int, int]] = []
        self._pixels: list[NDArray[np.uint32]] = []
        self._uncertainty: list[NDArray[np.uint8]] = []

    def add(
        self,
        store: int,
        date: int,
        pixels: NDArray[np.uint32],
        vectors: NDArray[np.float32],
        uncertainty: NDArray[np.float32],
    ) -> None:
        """Add the entries of one date of a block."""
        if len(self._lists) and len(self._lists) + len(pixels) > PART_ENTRIES:
            self._flush()
        self._segments.append((store, date, sum(self.parts) + len(self._lists)))
        self._lists.add(self._scales.scaled(vectors))
        self._pixels.append(pixels)
        self._uncertainty.append(encode_uncertainty(uncertainty))

    def finish(self) -> None:
        """Write the last part and the segments."""
        self._flush()
        np.save(self._folder / SEGMENTS, np.array(self._segments, SEGMENT))

    def _flush(self) -> None:
        files = PartFiles.of(self._folder, len(self.parts))
        self._lists.write(files.lists)
        np.save(files.pixels, np.concatenate(self._pixels))
        np.save(files.uncertainty, np.concatenate(self._uncertainty))
        self.parts.append(len(self._lists))
        self._lists.clear()
        self._pixels, self._uncertainty = [], []
