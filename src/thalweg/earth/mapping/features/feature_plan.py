"""Features of a pixel: its embedding on the days of a calendar, or on one date."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.mapping.features.calendar_interpolation import CalendarInterpolation, store_calendar
from thalweg.earth.store.lookup import date_index
from thalweg.earth.store.subsample import block_shape
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

_DAY = np.timedelta64(1, "D")
_EDGE_DAYS = 15
"""Days by which a calendar may reach over a store's dates."""


@dataclass(frozen=True)
class FeaturePlan:
    """Features of a pixel, independent of the store they are read from.

    Attributes:
        days: days of the calendar, or the one date, as ISO texts.
        is_calendar: whether the embeddings are interpolated to the days; else there is one date, taken as it is.
        dimensions: number of dimensions of an embedding, K.
        model: identifier of the model of the embeddings.
    """

    days: tuple[str, ...]
    is_calendar: bool
    dimensions: int
    model: str

    @classmethod
    def of(cls, dataset: "xr.Dataset", calendar: str | None = None, date: str | None = None) -> "FeaturePlan":
        """Plan the features of a store.

        Args:
            dataset: embedding dataset.
            calendar: as `store_calendar` takes it.
            date: the one date, at most three days from an embedding; then there is no calendar. Embeddings without an
                uncertainty, such as annual ones of others, cannot be interpolated; their only date is the default.

        Raises:
            UsageError: Both are given, or one is malformed or outside the store's dates; or the embeddings have no
                uncertainty, and no one date is given.
        """
        if calendar is not None and date is not None:
            raise UsageError("`calendar` and `date`: give one of them")
        if date is None and "uncertainty" not in dataset:
            date = _only_date(dataset, calendar)
        if date is not None:
            days = dataset.time.values[[date_index(dataset, date)]].astype("datetime64[D]")
        else:
            days = store_calendar(dataset, calendar)
        texts = tuple(str(day) for day in days)
        return cls(texts, date is None, dataset.sizes["embedding"], dataset.attrs["thalweg:model"])

    @property
    def count(self) -> int:
        """Number of features of a pixel."""
        return len(self.days) * self.dimensions

    @property
    def title(self) -> str:
        """Description for reports."""
        if not self.is_calendar:
            return f"the embedding of {self.days[0]}, {self.dimensions} dimensions"
        return (
            f"the embedding on {len(self.days)} days from {self.days[0]} to {self.days[-1]}, interpolated, "
            f"{self.dimensions} dimensions each"
        )

    def check_store(self, dataset: "xr.Dataset") -> None:
        """Refuse a store of another model or of other dimensions than the plan's.

        Raises:
            UsageError: They differ.
        """
        made_by, size = dataset.attrs["thalweg:model"], dataset.sizes["embedding"]
        if made_by != self.model:
            raise UsageError(
                f"the store is of {made_by}, the mapping model learned from {self.model}: embed with that model, or "
                "learn from this store"
            )
        if size != self.dimensions:
            raise UsageError(
                f"the store has {size} dimensions, the mapping model learned from {self.dimensions}: embed with size "
                f"{self.dimensions}"
            )

    def shifted_to(self, dataset: "xr.Dataset", date: str | None = None) -> "FeaturePlan":
        """Return the same days in the year of another store: by whole years, the latest that its dates cover.

        Args:
            dataset: the other store.
            date: date to take instead, for a plan of one date.

        Raises:
            UsageError: The store is of another model, or its dates cover the days of no year.
        """
        self.check_store(dataset)
        if date is not None and self.is_calendar:
            raise UsageError("`date`: the mapping model learned from a calendar, leave it out")
        if date is not None:
            return FeaturePlan.of(dataset, date=date)
        days = np.array(self.days, "datetime64[D]")
        times = dataset.time.values.astype("datetime64[D]")
        years = [int(day.astype("datetime64[Y]").astype(int)) for day in (days[0], times.min(), times.max())]
        for shift in range(years[2] - years[0] + 1, years[1] - years[0] - 2, -1):
            moved = _moved(days, shift)
            if self.is_calendar:
                is_covered = moved[0] >= times.min() - _EDGE_DAYS and moved[-1] <= times.max() + _EDGE_DAYS
            else:
                is_covered = np.abs(times - moved[0]).min() <= 3 * _DAY
            if is_covered:
                texts = tuple(str(day) for day in moved)
                return FeaturePlan(texts, self.is_calendar, self.dimensions, self.model)
        raise UsageError(
            f"the mapping model needs {self.days[0][5:]} to {self.days[-1][5:]}, the store has {times.min()} to "
            f"{times.max()}: embed a longer series, or learn from a shorter calendar"
        )

    def reader(self, dataset: "xr.Dataset") -> "FeatureReader":
        """Return a reader of these features from a store; reads a bounded sample of a store with a calendar."""
        self.check_store(dataset)
        days = np.array(self.days, "datetime64[D]")
        if self.is_calendar:
            return FeatureReader(self, dataset, CalendarInterpolation.of(dataset, days), None)
        return FeatureReader(self, dataset, None, date_index(dataset, self.days[0]))


def _only_date(dataset: "xr.Dataset", calendar: str | None) -> str:
    """Return the only date of embeddings that cannot be interpolated.

    Raises:
        UsageError: They have several, or a calendar is given.
    """
    days = [str(day) for day in dataset.time.values.astype("datetime64[D]")]
    if len(days) > 1 or calendar is not None:
        shown = f"{', '.join(days[:5])}{', ...' if len(days) > 5 else ''}"
        raise UsageError(
            f"embeddings without an uncertainty, which a calendar needs: name one of their dates ({shown}) as `date`"
        )
    return days[0]


def _moved(days: NDArray[np.datetime64], years: int) -> NDArray[np.datetime64]:
    """Return days of the year some years later: 29 February becomes 28 February."""
    months = days.astype("datetime64[M]")
    within = days - months.astype("datetime64[D]")
    moved = months + 12 * years
    last = (moved + 1).astype("datetime64[D]") - 1
    return np.minimum(moved.astype("datetime64[D]") + within, last)


@dataclass(frozen=True, eq=False)
class FeatureReader:
    """Reader of features from a store, window by window.

    Attributes:
        plan: the features.
        dataset: the store.
        interpolation: interpolation to the plan's calendar; None for one date.
        date: index of the one date; None for a calendar.
    """

    plan: FeaturePlan
    dataset: "xr.Dataset"
    interpolation: CalendarInterpolation | None
    date: int | None

    def window(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the features (h, w, F) of a window, NaN where a pixel has none."""
        part = self.dataset.isel(y=rows, x=columns)
        if self.interpolation is not None:
            values, _ = self.interpolation.read(part)
        else:
            values = part.embeddings.isel(time=[self.date]).values
        days, size, height, width = values.shape
        return np.moveaxis(values.reshape(days * size, height, width), 0, -1)

    def pixels(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the features (N, F) of scattered pixels, NaN where a pixel has none; each block is read once."""
        features = np.empty((len(rows), self.plan.count), np.float32)
        for chosen in self._by_block(rows, columns):
            top, left = rows[chosen].min(), columns[chosen].min()
            window = self.window(
                slice(int(top), int(rows[chosen].max()) + 1), slice(int(left), int(columns[chosen].max()) + 1)
            )
            features[chosen] = window[rows[chosen] - top, columns[chosen] - left]
        return features

    def _by_block(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of the pixels of each block of the store that holds some."""
        height, width = block_shape(self.dataset)
        block = rows // height * (self.dataset.sizes["x"] // width + 1) + columns // width
        order = np.argsort(block, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(block[order])) + 1)
