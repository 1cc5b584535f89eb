"""Routes of labels: a file becomes a map with its downloads, and every failure is one line."""

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from earth_app import earth_app
from mapping_scenes import CLASSES, box, centre, point_labels, truth
from thalweg.app.earth.labels.label_routes import attachment
from thalweg.app.workspace import Workspace

ORIGIN = "http://127.0.0.1"
STORE = "scene.zarr"
COLOURS = ("#1f9e89", "#fde725", "#440154")
Body = dict[str, Any]


@pytest.fixture(scope="module")
def app(scene_workspace: Workspace) -> Any:
    return earth_app(scene_workspace)


def browser(app: Any) -> TestClient:
    """Return a browser with a cookie of its own."""
    client = TestClient(app, base_url=ORIGIN, headers={"Origin": ORIGIN})
    client.get("/")
    return client


@pytest.fixture(scope="module")
def client(app: Any) -> TestClient:
    return browser(app)


def upload(client: TestClient, content: bytes, name: str = "labels.csv") -> Any:
    return client.post("/earth/upload", files={"files": (name, content)})


def csv(count: int = 60) -> bytes:
    labels = point_labels(count)
    frame = pd.DataFrame({"lon": labels.geometry.x, "lat": labels.geometry.y, "crop": labels.crop})
    return frame.to_csv(index=False).encode()


@pytest.fixture(scope="module")
def loaded(client: TestClient) -> Body:
    """Classes and labels of a file, as a page sends them."""
    name = upload(client, csv()).json()[0]
    read = client.post("/earth/labels/file", json={"store": STORE, "upload": name, "column": "crop"}).json()
    return {"store": STORE, "classes": read["classes"], "colours": list(COLOURS), "labels": read["labels"]}


def finish(client: TestClient, answer: Any) -> Body:
    """Return the last state of the map that an answer names."""
    assert answer.status_code == 200, answer.text
    name = answer.json()["map"]
    for _ in range(20_000):
        state = client.get("/earth/map", params={"map": name}).json()
        if state["status"] not in ("waiting", "running"):
            return {"map": name, **state}
        time.sleep(0.03)
    raise AssertionError("the map does not end")


@pytest.fixture(scope="module")
def made(client: TestClient, loaded: Body) -> Body:
    return finish(client, client.post("/earth/map", json={**loaded, "features": "P30D"}))


def test_a_file_is_used_once(client: TestClient) -> None:
    name = upload(client, csv()).json()[0]
    asked = {"store": STORE, "upload": name}
    assert client.post("/earth/labels/file", json=asked).json()["features"] == 60
    read = client.post("/earth/labels/file", json={**asked, "column": "crop"}).json()
    assert read["classes"] == list(CLASSES)
    again = client.post("/earth/labels/file", json=asked)
    assert again.status_code == 422
    assert "that this browser uploaded and that has not been used" in again.json()["error"]


def test_an_upload_is_read_by_its_own_browser_alone(app: Any, client: TestClient) -> None:
    name = upload(client, csv()).json()[0]
    answer = browser(app).post("/earth/labels/file", json={"store": STORE, "upload": name})
    assert answer.status_code == 422
    assert "that this browser uploaded" in answer.json()["error"]


def test_labels_are_saved_and_load_again(client: TestClient, loaded: Body) -> None:
    answer = client.post("/earth/labels/geopackage", json=loaded)
    assert answer.headers["content-disposition"] == 'attachment; filename="scene-labels.gpkg"'
    frame = geopandas.read_file(io.BytesIO(answer.content))
    assert frame["class"].tolist() == point_labels(60).crop.tolist()
    assert frame.crs.to_epsg() == 32631
    name = upload(client, answer.content, "labels.gpkg").json()[0]
    read = client.post("/earth/labels/file", json={"store": STORE, "upload": name, "column": "class"}).json()
    assert read["labels"] == loaded["labels"]


def test_a_map_has_its_scores(made: Body) -> None:
    assert made["status"] == "done"
    result = made["result"]
    assert [each["name"] for each in result["classes"]] == list(CLASSES)
    assert result["macro_f1"] > 0.8
    assert result["labels"] == result["labelled_pixels"] == 60
    assert [step["share"] for step in result["curve"]] == [0.25, 0.5, 0.75, 1.0]
    assert result["blocks"]["count"] >= 3 and result["blocks"]["reason"]
    assert 0 < result["single"] <= 1 and 0 < result["coverage"] <= 1
    assert sum(each["mapped"] for each in result["classes"]) == pytest.approx(48 * 48 / 100, abs=0.01)
    for each in result["classes"]:
        assert each["low"] <= each["area"] <= each["high"]


def test_the_map_on_the_page_is_the_map(client: TestClient, made: Body) -> None:
    answer = client.get("/earth/map/tile/0/0/0", params={"store": STORE, "map": made["map"]})
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))[..., :3]
    assert [each["colour"] for each in made["result"]["classes"]] == list(COLOURS)
    colours = [tuple(bytes.fromhex(colour[1:])) for colour in COLOURS]
    codes = np.array([[colours.index(tuple(pixel)) for pixel in row] for row in shown.tolist()])
    assert np.mean(codes == truth()) > 0.8


def test_downloads_hold_what_they_say(client: TestClient, made: Body, tmp_path: Path) -> None:
    def download(kind: str, name: str) -> bytes:
        answer = client.get("/earth/map/file", params={"map": made["map"], "kind": kind})
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        return answer.content

    path = tmp_path / "map.gpkg"
    path.write_bytes(download("gpkg", "scene-map.gpkg"))
    assert sorted(geopandas.list_layers(path).name) == ["labels", "map"]
    labels, polygons = (geopandas.read_file(path, layer=layer) for layer in ("labels", "map"))
    assert labels["class"].tolist() == point_labels(60).crop.tolist()
    assert (labels.pixels == 1).all() and labels.correct.mean() == pytest.approx(made["result"]["correct"], abs=1e-4)
    areas = polygons.groupby("class").hectares.sum()
    assert len(polygons) == made["result"]["polygons"]
    for each in made["result"]["classes"]:
        assert areas[each["name"]] == pytest.approx(each["mapped"], abs=0.01)
    table = pd.read_csv(io.BytesIO(download("csv", "scene-labelled-pixels.csv")))
    assert len(table) == 60
    assert (
        table["class"] == [CLASSES[truth()[row, column]] for row, column in zip(table.row, table.column, strict=True)]
    ).all()
    assert np.mean(table["class"] == table.predicted) == pytest.approx(made["result"]["correct"], abs=1e-4)
    np.testing.assert_allclose(table[[f"p_{name}" for name in CLASSES]].sum(axis=1), 1, atol=1e-3)
    with zipfile.ZipFile(io.BytesIO(download("zip", "scene-map.zip"))) as archive:
        names = {Path(name).name for name in archive.namelist()}
        assert f'color="{COLOURS[0]}"' in archive.read("scene-map/map.qml").decode()
    assert {"map.tif", "model.skops", "report.md", "learning-curve.png", "map.gpkg", "labelled-pixels.csv"} <= names


def test_the_series_of_a_pixel_is_a_table(client: TestClient) -> None:
    answer = client.get("/earth/pixel/series", params={"store": STORE, "row": 7, "column": 5})
    assert answer.headers["content-disposition"] == 'attachment; filename="scene-row7-column5-series.csv"'
    table = pd.read_csv(io.StringIO(answer.text))
    series = client.get("/earth/pixel", params={"store": STORE, "row": 7, "column": 5}).json()
    values = table[[f"e{number}" for number in range(1, 5)]].to_numpy()
    np.testing.assert_allclose(values, np.array(series["values"], float))
    assert table.quality.tolist() == series["quality"]
    assert (table.x == 500_055).all() and (table.y == 5_599_925).all()


def test_another_browser_has_no_part_in_a_map(app: Any, made: Body) -> None:
    other = browser(app)
    place = {"map": made["map"], "store": STORE, "kind": "zip"}
    for path in ("map", "map/file", "map/tile/0/0/0"):
        answer = other.get(f"/earth/{path}", params=place)
        assert (answer.status_code, answer.json()) == (422, {"error": "no such map of yours: make it again"})
    assert other.post("/earth/map/stop", json={"map": made["map"]}).status_code == 422


def test_a_map_is_shown_on_its_own_store_alone(client: TestClient, made: Body) -> None:
    answer = client.get("/earth/map/tile/0/0/0", params={"store": "other.zarr", "map": made["map"]})
    assert "this map is of another store" in answer.json()["error"]


def points(classes: list[str], places: list[tuple[int, int, int]]) -> Body:
    labels = [
        {"class": code, "geometry": {"type": "Point", "coordinates": [column + 0.5, row + 0.5]}}
        for row, column, code in places
    ]
    return {"store": STORE, "classes": classes, "colours": list(COLOURS[: len(classes)]), "labels": labels}


UNUSABLE = {
    "one class": (points(["a"], [(0, 0, 0), (20, 20, 0), (40, 40, 0)]), "one class on the store (a)"),
    "two blocks": (points(["a", "b"], [(0, 0, 0), (0, 40, 1)]), "expected at least 3"),
    "two classes on a pixel": (points(["a", "b"], [(0, 0, 0), (0, 0, 1), (40, 40, 1)]), "overlap"),
    "each class in one block": (
        points(["a", "b", "c"], [(0, 0, 0), (20, 20, 1), (40, 40, 2)]),
        "every class lies in one block",
    ),
}


@pytest.mark.parametrize(("labels", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_labels_that_make_no_map_are_one_line(client: TestClient, labels: Body, words: str) -> None:
    state = finish(client, client.post("/earth/map", json={**labels, "features": "date", "date": 3}))
    assert state["status"] == "failed" and "result" not in state
    assert words in state["reason"] and "\n" not in state["reason"]
    answer = client.get("/earth/map/file", params={"map": state["map"], "kind": "csv"})
    assert "this map is not done" in answer.json()["error"]


GOOD = {**points(["a", "b"], [(0, 0, 0), (20, 20, 1), (40, 40, 0)]), "features": "P15D"}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("map", {**GOOD, "store": "../scene.zarr"}, "expected the name of something in the workspace"),
        ("map", {**GOOD, "store": None}, "expected the store to be a text"),
        ("map", {**GOOD, "store": "x" * 501}, "expected the store of at most 500 characters"),
        ("map", {**GOOD, "features": "P1D"}, "expected the features to be one of"),
        ("map", {**GOOD, "features": ["P15D"]}, "expected the features to be one of"),
        ("map", {**GOOD, "features": "date"}, "expected the date to be a whole number from 0 to 11"),
        ("map", {**GOOD, "features": "date", "date": 12}, "expected the date to be a whole number from 0 to 11"),
        ("map", {**GOOD, "labels": {"a": 1}}, "expected a list of labels"),
        ("map", {**GOOD, "colours": None}, "expected a colour for each of 2 classes"),
        ("map", {**GOOD, "colours": ["#000000"]}, "expected a colour for each of 2 classes"),
        ("map", {**GOOD, "colours": ["red;}", "#000000"]}, "expected a colour such as #2f7d32"),
        ("map", {**GOOD, "colours": [5, "#000000"]}, "expected a colour such as #2f7d32"),
        ("map", [GOOD], "valid dictionary"),
        ("map", b"{", "JSON decode error"),
        ("map", b"[" * 100_000, ""),
        ("map/stop", {"map": 5}, "expected the map to be a text"),
        ("labels/geopackage", {**GOOD, "classes": ["<img src=x>"] * 2}, "one twice"),
        ("labels/file", {"store": STORE, "upload": "../../etc/passwd"}, "that this browser uploaded"),
        ("labels/file", {"store": STORE, "upload": {"path": "/etc/passwd"}}, "expected the upload to be a text"),
        ("labels/file", {"store": STORE, "upload": "x", "column": 5}, "that this browser uploaded"),
    ],
)
def test_a_hostile_request_is_answered_in_one_line(
    client: TestClient, scene_workspace: Workspace, path: str, body: Any, words: str
) -> None:
    sent = (
        {"content": body, "headers": {"Content-Type": "application/json"}}
        if isinstance(body, bytes)
        else {"json": body}
    )
    answer = client.post(f"/earth/{path}", **sent)
    assert answer.status_code == 422, answer.text
    message = answer.json()["error"]
    assert words in message and "\n" not in message and len(message) < 600
    assert str(scene_workspace.folder) not in message


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"x", "x.safetensors", "a GeoPackage, GeoJSON"),
        (b"x", "../../x.sh", "a GeoPackage, GeoJSON"),
        (b"x" * 20_100_000, "x.csv", "at most 20 MB"),
    ],
)
def test_a_refused_upload_is_one_line(client: TestClient, content: bytes, name: str, words: str) -> None:
    answer = upload(client, content, name)
    assert answer.status_code == 422
    assert words in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_polygons_are_labels_too(client: TestClient) -> None:
    shapes = [box(6 * row, 6 * column, 6, 6) for row in range(8) for column in range(8)]
    kinds = [CLASSES[truth()[6 * row, 6 * column]] for row in range(8) for column in range(8)]
    frame = geopandas.GeoDataFrame({"crop": kinds}, geometry=shapes, crs=32631)
    name = upload(client, frame.to_json(to_wgs84=False).encode(), "fields.geojson")
    assert name.status_code == 200
    read = client.post("/earth/labels/file", json={"store": STORE, "upload": name.json()[0], "column": "crop"}).json()
    assert len(read["labels"]) == 64
    assert {label["geometry"]["type"] for label in read["labels"]} == {"Polygon"}
    assert frame.crs is not None and centre(0, 0) is not None


def test_file_names_hold_no_special_characters() -> None:
    assert (
        attachment('a"\r\nSet-Cookie: x/é.csv')["Content-Disposition"] == 'attachment; filename="a-Set-Cookie-x-.csv"'
    )
