"""Index of embeddings that is open for queries."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.earth.search.entry_table import SEGMENTS, EntryTable, day_of_year, days_apart
from thalweg.earth.search.index_manifest import IndexManifest
from thalweg.earth.search.index_parts import IndexPart, PartFiles
from thalweg.earth.search.index_sample import IndexScales
from thalweg.errors import ThalwegError, UsageError, one_line
from thalweg.limits import check_count, check_number

CANDIDATES_PER_RESULT = 4
"""Entries per result whose weighted distance is computed, if all are of the season."""

MIN_CANDIDATES = 64
MAX_CANDIDATES = 2**18
"""Least and largest number of candidates of a query."""

MAX_COUNT = 65_536
"""Largest number of results of a query."""

SEASON_DAYS = 30
"""Days of the year before and after the date of a query, by default."""

MAX_SEASON_DAYS = 183

CANDIDATES_AT_ONCE = 2**19
"""Candidates that are compared at once; it bounds the memory of a batch of queries."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Nearest entries of some queries.

    Attributes:
        entries: (Q, count), numbers of the entries, nearest first; -1 where there are fewer.
        distances: (Q, count), weighted distances, infinite where there is no entry.
    """

    entries: NDArray[np.int64]
    distances: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EntryPlaces:
    """Stores, dates and pixels of some entries, (N,) each.

    Attributes:
        store: index of the store in the manifest.
        date: index of the date in the store.
        row: row of the pixel in the grid of the store.
        column: its column.
    """

    store: NDArray[np.int64]
    date: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]


class SearchIndex:
    """Index of the embeddings of stores of one model, over pixels and dates.

    The distance of an entry v to a query q weights the difference in each dimension by what is known of both: the root
    of the mean over the dimensions of (q - v)² / (s_q² + s_v² + w²), with the half-widths s of their 68 % intervals and
    the within-scale w, the robust standard deviation of the difference between two adjacent pixels on one date. At a
    distance of 1, two embeddings differ as two adjacent pixels usually do. The search is approximate: the weighted
    distance is computed for candidates, the nearest vectors of the nearest lists.

    Attributes:
        folder: folder of the index.
        manifest: stores, model and scales of the index.
    """

    def __init__(self, folder: Path, manifest: IndexManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._scales = IndexScales(*(np.array(part) for part in (manifest.mean, manifest.within, manifest.scale)))
        self._within = np.square(self._scales.within).astype(np.float32)
        self._squared_scale = np.square(self._scales.scale).astype(np.float32)
        dates = [store.times() for store in manifest.stores]
        self._table = EntryTable.read(folder / SEGMENTS, dates, len(self))
        firsts = np.cumsum([0, *manifest.parts])
        self._parts = [
            IndexPart.read(PartFiles.of(folder, number), int(firsts[number]), entries, manifest.dimensions)
            for number, entries in enumerate(manifest.parts)
        ]

    @classmethod
    def open(cls, folder: str | Path) -> "SearchIndex":
        """Open an index; check its files by their checksums, and its stores for changes.

        Args:
            folder: folder that `build_index` wrote.

        Raises:
            MissingPathError: There is no such folder, or a store of the index is no longer there.
            UsageError: The folder holds no whole index, or a store changed after it was indexed.
        """
        folder = Path(folder)
        manifest = IndexManifest.read(folder)
        for store in manifest.stores:
            store.check_unchanged()
        try:
            return cls(folder, manifest)
        except (ValueError, OSError, ThalwegError) as error:
            raise UsageError(f"{folder}: a damaged index ({one_line(error)[:120]}): build it again") from error

    def __len__(self) -> int:
        return sum(self.manifest.parts)

    def locate(self, entries: ArrayLike) -> EntryPlaces:
        """Return the stores, dates and pixels of entries by their numbers (N,).

        Raises:
            UsageError: There is no such entry.
        """
        numbers = np.asarray(entries, np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise UsageError(f"entries {numbers.min()} to {numbers.max()}: expected numbers from 0 to {len(self) - 1}")
        segments = self._table.segment_of(numbers)
        pixels = np.zeros(numbers.shape, np.int64)
        for part in self._parts:
            own = (numbers >= part.first) & (numbers < part.first + len(part.pixels))
            pixels[own] = part.pixels[numbers[own] - part.first]
        store = self._table.store[segments]
        columns = np.array([one.shape[1] for one in self.manifest.stores])[store]
        return EntryPlaces(store, self._table.date[segments], pixels // columns, pixels % columns)

    def query(
        self,
        vectors: ArrayLike,
        uncertainty: ArrayLike,
        count: int = 50,
        dates: ArrayLike | None = None,
        season: float = SEASON_DAYS,
    ) -> Matches:
        """Find the nearest entries of some embeddings.

        Args:
            vectors: (Q, K), finite embeddings of the model of the index.
            uncertainty: (Q, K), half-widths of their 68 % intervals.
            count: entries per query, 1 to 65,536.
            dates: (Q,), datetime64; only entries of a similar day of the year are found. None for all entries.
            season: largest difference of the days of the year, across the turn of the year, 0 to 183.

        Raises:
            UsageError: An argument is of another shape or out of range, or no entry is within `season` days of a date.
        """
        queries, spreads = (np.atleast_2d(np.asarray(part, np.float32)) for part in (vectors, uncertainty))
        size = self.manifest.dimensions
        if queries.ndim != 2 or not len(queries) or queries.shape[1] != size or queries.shape != spreads.shape:
            raise UsageError(f"queries of shape {queries.shape}: expected (Q, {size}), their uncertainty the same")
        if not (np.isfinite(queries).all() and np.isfinite(spreads).all()):
            raise UsageError("queries: expected finite embeddings and uncertainty")
        check_count("count", count, 1, MAX_COUNT)
        check_number("season", season, 0, MAX_SEASON_DAYS)
        days, available = self._season(dates, len(queries), season)
        count, least = min(count, int(available.max())), int(available.min())
        wanted = min(max(MIN_CANDIDATES, CANDIDATES_PER_RESULT * count) * len(self) // least, MAX_CANDIDATES)
        step = max(1, CANDIDATES_AT_ONCE // wanted)
        found = [
            self._nearest(
                queries[first : first + step],
                spreads[first : first + step],
                count,
                wanted,
                np.minimum(available[first : first + step], count),
                None if days is None else (days[first : first + step, None], season),
            )
            for first in range(0, len(queries), step)
        ]
        return Matches(
            np.concatenate([part.entries for part in found]), np.concatenate([part.distances for part in found])
        )

    def _season(
        self, dates: ArrayLike | None, queries: int, season: float
    ) -> tuple[NDArray[np.integer] | None, NDArray[np.int64]]:
        """Return the days of the year of dates (Q,), and the number of entries within the season of each (Q,)."""
        if dates is None:
            return None, np.full(queries, len(self))
        times = np.atleast_1d(np.asarray(dates, "datetime64[ns]"))
        if times.shape != (queries,) or np.isnat(times).any():
            raise UsageError(f"dates of shape {times.shape}: expected one per query, ({queries},)")
        days = day_of_year(times)
        counts = self._table.count_near(days, season)
        if not counts.all():
            day = np.datetime_as_string(times[counts.argmin()], "D")
            raise UsageError(f"no entry within {season:g} days of the season of {day}: widen the season")
        return days, counts

    def _nearest(
        self,
        queries: NDArray[np.float32],
        spreads: NDArray[np.float32],
        count: int,
        candidates: int,
        needed: NDArray[np.integer],
        near: tuple[NDArray[np.integer], float] | None,
    ) -> Matches:
        """Return the `count` nearest of the candidates of queries (Q, K), with more candidates while there are fewer.

        `needed` holds the entries that are enough for each query (Q,), `near` the days of the year of the queries
        (Q, 1) and the length of a season on either side.
        """
        scaled = self._scales.scaled(queries)
        while True:
            found = [part.candidates(scaled, candidates) for part in self._parts]
            numbers, vectors, uncertainty = (np.concatenate(arrays, 1) for arrays in zip(*found, strict=True))
            variance = spreads[:, None] ** 2 + uncertainty**2 + self._within
            squares = (scaled[:, None] - vectors) ** 2 * self._squared_scale / variance
            distances = np.sqrt(squares.mean(2))
            is_found = numbers >= 0
            if near is not None:
                days = self._table.day[self._table.segment_of(np.maximum(numbers, 0))]
                is_found &= days_apart(days, near[0]) <= near[1]
            distances[~is_found] = np.inf
            if (is_found.sum(1) >= needed).all() or candidates >= min(len(self), MAX_CANDIDATES):
                break
            candidates = min(4 * candidates, MAX_CANDIDATES)
        order = np.argpartition(distances, min(count, distances.shape[1]) - 1, 1)[:, :count]
        order = np.take_along_axis(order, np.take_along_axis(distances, order, 1).argsort(1, kind="stable"), 1)
        nearest = np.take_along_axis(distances, order, 1)
        return Matches(np.where(np.isfinite(nearest), np.take_along_axis(numbers, order, 1), -1), nearest)
