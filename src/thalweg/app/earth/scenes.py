"""Open stores, and what is worked out once for each: shared by all who look, so nothing personal is in here."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from thalweg.app.workspace import Workspace
from thalweg.earth.analysis import Likeness, PrincipalComponents
from thalweg.earth.sampling import block_shape, clear_fractions, date_spreads, spread_parts
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.population import Population

_OPEN_AT_ONCE = 8
_COMPARED = 32
_DEPTH = 4
_SHOWN = ("embeddings", "uncertainty", "quality", "picture", "valid_context_dates")
_Kept = TypeVar("_Kept")


class Scene:
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
    def population(self) -> "Population":
        """A sample of its embeddings, that what-if stays among."""
        from thalweg.earth.population import Population

        return self._once("population", lambda: Population.of(self.dataset))

    @property
    def sampled(self) -> bool:
        """Whether the clear fractions are of a part of the store."""
        return len(spread_parts(self.dataset, self.dataset.sizes["time"])) > 1

    def likeness(self, row: int, column: int, most_dates: int) -> Likeness:
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

    def _like(self, row: int, column: int, most_dates: int) -> Likeness:
        spreads = self._once("spreads", lambda: date_spreads(self.dataset))
        return Likeness.to(self.dataset, (column, row), spreads, most_dates)


class Scenes:
    """The stores of a workspace, the last few of them open."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], Scene] = OrderedDict()

    def names(self) -> list[str]:
        """Zarr stores up to four folders deep; those that can be read and hold no embeddings are left out."""
        found = []
        for place, folders, files in os.walk(self._workspace.folder):
            here = Path(place)
            name = here.relative_to(self._workspace.folder)
            if "zarr.json" in files or here.suffix == ".zarr":
                folders.clear()
                if _may_hold_embeddings(here / "zarr.json"):
                    found.append(name.as_posix())
            elif len(name.parts) >= _DEPTH:
                folders.clear()
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
        return sorted(found)

    def open(self, name: str) -> Scene:
        """Open a store of the workspace.

        Raises:
            UsageError: the name leads outside, or there is no such store under it.
        """
        from thalweg.earth.accessor import open_store

        path = self._workspace.inside(name)
        try:
            version = str((path / "zarr.json").stat().st_mtime_ns)
        except OSError:
            version = ""
        with self._lock:
            key = (name, version)
            if key not in self._open:
                self._open[key] = Scene(name, version, open_store(path))
            self._open.move_to_end(key)
            while len(self._open) > _OPEN_AT_ONCE:
                self._open.popitem(last=False)
            return self._open[key]


def _may_hold_embeddings(metadata: Path) -> bool:
    """Whether a store is one of embeddings, or too damaged to tell, which opening it will say."""
    import json

    try:
        return "geoemb:model" in json.loads(metadata.read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
