"""Embeddings of a dataset by position and date; places as text, such as `pixel:30,12@2019-07-01`."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.positions import (
    POSITION_FORMS,
    PixelIndex,
    Position,
    dataset_geobox,
    format_pixel,
    locate,
    parse_position,
)
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

MAX_DAYS_APART = 3
"""Largest distance in days between a requested date and the embedding that is taken for it."""
MAX_SCENE_SIDE = 512
"""Largest height or width of a scene in pixels."""
PLACE_FORMS = "POSITION@DATE such as pixel:30,12@2019-07-01, or a date for the whole scene"
"""Text forms that `parse_place` reads."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?")


@dataclass(frozen=True)
class Place:
    """A requested pixel and date, or the whole scene on a date.

    Attributes:
        position: position of the pixel; None for the whole scene.
        date: ISO date.
    """

    position: Position | None
    date: str


@dataclass(frozen=True, eq=False)
class LocatedEmbedding:
    """Embedding of a pixel, or embeddings of a scene, on a date of a dataset.

    Attributes:
        vector: (K,) for a pixel, (K, H, W) for a scene; float32, NaN where there is no embedding.
        uncertainty: half-width of the 68 % interval, of the same shape.
        pixel: the pixel; None for a scene.
        date: date of the embedding, datetime64[ns].
    """

    vector: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    pixel: PixelIndex | None
    date: np.datetime64

    @property
    def place(self) -> str:
        """The place as text, in a form that `parse_place` reads."""
        day = np.datetime_as_string(self.date, "D")
        return day if self.pixel is None else f"{format_pixel(self.pixel)}@{day}"


def parse_date(text: str) -> np.datetime64:
    """Read an ISO date, or an ISO date and time (UTC).

    Raises:
        UsageError: The text is not a date.
    """
    try:
        if _DATE.fullmatch(text.strip()):
            return np.datetime64(text.strip(), "ns")
    except ValueError:
        pass  # such as the 30th of February
    raise UsageError(f"date {text!r}: expected a date such as 2018-06-30")


def parse_place(text: str) -> Place:
    """Read a place from its text form.

    Args:
        text: `POSITION@DATE` for a pixel, with a position as `thalweg.earth.positions.parse_position` reads it;
            `DATE` alone for the whole scene.

    Raises:
        UsageError: The text has another form.
    """
    before, at, date = text.strip().rpartition("@")
    try:
        parse_date(date)
    except UsageError as error:
        raise UsageError(f"place {text!r}: expected {PLACE_FORMS}") from error
    if not at:
        return Place(None, date)
    try:
        return Place(parse_position(before), date)
    except UsageError as error:
        raise UsageError(f"place {text!r}: {error}") from error


def date_index(dataset: "xr.Dataset", date: int | str) -> int:
    """Return the index of a date in a dataset.

    Args:
        dataset: an embedding dataset.
        date: an index, from 0, or an ISO date at most `MAX_DAYS_APART` days from an embedding, the nearest of which
            is taken.

    Raises:
        UsageError: There is no such index, the text is not a date, or no embedding is near it.
    """
    times = dataset.time.values
    if isinstance(date, int | np.integer):
        if not 0 <= date < len(times):
            raise UsageError(f"date {date}: expected an index from 0 to {len(times) - 1}, or a date as 2019-07-01")
        return int(date)
    wanted = parse_date(date)
    index = int(np.abs(times - wanted).argmin())
    if not abs(times[index] - wanted) <= np.timedelta64(MAX_DAYS_APART, "D"):
        nearest = np.datetime_as_string(times[index], "D")
        raise UsageError(f"no embedding within {MAX_DAYS_APART} days of {date}: the nearest is of {nearest}")
    return index


def embedding_at(dataset: "xr.Dataset", position: Position, date: int | str) -> LocatedEmbedding:
    """Return the embedding of a pixel on a date.

    Args:
        dataset: an embedding dataset.
        position: position of the pixel.
        date: as `date_index` takes it.

    Raises:
        UsageError: The position lies outside the grid, or the pixel has no embedding on the date; then the message
            names the nearest date on which it has one.
    """
    pixel = locate(position, dataset_geobox(dataset))
    index = date_index(dataset, date)
    series = dataset.isel(y=pixel.row, x=pixel.column)
    vector = series.embeddings.isel(time=index).values
    if not np.isfinite(vector).all():
        day = np.datetime_as_string(dataset.time.values[index], "D")
        clear = np.flatnonzero(np.isfinite(series.embeddings.values).all(1))
        if not len(clear):
            raise UsageError(f"pixel {pixel} has no embedding on any date: choose another")
        nearest = dataset.time.values[clear[np.abs(clear - index).argmin()]]
        raise UsageError(
            f"pixel {pixel} has no embedding on {day}: the nearest date on which it has one is "
            f"{np.datetime_as_string(nearest, 'D')}"
        )
    return LocatedEmbedding(vector, series.uncertainty.isel(time=index).values, pixel, dataset.time.values[index])


def scene_on(dataset: "xr.Dataset", date: int | str) -> LocatedEmbedding:
    """Return the embeddings of a whole dataset on a date.

    Args:
        dataset: an embedding dataset of at most `MAX_SCENE_SIDE` pixels each way.
        date: as `date_index` takes it.

    Raises:
        UsageError: The dataset is larger, or there is no embedding near the date.
    """
    if max(dataset.sizes["y"], dataset.sizes["x"]) > MAX_SCENE_SIDE:
        raise UsageError(
            f"a scene of {dataset.sizes['y']} x {dataset.sizes['x']} px: expected at most {MAX_SCENE_SIDE} each way; "
            f"take a pixel ({POSITION_FORMS}), or a window of the store"
        )
    index = date_index(dataset, date)
    scene = dataset.isel(time=index)
    return LocatedEmbedding(scene.embeddings.values, scene.uncertainty.values, None, dataset.time.values[index])


def embedding_at_place(dataset: "xr.Dataset", place: Place | str) -> LocatedEmbedding:
    """Return the embedding of a pixel, or the embeddings of a whole scene, at a place.

    Args:
        dataset: an embedding dataset.
        place: a place, or its text as `parse_place` reads it.

    Raises:
        UsageError: There is no such place, or the scene is too large.
    """
    place = parse_place(place) if isinstance(place, str) else place
    if place.position is None:
        return scene_on(dataset, place.date)
    return embedding_at(dataset, place.position, place.date)
