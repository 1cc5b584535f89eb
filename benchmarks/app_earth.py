"""Time from a click on a pixel of the Earth tab until its series is drawn, in a real browser.

`app_latency.py` opens the page and calls `measure_pixel_click`.
"""

import random
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

_WATCH = """() => {
    const part = (name) => document.querySelector(`[data-part="${name}"]`);
    window.seriesDrawn = new Promise((drawn) => {
        let clicked;
        const click = () => { clicked = performance.now(); };
        part("left").addEventListener("pointerup", click, { once: true, capture: true });
        const watcher = new MutationObserver(() => {
            if (clicked === undefined) return;
            watcher.disconnect();
            requestAnimationFrame(() => setTimeout(() => drawn(performance.now() - clicked)));
        });
        watcher.observe(part("series"), { childList: true });
    });
}"""


def measure_pixel_click(page: "Page", clicks: int = 20, seed: int = 0) -> float:
    """Return the median time in ms from a click on a pixel of the left map to its series being painted.

    Args:
        page: a page that shows the Earth tab with a store open.
        clicks: number of different pixels that are clicked, after a first one that is not counted.
        seed: seed of the choice of pixels.
    """
    page.wait_for_selector('[data-part="left"][data-ready="true"]')
    canvas = page.locator('[data-part="left"]')
    box = canvas.bounding_box()
    view = canvas.get_attribute("data-view")
    assert box is not None and view is not None
    x, y, zoom = map(float, view.split())
    rows, columns = page.evaluate(
        "async () => { const name = document.querySelector('[data-part=store]').value;"
        " const store = await (await fetch('earth/store?store=' + encodeURIComponent(name))).json();"
        " return [store.rows, store.columns]; }"
    )
    half = box["width"] / 2 / zoom, box["height"] / 2 / zoom
    in_view = [
        (row, column)
        for row in range(max(0, int(y - half[1]) + 1), min(rows, int(y + half[1])))
        for column in range(max(0, int(x - half[0]) + 1), min(columns, int(x + half[0])))
    ]
    took = []
    for row, column in random.Random(seed).sample(in_view, clicks + 1):
        page.evaluate(_WATCH)
        left = box["width"] / 2 + (column + 0.5 - x) * zoom
        canvas.click(position={"x": left, "y": box["height"] / 2 + (row + 0.5 - y) * zoom})
        took.append(page.evaluate("window.seriesDrawn"))
    return statistics.median(took[1:])
