"""Uploaded files of labels: every kind is read, and content that would read other files is refused."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pytest
import shapely

from mapping_scenes import box, centre, point_labels
from thalweg.app.earth.labels import label_files
from thalweg.app.earth.labels.label_files import file_columns, file_labels, file_layers, open_label_file
from thalweg.app.earth.labels.label_routes import read_file
from thalweg.app.earth.labels.page_labels import read_page_labels
from thalweg.app.earth.open_stores import OpenStore
from thalweg.errors import UsageError

SECRET = "a line that no browser may see"


def saved(path: Path) -> Path:
    """Write labels in the format that the suffix names; a .zip holds a Shapefile."""
    labels = point_labels(20)
    if path.suffix == ".parquet":
        labels.to_parquet(path)
    elif path.suffix == ".csv":
        pd.DataFrame({"lon": labels.geometry.x, "lat": labels.geometry.y, "crop": labels.crop}).to_csv(
            path, index=False
        )
    elif path.suffix == ".zip":
        labels.to_file(path.with_suffix(".shp"))
        with zipfile.ZipFile(path, "w") as archive:
            for suffix in (".shp", ".shx", ".dbf", ".prj", ".cpg"):
                archive.write(path.with_suffix(suffix), f"folder/fields{suffix}")
                path.with_suffix(suffix).unlink()
    else:
        driver = {".gpkg": "GPKG", ".fgb": "FlatGeobuf"}.get(path.suffix, "GeoJSON")
        labels.to_file(path, driver=driver)
    return path


@pytest.mark.parametrize("suffix", label_files.LABEL_SUFFIXES)
def test_every_kind_of_file_is_read(scene_store: OpenStore, tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"upload{suffix}")
    offered = read_file(scene_store, path, None, None, None)
    assert offered["features"] == 20
    assert {"name": "crop", "values": 3, "examples": ["beet", "maize", "wheat"]} in offered["columns"]
    found = read_file(scene_store, path, "crop", None, None)
    assert found["classes"] == ["beet", "maize", "wheat"]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]  # nothing that was unpacked is left
    labels = point_labels(20)
    again = read_page_labels(found["classes"], found["labels"], scene_store)
    pairs = again.sjoin_nearest(labels.to_crs(32631))  # a FlatGeobuf has an order of its own
    assert len(pairs) == 20 and (pairs["class"] == pairs.crop).all()
    assert again.union_all().hausdorff_distance(labels.to_crs(32631).union_all()) < 0.01


def test_polygons_are_cut_at_the_edge_and_others_left_out(scene_store: OpenStore, tmp_path: Path) -> None:
    shapes = [box(-20, -20, 30, 30), box(100, 100, 5, 5), box(4, 4, 6, 6), None, centre(40, 40)]
    frame = geopandas.GeoDataFrame({"crop": ["a", "b", "c", "d", None]}, geometry=shapes, crs=32631)
    found = file_labels(frame, "crop", scene_store)
    assert found.classes == ["a", "c"]
    assert found.notes == [
        "the file: 1 row(s) without a geometry are left out",
        "1 features without a value of crop were left out",
        "1 features outside the store were left out",
    ]
    again = read_page_labels(found.classes, found.labels, scene_store)
    assert again.geometry[0].equals(box(-1, -1, 11, 11))


def test_layers_are_offered_and_an_unknown_one_refused(scene_store: OpenStore, tmp_path: Path) -> None:
    path = tmp_path / "upload.gpkg"
    for layer in ("fields", "plots"):
        point_labels(20).to_file(path, driver="GPKG", layer=layer)
    assert file_layers(path) == ["fields", "plots"]
    assert read_file(scene_store, path, None, None, None) == {"layers": ["fields", "plots"]}
    assert read_file(scene_store, path, None, None, "plots")["features"] == 20
    with pytest.raises(UsageError, match="no layer"):
        read_file(scene_store, path, None, None, "../x")


def test_a_missing_reference_system_can_be_named(scene_store: OpenStore, tmp_path: Path) -> None:
    path = tmp_path / "upload.csv"
    path.write_text("x,y,crop\n500005,5599995,a\n500105,5599895,b\n")
    with pytest.raises(UsageError, match="no reference system"):
        read_file(scene_store, path, "crop", None, None)
    assert read_file(scene_store, path, "crop", "EPSG:32631", None)["classes"] == ["a", "b"]
    for hostile in ("/etc/passwd", "+proj=utm +nadgrids=/etc/passwd", "http://example.org/crs", "EPSG:1" + "0" * 20):
        with pytest.raises(UsageError, match="expected a reference system as EPSG:32631"):
            read_file(scene_store, path, "crop", hostile, None)


def archive(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, written in files.items():
            packed.writestr(name, written)
    return content.getvalue()


FEATURE = {"type": "Feature", "properties": {"crop": "a"}, "geometry": {"type": "Point", "coordinates": [3, 50]}}
COLLECTION = {"type": "FeatureCollection", "features": [FEATURE]}
EMPTY_SHAPEFILE = b"\x00\x00\x27\x0a" + b"\0" * 200


def vrt(secret: Path) -> bytes:
    """Return a text by which the library would read another file as points."""
    return (
        f'<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>{secret}</SrcDataSource>'
        '<GeometryField encoding="PointFromColumns" x="lon" y="lat"/></OGRVRTLayer></OGRVRTDataSource>'
    ).encode()


def algorithm(secret: Path) -> bytes:
    command = f"gdal vector pipeline ! read {secret} ! write out.gpkg"
    return json.dumps({"type": "gdal_streamed_alg", "command_line": command}).encode()


def linked(secret: Path) -> bytes:
    crs = {"type": "link", "properties": {"href": f"file://{secret}", "type": "proj4"}}
    return json.dumps({**COLLECTION, "crs": crs}).encode()


HOSTILE: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "a VRT named geojson": (".geojson", vrt, "the file"),
    "a VRT named gpkg": (".gpkg", vrt, "the content is not that of a .gpkg file"),
    "a VRT named fgb": (".fgb", vrt, "the content is not that of a .fgb file"),
    "a VRT as Shapefile": (".zip", lambda secret: archive({"a.shp": vrt(secret)}), "not that of a .shp file"),
    "a VRT named parquet": (".parquet", vrt, "the content is not that of a .parquet file"),
    "an algorithm": (".json", algorithm, "expected GeoJSON with a collection of features"),
    "a linked reference system": (".geojson", linked, "reference system of the GeoJSON"),
    "a list": (".geojson", lambda _: b"[]", "expected GeoJSON"),
    "features of another type": (
        ".geojson",
        lambda _: b'{"type": "FeatureCollection", "features": [1]}',
        "a list of features",
    ),
    "deeply nested": (".geojson", lambda _: b"[" * 100_000, "the file"),
    "no Shapefile": (
        ".zip",
        lambda _: archive({"a.txt": b"x"}),
        "expected one Shapefile in the .zip, got 0 in 1 files",
    ),
    "two Shapefiles": (".zip", lambda _: archive({"a.shp": EMPTY_SHAPEFILE, "b.shp": EMPTY_SHAPEFILE}), "got 2"),
    "half an archive": (".zip", lambda _: archive({"a.shp": EMPTY_SHAPEFILE})[:60], "this .zip cannot be read"),
    "a path in an archive": (".zip", lambda _: archive({"../../a.shp": EMPTY_SHAPEFILE, "../../a.dbf": b"x"}), ""),
    "half a GeoPackage": (".gpkg", lambda _: b"SQLite format 3\0" + b"\0" * 100, "cannot be read"),
    "half a Parquet file": (".parquet", lambda _: b"PAR1" + b"\0" * 100, "this Parquet file cannot be read"),
    "half a FlatGeobuf": (".fgb", lambda _: b"fgb\x03fgb\x00" + b"\xff" * 50, "cannot be read"),
    "bytes as CSV": (".csv", lambda _: b"\xff\xfe\0\x01" * 50, "cannot be read"),
    "an empty CSV": (".csv", lambda _: b"", "cannot be read"),
    "a CSV without coordinates": (".csv", lambda _: b"a,b\n1,2\n", "expected lon and lat, or x and y"),
}


@pytest.mark.parametrize(("suffix", "content", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(
    scene_store: OpenStore, tmp_path: Path, suffix: str, content: Callable[[Path], bytes], words: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text(f"lon,lat,crop\n3,50,{SECRET}\n")
    path = tmp_path / "upload" / f"upload{suffix}"
    path.parent.mkdir()
    path.write_bytes(content(secret))
    with pytest.raises(UsageError) as refusal:
        read_file(scene_store, path, None, None, None)
    message = str(refusal.value)
    assert words in message
    assert "\n" not in message and len(message) < 600 and SECRET not in message
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["secret.csv", "upload"]


def test_content_that_grows_is_refused(scene_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_files, "MAX_FILE_BYTES", 100_000)
    monkeypatch.setattr(label_files, "MAX_FILE_ROWS", 1000)
    bomb = tmp_path / "upload.zip"
    bomb.write_bytes(archive({"a.shp": b"\x00\x00\x27\x0a" + b"\0" * 10**6}))
    with pytest.raises(UsageError, match=r"at most 0.1 MB of files"):
        read_file(scene_store, bomb, None, None, None)
    for name, frame in (("rows", {"a": [1] * 1001}), ("bytes", {"a": ["x" * 10_000] * 100})):
        path = tmp_path / f"{name}.parquet"
        pd.DataFrame(frame).to_parquet(path)
        with pytest.raises(UsageError, match=r"at most (1,000|0\.1 MB)"):
            open_label_file(path, None, None)


def frame_of(values: list[Any]) -> geopandas.GeoDataFrame:
    points = [centre(row, column) for row in range(48) for column in range(48)]
    return geopandas.GeoDataFrame({"crop": values}, geometry=points[: len(values)], crs=32631)


def test_what_a_page_cannot_hold_is_refused(scene_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="column crop has 101 values on the store"):
        file_labels(frame_of([str(number) for number in range(101)]), "crop", scene_store)
    with pytest.raises(UsageError, match=r"column 'crops': expected crop; did you mean crop"):
        file_labels(frame_of(["a", "b"]), "crops", scene_store)
    monkeypatch.setattr(label_files, "MAX_PAGE_LABELS", 2)
    with pytest.raises(UsageError, match="3 labels on the store"):
        file_labels(frame_of(["a", "b", "c"]), "crop", scene_store)
    monkeypatch.setattr(label_files, "MAX_VERTICES", 2)
    with pytest.raises(UsageError, match="more than 2 corners"):
        file_labels(frame_of(["a", "b", "c"]), "crop", scene_store)
    elsewhere = geopandas.GeoDataFrame({"crop": ["a"]}, geometry=[shapely.Point(10, 10)], crs=4326)
    with pytest.raises(UsageError, match="no label of the file on the store"):
        file_labels(elsewhere, "crop", scene_store)


def test_texts_of_a_file_are_shown_printable_and_short(scene_store: OpenStore) -> None:
    found = file_labels(frame_of(["a\x1b[31m", "x" * 100, 3.0, "", float("nan"), [1, 2]]), "crop", scene_store)
    assert sorted(found.classes) == sorted(["a?[31m", "x" * 60, "3", "[1, 2]"])
    columns = file_columns(frame_of(["x" * 1000]))
    assert columns == [{"name": "crop", "values": 1, "examples": ["x" * 60]}]
