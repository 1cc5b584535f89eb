"""Open stores, and what is worked out once for each: shared by all who look, so nothing personal is in here."""

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
from thalweg.earth.analysis.similarity import PrincipalComponents, Similarity
from thalweg.earth.store.subsample import block_shape, clear_fractions, date_spreads, spread_parts
from thalweg.errors import UsageError
from thalweg.steer.runs import RECORD

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.analysis.distribution import EmbeddingDistribution

OPEN_SECONDS, READ_SECONDS = 20.0, 120.0
"""How long a store may take to open, and what is asked of it to answer."""
MAX_THREADS = 64
"""Threads of all stores together."""
MAX_READING = 4
"""So many tiles are in memory at once, however many people look."""
_OPEN_AT_ONCE = 8
_COMPARED = 32
_DEPTH = 4
_SHOWN = ("embeddings", "uncertainty", "quality", "picture", "valid_context_dates")
_Kept = TypeVar("_Kept")


class OpenStore:
    """An open store.

    Attributes:
        name: its name in the workspace.
        version: when it was written; a store that replaces it has another.
        dataset: the store, opened lazily.
        block: rows and columns of a chunk.
    """

    def __init__(self, name: str, version: str, dataset: "xr.Dataset") -> None:
        lacking = [variable for variable in _SHOWN if variable not in dataset]
        if lacking:
            raise UsageError(
                f"{name}: expected a store written by `thalweg earth embed`, it lacks {', '.join(lacking)}"
            )
        self.name, self.version, self.dataset = name, version, dataset
        self.block = block_shape(dataset)
        self._lock = threading.RLock()
        self._kept: dict[str, Any] = {}
        self._likeness = lru_cache(_COMPARED)(self._like)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.dataset.sizes["y"], self.dataset.sizes["x"]

    @property
    def axes(self) -> PrincipalComponents:
        """Principal components, alike for all dates."""
        return self._once("axes", lambda: PrincipalComponents.of(self.dataset, min(3, self.dataset.sizes["embedding"])))

    @property
    def clear(self) -> np.ndarray:
        """(T,), the clear fraction of each date (`sampling.clear_fractions`)."""
        return self._once("clear", lambda: clear_fractions(self.dataset))

    @property
    def population(self) -> "EmbeddingDistribution":
        """A sample of its embeddings, that what-if stays among."""
        from thalweg.earth.analysis.distribution import EmbeddingDistribution

        return self._once("population", lambda: EmbeddingDistribution.of(self.dataset))

    @property
    def sampled(self) -> bool:
        """Whether the clear fractions are of a part of the store."""
        return len(spread_parts(self.dataset, self.dataset.sizes["time"])) > 1

    def likeness(self, row: int, column: int, most_dates: int) -> Similarity:
        """What other pixels are compared with, on so many dates at most; the last few are kept."""
        return self._likeness(row, column, most_dates)

    def check_pixel(self, row: int, column: int) -> None:
        """Raise a UsageError where the pixel is outside the grid."""
        rows, columns = self.shape
        if not (0 <= row < rows and 0 <= column < columns):
            raise UsageError(f"pixel {row} {column}: expected a row below {rows} and a column below {columns}")

    def check_date(self, date: int) -> None:
        """Raise a UsageError where the store has no date of that index."""
        if not 0 <= date < self.dataset.sizes["time"]:
            raise UsageError(f"date {date}: expected 0 to {self.dataset.sizes['time'] - 1}, the dates of the store")

    def _once(self, what: str, make: Callable[[], _Kept]) -> _Kept:
        with self._lock:
            if what not in self._kept:
                self._kept[what] = make()
            kept: _Kept = self._kept[what]
            return kept

    def _like(self, row: int, column: int, most_dates: int) -> Similarity:
        spreads = self._once("spreads", lambda: date_spreads(self.dataset))
        return Similarity.to(self.dataset, (column, row), spreads, most_dates)


class OpenStores:
    """The stores of a workspace, the last few of them open, each under its own lock and time limit."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._threads = anyio.CapacityLimiter(MAX_THREADS)
        self._opening = anyio.CapacityLimiter(MAX_THREADS)
        self._reading = anyio.CapacityLimiter(MAX_READING)
        self._listing = TimeLimit("the workspace", self._threads)
        self._seen: dict[Path, tuple[tuple[int, int], bool]] = {}

    async def list_names(self) -> list[str]:
        """The names of the stores (see `names`), found within a time.

        Raises:
            UsageError: it took too long.
        """
        return await self._listing.run(self.names, OPEN_SECONDS, self._opening)

    async def use(self, name: str, work: Callable[[OpenStore], _Kept]) -> _Kept:
        """Return what `work` returns for an open store; both happen in threads and within a time.

        Raises:
            UsageError: as `open`, or the store does not answer.
        """
        limit = self._of(name).limit
        scene = await limit.run(lambda: self.open(name), OPEN_SECONDS, self._opening)
        return await limit.run(lambda: work(scene), READ_SECONDS, self._reading)

    def names(self) -> list[str]:
        """Zarr stores up to four folders deep; those that can be read and hold no embeddings are left out."""
        found = []
        for place, folders, files in os.walk(self._workspace.folder):
            here = Path(place)
            name = here.relative_to(self._workspace.folder)
            if "zarr.json" in files or here.suffix == ".zarr":
                folders.clear()
                if self._may_hold_embeddings(here) and self._is_name(name.as_posix()):
                    found.append(name.as_posix())
            elif len(name.parts) >= _DEPTH or RECORD in files:  # a run holds no stores
                folders.clear()
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
        return sorted(found)

    def open(self, name: str) -> OpenStore:
        """Open a store of the workspace.

        Raises:
            UsageError: the name leads outside, or there is no such store under it, or its metadata are damaged.
        """
        from thalweg.earth.store.reader import open_store

        path = self._workspace.readable(None, name)
        known = self._of(name)
        with known.lock:
            try:
                version = str((path / "zarr.json").stat().st_mtime_ns)
            except OSError:
                version = ""
            if known.scene is None or known.scene.version != version:
                if path.is_dir():
                    check_metadata(path, name)
                known.scene = OpenStore(name, version, open_store(path))
            return known.scene

    def _of(self, name: str) -> "_Known":
        """What is known of a store; the last few are kept, and those that somebody reads."""
        with self._lock:
            if name not in self._known:
                self._known[name] = _Known(TimeLimit(name, self._threads))
            self._known.move_to_end(name)
            idle = [other for other, known in self._known.items() if other != name and known.limit.is_idle]
            for other in idle[: max(0, len(self._known) - _OPEN_AT_ONCE)]:
                del self._known[other]
            return self._known[name]

    def _may_hold_embeddings(self, folder: Path) -> bool:
        """As `store_metadata.may_hold_embeddings`, read again only where it was written again."""
        try:
            state = (folder / "zarr.json").stat()
        except OSError:
            return True
        written = state.st_mtime_ns, state.st_size
        if self._seen.get(folder, (None, None))[0] != written:
            self._seen[folder] = written, may_hold_embeddings(folder)
        return self._seen[folder][1]

    def _is_name(self, name: str) -> bool:
        """Whether a browser may ask for a store under this name."""
        try:
            self._workspace.readable(None, name)
        except UsageError:
            return False
        return True


class _Known:
    """A store that was asked for."""

    def __init__(self, limit: TimeLimit) -> None:
        self.limit = limit
        self.lock = threading.Lock()
        self.scene: OpenStore | None = None
