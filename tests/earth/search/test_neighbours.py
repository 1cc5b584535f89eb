"""Neighbours of a pixel: their places and distances from each other, their files, and the commands."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas
import matplotlib.image
import numpy as np
import pytest
from pyproj import Transformer

from embedding_stores import StoreSpec, write_store
from thalweg.earth.positions import LonLat, MapPoint, PixelIndex
from thalweg.earth.search.index_building import build_index
from thalweg.earth.search.neighbour_plots import neighbour_map
from thalweg.earth.search.neighbours import find_neighbours
from thalweg.earth.search.search_index import SearchIndex
from thalweg.earth.store.reader import open_store
from thalweg.errors import UsageError

FIRST = StoreSpec(shape=(40, 36), missing=0.05)
SECOND = replace(FIRST, seed=1, shape=(24, 50), corner=(700_000.0, 5_700_000.0), epsg=32632)
PIXEL = PixelIndex(12, 9)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("stores")
    return [write_store(folder / "first.zarr", FIRST), write_store(folder / "second.zarr", SECOND)]


@pytest.fixture(scope="module")
def folder(stores: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_index(stores, tmp_path_factory.mktemp("indices") / "idx")


@pytest.fixture(scope="module")
def index(folder: Path) -> SearchIndex:
    return SearchIndex.open(folder)


def date_of(store: Path) -> str:
    """Return the first date on which `PIXEL` has an embedding."""
    dataset = open_store(store)
    known = np.isfinite(dataset.embeddings.values[:, 0, PIXEL.row, PIXEL.column])
    return str(dataset.time.values[known][0])[:10]


def test_neighbours_lie_in_their_stores(stores: list[Path], index: SearchIndex) -> None:
    found = find_neighbours(index, stores[0], PIXEL, count=40)
    assert len(found.found) == 40 and {one.store for one in found.found} == {path.resolve() for path in stores}
    for one in found.found:
        dataset = open_store(one.store)
        assert (one.point.x, one.point.y) == (dataset.x.values[one.pixel.column], dataset.y.values[one.pixel.row])
        degrees = Transformer.from_crs(one.crs, "EPSG:4326", always_xy=True).transform(one.point.x, one.point.y)
        assert (one.lon_lat.longitude, one.lon_lat.latitude) == pytest.approx(degrees)
        here = dataset.sel(time=one.date).isel(y=one.pixel.row, x=one.pixel.column)
        like = open_store(stores[0]).sel(time=one.like_date).isel(y=PIXEL.row, x=PIXEL.column)
        variance = here.uncertainty.values**2 + like.uncertainty.values**2 + np.square(index.manifest.within)
        expected = np.sqrt(((here.embeddings.values - like.embeddings.values) ** 2 / variance).mean())
        assert one.distance == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("apart", [1, 4])
def test_neighbours_keep_their_distance(apart: int, stores: list[Path], index: SearchIndex) -> None:
    found = find_neighbours(index, stores[0], PIXEL, count=20, apart=apart).found
    taken = [(stores[0].resolve(), PIXEL), *((one.store, one.pixel) for one in found)]
    distances = [
        max(abs(one.row - other.row), abs(one.column - other.column))
        for number, (store, one) in enumerate(taken)
        for other_store, other in taken[:number]
        if store == other_store
    ]
    assert len(found) == 20 and min(distances) >= apart


def test_without_a_distance_the_first_is_the_pixel_itself(stores: list[Path], index: SearchIndex) -> None:
    date = date_of(stores[0])
    found = find_neighbours(index, stores[0], PIXEL, date, count=10, apart=0)
    assert (found.found[0].store, found.found[0].pixel) == (stores[0].resolve(), PIXEL)
    assert str(found.date)[:10] == date == str(found.found[0].date)[:10]
    assert {one.like_date for one in found.found} == {found.date}


def test_a_store_that_is_not_indexed_is_searched_for_by_any_position(index: SearchIndex, tmp_path: Path) -> None:
    store = write_store(tmp_path / "other.zarr", replace(FIRST, seed=7, corner=(510_000.0, 5_610_000.0)))
    point = MapPoint(510_000 + 95.0, 5_610_000 - 125.0)
    degrees = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(point.x, point.y)
    results = [find_neighbours(index, store, position, count=5) for position in (PIXEL, point, LonLat(*degrees))]
    assert results[0] == results[1] == results[2] and len(results[0].found) == 5


def test_other_models_and_positions_are_refused(stores: list[Path], index: SearchIndex, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other.zarr", replace(FIRST, model="model-b"))
    small = write_store(tmp_path / "small.zarr", replace(FIRST, dimensions=5))
    empty = write_store(tmp_path / "empty.zarr", replace(FIRST, missing=1.1))
    for store, position, date, words in (
        (other, PIXEL, None, "other.zarr: embeddings of model-b, but .*idx is of model-a"),
        (small, PIXEL, None, "embeddings of 5 dimensions, but .*idx has 7"),
        (empty, PIXEL, None, "has no embedding on any date"),
        (stores[0], PixelIndex(99, 0), None, "outside the grid"),
        (stores[0], PIXEL, "2031-01-01", "no embedding within 3 days of 2031-01-01"),
    ):
        with pytest.raises(UsageError, match=words):
            find_neighbours(index, store, position, date)


def test_the_files_hold_the_neighbours(stores: list[Path], index: SearchIndex, tmp_path: Path) -> None:
    found = find_neighbours(index, stores[0], PIXEL, count=12)
    found.write(tmp_path)
    table = geopandas.read_parquet(tmp_path / "neighbours.parquet")
    assert table.crs.to_epsg() == 4326 and table["rank"].tolist() == list(range(1, 13))
    assert list(zip(table.row, table.column, strict=True)) == [(one.pixel.row, one.pixel.column) for one in found.found]
    assert table.geometry.x.tolist() == table.lon.tolist() and table["distance"].is_monotonic_increasing
    collection = json.loads((tmp_path / "neighbours.geojson").read_text())
    first = collection["features"][0]
    assert len(collection["features"]) == 12
    assert first["geometry"]["coordinates"] == [found.found[0].lon_lat.longitude, found.found[0].lon_lat.latitude]
    assert first["properties"]["date"] == f"{str(found.found[0].date)[:19]}Z"


def test_the_figure_shows_the_stores(stores: list[Path], index: SearchIndex, tmp_path: Path) -> None:
    found = find_neighbours(index, stores[0], PIXEL, count=30)
    picture = matplotlib.image.imread(neighbour_map(found, tmp_path / "map.png"))[..., :3]
    assert picture.std() > 0.05 and picture.shape[1] > 1200  # the pixel's store, and both that hold neighbours
    with pytest.raises(UsageError, match="no neighbour to draw"):
        neighbour_map(replace(found, found=()), tmp_path / "none.png")


def test_the_commands(cli: Callable, stores: list[Path], tmp_path: Path) -> None:
    ran = cli("earth", "index", *stores, "--out", "idx", "--every", 2)
    assert (ran.code, ran.err) == (0, "") and ran.out.startswith("index: idx, ")
    date = date_of(stores[0])
    ran = cli("earth", "search", "idx", "--like", stores[0], "--pixel", 12, 9, "--date", date, "--count", 15)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == "15 neighbours: first-neighbours" and len(ran.out.splitlines()) == 11
    names = {path.name for path in Path("first-neighbours").iterdir()}
    assert names == {"neighbours.parquet", "neighbours.geojson", "neighbours.png"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "no position: give one of --pixel"),
        (("--pixel", 99, 0), "outside the grid"),
        (("--xy", 1, 1), "outside the grid"),
        (("--pixel", 12, 9, "--season", 20), "--season: expected with --date"),
        (("--pixel", 12, 9, "--date", "2030-01-01"), "no embedding within 3 days"),
        (("--pixel", 12, 9, "--count", 0), "expected count to be a whole number"),
        (("--pixel", 12, 9, "--out", "taken"), "exists already"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(
    options: tuple[object, ...], words: str, cli: Callable, stores: list[Path], folder: Path
) -> None:
    Path("taken").mkdir()
    ran = cli("earth", "search", folder, "--like", stores[0], *options)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert words in line
    assert [path.name for path in Path().iterdir()] == ["taken"]


def test_a_mosaic_and_maps_share_colours(cli: Callable, stores: list[Path], tmp_path: Path) -> None:
    beside = write_store(tmp_path / "beside.zarr", replace(FIRST, seed=2, corner=(500_360.0, 5_600_000.0)))
    ran = cli("earth", "mosaic", stores[0], beside, "out.zarr", "--axes", "axes.json")
    assert (ran.code, ran.out, ran.err) == (0, "mosaic: out.zarr\naxes: axes.json\n", "")
    for store in (stores[0], beside):
        ran = cli("earth", "map", store, "--axes", "axes.json")
        assert ran.code == 0 and "axes:" not in ran.out
    ran = cli("earth", "map", beside, "--axes", "new.json", "--png", "again.png")
    assert "axes: new.json" in ran.out
    ran = cli("earth", "map", beside, "--pixel", 1, 1, "--axes", "axes.json")
    assert ran.code == 2 and "leave --axes out" in ran.err
    ran = cli("earth", "mosaic", stores[0], stores[1], "other.zarr")
    assert ran.code == 2 and "expected one reference system" in ran.err
    ran = cli("earth", "mosaic", stores[0], "other.zarr")
    assert ran.code == 2 and "expected two or more stores" in ran.err
