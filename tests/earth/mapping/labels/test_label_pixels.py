"""Labels on a store: pixels of points and polygons, overlaps, classes and what is refused."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

from mapping_scenes import box, centre, mapping_scene, point_labels
from thalweg.earth.mapping.labels.feature_pixels import feature_pixels
from thalweg.earth.mapping.labels.geometry_files import read_geometries
from thalweg.earth.mapping.labels.label_pixels import MAX_FEATURE_PIXELS, label_pixels
from thalweg.earth.positions import dataset_geobox
from thalweg.errors import MissingPathError, UsageError


@pytest.fixture(scope="module")
def scene() -> xr.Dataset:
    return mapping_scene(dates=3)


def table(shapes: list[shapely.Geometry], **columns: list) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=32631)


def test_a_polygon_has_the_pixels_that_its_edge_does_not_cross(scene: xr.Dataset) -> None:
    grid = dataset_geobox(scene)
    shapes = [box(2, 3, 4, 5), box(10.4, 10.4, 3.2, 3.2), box(20.2, 20.2, 0.6, 0.6), box(30.8, 30.8, 0.1, 0.1)]
    found = feature_pixels(table(shapes, a=[1, 2, 3, 4]), grid, "labels")
    pixels = {
        number: {*zip(found.rows[found.features == number], found.columns[found.features == number], strict=True)}
        for number in range(4)
    }
    assert pixels[0] == {(row, column) for row in range(2, 6) for column in range(3, 8)}  # along the pixels' edges
    assert pixels[1] == {(11, 11), (11, 12), (12, 11), (12, 12)}
    assert pixels[2] == {(20, 20)}
    assert pixels[3] == {(30, 30)}
    assert (found.edge_only, found.outside) == (2, 0)


def test_a_rotated_polygon_has_only_pixels_that_lie_in_it(scene: xr.Dataset) -> None:
    grid = dataset_geobox(scene)
    polygon = shapely.affinity.rotate(box(10, 10, 14, 9), 31)
    found = feature_pixels(table([polygon], a=[1]), grid, "labels")
    inside = {
        (row, column)
        for row in range(48)
        for column in range(48)
        if shapely.covers(polygon, box(row, column, 1, 1).buffer(-0.02))
    }
    assert {*zip(found.rows, found.columns, strict=True)} == inside


def test_points_in_any_reference_system_have_their_pixel(scene: xr.Dataset) -> None:
    shapes = table([centre(0, 0), centre(47, 5), centre(60, 5)], crop=["a", "b", "b"]).to_crs(3035)
    labels = label_pixels(scene, shapes, "crop", True)
    assert {*zip(labels.rows.tolist(), labels.columns.tolist(), strict=True)} == {(0, 0), (47, 5)}
    assert labels.classes == ("a", "b")
    assert any("1 features lie outside" in note for note in labels.notes)


def test_a_large_polygon_is_thinned_out_evenly(scene: xr.Dataset) -> None:
    labels = label_pixels(scene, table([box(0, 0, 30, 30), centre(40, 40)], crop=[7.0, 12.0]), "crop", True)
    own = labels.features == 0
    assert own.sum() == MAX_FEATURE_PIXELS
    assert labels.classes == ("7", "12")
    assert labels.rows[own].mean() == pytest.approx(14.5, abs=1.5)


def test_same_class_may_overlap_and_different_classes_may_not(scene: xr.Dataset) -> None:
    shapes = [box(2, 2, 4, 4), box(4, 4, 4, 4), box(20, 20, 2, 2)]
    labels = label_pixels(scene, table(shapes, crop=["a", "a", "b"]), "crop", True)
    assert len({*zip(labels.rows, labels.columns, strict=True)}) == len(labels) == 28 + 4
    with pytest.raises(UsageError, match=r"features 1 \(a\) and 2 \(b\) overlap, 4 pixel"):
        label_pixels(scene, table(shapes, crop=["a", "b", "b"]), "crop", True)


def test_neighbours_that_share_an_edge_do_not_overlap(scene: xr.Dataset) -> None:
    labels = label_pixels(scene, table([box(2, 2, 4, 4), box(2, 6, 4, 4)], crop=["a", "b"]), "crop", True)
    assert np.bincount(labels.values).tolist() == [16, 16]


@pytest.mark.parametrize(
    ("shapes", "columns", "column", "words"),
    [
        ([centre(1, 1)], {"crop": ["a"]}, "kind", "column 'kind': expected crop"),
        ([centre(1, 1), centre(2, 2)], {"crop": ["a", "a"]}, "crop", "one class on the store (a): expected at least"),
        ([centre(1, 1)], {"crop": [None]}, "crop", "column crop is empty"),
        ([centre(100, 1), centre(90, 1)], {"crop": ["a", "b"]}, "crop", "no label on the store: they cover longitude"),
        ([shapely.LineString([(0, 0), (1, 1)])], {"crop": ["a"]}, "crop", "type LineString: expected points or"),
    ],
)
def test_unusable_labels_raise_one_line(
    scene: xr.Dataset, shapes: list, columns: dict, column: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        label_pixels(scene, table(shapes, **columns), column, True)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_must_be_numbers(scene: xr.Dataset) -> None:
    labels = label_pixels(scene, table([centre(1, 1), centre(2, 2)], height=["1.5", "2"]), "height", False)
    assert labels.values.tolist() == [1.5, 2.0]
    with pytest.raises(UsageError, match="height 'tall': expected numbers"):
        label_pixels(scene, table([centre(1, 1), centre(2, 2)], height=["1.5", "tall"]), "height", False)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".parquet"])
def test_vector_files_are_read(suffix: str, tmp_path: Path, scene: xr.Dataset) -> None:
    labels = point_labels(20)
    path = tmp_path / f"labels{suffix}"
    labels.to_parquet(path) if suffix == ".parquet" else labels.to_file(path)
    read = read_geometries(path)
    assert (
        label_pixels(scene, read, "crop", True).rows.tolist() == label_pixels(scene, labels, "crop", True).rows.tolist()
    )


def test_tables_of_points_are_read(tmp_path: Path) -> None:
    degrees = pd.DataFrame({"Lon": [3.0, 3.1], "Lat": [50.5, 50.6], "crop": ["a", "b"]})
    degrees.to_csv(tmp_path / "degrees.csv", index=False)
    degrees.to_csv(tmp_path / "decimal-comma.csv", index=False, sep=";", decimal=",")
    degrees.to_parquet(tmp_path / "degrees.parquet")
    for name in ("degrees.csv", "decimal-comma.csv", "degrees.parquet"):
        read = read_geometries(tmp_path / name)
        assert read.crs.to_epsg() == 4326
        assert read.geometry.x.tolist() == [3.0, 3.1]
    pd.DataFrame({"x": [500_005.0], "y": [5_599_995.0], "crop": ["a"]}).to_csv(tmp_path / "map.csv", index=False)
    assert read_geometries(tmp_path / "map.csv", crs="EPSG:32631").crs.to_epsg() == 32631
    with pytest.raises(UsageError, match=r"map\.csv: no reference system: write one into the file, or name"):
        read_geometries(tmp_path / "map.csv")
    with pytest.raises(UsageError, match="crs 'Mars': expected a reference system"):
        read_geometries(tmp_path / "map.csv", crs="Mars")


def test_unreadable_files_raise_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.gpkg").write_bytes(b"noise")
    (tmp_path / "noise.parquet").write_bytes(b"noise")
    (tmp_path / "rain.csv").write_text("station,rain\na,1\n")
    (tmp_path / "labels.txt").write_text("x")
    for name, words in (
        ("noise.gpkg", "cannot be read"),
        ("noise.parquet", "cannot be read"),
        ("rain.csv", "columns station, rain: expected lon and lat"),
        ("labels.txt", "expected .gpkg"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            read_geometries(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingPathError, match="no such file"):
        read_geometries(tmp_path / "nothing.gpkg")


def test_a_layer_is_named_where_there_are_several(tmp_path: Path) -> None:
    path = tmp_path / "labels.gpkg"
    for layer in ("fields", "plots"):
        point_labels(5).to_file(path, layer=layer)
    with pytest.raises(UsageError, match=r"layers fields, plots: name one as `layer`"):
        read_geometries(path)
    assert len(read_geometries(path, layer="plots")) == 5
    with pytest.raises(UsageError, match="no layer 'trees'"):
        read_geometries(path, layer="trees")
