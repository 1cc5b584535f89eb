"""Places and dates of an embedding dataset in words: `12,30@2019-07-01` is a pixel, `2019-07-01` a scene."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.analysis.similarity import pixel_index
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

NEAR_DAYS = 3
"""A date asked for may lie this many days from the nearest embedding."""
LARGEST_SCENE = 512
"""Most pixels of a scene, each way."""

_PLACE = re.compile(r"^(?:(?P<x>[-+.\d]+)\s*,\s*(?P<y>[-+.\d]+)\s*@\s*)?(?P<date>\d{4}-\d\d-\d\d)$")


@dataclass(frozen=True, eq=False)
class Seen:
    """What a dataset holds at a place on a date.

    Attributes:
        vector: (K,) of a pixel, (K, h, w) of a scene; float32, NaN where there is no embedding.
        uncertainty: of the same shape, half-width of the 68 % interval.
        row, column: of a pixel; None for a scene.
        date: datetime64[ns].
    """

    vector: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    row: int | None
    column: int | None
    date: np.datetime64

    @property
    def name(self) -> str:
        """The place in words, as `at_place` takes it."""
        day = np.datetime_as_string(self.date, "D")
        return day if self.row is None else f"{self.column},{self.row}@{day}"


def date_index(dataset: "xr.Dataset", date: int | str) -> int:
    """The index of a date: itself, or that of the nearest embedding within three days of an ISO date.

    Raises:
        UsageError: no such index, no date, or none near.
    """
    times = dataset.time.values
    if isinstance(date, int | np.integer):
        if not 0 <= date < len(times):
            raise UsageError(f"date {date}: expected an index from 0 to {len(times) - 1}, or a date as 2019-07-01")
        return int(date)
    try:
        wanted = np.datetime64(str(date), "ns")
    except ValueError as error:
        raise UsageError(f"date {date!r}: expected a date such as 2018-06-30") from error
    index = int(np.abs(times - wanted).argmin())
    if not abs(times[index] - wanted) <= np.timedelta64(NEAR_DAYS, "D"):
        nearest = np.datetime_as_string(times[index], "D")
        raise UsageError(f"no embedding within {NEAR_DAYS} days of {date}: the nearest is of {nearest}")
    return index


def at_pixel(dataset: "xr.Dataset", pixel: tuple[float, float], date: int | str) -> Seen:
    """The embedding of a pixel (column and row, or map coordinates x and y) on a date.

    Raises:
        UsageError: outside the dataset, or no embedding there on that date; the message names the nearest date.
    """
    row, column = pixel_index(dataset, pixel)
    index = date_index(dataset, date)
    here = dataset.isel(y=row, x=column)
    vector = here.embeddings.isel(time=index).values
    if not np.isfinite(vector).all():
        day = np.datetime_as_string(dataset.time.values[index], "D")
        clear = np.flatnonzero(np.isfinite(here.embeddings.values).all(1))
        if not len(clear):
            raise UsageError(f"pixel {pixel[0]:g} {pixel[1]:g} has no embedding on any date: choose another")
        nearest = dataset.time.values[clear[np.abs(clear - index).argmin()]]
        raise UsageError(
            f"pixel {pixel[0]:g} {pixel[1]:g} was not seen on {day}: the nearest date on which it was is "
            f"{np.datetime_as_string(nearest, 'D')}"
        )
    return Seen(vector, here.uncertainty.isel(time=index).values, row, column, dataset.time.values[index])


def at_place(dataset: "xr.Dataset", place: str) -> Seen:
    """The embedding of a pixel or of a whole scene, by its place in words.

    Args:
        dataset: an embedding dataset.
        place: `COLUMN,ROW@DATE`, or map coordinates `X,Y@DATE`, for a pixel; `DATE` for all of the dataset.

    Raises:
        UsageError: no such place, or a scene of more than 512 pixels each way.
    """
    found = _PLACE.match(place.strip())
    if found is None:
        raise UsageError(f"place {place!r}: expected COLUMN,ROW@DATE such as 12,30@2019-07-01, or a date for the scene")
    if found["x"] is not None:
        try:
            pixel = float(found["x"]), float(found["y"])
        except ValueError as error:
            raise UsageError(f"place {place!r}: expected two numbers before the date") from error
        return at_pixel(dataset, pixel, found["date"])
    if max(dataset.sizes["y"], dataset.sizes["x"]) > LARGEST_SCENE:
        raise UsageError(
            f"a scene of {dataset.sizes['y']} x {dataset.sizes['x']} px: expected at most {LARGEST_SCENE} each way; "
            "take a pixel, or a window of the store"
        )
    index = date_index(dataset, found["date"])
    scene = dataset.isel(time=index)
    return Seen(scene.embeddings.values, scene.uncertainty.values, None, None, dataset.time.values[index])
