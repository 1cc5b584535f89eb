"""Earth tab in a real browser: open, date, pixel, similarity, quality, linked maps, reload, refused stores."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest

import thalweg
from earth_app import choose_pixel, earth_app, wait_until_drawn
from thalweg.app.workspace import Workspace

pytest.importorskip("playwright", reason="playwright is not installed")

if TYPE_CHECKING:
    from playwright.sync_api import Page

OpenPage = Callable[..., "Page"]
Screenshot = Callable[["Page", str], Path]


@pytest.fixture(scope="module")
def address(workspace: Workspace, served: Any) -> Iterator[str]:
    with served(earth_app(workspace)) as url:
        yield url


@pytest.fixture(scope="module")
def pixel(store: Path) -> tuple[int, int]:
    """Row and column of the pixel with an embedding on most dates."""
    usable = np.isfinite(thalweg.open(store).embeddings.values).all(1).sum(0)
    row, column = np.unravel_index(usable.argmax(), usable.shape)
    return int(row), int(column)


@pytest.fixture
def page(open_page: OpenPage, address: str) -> "Page":
    """The tab with the good store open."""
    page = open_page(f"{address}/#store=fields.zarr")
    wait_until_drawn(page)
    return page


def saved_state(page: "Page") -> dict[str, str]:
    """Return the state in the address, after its #."""
    page.evaluate("() => new Promise((done) => setTimeout(done, 200))")  # by its clock: written once things are quiet
    return {key: values[0] for key, values in parse_qs(urlparse(page.url).fragment).items()}


def part(page: "Page", name: str) -> Any:
    return page.locator(f'[data-part="{name}"]')


def opaque_in(page: "Page", name: str) -> np.ndarray:
    """Return where the canvas of a map is opaque, (H, W)."""
    alpha, width = page.evaluate(
        """name => {
            const canvas = document.querySelector(`[data-part="${name}"]`);
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return [pixels.filter((_, index) => index % 4 === 3).reduce((text, alpha) => text + (alpha ? 1 : 0), ""),
                canvas.width];
        }""",
        name,
    )
    return np.frombuffer(alpha.encode(), np.uint8).reshape(-1, width) == ord("1")


def views(page: "Page") -> tuple[str, str]:
    """Return the view that each map drew: middle and zoom."""
    left, right = (part(page, name).get_attribute("data-view") for name in ("left", "right"))
    return left, right


def test_a_store_opens_on_its_clearest_date(page: "Page", store: Path, screenshot: Screenshot) -> None:
    dataset = thalweg.open(store)
    clear = (dataset.quality.values <= 1).mean((1, 2))
    best = str(dataset.time.values[clear.argmax()])[:10]
    label = part(page, "date-label")
    assert label.inner_text() == f"{best}, {round(100 * clear.max())} % clear"
    assert part(page, "date").get_attribute("aria-valuetext") == label.inner_text()
    assert opaque_in(page, "left").any()
    screenshot(page, "earth-open")


def test_the_stores_of_the_workspace_are_offered(page: "Page") -> None:
    assert part(page, "store").locator("option").all_inner_texts() == ["broken.zarr", "fields.zarr", "text.zarr"]


def test_another_date_by_slider_button_and_key(page: "Page") -> None:
    dates = page.evaluate("async () => (await (await fetch('earth/store?store=fields.zarr')).json()).dates")
    part(page, "date").fill("3")
    wait_until_drawn(page)
    assert part(page, "date-label").inner_text().startswith(dates[3][:10])
    assert saved_state(page)["date"] == dates[3]
    part(page, "later").click()
    assert part(page, "date-label").inner_text().startswith(dates[4][:10])
    part(page, "date").press("ArrowLeft")
    assert part(page, "date-label").inner_text().startswith(dates[3][:10])


def test_both_maps_show_the_same_pixels_after_drag_and_wheel(page: "Page") -> None:
    whole = opaque_in(page, "left")
    start = views(page)
    for act in (drag, wheel):
        before = views(page)
        act(page)
        wait_until_drawn(page)
        left, right = views(page)
        assert left == right
        assert (left, right) != before
    # Both are transparent without a clear view on the date, so linked maps have one outline.
    page.mouse.move(2, 2)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert not np.array_equal(opaque_in(page, "left"), whole)
    np.testing.assert_array_equal(opaque_in(page, "left"), opaque_in(page, "right"))
    part(page, "fit").click()
    wait_until_drawn(page)
    assert views(page) == start


def drag(page: "Page") -> None:
    box = part(page, "left").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 170, steps=4)
    page.mouse.up()


def wheel(page: "Page") -> None:
    box = part(page, "right").bounding_box()
    page.mouse.move(box["x"] + 150, box["y"] + 150)
    page.mouse.wheel(0, -300)


def test_a_clicked_pixel_shows_its_series_and_its_bands(
    page: "Page", pixel: tuple[int, int], screenshot: Screenshot
) -> None:
    choose_pixel(page, *pixel)
    assert part(page, "place").inner_text().startswith(f"Row {pixel[0]}, column {pixel[1]} (")
    series = part(page, "series")
    assert series.locator("polyline.value").count() == 3
    assert series.locator("polygon.interval").count() == 3
    part(page, "chips").get_by_role("button", name="dimension 5").click()
    assert series.locator("polyline.value").count() == 4
    titles = part(page, "decoded").locator(".decoded").all_inner_texts()
    assert [title.split("\n")[0] for title in titles] == ["Sentinel-2 L2A, reflectance", "Sentinel-1, dB"]
    assert part(page, "decoded").locator("svg .interval").count() == 12
    assert saved_state(page)["pixel"] == f"{pixel[0]},{pixel[1]}"
    screenshot(page, "earth-pixel")


def test_the_keyboard_alone_chooses_a_pixel(page: "Page") -> None:
    part(page, "left").focus()
    for key in ("+", "+", "ArrowLeft", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    part(page, "series").locator("svg").wait_for()
    x, y, _ = map(float, views(page)[0].split())
    assert part(page, "place").inner_text().startswith(f"Row {int(y)}, column {int(x)} (")


def test_a_click_in_the_series_chooses_the_date(page: "Page", pixel: tuple[int, int]) -> None:
    choose_pixel(page, *pixel)
    chart = part(page, "series").locator("svg")
    box = chart.bounding_box()
    chart.click(position={"x": box["width"] - 8, "y": 60})
    assert part(page, "later").is_disabled()


def test_similarity_is_to_the_chosen_pixel(page: "Page", pixel: tuple[int, int], screenshot: Screenshot) -> None:
    page.get_by_role("radio", name="Similarity").check()
    assert part(page, "right-caption").inner_text() == "Similarity: click a pixel to compare with"
    choose_pixel(page, *pixel)
    wait_until_drawn(page)
    assert part(page, "right-caption").inner_text() == f"Similarity to row {pixel[0]}, column {pixel[1]} over all dates"
    painted = opaque_in(page, "right")
    assert painted.mean() > 0.2
    assert "1: the same on all dates" in part(page, "legend").inner_text()
    screenshot(page, "earth-similarity")


def test_quality_has_a_legend_with_labels(page: "Page", screenshot: Screenshot) -> None:
    page.get_by_role("radio", name="Quality").check()
    wait_until_drawn(page)
    assert "cloud or its shadow" in part(page, "legend").inner_text()
    assert opaque_in(page, "right").sum() > opaque_in(page, "left").sum()
    screenshot(page, "earth-quality")


def test_a_reload_restores_the_page_and_another_page_has_its_own_state(
    page: "Page", open_page: OpenPage, address: str, pixel: tuple[int, int]
) -> None:
    part(page, "date").fill("5")
    choose_pixel(page, *pixel)
    page.get_by_role("radio", name="Quality").check()
    part(page, "in").click()
    before = saved_state(page)
    page.reload()
    wait_until_drawn(page)
    part(page, "series").locator("svg").wait_for()
    assert saved_state(page) == before
    assert before["layer"] == "quality"
    assert page.get_by_role("radio", name="Quality").is_checked()
    other = open_page(f"{address}/#store=fields.zarr")
    wait_until_drawn(other)
    assert "pixel" not in saved_state(other)
    assert saved_state(other)["layer"] == "components"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../fields.zarr", "expected the name of something in the workspace"),
        ("text.zarr", "text.zarr: not a readable Zarr store"),
        ("broken.zarr", "the store could not be read"),
        ("<img src=x onerror=alert(1)>", "no such store"),
    ],
)
def test_a_bad_store_is_one_line_and_the_page_still_works(
    open_page: OpenPage, address: str, name: str, words: str
) -> None:
    page = open_page(address)
    page.goto("about:blank")
    page.goto(f"{address}/#store={name}")
    status = part(page, "status")
    page.wait_for_function("document.querySelector('[data-part=status]')?.classList.contains('error')")
    assert words in status.inner_text()
    assert "\n" not in status.inner_text()
    assert page.locator("img[src='x']").count() == 0
    part(page, "store").select_option("fields.zarr")
    wait_until_drawn(page)
    assert status.inner_text().startswith("Thalweg embeddings of")


def test_text_in_a_store_is_text_in_the_page(
    open_page: OpenPage, address: str, workspace: Workspace, store: Path
) -> None:
    import shutil

    named = workspace.folder / "named.zarr"
    shutil.copytree(store, named)
    try:
        metadata = named / "zarr.json"
        metadata.write_text(metadata.read_text().replace("Thalweg embeddings of", "<b class=sly>of</b>"))
        page = open_page(f"{address}/#store=named.zarr")
        wait_until_drawn(page)
        assert part(page, "status").inner_text().startswith("<b class=sly>of</b>")
        assert page.locator("b.sly").count() == 0
    finally:
        shutil.rmtree(named)


def test_a_counterfactual_shows_before_and_after(page: "Page", pixel: tuple[int, int], screenshot: Screenshot) -> None:
    choose_pixel(page, *pixel)
    part(page, "target").fill("ndvi+0.1")
    page.get_by_role("button", name="Find the minimal perturbation").click()
    part(page, "answer").locator("img").wait_for(timeout=60_000)
    assert part(page, "answer").locator("p").inner_text()
    screenshot(page, "earth-whatif")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(
    open_page: OpenPage, address: str, pixel: tuple[int, int], theme: str, screenshot: Screenshot
) -> None:
    page = open_page(f"{address}/?__theme={theme}#store=fields.zarr&pixel={pixel[0]},{pixel[1]}")
    wait_until_drawn(page)
    part(page, "decoded").locator("svg").first.wait_for()
    body = colour(part(page, "status").evaluate(BACKGROUND))
    for name in ("status", "left-caption", "date-label", "place"):
        words = colour(part(page, name).evaluate("node => getComputedStyle(node).color"))
        assert contrast(words, body) > 4.5, name
    screenshot(page, f"earth-{theme}")


BACKGROUND = """node => {
    const painted = (of) => getComputedStyle(of).backgroundColor;
    while (node.parentElement && /, 0\\)$/.test(painted(node))) node = node.parentElement;
    return painted(node);
}"""
"""Script that returns the colour of the nearest opaque background of an element."""


def colour(css: str) -> np.ndarray:
    return np.array([float(number) for number in re.findall(r"[\d.]+", css)[:3]]) / 255


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """The contrast ratio of WCAG 2.2 (relative luminance)."""

    def luminance(rgb: np.ndarray) -> float:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_control_has_a_name(page: "Page", pixel: tuple[int, int]) -> None:
    choose_pixel(page, *pixel)
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("#thalweg-earth :is(button, select, input, canvas)")].filter(
            (node) => !(node.getAttribute("aria-label") || node.innerText || (node.labels && node.labels.length))
        ).map((node) => node.outerHTML)"""
    )
    assert unnamed == []


def test_a_narrow_screen_puts_the_maps_below_each_other(open_page: OpenPage, address: str) -> None:
    page = open_page(f"{address}/#store=fields.zarr", width=420, height=900)
    wait_until_drawn(page)
    left, right = (part(page, name).bounding_box() for name in ("left", "right"))
    assert right["y"] >= left["y"] + left["height"]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
