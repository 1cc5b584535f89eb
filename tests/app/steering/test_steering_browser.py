"""The three tools from prompt to exported file, by clicks and keys in a real browser."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from thalweg.diffusion import miniature
from thalweg.embedding import Embedding
from thalweg.steer.sheets import FONT_SIZE

if TYPE_CHECKING:
    from conftest import App
    from playwright.sync_api import Page

FEW = ("--steps", 4)
LABEL_AS_WRITTEN, LABEL_ON_A_PHONE = 14, 11
"""Smallest size, pixels, at which labels of a sheet are shown."""
LATE_END = """
const fetchFirst = window.fetch;
window.fetch = async (...request) => {
  const response = await fetchFirst(...request);
  if (!response.url.includes("/queue/data")) return response;
  const late = new TransformStream({ async transform(chunk, stream) {
    if (new TextDecoder().decode(chunk).includes("close_stream")) await new Promise((go) => setTimeout(go, 1000));
    stream.enqueue(chunk);
  }});
  return new Response(response.body.pipeThrough(late), response);
};
"""
"""Brings the end of each of Gradio's streams a second late, as a slow network may."""


@pytest.fixture
def page(app: "App", open_page: Callable) -> "Page":
    page = open_page(app.url, height=1000)
    page.wait_for_selector("#navigate-start")
    return page


def status(page: "Page", view: str, text: str) -> str:
    """Wait until a view's status line holds `text`, or is empty where that is, and return the line."""
    page.wait_for_function(
        """([view, text]) => { const said = document.querySelector(`#${view} .tw-status`)?.innerText;
           return said !== undefined && (text ? said.includes(text) : said === ''); }""",
        arg=[view, text],
    )
    return page.inner_text(f"#{view} .tw-status")


def start(page: "Page", prompt: str = "a ball", seeds: str = "0") -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_label("Seeds, such as").fill(seeds)
    page.click("#navigate-start")
    all_found(page, 0)


def all_found(page: "Page", node: int) -> None:
    page.wait_for_function(
        "node => document.querySelector('.tw-current figcaption')?.innerText.startsWith(`Now: node ${node}`)"
        " && document.querySelectorAll('[data-action=choose]').length === 5",
        arg=node,
    )
    status(page, "navigate-view", "")


def open_run(page: "Page", tool: str, name: str) -> None:
    """Type the name of a run and open it."""
    page.fill(f"#{tool}-runs input", name)
    page.keyboard.press("Tab")
    page.click(f"#{tool}-open")


def step_reached(page: "Page", least: int) -> None:
    """Wait until an optimisation shows step `least` or a later one: a quick step may be gone before it is painted."""
    page.wait_for_function(
        """least => { const image = document.querySelector('#optimize-view [role=img][aria-label^="step"]');
           return image !== null && parseInt(image.ariaLabel.slice(5)) >= least; }""",
        arg=least,
    )


def labels_can_be_read(page: "Page", view: str, count: int, smallest: int) -> None:
    """Show that all images of a sheet are within the window, as whole as on it, with labels of at least a size."""
    shown = page.evaluate(
        """view => [...document.querySelectorAll(`#${view} .tw-tile`)].map((tile) => {
            const { left, right, width, height } = tile.getBoundingClientRect();
            const place = tile.viewBox.baseVal;
            return { left, right, width, height, scale: width / place.width, aspect: place.width / place.height };
        })""",
        view,
    )
    assert len(shown) == count
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    inner = page.evaluate("window.innerWidth")
    for tile in shown:
        assert tile["left"] >= 0 and tile["right"] <= inner
        assert tile["width"] / tile["height"] == pytest.approx(tile["aspect"], rel=0.02)
        assert FONT_SIZE * tile["scale"] >= smallest
    tops = page.locator(f"#{view} .tw-tiles").evaluate_all("groups => groups.map((one) => one.offsetTop)")
    assert tops.count(tops[0]) >= 2, "images are next to each other where two fit"


def run_of(page: "Page", app: "App", view: str) -> Path:
    return app.folder / page.inner_text(f"#{view} code >> nth=0")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def save(page: "Page", tool: str, name: str) -> None:
    page.fill(f"#{tool}-save-as textarea, #{tool}-save-as input", name)
    page.click(f"#{tool}-save")
    status(page, f"{tool}-view", f"Saved {name}.safetensors")


def test_navigate_from_prompt_to_an_exported_file(
    page: "Page", app: "App", cli: Callable, screenshot: Callable, tmp_path: Path
) -> None:
    start(page)
    page.keyboard.press("2")
    all_found(page, 1)
    page.click('[data-action="choose"][data-value="0"]')
    all_found(page, 2)
    page.keyboard.press("z")
    all_found(page, 1)
    page.keyboard.press("0")
    all_found(page, 3)
    page.get_by_label("number input for Strength of a choice").fill("0.5")
    page.keyboard.press("Tab")
    page.click('[data-action="choose"][data-value="4"]')
    all_found(page, 4)
    page.click("#navigate-fork")
    all_found(page, 5)
    page.click('g[data-action="go"][data-value="2"]')
    all_found(page, 2)
    page.get_by_label("Name of this node").fill("<b>good</b>")
    page.click("#navigate-give-name")
    page.wait_for_function("document.querySelector('.tw-current figcaption').innerText.endsWith('<b>good</b>')")
    page.get_by_label("Show this choice on seeds").fill("10,11")
    page.click("#navigate-show")
    page.wait_for_selector('.tw-strip img[alt="seed 11"]')
    status(page, "navigate-view", "")
    assert page.locator(".tw-tree g").count() == 6
    assert page.locator("img:not([alt])").count() == 0
    screenshot(page, "navigate")

    save(page, "navigate", "good-ball")
    run = run_of(page, app, "navigate-view")
    record = json.loads((run / "tree.json").read_text())
    kinds = [node["choice"]["kind"] for node in record["nodes"]]
    assert kinds == ["start", "choose", "choose", "none", "choose", "fork"]
    assert record["nodes"][4]["choice"]["strength"] == 0.5
    assert record["names"] == {"2": "<b>good</b>"}
    assert cli("generate", app.folder / "good-ball.safetensors", tmp_path / "out", "--seeds", "0", *FEW).code == 0
    assert np.array_equal(pixels(tmp_path / "out/seed-0.png"), pixels(run / "rounds/002/current.png"))
    with page.expect_download() as download:
        page.click("text=Download node 2")
    assert Path(download.value.path()).read_bytes() == (run / "nodes/002.safetensors").read_bytes()


def test_a_reload_keeps_the_tree_and_two_browsers_do_not_mix(app: "App", open_page: Callable) -> None:
    mine, other = open_page(app.url), open_page(app.url)
    start(mine, "a red ball")
    mine.keyboard.press("1")
    all_found(mine, 1)
    assert other.locator(".tw-current").count() == 0
    start(other, "a blue cube")
    mine.reload()
    mine.wait_for_selector(".tw-tree")
    all_found(mine, 1)
    assert mine.locator(".tw-tree g").count() == 2
    assert mine.get_by_label("Prompt").input_value() == "a red ball"
    assert other.locator(".tw-tree g").count() == 1

    run = run_of(mine, app, "navigate-view")
    image = f"{app.url}/runs/{run.name}/rounds/000/current.png"
    assert mine.request.get(image).status == 200
    assert other.request.get(image).status == 404
    assert mine.request.get(f"{app.url}/runs/{run.name}/person.txt").status == 404
    assert mine.request.get(f"{app.url}/runs/{run.name}/..%2f..%2fsecret.png").status == 404
    open_run(other, "navigate", run.name)
    status(other, "navigate-view", "expected the name of a run of yours")
    mine.click("#navigate-start")
    all_found(mine, 0)
    assert run_of(mine, app, "navigate-view").name.startswith("a-red-ball-")


def test_a_response_whose_stream_has_ended_still_arrives(app: "App", open_page: Callable) -> None:
    page = open_page("about:blank")
    page.add_init_script(LATE_END)
    page.goto(app.url)
    page.wait_for_selector("#navigate-start")
    for name in ("no-run", "neither"):
        with page.expect_response("**/queue/data*"):
            page.focus("#navigate-runs input")
        open_run(page, "navigate", name)
        status(page, "navigate-view", f"expected the name of a run of yours in the workspace, got '{name}'")


def test_the_command_line_and_the_app_resume_each_others_navigations(
    page: "Page", app: "App", cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(page, "a cone")
    page.keyboard.press("3")
    all_found(page, 1)
    run = run_of(page, app, "navigate-view")
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n"))
    assert cli("steer", "resume", run, "--candidates", 2).code == 0
    assert len(json.loads((run / "tree.json").read_text())["nodes"]) == 3

    monkeypatch.setattr("sys.stdin", io.StringIO("2\n"))
    assert cli("steer", "navigate", "a ring", app.folder / "made-before", "--candidates", 2, *FEW).code == 0
    page.click("#navigate-runs input")  # with the focus the list is requested again
    page.get_by_role("option", name="made-before", exact=True).click()
    page.click("#navigate-open")
    all_found(page, 1)
    assert page.locator(".tw-tree g").count() == 2


def test_a_run_with_other_sampling_settings_is_not_resumed(page: "Page", app: "App", cli: Callable) -> None:
    arguments = ("--metric", "contrast", "--seeds", 0, "--unseen", 1, "--iterations", 1)
    assert cli("steer", "optimize", "a ring", app.folder / "finer", *arguments, "--steps", 5).code == 0
    assert cli("steer", "optimize", "a ring", app.folder / "same", *arguments, *FEW).code == 0
    page.get_by_role("tab", name="Optimise").click()
    for name, message in (("finer", "with steps 5, this app renders with steps 4"), ("same", "")):
        open_run(page, "optimize", name)
        status(page, "optimize-view", message)
    assert page.locator("#optimize-view .tw-chart").count() == 1
    assert not (app.folder / "finer" / "person.txt").exists()


def test_what_must_stay_is_the_prompt_until_it_is_edited(page: "Page", app: "App", screenshot: Callable) -> None:
    def must_stay(text: str) -> None:
        page.wait_for_function(
            "text => document.querySelector('#optimize-keep textarea, #optimize-keep input')?.value === text", arg=text
        )

    prompt = page.get_by_label("Prompt")
    page.get_by_role("tab", name="Optimise").click()
    must_stay("a ball")
    prompt.press_sequentially(" on snow")
    must_stay("a ball on snow")
    prompt.fill("ball.safetensors")
    must_stay("")
    prompt.fill("a red ball")
    must_stay("a red ball")
    page.get_by_label("number input for Steps").fill("1")
    page.keyboard.press("Tab")
    page.click("#optimize-start")
    step_reached(page, 1)
    status(page, "optimize-view", "")
    screenshot(page, "must-stay")
    run = run_of(page, app, "optimize-view")
    assert json.loads((run / "run.json").read_text())["settings"]["keep"] == 'text: "a red ball"'
    page.get_by_label("Must stay").fill("a ball")
    prompt.fill("a blue ball")
    page.wait_for_timeout(500)
    must_stay("a ball")


def test_optimize_shows_each_step_stops_resumes_and_exports(
    page: "Page", app: "App", cli: Callable, screenshot: Callable, tmp_path: Path
) -> None:
    page.get_by_label("Seeds, such as").fill("0,1")
    page.get_by_role("tab", name="Optimise").click()
    page.get_by_label("number input for Steps").fill("100")
    page.keyboard.press("Tab")
    page.click("#optimize-start")
    step_reached(page, 2)
    page.click("#optimize-stop")
    status(page, "optimize-view", "Stopped.")
    run = run_of(page, app, "optimize-view")
    steps = len((run / "trace.csv").read_text().splitlines()) - 1
    assert 3 <= steps < 101
    page.wait_for_selector('#optimize-view [role=img][aria-label="after, seed 1"]')
    screenshot(page, "optimise")
    save(page, "optimize", "sharp-ball")
    best = Embedding.load(run / "best.safetensors")
    assert Embedding.load(app.folder / "sharp-ball.safetensors").hash == best.hash
    below = pixels(run / "before-after.png")[-212:-20:3, :192:3].astype(int)
    page.click("#optimize-resume")
    step_reached(page, steps + 1)
    page.click("#optimize-stop")
    status(page, "optimize-view", "Stopped.")
    page.reload()
    page.get_by_role("tab", name="Optimise").click()
    page.wait_for_selector("#optimize-view .tw-chart")
    assert cli("generate", app.folder / "sharp-ball.safetensors", tmp_path / "out", "--seeds", "0,1", *FEW).code == 0
    assert np.abs(below - pixels(tmp_path / "out/seed-0.png")).max() <= 1  # rendered in another batch


def test_an_optimization_ends_with_its_score_on_unseen_seeds_and_the_command_line_agrees(
    page: "Page", app: "App", cli: Callable
) -> None:
    page.get_by_role("tab", name="Optimise").click()
    page.get_by_label("Metric").click()
    page.get_by_role("option", name="text").click()
    page.get_by_label("of (text").first.fill('a red ball" + image: "/etc/passwd')
    page.get_by_label("number input for Steps").fill("1")
    page.keyboard.press("Tab")
    page.click("#optimize-start")
    page.wait_for_selector("text=On unseen seeds")
    run = run_of(page, app, "optimize-view")
    assert (
        json.loads((run / "run.json").read_text())["settings"]["metric"] == 'text: "a red ball  + image:  /etc/passwd"'
    )
    best = Embedding.load(run / "best.safetensors").hash
    assert cli("steer", "resume", run).code == 0
    assert Embedding.load(run / "best.safetensors").hash == best


def test_imprint_from_a_click_to_unseen_seeds_and_a_file(page: "Page", app: "App", screenshot: Callable) -> None:
    page.get_by_role("tab", name="Imprint").click()
    page.click("#imprint-start")
    status(page, "imprint-view", "render some and click one")
    page.get_by_label("Seeds to select from").fill("0-3")
    page.click("#imprint-render")
    page.click('#imprint-gallery [data-value="3"]')
    page.wait_for_selector('#imprint-gallery [data-value="3"][aria-pressed="true"]')
    page.locator("#imprint-steps").get_by_role("spinbutton").fill("2")
    page.keyboard.press("Tab")
    page.click("#imprint-start")
    page.wait_for_selector("#imprint-view >> text=of unseen seeds before")
    screenshot(page, "imprint")
    run = run_of(page, app, "imprint-view")
    assert (
        page.get_by_role("link", name="open the sheet").get_attribute("href").startswith(f"runs/{run.name}/sheet.png")
    )
    for width, narrowest in ((1280, LABEL_AS_WRITTEN), (1600, LABEL_AS_WRITTEN), (400, LABEL_ON_A_PHONE)):
        page.set_viewport_size({"width": width, "height": 900})
        labels_can_be_read(page, "imprint-view", 2 * 9, narrowest)
    assert json.loads((run / "run.json").read_text())["settings"]["keep"] == "the colour"
    save(page, "imprint", "red-from-seed-3")
    assert Embedding.load(app.folder / "red-from-seed-3.safetensors").lineage.operation == "imprint"


def test_a_navigation_starts_from_an_uploaded_embedding(page: "Page", app: "App", tmp_path: Path) -> None:
    generator = miniature.load()
    embedding = generator.embed("a teal ring")
    embedding.save(tmp_path / "mine.safetensors")
    page.set_input_files("#upload input, input[type=file]", tmp_path / "mine.safetensors")
    page.wait_for_function("document.querySelector('#prompt textarea, #prompt input').value.startsWith('upload-')")
    page.click("#navigate-start")
    all_found(page, 0)
    run = run_of(page, app, "navigate-view")
    assert Embedding.load(run / "nodes/000.safetensors").hash == embedding.hash


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "got nothing"),
        ("../secret.safetensors", "in the workspace"),
        ("/etc/secret.safetensors", "in the workspace"),
        ("weights.pt", "pickles"),
        ("absent.safetensors", "found none"),
    ],
)
def test_an_invalid_start_raises_one_line_error(page: "Page", prompt: str, said: str) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.click("#navigate-start")
    line = status(page, "navigate-view", said)
    assert "\n" not in line
    assert page.locator(".tw-current").count() == 0


def test_a_failed_job_shows_its_reason_and_the_app_works_on(page: "Page", app: "App") -> None:
    whole = miniature.load().embed("a ball")
    broken = whole.derive({name: torch.full_like(each, torch.nan) for name, each in whole.floating.items()}, "embed")
    path = whole.save(app.folder / "broken.safetensors")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(broken.tensors, path, {**metadata, "hash": broken.hash})  # as another program may write it
    page.get_by_label("Prompt").fill("broken.safetensors")
    page.click("#navigate-start")
    line = status(page, "navigate-view", "NaN or infinity")
    assert "\n" not in line and "Traceback" not in line
    start(page)
    assert page.locator(".tw-problem").count() == 0


@pytest.mark.parametrize("path", ["/etc/passwd", "{folder}/secret.safetensors", "{folder}/../secret.safetensors"])
def test_no_route_leads_to_other_files(page: "Page", app: "App", path: str) -> None:
    (app.folder / "secret.safetensors").write_text("confidential")
    (app.folder.parent / "secret.safetensors").write_text("confidential")
    for route in ("gradio_api/file=", "file=", "gradio_api/proxy=", "runs/", "static/", "assets/"):
        answer = page.request.get(f"{app.url}/{route}{path.format(folder=app.folder)}")
        assert answer.status >= 400, route
        assert b"confidential" not in answer.body() and b"root:" not in answer.body()


def test_uploads_are_limited_in_size_and_kind(app: "App", page: "Page", tmp_path: Path) -> None:
    upload = f"{app.url}/gradio_api/upload"
    large = {"files": {"name": "x.safetensors", "mimeType": "application/octet-stream", "buffer": b"0" * 21_000_000}}
    assert page.request.post(upload, multipart=large, headers={"Origin": app.url}).status == 413
    (tmp_path / "x.safetensors").write_bytes(b"no such thing")
    page.set_input_files("#upload input, input[type=file]", tmp_path / "x.safetensors")
    page.wait_for_selector("text=is not a whole safetensors file")
