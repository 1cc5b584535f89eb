"""Nearest neighbours of a pixel of a store: their table, and its GeoParquet and GeoJSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.grid import describe_crs
from thalweg.earth.positions import LonLat, MapPoint, PixelIndex, Position, dataset_geobox, locate, lon_lat, map_point
from thalweg.earth.search.search_index import MAX_COUNT, SEASON_DAYS, EntryPlaces, Matches, SearchIndex
from thalweg.earth.store.lookup import embedding_at
from thalweg.earth.store.reader import check_alike, open_store
from thalweg.errors import UsageError
from thalweg.limits import check_count

if TYPE_CHECKING:
    import geopandas
    import xarray as xr

MAX_NEIGHBOURS = 10_000
"""Largest number of neighbours of a pixel."""

MAX_APART = 100_000
"""Largest distance between two neighbours in pixels."""

PARQUET, GEOJSON = "neighbours.parquet", "neighbours.geojson"
"""Files of a folder of results."""

GROWTH = 4
"""Factor by which more entries are taken while too few are far enough from each other."""


@dataclass(frozen=True)
class Neighbour:
    """A neighbour of a pixel.

    Attributes:
        store: path of its store.
        pixel: the pixel in the grid of the store.
        date: date of the embedding, datetime64[ns].
        point: centre of the pixel in the reference system of the store.
        crs: EPSG code or name of the reference system.
        lon_lat: centre of the pixel in degrees.
        distance: weighted distance (`SearchIndex`).
        like_date: date of the embedding that was searched for and is nearest to it, datetime64[ns].
    """

    store: Path
    pixel: PixelIndex
    date: np.datetime64
    point: MapPoint
    crs: str
    lon_lat: LonLat
    distance: float
    like_date: np.datetime64


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of a pixel of a store, the nearest first.

    Attributes:
        store: the store of the pixel.
        pixel: the pixel.
        date: date of its embedding, datetime64[ns]; None if all its dates were searched for.
        found: the neighbours.
    """

    store: Path
    pixel: PixelIndex
    date: np.datetime64 | None
    found: tuple[Neighbour, ...]

    def table(self) -> "geopandas.GeoDataFrame":
        """Return a row per neighbour, with points in degrees (EPSG:4326).

        Columns: `rank` (from 1), `store` (path), `row` and `column` (from 0), `x` and `y` in the reference system of
        the store `crs`, `lon` and `lat` in degrees, `date` and `like_date` (UTC), `distance`, `geometry`.
        """
        import geopandas
        import shapely

        columns = {
            "rank": np.arange(1, len(self.found) + 1),
            "store": [str(one.store) for one in self.found],
            "row": [one.pixel.row for one in self.found],
            "column": [one.pixel.column for one in self.found],
            "x": [one.point.x for one in self.found],
            "y": [one.point.y for one in self.found],
            "crs": [one.crs for one in self.found],
            "lon": [one.lon_lat.longitude for one in self.found],
            "lat": [one.lon_lat.latitude for one in self.found],
            "date": np.array([one.date for one in self.found], "datetime64[ns]"),
            "like_date": np.array([one.like_date for one in self.found], "datetime64[ns]"),
            "distance": [one.distance for one in self.found],
        }
        points = shapely.points(columns["lon"], columns["lat"])
        return geopandas.GeoDataFrame(columns, geometry=points, crs="EPSG:4326")

    def write(self, folder: Path) -> None:
        """Write the table as GeoParquet and as GeoJSON into a folder; dates are text in GeoJSON.

        Raises:
            OSError: The files cannot be written.
        """
        table = self.table()
        table.to_parquet(folder / PARQUET, index=False, compression="zstd")
        for name in ("date", "like_date"):
            table[name] = table[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        (folder / GEOJSON).write_text(table.to_json(drop_id=True), "utf-8")


def find_neighbours(
    index: SearchIndex,
    store: str | Path,
    position: Position,
    date: str | None = None,
    count: int = 50,
    season: float = SEASON_DAYS,
    apart: int = 1,
) -> Neighbours:
    """Find the embeddings of an index that are nearest to those of a pixel.

    With a date, the pixel's embedding of that date is searched for among the entries of a similar day of the year;
    without one, all its embeddings among all entries, and an entry is listed at the least of its distances.

    Args:
        index: the open index.
        store: path of an embedding store of the index's model; it need not be in the index.
        position: position of the pixel.
        date: ISO date at most three days from an embedding.
        count: neighbours to find, 1 to 10,000; fewer are found if the others are not far enough from each other.
        season: largest difference of the days of the year if a date is given.
        apart: least distance in pixels, the larger of rows and columns, between two neighbours in one store on any
            dates, and between each and the pixel itself; 1 lists each pixel once, 0 lists every entry.

    Raises:
        MissingPathError: The store does not exist.
        UsageError: The store is of another model or number of dimensions, the position lies outside, the pixel has no
            embedding on the date, no entry is of its season, or a number is out of range.
    """
    store = Path(store)
    check_count("count", count, 1, MAX_NEIGHBOURS)
    check_count("apart", apart, 0, MAX_APART)
    dataset = open_store(store)
    check_alike(dataset, str(store), index.manifest.model, index.manifest.dimensions, str(index.folder))
    pixel = locate(position, dataset_geobox(dataset))
    vectors, uncertainty, dates = _embeddings_of(dataset, pixel, date)
    stores = [Path(one.path) for one in index.manifest.stores]
    place = (stores.index(store.resolve()), pixel) if store.resolve() in stores else None
    wanted = min(GROWTH * count, MAX_COUNT)
    while True:
        matches = index.query(vectors, uncertainty, wanted, dates if date is not None else None, season)
        entries, distances, queries = _nearest_first(matches)
        places = index.locate(entries)
        chosen = _far_apart(places, place, apart, count)
        if len(chosen) == count or wanted >= min(len(index), MAX_COUNT):
            break
        wanted = min(GROWTH * wanted, MAX_COUNT)
    grids = [one.grid() if number in places.store[chosen] else None for number, one in enumerate(index.manifest.stores)]

    def neighbour(one: int) -> Neighbour:
        number, here = int(places.store[one]), PixelIndex(int(places.row[one]), int(places.column[one]))
        grid, indexed = grids[number], index.manifest.stores[number]
        assert grid is not None
        return Neighbour(
            stores[number],
            here,
            np.datetime64(indexed.dates[places.date[one]], "ns"),
            map_point(here, grid),
            describe_crs(grid),
            lon_lat(here, grid),
            float(distances[one]),
            dates[queries[one]],
        )

    return Neighbours(store, pixel, dates[0] if date is not None else None, tuple(map(neighbour, chosen)))


def _embeddings_of(
    dataset: "xr.Dataset", pixel: PixelIndex, date: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the embeddings and the uncertainty (Q, K) of a pixel, and their dates (Q,)."""
    if date is not None:
        located = embedding_at(dataset, pixel, date)
        return located.vector[None], located.uncertainty[None], np.array([located.date])
    series = dataset.isel(y=pixel.row, x=pixel.column)
    vectors, uncertainty = series.embeddings.values, series.uncertainty.values
    known = np.isfinite(vectors).all(1)
    if not known.any():
        raise UsageError(f"pixel {pixel} has no embedding on any date: choose another")
    return vectors[known], uncertainty[known], dataset.time.values[known]


def _nearest_first(matches: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the entries that any query found, the nearest first: numbers, distances and queries, (N,) each.

    An entry that several queries found is there once, at the least of its distances.
    """
    order = np.argsort(matches.distances, axis=None, kind="stable")
    order = order[np.isfinite(matches.distances.ravel()[order])]
    _, firsts = np.unique(matches.entries.ravel()[order], return_index=True)
    order = order[np.sort(firsts)]
    return matches.entries.ravel()[order], matches.distances.ravel()[order], order // matches.entries.shape[1]


def _far_apart(places: EntryPlaces, place: tuple[int, PixelIndex] | None, apart: int, count: int) -> list[int]:
    """Return the first `count` entries that are at least `apart` pixels from those before them and from a place."""

    def is_far(store: int, row: int, column: int) -> np.ndarray:
        distance = np.maximum(np.abs(places.row - row), np.abs(places.column - column))
        return np.asarray((places.store != store) | (distance >= apart))

    open_entries = np.ones(len(places.store), bool)
    if place is not None:
        open_entries &= is_far(place[0], place[1].row, place[1].column)
    if not apart:
        return np.flatnonzero(open_entries)[:count].tolist()
    chosen: list[int] = []
    while len(chosen) < count and open_entries.any():
        one = int(open_entries.argmax())
        chosen.append(one)
        open_entries &= is_far(places.store[one], places.row[one], places.column[one])
    return chosen
