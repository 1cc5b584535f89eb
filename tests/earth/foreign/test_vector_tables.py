"""Tables of vectors: on a grid and scattered, list columns of both kinds, dates, and what is refused."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
import xarray as xr
from pyproj import CRS

import thalweg
from foreign_files import fixed_size_lists, write_vectors
from mapping_scenes import mapping_scene, point_labels, truth
from thalweg.earth.export.geoparquet import write_geoparquet
from thalweg.earth.mapping.mapping_config import MappingConfig
from thalweg.earth.positions import LonLat, MapPoint, PixelIndex
from thalweg.errors import UsageError


def refused(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        thalweg.open(path, **options)
    assert "\n" not in str(caught.value)


def chips(count: int = 12) -> tuple[geopandas.GeoSeries, np.ndarray, np.ndarray]:
    """Return squares of 320 m with gaps that vary, their vectors of 5 dimensions, and their classes."""
    random = np.random.default_rng(3)
    rows, columns = np.divmod(np.arange(count**2), count)
    left = 500_000 + 400 * columns + random.uniform(0, 60, count**2)
    top = 5_600_000 - 400 * rows - random.uniform(0, 60, count**2)
    kinds = ((rows // 3 + columns // 3) % 3).astype(int)
    vectors = np.eye(5)[kinds] + 0.2 * random.normal(size=(count**2, 5))
    return geopandas.GeoSeries(shapely.box(left, top - 320, left + 320, top), crs=32631), vectors, kinds


@pytest.fixture
def table(tmp_path: Path) -> Path:
    shapes, vectors, _ = chips()
    times = pd.date_range("2021-03-01", periods=len(shapes), freq="D")
    return write_vectors(tmp_path / "chips.parquet", fixed_size_lists(vectors), shapes, time=times)


@pytest.mark.parametrize("fixed", [True, False])
def test_points_on_a_grid_become_a_grid(fixed: bool, tmp_path: Path) -> None:
    vectors = np.arange(18.0).reshape(6, 3)
    points = shapely.points([105, 115, 125, 105, 115, 125], [55, 55, 55, 45, 45, 45])
    lists = fixed_size_lists(vectors) if fixed else pa.array(vectors.tolist(), pa.list_(pa.float64()))
    keep = pa.array([0, 1, 2, 3, 5])  # the pixel of row 2, column 2 has no vector
    path = write_vectors(tmp_path / "grid.parquet", lists.take(keep), points[keep.to_numpy()], year=[2020] * 5)
    dataset = thalweg.open(path)
    assert dataset.sizes == {"time": 1, "embedding": 3, "y": 2, "x": 3}
    assert dataset.x.values.tolist() == [105, 115, 125] and dataset.y.values.tolist() == [55, 45]
    assert dataset.attrs["geoemb:gsd"] == 10
    assert dataset.thalweg.at(MapPoint(121, 49)).embeddings.values[0].tolist() == [15, 16, 17]
    assert np.isnan(dataset.embeddings.values[0, :, 1, 1]).all()
    assert str(dataset.time.values[0])[:10] == "2020-01-01"


def test_an_exported_table_opens_as_the_grid_it_came_from(tmp_path: Path) -> None:
    scene = mapping_scene(dates=1)
    scene.attrs["proj:wkt2"] = CRS.from_epsg(32631).to_wkt()
    scene["valid_context_dates"] = (("time", "y", "x"), np.ones((1, 48, 48), np.uint16))
    write_geoparquet(scene, tmp_path / "tables")
    dataset = thalweg.open(tmp_path / "tables" / "2018-03-01.parquet")
    np.testing.assert_array_equal(dataset.embeddings.values, scene.embeddings.values)
    np.testing.assert_array_equal(dataset.y.values, scene.y.values)
    assert dataset.attrs["thalweg:model"] == "scene"
    mapped = dataset.thalweg.classify(point_labels(200), "crop", config=MappingConfig(learner="logistic"))
    known = mapped.code.values > 0
    assert (mapped.code.values == truth() + 1)[known].mean() > 0.5  # one noisy date


def test_scattered_vectors_have_the_same_accessor(table: Path) -> None:
    shapes, vectors, kinds = chips()
    dataset = thalweg.open(table)
    assert dataset.embeddings.dims == ("time", "embedding", "feature")
    assert str(dataset.time.values[0])[:10] == "2021-03-01"
    assert str(dataset.acquired.values[7])[:10] == "2021-03-08"
    inside = shapes.iloc[17].centroid
    here = dataset.thalweg.at(MapPoint(inside.x + 150, inside.y - 150))
    np.testing.assert_allclose(here.embeddings.values[0], vectors[17], rtol=1e-6)
    degrees = geopandas.GeoSeries([inside], crs=32631).to_crs(4326).iloc[0]
    assert float(dataset.thalweg.at(LonLat(degrees.x, degrees.y)).x) == float(here.x)
    similar = dataset.thalweg.similar(MapPoint(inside.x, inside.y))
    assert similar.dims == ("feature",) and float(similar[17]) == 1 and similar.attrs["feature"] == 17
    assert similar.values[kinds == kinds[17]].mean() > similar.values[kinds != kinds[17]].mean() + 0.4
    parts = dataset.thalweg.pca(2)
    assert parts.dims == ("time", "component", "feature")
    centred = vectors - vectors.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    np.testing.assert_allclose(np.abs(parts.values[0]), np.abs(axes @ centred.T), atol=1e-4)


def test_scattered_vectors_are_classified_on_blocks(table: Path) -> None:
    shapes, _, kinds = chips()
    labels = geopandas.GeoDataFrame({"kind": np.array(["a", "b", "c"])[kinds]}, geometry=shapes.centroid, crs=32631)
    dataset = thalweg.open(table)
    found = dataset.thalweg.classify(labels.iloc[::2].to_crs(4326), "kind", config=MappingConfig(learner="logistic"))
    assert (found.code.values == kinds + 1).mean() > 0.9
    assert found.attrs["macro_f1"] > 0.8 and found.attrs["block"] > 400
    assert found.probability.dims == ("class", "feature") and list(found["class"].values) == ["a", "b", "c"]
    with pytest.raises(UsageError, match="has labels of two classes"):
        both = pd.concat([labels, labels.iloc[:1].assign(kind="z")])
        dataset.thalweg.classify(both, "kind")
    with pytest.raises(UsageError, match=r"0 feature\(s\) with a vector and a label"):
        dataset.thalweg.classify(labels.set_geometry(labels.translate(1e5, 0)), "kind")
    with pytest.raises(UsageError, match="`out`: scattered vectors have no map to write"):
        dataset.thalweg.classify(labels, "kind", out="maps")


def test_what_needs_a_grid_says_so(table: Path) -> None:
    accessor = thalweg.open(table).thalweg
    with pytest.raises(UsageError, match="a table of scattered vectors has no pixels"):
        accessor.at(PixelIndex(0, 0))
    with pytest.raises(UsageError, match=r"is outside the table: expected x 5\d+"):
        accessor.at(MapPoint(0, 0))
    for call in (accessor.plot, accessor.calendar, lambda: accessor.window(0, 0, 1, 1)):
        with pytest.raises(UsageError, match="at, similar, pca and classify work on them"):
            call()
    assert "chips.parquet" in repr(accessor)


def test_features_that_repeat_on_dates_get_a_time_axis(tmp_path: Path) -> None:
    shapes, vectors, _ = chips(3)
    twice = geopandas.GeoSeries(list(shapes) * 2, crs=32631)
    stacked = np.concatenate([vectors, vectors + 1])
    path = write_vectors(tmp_path / "years.parquet", fixed_size_lists(stacked), twice, year=[2019] * 9 + [2020] * 9)
    dataset = thalweg.open(path)
    assert dataset.embeddings.shape == (2, 5, 9)
    np.testing.assert_allclose(dataset.embeddings.values[1] - dataset.embeddings.values[0], 1, atol=1e-6)
    again = geopandas.GeoSeries([*twice, twice[0]], crs=32631)
    more = np.concatenate([stacked, stacked[:1]])
    path = write_vectors(
        tmp_path / "again.parquet", fixed_size_lists(more), again, year=[2019] * 9 + [2020] * 9 + [2019]
    )
    refused(path, r"1 row\(s\) repeat the date and place of another")


def test_it_can_be_written_and_read_again(table: Path, tmp_path: Path) -> None:
    dataset = thalweg.open(table)
    dataset.to_netcdf(tmp_path / "chips.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "chips.nc", engine="h5netcdf") as again:
        np.testing.assert_array_equal(again.embeddings.values, dataset.embeddings.values)


def test_vectors_of_different_lengths_raise_one_line_error(tmp_path: Path) -> None:
    points = shapely.points([1, 2, 3], [4, 5, 9])
    lists = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0]])
    path = write_vectors(tmp_path / "t.parquet", lists, points, year=[2020] * 3)
    refused(path, r"embedding has vectors of different lengths, 2 \(2 rows\), 1 \(1 rows\): expected one length")


def test_null_vectors_are_missing(tmp_path: Path) -> None:
    points = shapely.points([1, 2, 4], [4, 5, 9])
    lists = pa.array([[1.0, 2.0], None, [None, 4.0]])
    dataset = thalweg.open(write_vectors(tmp_path / "t.parquet", lists, points, year=[2020] * 3))
    assert np.isnan(dataset.embeddings.values[0]).sum(0).tolist() == [0, 2, 1]


def test_a_table_that_is_not_what_its_name_says_raises_one_line_error(tmp_path: Path) -> None:
    text = tmp_path / "text.parquet"
    text.write_text("no table")
    refused(text, "not a readable GeoParquet table")
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"embedding": pa.array([[1.0]]), "x": [1]}), plain)
    refused(plain, "no GeoParquet metadata")
    points = shapely.points([1, 2, 4], [4, 5, 9])
    numbers = write_vectors(tmp_path / "numbers.parquet", pa.array([1.0, 2.0, 3.0]), points, year=[2020] * 3)
    refused(numbers, "columns year, geometry, embedding: expected a list column of numbers")
    lists = pa.array([[1.0], [2.0], [3.0]])
    two = write_vectors(tmp_path / "two.parquet", lists, points, year=[2020] * 3, other=[[1.0]] * 3)
    assert thalweg.open(two).embeddings.values.ravel().tolist() == [1, 2, 3]
    assert thalweg.open(two, column="other").embeddings.values.ravel().tolist() == [1, 1, 1]
    both = write_vectors(tmp_path / "both.parquet", lists, points, year=[2020] * 3, embeddings=[[1.0]] * 3)
    refused(both, "list columns embeddings, embedding: name one as `column`")
    refused(two, "`column` 'embedings': expected other, embedding; did you mean embedding", column="embedings")
    undated = write_vectors(tmp_path / "undated.parquet", lists, points)
    refused(undated, "no column time, timestamp, date, datetime, year: name the year of the vectors as `year`")
    assert str(thalweg.open(undated, year=2020).time.values[0])[:4] == "2020"
    refused(two, "`year` 2020, but the table has the column year", year=2020, column="other")
    words = write_vectors(tmp_path / "words.parquet", lists, points, date=["a", "b", "c"])
    refused(words, "column date holds no dates")
    nowhere = write_vectors(tmp_path / "nowhere.parquet", lists, points, crs=None, year=[2020] * 3)
    refused(nowhere, "geometries without a reference system")
    holes = write_vectors(tmp_path / "holes.parquet", lists, [points[0], None, points[1]], year=[2020] * 3)
    refused(holes, r"1 row\(s\) without a geometry: remove them")
