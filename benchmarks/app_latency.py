"""Waiting times in the browser.

The app runs with its defaults on the shipped miniature. Chromium opens it, starts a navigation and makes choices by
key. Between choices the same model renders one image without the app: one plain generation.

first_candidate_s: median seconds from the key that chooses to the first new candidate on the screen.
five_candidates_s: median seconds from the key to the fifth candidate.
generation_s: median seconds of one plain generation.
ratio_first, ratio_five: first_candidate_s and five_candidates_s over generation_s.
start_s, ratio_start: from pressing Start to the image of the prompt; ratio_start_first: to the first candidate.
pixel_click_ms: median from a click on a pixel of an embedding store to its series on the screen (see app_earth.py).
"""

import socket
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import uvicorn
from playwright.sync_api import sync_playwright

from app_earth import measure_pixel_click
from common import parser, report
from thalweg.app.server import create_app
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.simulate import simulate

if TYPE_CHECKING:
    from playwright.sync_api import Page

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
CANDIDATES = 5


def serve(app: Any, until: ExitStack) -> str:
    """Serve an app on a free port until the stack is closed; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()

    until.callback(stop)
    while not server.started:
        time.sleep(0.02)
    return f"http://127.0.0.1:{port}"


def seconds_until(page: "Page", script: str, argument: Any) -> float:
    """Return the seconds until a condition holds in the page, checked at every frame."""
    began = time.perf_counter()
    page.wait_for_function(script, arg=argument, polling="raf", timeout=120_000)
    return time.perf_counter() - began


def wait_for_candidates(page: "Page", node: int, count: int) -> float:
    """Return the seconds until `count` candidates of a node are shown, their images loaded."""
    return seconds_until(
        page,
        """([node, count]) => {
            const now = document.querySelector('.tw-current figcaption')?.innerText ?? '';
            const images = [...document.querySelectorAll('[data-action=choose] img')];
            const shown = images.filter(image => image.naturalWidth);
            return now.startsWith(`Now: node ${node}`) && shown.length >= count;
        }""",
        [node, count],
    )


def main() -> None:
    """Measure and report."""
    arguments = parser(__doc__)
    arguments.add_argument("--choices", type=int, default=8, help="choices to make")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    config = ModelConfig(gradient="full")
    generator = config.load()
    embedding = generator.embed("a ball")
    first, five, plain = [], [], []
    with ExitStack() as until:
        folder = Path(until.enter_context(tempfile.TemporaryDirectory()))
        landscape = simulate(seed=3, size=64, years=1)
        cube = Cube.open({"sentinel-2": landscape.sentinel2, "sentinel-1": landscape.sentinel1})
        embed_to_zarr(Job(cube, EarthModel.load()), folder / "fields.zarr")
        address = serve(create_app(Workspace(folder), config), until)
        chromium = until.enter_context(sync_playwright()).chromium
        browser = chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        until.callback(browser.close)
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#navigate-start")

        def generate() -> None:
            began = time.perf_counter()
            with torch.no_grad():
                generator.render(embedding, [0])
            plain.append(time.perf_counter() - began)

        generate()
        plain.clear()  # the first one warms up
        page.click("#navigate-start")
        start = seconds_until(page, "() => document.querySelector('.tw-current img')?.complete", None)
        start_first = start + wait_for_candidates(page, 0, 1)
        for number in range(given.choices):
            wait_for_candidates(page, number, CANDIDATES)
            seconds_until(page, "() => document.querySelector('.tw-status').innerText === ''", None)
            generate()
            page.keyboard.press(str(number % CANDIDATES + 1))
            began = time.perf_counter()
            wait_for_candidates(page, number + 1, 1)
            first.append(time.perf_counter() - began)
            wait_for_candidates(page, number + 1, CANDIDATES)
            five.append(time.perf_counter() - began)
        results: dict[str, Any] = {"generation_s": statistics.median(plain), "start_s": start}
        results |= {"first_candidate_s": statistics.median(first), "five_candidates_s": statistics.median(five)}
        page.close()
        page = browser.new_page()
        page.goto(f"{address}/#store=fields.zarr")
        page.get_by_role("tab", name="Earth").click()
        results["pixel_click_ms"] = measure_pixel_click(page)
    generation = results["generation_s"]
    results["ratio_first"] = results["first_candidate_s"] / generation
    results["ratio_five"] = results["five_candidates_s"] / generation
    results["ratio_start"] = start / generation
    results["ratio_start_first"] = start_first / generation
    report(results, given.json)


if __name__ == "__main__":
    main()
