"""Open embedding stores and statistics computed once for each; all sessions share them, so they hold no user data."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import numpy as np

from thalweg.app.earth.store_metadata import check_metadata, may_hold_embeddings
from thalweg.app.earth.time_limit import TimeLimit
from thalweg.app.workspace import Workspace
from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.analysis.similarity import Similarity
from thalweg.earth.positions import PixelIndex
from thalweg.earth.store.subsample import block_shape, clear_fractions, evenly_spaced_parts, mean_squared_distances
from thalweg.errors import UsageError
from thalweg.steer.runs import RECORD

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.analysis.distribution import EmbeddingDistribution

OPEN_SECONDS, READ_SECONDS = 20.0, 120.0
"""Time limits on opening a store, and on one request to it."""
MAX_THREADS = 64
"""Threads for all stores together."""
MAX_CONCURRENT_READS = 4
"""Requests that read at the same time, for all stores and users together; bounds the tiles in memory."""
MAX_OPEN_STORES = 8
"""Stores that stay open although nobody reads them."""
MAX_SIMILARITIES = 32
"""Similarities to a pixel that are cached for each store."""
MAX_DEPTH = 4
"""Folders below the workspace in which stores are looked for."""

_VARIABLES = ("embeddings", "uncertainty", "quality", "picture", "valid_context_dates")
_Result = TypeVar("_Result")


class OpenStore:
    """Open embedding store.

    Attributes:
        name: name of the store in the workspace.
        version: time of its last modification as text; a store that replaces it has another one.
        dataset: the store, opened lazily.
        overviews: reduced copies of its maps by their factor; empty if it has none.
        block: rows and columns of a chunk.

    Raises:
        UsageError: The store lacks a variable that the page shows.
    """

    def __init__(
        self, name: str, version: str, dataset: "xr.Dataset", overviews: "dict[int, xr.Dataset] | None" = None
    ) -> None:
        missing = [variable for variable in _VARIABLES if variable not in dataset]
        if missing:
            raise UsageError(
                f"{name}: expected a store written by `thalweg earth embed`, it lacks {', '.join(missing)}"
            )
        self.name, self.version, self.dataset, self.overviews = name, version, dataset, overviews or {}
        self.block = block_shape(dataset)
        self._lock = threading.RLock()
        self._cache: dict[str, Any] = {}
        self._similarity = lru_cache(MAX_SIMILARITIES)(self._similarity_to)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.dataset.sizes["y"], self.dataset.sizes["x"]

    def components(self) -> PrincipalComponents:
        """Return the first three principal components, the same for all dates; reads a sample once."""
        count = min(3, self.dataset.sizes["embedding"])
        return self._once("components", lambda: PrincipalComponents.of(self.dataset, count))

    def clear_fractions(self) -> np.ndarray:
        """Return the clear fraction (T,) of each date, float64; reads a sample once."""
        return self._once("clear_fractions", lambda: clear_fractions(self.dataset))

    def distribution(self) -> "EmbeddingDistribution":
        """Return the distribution of the store's embeddings, to which counterfactuals keep; reads a sample once."""
        from thalweg.earth.analysis.distribution import EmbeddingDistribution

        return self._once("distribution", lambda: EmbeddingDistribution.of(self.dataset))

    def similarity_to(self, pixel: PixelIndex, max_dates: int) -> Similarity:
        """Return the similarity to a pixel over at most `max_dates` dates; the last few are cached."""
        return self._similarity(pixel, max_dates)

    @property
    def is_sampled(self) -> bool:
        """True if the clear fractions are estimated from a part of the store."""
        return len(evenly_spaced_parts(self.dataset, self.dataset.sizes["time"])) > 1

    def check_pixel(self, pixel: PixelIndex) -> None:
        """Raise a `UsageError` if a pixel lies outside the grid."""
        rows, columns = self.shape
        if not (0 <= pixel.row < rows and 0 <= pixel.column < columns):
            raise UsageError(f"pixel {pixel}: expected a row of 0 to {rows - 1} and a column of 0 to {columns - 1}")

    def check_date(self, date: int) -> None:
        """Raise a `UsageError` if the store has no date of that index."""
        if not 0 <= date < self.dataset.sizes["time"]:
            raise UsageError(f"date {date}: expected 0 to {self.dataset.sizes['time'] - 1}, the dates of the store")

    def _once(self, key: str, compute: Callable[[], _Result]) -> _Result:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = compute()
            result: _Result = self._cache[key]
            return result

    def _similarity_to(self, pixel: PixelIndex, max_dates: int) -> Similarity:
        spreads = self._once("spreads", lambda: mean_squared_distances(self.dataset))
        return Similarity.to_pixel(self.dataset, pixel, spreads, max_dates)


class OpenStores:
    """Stores of a workspace; the last few stay open, each with its own lock and time limit."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _KnownStore] = OrderedDict()
        self._threads = anyio.CapacityLimiter(MAX_THREADS)
        self._opening = anyio.CapacityLimiter(MAX_THREADS)
        self._reading = anyio.CapacityLimiter(MAX_CONCURRENT_READS)
        self._listing = TimeLimit("the workspace", self._threads)
        self._recognized: dict[Path, tuple[tuple[int, int], bool]] = {}

    async def list_names(self) -> list[str]:
        """Return the names of the stores (see `names`), within a time limit.

        Raises:
            UsageError: The search took too long.
        """
        return await self._listing.run(self.names, OPEN_SECONDS, self._opening)

    async def use(self, name: str, work: Callable[[OpenStore], _Result]) -> _Result:
        """Return the result of `work` on an open store; both run in threads and within a time limit.

        Raises:
            UsageError: As `open`, or the store does not answer in time.
        """
        limit = self._known_store(name).limit
        opened = await limit.run(lambda: self.open(name), OPEN_SECONDS, self._opening)
        return await limit.run(lambda: work(opened), READ_SECONDS, self._reading)

    def names(self) -> list[str]:
        """Return the names of Zarr stores up to `MAX_DEPTH` folders deep, without readable stores of other data."""
        found = []
        for place, folders, files in os.walk(self._workspace.folder):
            folder = Path(place)
            name = folder.relative_to(self._workspace.folder)
            if "zarr.json" in files or folder.suffix == ".zarr":
                folders.clear()
                if self._may_hold_embeddings(folder) and self._is_readable_name(name.as_posix()):
                    found.append(name.as_posix())
            elif len(name.parts) >= MAX_DEPTH or RECORD in files:  # a run holds no stores
                folders.clear()
            folders[:] = [inner for inner in folders if not inner.startswith(".")]
        return sorted(found)

    def open(self, name: str) -> OpenStore:
        """Open a store of the workspace, or return the open one if it was not replaced since.

        Raises:
            UsageError: The name leads out of the workspace, there is no such store, or its metadata are damaged.
        """
        from thalweg.earth.store.reader import open_overviews, open_store

        path = self._workspace.readable(None, name)
        known = self._known_store(name)
        with known.lock:
            try:
                version = str((path / "zarr.json").stat().st_mtime_ns)
            except OSError:
                version = ""
            if known.opened is None or known.opened.version != version:
                if path.is_dir():
                    check_metadata(path, name)
                known.opened = OpenStore(name, version, open_store(path), open_overviews(path))
            return known.opened

    def _known_store(self, name: str) -> "_KnownStore":
        """Return the entry of a store, and forget the oldest entries beyond the limit that nobody reads."""
        with self._lock:
            if name not in self._known:
                self._known[name] = _KnownStore(TimeLimit(name, self._threads))
            self._known.move_to_end(name)
            idle = [other for other, known in self._known.items() if other != name and known.limit.is_idle]
            for other in idle[: max(0, len(self._known) - MAX_OPEN_STORES)]:
                del self._known[other]
            return self._known[name]

    def _may_hold_embeddings(self, folder: Path) -> bool:
        """Return `store_metadata.may_hold_embeddings`, cached until the store's metadata are written again."""
        try:
            state = (folder / "zarr.json").stat()
        except OSError:
            return True
        written = state.st_mtime_ns, state.st_size
        if self._recognized.get(folder, (None, None))[0] != written:
            self._recognized[folder] = written, may_hold_embeddings(folder)
        return self._recognized[folder][1]

    def _is_readable_name(self, name: str) -> bool:
        """Return whether a browser may open a store under this name."""
        try:
            self._workspace.readable(None, name)
        except UsageError:
            return False
        return True


class _KnownStore:
    """Entry of a store that was requested: its time limit, its lock, and the open store."""

    def __init__(self, limit: TimeLimit) -> None:
        self.limit = limit
        self.lock = threading.Lock()
        self.opened: OpenStore | None = None
