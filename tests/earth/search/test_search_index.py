"""Indices of embeddings: what a query finds, in which season, by which distance; building in parts; damage."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from embedding_stores import DATES, StoreSpec, write_store
from thalweg.earth.search import index_building, index_parts
from thalweg.earth.search.entry_table import day_of_year, days_apart
from thalweg.earth.search.index_building import build_index
from thalweg.earth.search.index_parts import decode_uncertainty, encode_uncertainty
from thalweg.earth.search.search_index import SearchIndex
from thalweg.earth.store.reader import open_store
from thalweg.errors import MissingPathError, UsageError

FIRST = StoreSpec(shape=(40, 36))
SECOND = replace(FIRST, seed=1, shape=(24, 50), corner=(700_000.0, 5_700_000.0), epsg=32632, dates=DATES[1:3])


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


def embeddings(store: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the embeddings and uncertainty (N, K) of a store, and their date, row and column (N, 3)."""
    dataset = open_store(store)
    vectors, uncertainty = (np.moveaxis(dataset[name].values, 1, -1) for name in ("embeddings", "uncertainty"))
    known = np.isfinite(vectors).all(-1)
    return vectors[known], uncertainty[known], np.argwhere(known)


def exact(
    stores: list[Path], index: SearchIndex, query: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of a query to all embeddings, as the documentation states them, and store, date, pixel."""
    distances, places = [], []
    for number, store in enumerate(stores):
        vectors, uncertainty, where = embeddings(store)
        variance = spread**2 + uncertainty**2 + np.square(index.manifest.within)
        distances.append(np.sqrt(((query - vectors) ** 2 / variance).mean(1)))
        places.append(np.column_stack([np.full(len(where), number), where]))
    return np.concatenate(distances), np.concatenate(places)


def found_places(index: SearchIndex, entries: np.ndarray) -> set[tuple[int, ...]]:
    places = index.locate(entries)
    return set(zip(*(getattr(places, name).tolist() for name in ("store", "date", "row", "column")), strict=True))


def test_every_embedding_is_an_entry(stores: list[Path], index: SearchIndex) -> None:
    expected = {(number, *place) for number, store in enumerate(stores) for place in embeddings(store)[2].tolist()}
    assert len(index) == len(expected)
    assert found_places(index, np.arange(len(index))) == expected


def test_a_query_finds_nearly_what_an_exhaustive_search_finds(stores: list[Path], index: SearchIndex) -> None:
    vectors, uncertainty, _ = embeddings(stores[0])
    chosen = np.random.default_rng(0).choice(len(vectors), 30, replace=False)
    matches = index.query(vectors[chosen], uncertainty[chosen], 20)
    recalls = []
    for row, one in enumerate(chosen):
        distances, places = exact(stores, index, vectors[one], uncertainty[one])
        nearest = np.argsort(distances)[:20]
        recalls.append(len(found_places(index, matches.entries[row]) & set(map(tuple, places[nearest].tolist()))) / 20)
        assert (np.diff(matches.distances[row]) >= 0).all()
        assert matches.distances[row][0] < 0.02  # itself, in half precision
        np.testing.assert_allclose(matches.distances[row][10], np.sort(distances)[10], rtol=0.1)
    assert np.mean(recalls) >= 0.95


def test_a_date_restricts_the_search_to_its_season(stores: list[Path], index: SearchIndex) -> None:
    vectors, uncertainty, where = embeddings(stores[0])
    times = open_store(stores[0]).time.values
    winter = np.flatnonzero(where[:, 0] == 0)[:5]
    matches = index.query(vectors[winter], uncertainty[winter], 5000, times[where[winter, 0]], season=30)
    found = index.locate(matches.entries[matches.entries >= 0])
    assert set(found.date.tolist()) == {0, 3}  # 10 January, and 20 December across the turn of the year
    assert set(found.store.tolist()) == {0}
    free = index.locate(index.query(vectors[winter], uncertainty[winter], 5000).entries.ravel())
    assert len(set(free.date.tolist())) > 2


def test_a_season_finds_all_of_it(stores: list[Path], index: SearchIndex) -> None:
    vectors, uncertainty, where = embeddings(stores[0])
    count = (where[:, 0] == 0).sum() + (where[:, 0] == 3).sum()
    matches = index.query(vectors[:1], uncertainty[:1], 60_000, np.array([DATES[0]], "datetime64[ns]"), season=25)
    assert matches.entries.shape == (1, count) and (matches.entries >= 0).all()


def test_a_season_without_entries_is_refused(index: SearchIndex) -> None:
    with pytest.raises(UsageError, match="no entry within 5 days of the season of 2018-03-01"):
        index.query(np.zeros(7), np.zeros(7), 5, np.array(["2018-03-01"], "datetime64[ns]"), 5)


def test_an_uncertain_query_is_nearer(stores: list[Path], index: SearchIndex) -> None:
    vectors, uncertainty, _ = embeddings(stores[0])
    certain, doubtful = (index.query(vectors[:1], factor * uncertainty[:1], 50).distances[0] for factor in (1, 20))
    assert (doubtful[1:] < certain[1:]).all()


def test_an_uncertain_entry_is_nearer_than_a_certain_one_as_far_away(tmp_path: Path) -> None:
    one = replace(FIRST, missing=0.0, uncertainty=0.01)
    paths = [
        write_store(tmp_path / "certain.zarr", one),
        write_store(tmp_path / "doubtful.zarr", replace(one, uncertainty=0.5)),
    ]
    index = SearchIndex.open(build_index(paths, tmp_path / "idx"))
    vectors, uncertainty, _ = embeddings(paths[0])
    matches = index.query(vectors[:8] + 0.1, uncertainty[:8], 2)
    assert (index.locate(matches.entries[:, 0]).store == 1).all()
    factor = np.sqrt((0.01**2 + 0.5**2 + np.square(index.manifest.within)) / (2e-4 + np.square(index.manifest.within)))
    assert (factor > 1.1).all()


def test_an_index_in_several_parts_finds_the_same(
    stores: list[Path], index: SearchIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_building, "PART_ENTRIES", 1500)
    parts = SearchIndex.open(build_index(stores, tmp_path / "idx"))
    assert len(parts.manifest.parts) > 3 and max(parts.manifest.parts) <= 1500
    vectors, uncertainty, _ = embeddings(stores[1])
    monkeypatch.setattr(index_parts, "READ_PER_CANDIDATE", 10**6)  # all lists: exact but for the choice of candidates
    for one, other in zip(
        parts.query(vectors[:5], uncertainty[:5], 10).entries,
        index.query(vectors[:5], uncertainty[:5], 10).entries,
        strict=True,
    ):
        assert len(found_places(parts, one) & found_places(index, other)) >= 9


def test_every_third_pixel(stores: list[Path], tmp_path: Path) -> None:
    index = SearchIndex.open(build_index(stores, tmp_path / "idx", every=3))
    found = found_places(index, np.arange(len(index)))
    expected = {
        (number, *place)
        for number, store in enumerate(stores)
        for place in embeddings(store)[2].tolist()
        if place[1] % 3 == place[2] % 3 == 0
    }
    assert found == expected


def test_progress_counts_every_pixel_date(stores: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build_index(stores, tmp_path / "idx", progress=lambda done, total: seen.append((done, total)))
    total = 40 * 36 * 4 + 24 * 50 * 2
    assert seen[-1] == (total, total) and len(seen) > 4


def test_the_encoding_of_the_uncertainty_errs_by_a_few_percent() -> None:
    values = np.geomspace(2e-4, 9, 500).astype(np.float32)
    assert np.abs(decode_uncertainty(encode_uncertainty(values)) / values - 1).max() < 0.024
    assert decode_uncertainty(encode_uncertainty(np.array([np.nan, 99.0]))) == pytest.approx([10, 10])


def test_days_of_the_year() -> None:
    days = day_of_year(np.array(["2018-01-01", "2020-12-31T23:00", "2018-12-31"], "datetime64[ns]"))
    assert days.tolist() == [1, 366, 365]
    assert days_apart(days[:1], days[2:]).tolist() == [1.25]


@pytest.mark.parametrize(
    ("vectors", "options", "words"),
    [
        (np.zeros((2, 5)), {}, "expected (Q, 7)"),
        (np.full((1, 7), np.nan), {}, "expected finite"),
        (np.zeros((1, 7)), {"count": 0}, "expected count to be a whole number"),
        (np.zeros((1, 7)), {"season": 400}, "expected season to be a number from 0 to 183"),
        (np.zeros((1, 7)), {"dates": np.array(["2018-01-01"] * 2, "datetime64[ns]")}, "expected one per query"),
    ],
)
def test_an_invalid_query_raises_one_line_error(
    vectors: np.ndarray, options: dict[str, object], words: str, index: SearchIndex
) -> None:
    with pytest.raises(UsageError) as caught:
        index.query(vectors, np.zeros_like(vectors), **options)  # type: ignore[arg-type]
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_other_stores_are_refused_and_leave_nothing(stores: list[Path], tmp_path: Path) -> None:
    other = write_store(tmp_path / "model.zarr", replace(FIRST, model="model-b"))
    small = write_store(tmp_path / "size.zarr", replace(FIRST, dimensions=5))
    empty = write_store(tmp_path / "empty.zarr", replace(FIRST, missing=1.1))
    for paths, words in (
        ([stores[0], other], "model.zarr: embeddings of model-b, but .*first.zarr is of model-a"),
        ([stores[0], small], "size.zarr: embeddings of 5 dimensions, but .*first.zarr has 7"),
        ([stores[0], stores[0]], "given more than once"),
        ([empty], "holds no embedding"),
        ([], "expected at least one"),
    ):
        with pytest.raises(UsageError, match=words):
            build_index(paths, tmp_path / "idx")
    with pytest.raises(MissingPathError):
        build_index([tmp_path / "none.zarr"], tmp_path / "idx")
    assert not list(tmp_path.glob("*idx*"))


def test_a_damaged_store_leaves_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store.zarr", FIRST)
    (store / "uncertainty" / "c" / "0" / "0" / "0" / "0").write_bytes(b"damaged")
    with pytest.raises(Exception, match="uncertainty cannot be read"):
        build_index([store], tmp_path / "idx")
    assert not list(tmp_path.glob("*idx*"))


def test_no_index_and_a_damaged_one_raise_one_line_errors(folder: Path, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(MissingPathError, match="no such index"):
        SearchIndex.open(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="not an index"):
        SearchIndex.open(tmp_path / "empty")
    for name in sorted(path.name for path in folder.iterdir()):
        for how in ("cut", "changed", "removed"):
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy)
            content = bytearray((copy / name).read_bytes())
            content[len(content) // 2] ^= 0x55
            if how == "removed":
                (copy / name).unlink()
            else:
                (copy / name).write_bytes(content[: len(content) // 2] if how == "cut" else content)
            with pytest.raises(UsageError) as caught:
                SearchIndex.open(copy)
            assert "\n" not in str(caught.value), (name, how)
            shutil.rmtree(copy)


def test_a_store_that_changed_or_went_is_named(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store.zarr", FIRST)
    folder = build_index([store], tmp_path / "idx")
    xr.open_zarr(store)  # reading changes nothing
    SearchIndex.open(folder)
    chunk = store / "embeddings" / "c" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes())
    with pytest.raises(UsageError, match=r"store.zarr: the store changed after it was indexed"):
        SearchIndex.open(folder)
    store.rename(tmp_path / "elsewhere.zarr")
    with pytest.raises(MissingPathError, match="no longer there"):
        SearchIndex.open(folder)
