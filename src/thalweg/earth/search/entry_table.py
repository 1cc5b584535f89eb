"""Table of the entries of an index by date and store, and their seasons."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEGMENTS = "segments.npy"
"""File with the segments of an index."""

SEGMENT = np.dtype([("store", "<u4"), ("date", "<u4"), ("first", "<i8")])
"""Type of a segment: consecutive entries of one date of one store; `first` is the number of the first of them."""

DAYS_PER_YEAR = 365.25


@dataclass(frozen=True, eq=False)
class EntryTable:
    """Stores and dates of the entries of an index, by their numbers.

    Attributes:
        store: (S,), index of the store of each segment.
        date: (S,), index of its date in the store.
        first: (S,), number of its first entry, ascending.
        day: (S,), day of the year of its date, from 1.
        entries: number of entries of the index.
    """

    store: NDArray[np.integer]
    date: NDArray[np.integer]
    first: NDArray[np.int64]
    day: NDArray[np.integer]
    entries: int

    @classmethod
    def read(cls, path: Path, dates: Sequence[NDArray[np.datetime64]], entries: int) -> "EntryTable":
        """Read the segments of an index.

        Args:
            path: file with the segments.
            dates: dates of each store of the index.
            entries: number of entries of the index.

        Raises:
            ValueError: The segments contradict the stores.
        """
        segments = np.load(path, allow_pickle=False)
        if segments.dtype != SEGMENT or segments.ndim != 1 or not len(segments):
            raise ValueError("no segments of entries")
        store, date, first = (segments[name] for name in ("store", "date", "first"))
        lengths = np.array([len(times) for times in dates])
        if store.max() >= len(dates) or (date >= lengths[store]).any():
            raise ValueError("entries of unknown stores or dates")
        if first[0] != 0 or (np.diff(first) <= 0).any() or first[-1] >= entries:
            raise ValueError("segments out of order")
        offsets = np.cumsum([0, *lengths[:-1]])
        day = day_of_year(np.concatenate(dates))[offsets[store] + date]
        return cls(store.astype(np.int64), date.astype(np.int64), first, day, entries)

    def segment_of(self, entries: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return the index of the segment of each entry (any shape)."""
        return np.searchsorted(self.first, entries, side="right") - 1

    def count_near(self, days: NDArray[np.integer], window: float) -> NDArray[np.int64]:
        """Return the number of entries (Q,) within `window` days of each of some days of the year (Q,)."""
        by_day = np.zeros(368, np.int64)
        np.add.at(by_day, self.day, np.diff(self.first, append=self.entries))
        near = days_apart(np.arange(len(by_day)), days[:, None]) <= window
        return np.asarray((near * by_day).sum(1))


def day_of_year(dates: NDArray[np.datetime64]) -> NDArray[np.integer]:
    """Return the day of the year of dates (any shape), 1 to 366."""
    days = dates.astype("datetime64[D]")
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1


def days_apart(one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.floating]:
    """Return the difference between days of the year across the turn of the year, at most half a year."""
    difference = np.abs(one - other)
    return np.asarray(np.minimum(difference, DAYS_PER_YEAR - difference))
