"""Routes of the page: tiles and pixels are those of the store, and every failure is one line."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from fastapi.testclient import TestClient
from PIL import Image

import thalweg
from earth_app import earth_app
from thalweg.app.earth import tiles
from thalweg.app.workspace import Workspace
from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.analysis.similarity import similarity
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import LonLat, PixelIndex
from thalweg.earth.sensors import Quality
from thalweg.earth.store.subsample import block_shape

ORIGIN = "http://127.0.0.1"


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> TestClient:
    return TestClient(earth_app(workspace), base_url=ORIGIN, headers={"Origin": ORIGIN})


@pytest.fixture(scope="module")
def dataset(store: Path) -> xr.Dataset:
    return thalweg.open(store)


def image(client: TestClient, path: str, **query: Any) -> np.ndarray:
    answer = client.get(f"/earth/tile/{path}", params={"store": "fields.zarr", "date": 0, **query})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def usable_pixel(dataset: xr.Dataset) -> tuple[int, int, int]:
    """Return a date, row and column with an embedding; the pixel has one on many dates."""
    usable = np.isfinite(dataset.embeddings.values).all(1)
    row, column = np.unravel_index(usable.sum(0).argmax(), usable.shape[1:])
    return int(usable[:, row, column].argmax()), int(row), int(column)


def test_stores_of_the_workspace_are_listed_but_no_cube(client: TestClient) -> None:
    assert client.get("/earth/stores").json() == ["broken.zarr", "fields.zarr", "text.zarr"]


def test_a_store_is_described(client: TestClient, dataset: xr.Dataset) -> None:
    answered = client.get("/earth/store", params={"store": "fields.zarr"}).json()
    assert (answered["rows"], answered["columns"], answered["dimensions"]) == (32, 32, 7)
    assert answered["dates"] == [str(date)[:19] for date in dataset.time.values]
    assert answered["strides"] == answered["similarity_strides"] == [1]
    assert {flag["name"] for flag in answered["quality"]} == {flag.name.lower() for flag in Quality}
    clear = client.get("/earth/clear", params={"store": "fields.zarr"}).json()
    np.testing.assert_allclose(clear, (dataset.quality.values <= Quality.WATER).mean((1, 2)), atol=1e-4)


def test_the_preview_is_that_of_the_store_and_transparent_without_a_clear_view(
    client: TestClient, dataset: xr.Dataset
) -> None:
    date, _, _ = usable_pixel(dataset)
    shown = image(client, "preview/0/0/0", date=date)
    usable = dataset.quality.values[date] <= Quality.WATER
    assert usable.any() and not usable.all()
    np.testing.assert_array_equal(shown[..., 3] == 255, usable)
    np.testing.assert_array_equal(shown[usable, :3], np.moveaxis(dataset.picture.values[date], 0, -1)[usable])


def test_components_are_coloured_as_in_the_figures(client: TestClient, dataset: xr.Dataset) -> None:
    date, _, _ = usable_pixel(dataset)
    shown = image(client, "components/0/0/0", date=date)
    vectors = dataset.embeddings.values[date]
    usable = np.isfinite(vectors).all(0)
    expected = 255 * PrincipalComponents.of(dataset).to_rgb(vectors)
    np.testing.assert_allclose(shown[usable, :3], expected[usable], atol=1)
    np.testing.assert_array_equal(shown[..., 3] == 255, usable)


def test_similarity_is_that_of_the_command_line(client: TestClient, dataset: xr.Dataset) -> None:
    import matplotlib

    _, row, column = usable_pixel(dataset)
    shown = image(client, "similarity/0/0/0", pixel_row=row, pixel_column=column)
    expected_similarity = similarity(dataset, PixelIndex(row, column))
    usable = np.isfinite(expected_similarity)
    expected = matplotlib.colormaps["viridis"](expected_similarity, bytes=True)
    np.testing.assert_allclose(shown[usable].astype(int), expected[usable], atol=2)
    np.testing.assert_array_equal(shown[..., 3] == 255, usable)


def test_quality_has_one_colour_per_flag(client: TestClient, dataset: xr.Dataset) -> None:
    shown = image(client, "quality/0/0/0")
    for flag in np.unique(dataset.quality.values[0]):
        assert (shown[dataset.quality.values[0] == flag, :3] == tiles.QUALITY_COLOURS[Quality(flag)]).all()


def test_a_pixels_series_is_the_stores(client: TestClient, dataset: xr.Dataset) -> None:
    _, row, column = usable_pixel(dataset)
    answered = client.get("/earth/pixel", params={"store": "fields.zarr", "row": row, "column": column}).json()
    for key, name in (("values", "embeddings"), ("half_width", "uncertainty")):
        found = np.array(answered[key], float)
        np.testing.assert_allclose(found, dataset[name].values[:, :, row, column], atol=1e-5)
    assert answered["quality"] == [Quality(int(q)).name.lower() for q in dataset.quality.values[:, row, column]]
    np.testing.assert_allclose(
        np.array(answered["gaps"]["sentinel-1"], float), dataset["gap_sentinel-1"].values[:, row, column], atol=1e-4
    )
    located = dataset.thalweg.at(LonLat(answered["longitude"], answered["latitude"]))
    assert (float(located.x), float(located.y)) == (answered["x"], answered["y"])


def test_decoded_bands_are_those_of_the_accessor_within_their_range(client: TestClient, dataset: xr.Dataset) -> None:
    date, row, column = usable_pixel(dataset)
    query = {"store": "fields.zarr", "row": row, "column": column, "date": date}
    answered = client.get("/earth/decode", params=query).json()
    assert [sensor["name"] for sensor in answered["sensors"]] == ["sentinel-2", "sentinel-1"]
    here = dataset.isel(time=[date], y=[row], x=[column])
    for sensor in answered["sensors"]:
        expected = here.thalweg.decode(sensor["name"])
        assert sensor["units"] == expected.attrs["units"]
        assert [band["name"] for band in sensor["bands"]] == list(expected.band.values)
        np.testing.assert_allclose([band["value"] for band in sensor["bands"]], expected.values.ravel(), atol=1e-5)
        widths = np.array([band["high"] - band["low"] for band in sensor["bands"]])
        assert (widths > 0).all()
    assert client.get("/earth/decode", params=query).json() == answered


def test_a_pixel_without_an_embedding_cannot_be_decoded(client: TestClient, dataset: xr.Dataset) -> None:
    date, row, column = np.argwhere(np.isnan(dataset.embeddings.values).any(1))[0].tolist()
    answer = client.get("/earth/decode", params={"store": "fields.zarr", "row": row, "column": column, "date": date})
    assert answer.status_code == 422
    assert "no embedding at this pixel on this date" in answer.json()["error"]


def test_a_store_of_32_dimensions_in_8_bits_shows_all_layers(cube: Cube, tmp_path: Path) -> None:
    embed_to_zarr(Job(cube, EarthModel.load(), size=32, quantize=8), tmp_path / "small.zarr")
    dataset = thalweg.open(tmp_path / "small.zarr")
    client = TestClient(earth_app(Workspace(tmp_path)), base_url="http://127.0.0.1")
    date, row, column = usable_pixel(dataset)
    place = {"store": "small.zarr", "date": date}
    for layer in tiles.LAYERS:
        query = {**place, "pixel_row": row, "pixel_column": column}
        assert client.get(f"/earth/tile/{layer}/0/0/0", params=query).status_code == 200, layer
    answered = client.get("/earth/pixel", params={**place, "row": row, "column": column}).json()
    np.testing.assert_allclose(answered["values"][date], dataset.embeddings.values[date, :, row, column], atol=1e-5)
    decoded = client.get("/earth/decode", params={**place, "row": row, "column": column})
    assert decoded.status_code == 200, decoded.text
    assert block_shape(dataset) == (64, 64)


GOOD = {"store": "fields.zarr", "date": "0", "row": "0", "column": "0"}


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("store", {"store": "../fields.zarr"}, "expected the name of something in the workspace"),
        ("store", {"store": "/etc"}, "expected the name of something in the workspace"),
        ("store", {"store": ".hidden"}, "expected the name of something in the workspace"),
        ("store", {"store": "nothing.zarr"}, "nothing.zarr: no such store"),
        ("store", {"store": "text.zarr"}, "text.zarr: not a readable Zarr store"),
        ("store", {"store": "cube.zarr"}, "without embeddings"),
        ("store", {}, "store: Field required"),
        ("tile/preview/0/0/0", {**GOOD, "store": "broken.zarr"}, "the store could not be read"),
        ("tile/components/0/0/0", {**GOOD, "store": "broken.zarr"}, "the store could not be read"),
        ("tile/rainbow/0/0/0", GOOD, "expected preview, components, quality, similarity"),
        ("tile/preview/1/0/0", GOOD, "level 1: expected 0 to 0"),
        ("tile/preview/0/1/0", GOOD, "lies outside the store"),
        ("tile/preview/0/0/-1", GOOD, "column: Input should be greater than or equal to 0"),
        ("tile/preview/0/0/1e9", GOOD, "column: Input should be a valid integer"),
        ("tile/preview/99999999999/0/0", GOOD, "level: Input should be less than"),
        ("tile/preview/0/0/0", {**GOOD, "date": "99"}, "date 99: expected 0 to"),
        ("tile/similarity/0/0/0", GOOD, "expected the row and column of a pixel too"),
        ("tile/similarity/0/0/0", {**GOOD, "pixel_row": "0", "pixel_column": "0"}, "no embedding on any date"),
        (
            "tile/similarity/0/0/0",
            {**GOOD, "pixel_row": "0", "pixel_column": "32"},
            "expected a row of 0 to 31 and a column of 0 to 31",
        ),
        ("pixel", {**GOOD, "row": "32"}, "expected a row of 0 to 31 and a column of 0 to 31"),
        ("pixel", {**GOOD, "row": "one"}, "row: Input should be a valid integer"),
        ("decode", {**GOOD, "date": "-1"}, "date: Input should be greater than or equal to 0"),
    ],
)
def test_an_invalid_request_is_answered_in_one_line(
    client: TestClient, workspace: Workspace, path: str, query: dict[str, str], words: str
) -> None:
    answer = client.get(f"/earth/{path}", params=query)
    assert answer.status_code == 422
    answered = answer.json()
    assert set(answered) == {"error"}
    assert words in answered["error"]
    assert "\n" not in answered["error"]
    assert str(workspace.folder) not in answered["error"]


def test_after_a_broken_store_the_others_still_answer(client: TestClient) -> None:
    client.get("/earth/tile/preview/0/0/0", params={**GOOD, "store": "broken.zarr"})
    assert image(client, "preview/0/0/0").shape == (32, 32, 4)


def test_a_store_that_is_replaced_is_opened_again(workspace: Workspace, client: TestClient, store: Path) -> None:
    import shutil

    changing = workspace.folder / "changing.zarr"
    shutil.copytree(store, changing)
    try:
        first = client.get("/earth/store", params={"store": "changing.zarr"}).json()
        metadata = changing / "zarr.json"
        metadata.write_text(metadata.read_text().replace("Thalweg embeddings of", "Newer embeddings of"))
        second = client.get("/earth/store", params={"store": "changing.zarr"}).json()
    finally:
        shutil.rmtree(changing)
    assert second["title"].startswith("Newer")
    assert second["version"] != first["version"]


def test_a_counterfactual_is_answered_with_its_figure(client: TestClient, dataset: xr.Dataset) -> None:
    date, row, column = usable_pixel(dataset)
    request = {"store": "fields.zarr", "row": row, "column": column, "date": date, "target": "ndvi+0.1"}
    answered = client.post("/earth/whatif", json=request).json()
    assert answered["text"]
    assert answered["figure"].startswith("data:image/png;base64,")
    wrong = client.post("/earth/whatif", json={**request, "target": "no such thing"})
    assert wrong.status_code == 422
    assert "\n" not in wrong.json()["error"]


def test_a_counterfactual_without_a_target_is_one_line(client: TestClient) -> None:
    answer = client.post("/earth/whatif", json={"store": "fields.zarr", "row": 0, "column": 0, "date": 0, "target": ""})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("target: ")
