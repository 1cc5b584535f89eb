"""Labels and maps in a real browser: coordinates, drawing, files, the map with its curve, downloads, errors."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyproj import Transformer

from earth_app import earth_app, wait_until_drawn
from mapping_scenes import CLASSES, point_labels, truth
from thalweg.app.workspace import Workspace

pytest.importorskip("playwright", reason="playwright is not installed")

if TYPE_CHECKING:
    from playwright.sync_api import Page

OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="module")
def address(scene_workspace: Workspace, served: Any) -> Iterator[str]:
    with served(earth_app(scene_workspace)) as url:
        yield url


@pytest.fixture
def page(open_page: OpenPage, address: str) -> "Page":
    """The scene with the panel of labels open."""
    page = open_page(f"{address}/#store=scene.zarr")
    wait_until_drawn(page)
    part(page, "panel-button").click()
    wait_until_drawn(page)
    return page


def part(page: "Page", name: str) -> Any:
    return page.locator(f'[data-part="{name}"]')


def place(page: "Page", column: float, row: float) -> dict[str, float]:
    """Return the position of a point of the store in the left map."""
    box = part(page, "left").bounding_box()
    x, y, zoom = map(float, part(page, "left").get_attribute("data-view").split())
    return {"x": box["width"] / 2 + (column - x) * zoom, "y": box["height"] / 2 + (row - y) * zoom}


def add_class(page: "Page", name: str) -> None:
    part(page, "class-name").fill(name)
    part(page, "class-name").press("Enter")


def add_points(page: "Page", name: str, count: int = 6) -> None:
    """Label pixels of a class in several of its patches."""
    add_class(page, name)
    rows, columns = np.nonzero(truth() == CLASSES.index(name))
    for index in np.linspace(0, len(rows) - 1, count).astype(int):
        part(page, "left").click(position=place(page, columns[index] + 0.5, rows[index] + 0.5))


def listed(page: "Page") -> list[str]:
    """Return the listed classes with their counts."""
    return [
        " ".join(text.split()).removesuffix(" \u00d7") for text in part(page, "classes").locator("li").all_inner_texts()
    ]


def wait_for_map(page: "Page") -> None:
    page.wait_for_function(
        """() => document.querySelector('[data-part="results"]')?.hidden === false
            || document.querySelector('[data-part="map-status"]')?.classList.contains("error")"""
    )
    assert part(page, "results").is_visible(), part(page, "map-status").inner_text()
    wait_until_drawn(page)


def wait_for_error(page: "Page", name: str = "map-status") -> str:
    page.wait_for_function(f"""document.querySelector('[data-part="{name}"]')?.classList.contains("error")""")
    message: str = part(page, name).inner_text()
    assert "\n" not in message
    return message


def download(page: "Page", press: Callable[[], Any]) -> tuple[str, bytes]:
    """Return the name and the content of the file that a button saves."""
    with page.expect_download() as found:
        press()
    return found.value.suggested_filename, Path(found.value.path()).read_bytes()


def test_coordinates_are_those_under_the_cursor(page: "Page") -> None:
    part(page, "left").hover(position=place(page, 5.5, 7.5))
    text = part(page, "cursor").inner_text()
    assert text.startswith("Row 7, column 5 ")
    x, y, longitude, latitude = (
        float(re.search(rf"{name} (-?[\d.]+)", text)[1])  # type: ignore[index]
        for name in (r"\bx", r"\by", "longitude", "latitude")
    )
    assert abs(x - 500_055) <= 2 and abs(y - 5_599_925) <= 2
    expected = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(500_055, 5_599_925)
    np.testing.assert_allclose((longitude, latitude), expected, atol=3e-5)
    assert "EPSG:32631" in text
    page.mouse.move(2, 2)
    assert part(page, "cursor").inner_text() == "Coordinates are shown under the cursor."


def test_drawn_labels_make_a_map_that_is_kept_and_saved(page: "Page", tmp_path: Path, screenshot: Callable) -> None:
    for name in CLASSES:
        add_points(page, name)
    page.locator('[data-tool="polygon"]').click()
    row, column = (6 * np.argwhere(truth()[::6, ::6] == CLASSES.index("wheat"))[-1]).tolist()
    for down, across in ((1, 1), (1, 5), (5, 5)):
        part(page, "left").click(position=place(page, column + across, row + down))
    part(page, "left").dblclick(position=place(page, column + 1, row + 5))
    assert listed(page) == ["beet 6 points", "maize 6 points", "wheat 6 points, 1 polygon"]
    part(page, "undo").click()
    assert listed(page)[2] == "wheat 6 points"
    page.locator('[data-tool="delete"]').click()
    rows, columns = np.nonzero(truth() == 0)
    part(page, "left").click(position=place(page, columns[0] + 0.5, rows[0] + 0.5))
    assert listed(page)[0] == "beet 5 points"
    part(page, "undo").click()
    part(page, "features").select_option("P30D")
    part(page, "make").click()
    wait_for_map(page)
    screenshot(page, "earth-labels")
    assert re.fullmatch(r"Map of 3 classes: macro F1 [01]\.\d\d", part(page, "map-title").inner_text())
    assert part(page, "curve").locator("circle").count() >= 2
    rows_of_scores = part(page, "map-scores").locator("tbody tr").all_inner_texts()
    assert [row.split("\t")[0].strip() for row in rows_of_scores] == list(CLASSES)
    assert "has one plausible class at 90" in part(page, "map-summary").inner_text()
    assert part(page, "right-caption").inner_text() == "Map of labels"
    assert part(page, "legend").inner_text().split()[:3] == list(CLASSES)
    name, content = download(page, part(page, "right-png").click)
    assert name == "scene-map.png"
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).reshape(-1, 3)
    for colour in (
        part(page, "map-scores").locator("i.swatch").evaluate_all("all => all.map((one) => one.style.background)")
    ):
        rgb = [int(value) for value in re.findall(r"\d+", colour)]
        assert (picture == rgb).all(1).mean() > 0.02
    name, content = download(page, page.get_by_role("button", name="Labels and polygons (GeoPackage)").click)
    (tmp_path / name).write_bytes(content)
    assert name == "scene-map.gpkg"
    assert len(geopandas.read_file(tmp_path / name, layer="labels")) == 18
    assert set(geopandas.read_file(tmp_path / name, layer="map")["class"]) == set(CLASSES)
    name, content = download(page, page.get_by_role("button", name="Labelled pixels (CSV)").click)
    assert (name, len(pd.read_csv(io.BytesIO(content)))) == ("scene-labelled-pixels.csv", 18)
    page.reload()
    wait_for_map(page)
    assert listed(page) == ["beet 6 points", "maize 6 points", "wheat 6 points"]
    assert page.get_by_role("radio", name="Map of labels").is_checked()


def test_a_file_is_loaded_and_saved_again(page: "Page", tmp_path: Path) -> None:
    path = tmp_path / "fields.geojson"
    point_labels(30).to_file(path, driver="GeoJSON")
    part(page, "load").set_input_files(path)
    part(page, "column").wait_for(state="visible")
    assert part(page, "column").input_value() == "crop"
    assert part(page, "column").locator("option").all_inner_texts()[0] == "crop: 3 values (beet, maize, wheat)"
    page.get_by_role("button", name="Load labels").click()
    page.wait_for_function("""document.querySelector('[data-part="total"]').textContent === "30 labels" """)
    name, content = download(page, part(page, "save").click)
    assert name == "scene-labels.gpkg"
    frame = geopandas.read_file(io.BytesIO(content))
    assert frame["class"].tolist() == point_labels(30).crop.tolist()
    part(page, "clear-labels").click()
    assert part(page, "total").inner_text() == "0 labels"
    (tmp_path / name).write_bytes(content)
    part(page, "load").set_input_files(tmp_path / name)
    page.wait_for_function("""document.querySelector('[data-part="total"]').textContent === "30 labels" """)


def test_what_cannot_be_used_is_one_line(page: "Page", tmp_path: Path) -> None:
    (tmp_path / "plots.csv").write_text("x,y,crop\n500005,5599995,a\n500105,5599895,b\n")
    part(page, "load").set_input_files(tmp_path / "plots.csv")
    assert "no reference system" in wait_for_error(page)
    part(page, "crs").fill("EPSG:32631")
    page.get_by_role("button", name="Load labels").click()
    page.wait_for_function("""document.querySelector('[data-part="column"]').value === "crop" """)
    page.get_by_role("button", name="Load labels").click()
    page.wait_for_function("""document.querySelector('[data-part="total"]').textContent === "2 labels" """)
    part(page, "make").click()
    assert "expected at least 3" in wait_for_error(page)
    (tmp_path / "fake.gpkg").write_bytes(b"no GeoPackage")
    part(page, "load").set_input_files(tmp_path / "fake.gpkg")
    assert "the content is not that of a .gpkg file" in wait_for_error(page)
    part(page, "clear-labels").click()
    page.locator('[data-tool="point"]').click()
    part(page, "left").click(position=place(page, 5.5, 5.5))
    assert wait_for_error(page) == "add a class first, such as wheat"
    add_class(page, "<img src=x onerror=alert(1)>")
    part(page, "left").click(position=place(page, 5.5, 5.5))
    assert listed(page) == ["<img src=x onerror=alert(1)> 1 point"]
    assert page.locator("#thalweg-earth img").count() == 0
    part(page, "make").click()
    assert "one class on the store" in wait_for_error(page)


def test_the_series_of_a_pixel_is_saved(page: "Page") -> None:
    part(page, "left").click(position=place(page, 5.5, 7.5))
    part(page, "series").locator("svg").wait_for()
    name, content = download(page, part(page, "series-csv").click)
    assert name == "scene-row7-column5-series.csv"
    table = pd.read_csv(io.BytesIO(content))
    assert len(table) == 12 and {"time", "longitude", "e1", "e1_uncertainty", "quality"} <= set(table.columns)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("date=tomorrow", 'date "tomorrow" in the address: the store has 12 dates from 2018-03-01 to 2018-08-13'),
        ("pixel=48,0", "pixel 48,0 in the address: expected a row of 0 to 47 and a column of 0 to 47"),
        ("pixel=-1,0", 'pixel "-1,0" in the address: expected row,column'),
        ("pixel=<b>x</b>", 'pixel "<b>x</b>" in the address: expected row,column'),
        ("pixel=1,2,3", 'pixel "1,2,3" in the address: expected row,column'),
        ("view=1,2,Infinity", 'view "1,2,Infinity" in the address: expected x,y,zoom'),
        (f"layer={'x' * 1000}", f'layer "{"x" * 60}..." in the address: expected components'),
    ],
)
def test_a_hostile_address_is_refused_in_one_line(open_page: OpenPage, address: str, state: str, words: str) -> None:
    page = open_page(f"{address}/#store=scene.zarr&{state}")
    assert wait_for_error(page, "status").startswith(words)
    wait_until_drawn(page)
    assert part(page, "status").locator("b").count() == 0


@pytest.mark.parametrize("write_that_was_due", ["", "history.replaceState(history.state, '', before)"])
def test_an_address_that_is_pasted_opens_its_pixel(page: "Page", address: str, write_that_was_due: str) -> None:
    page.evaluate(
        "() => { const before = location.href; location.hash = '#store=other.zarr&date=2018-05-30&pixel=3,4'; "
        f"{write_that_was_due} }}"
    )
    part(page, "series").locator("svg").wait_for()
    assert part(page, "store").input_value() == "other.zarr"
    assert part(page, "place").inner_text().startswith("Row 3, column 4 ")
    assert part(page, "date-label").inner_text().startswith("2018-05-30")
