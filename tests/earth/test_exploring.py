"""The accessor's summary, figure and widget; the widget's page runs in a real browser if there is one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

import thalweg
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import UsageError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SCRIPT = Path(thalweg.__file__).parent / "earth" / "explore.js"


@pytest.fixture(scope="module")
def embedded(cube: Cube, model: EarthModel) -> xr.Dataset:
    return embed(cube, model)


def test_the_summary_fits_one_screen_and_names_place_dates_and_methods(embedded: xr.Dataset) -> None:
    text = repr(embedded.thalweg)
    assert len(text.splitlines()) <= 20
    assert max(map(len, text.splitlines())) <= 120
    days = embedded.time.values.astype("datetime64[D]")
    for words in (
        embedded.attrs["thalweg:model"],
        "32 x 32 px of 10 m, 0.32 x 0.32 km, EPSG:32631",
        f"{len(days)}, {days[0]} to {days[-1]}; {len(days)} observed",
        "7 dimensions",
        "uncertainty",
    ):
        assert words in text
    for method in ("at", "window", "plot", "explore", "decode", "similar", "pca", "cluster", "change"):
        assert f"{method}(" in text and hasattr(embedded.thalweg, method)


def test_the_summary_of_a_part(embedded: xr.Dataset) -> None:
    assert "a part without rows and columns" in repr(embedded.isel(y=3, x=4).thalweg)
    assert f"1, {str(embedded.time.values[2])[:10]}; 1 observed" in repr(embedded.isel(time=2).thalweg)


def test_the_figure_of_a_date(embedded: xr.Dataset, tmp_path: Path) -> None:
    day = str(embedded.time.values[3])[:10]
    figure = embedded.thalweg.plot(day)
    assert figure.axes[0].get_title().startswith(day)
    with pytest.raises(UsageError, match="within 3 days of 2031-01-01"):
        embedded.thalweg.plot("2031-01-01")


def test_the_accessor_clusters_and_compares(embedded: xr.Dataset, model: EarthModel) -> None:
    found = embedded.thalweg.cluster(4, model=model)
    assert found.cluster.dims == ("y", "x") and set(np.unique(found.cluster)) == {0, 1, 2, 3, 4}
    assert (found.cluster.values == 0)[:3, :3].all()
    assert int(found.pixels.sum()) == (found.cluster.values > 0).sum()
    assert found.spectrum.sel(band="B08").sizes == {"number": 4}
    compared = embedded.thalweg.change("2018-01/2018-05", "2018-06/2018-10", model=model)
    assert compared.magnitude.dims == ("y", "x") and compared.rio.crs.to_epsg() == 32631
    assert np.isnan(compared.p_value.values[:3, :3]).all()


def test_the_widget_draws_dates_and_reads_pixels(embedded: xr.Dataset) -> None:
    pytest.importorskip("anywidget", reason="the extra explore is not installed")
    widget = embedded.thalweg.explore()
    assert len(widget.days) == embedded.sizes["time"]
    first = widget.image
    assert first.startswith(b"\x89PNG")
    widget.kind = "components"
    assert widget.image != first
    widget.pixel = [12, 20]
    known = np.isfinite(embedded.embeddings.values[:, 0, 12, 20])
    assert widget.series["indices"] == np.flatnonzero(known).tolist()
    np.testing.assert_allclose(widget.series["lines"], embedded.embeddings.values[known, :, 12, 20].T, atol=1e-4)
    widget.pixel = [1, 1]  # never seen
    assert widget.series["indices"] == []
    widget.index = 10_000
    assert widget.index == embedded.sizes["time"] - 1


def test_a_missing_extra_raises_one_line_error(embedded: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(UsageError, match=r"explore needs anywidget, which is not installed: pip install") as caught:
        embedded.thalweg.explore()
    assert "\n" not in str(caught.value)


PAGE = """
<div id="here"></div>
<script type="module">
import widget from "./explore.js";
const state = {title: "T", days: ["2018-01-01", "2018-02-01", "2018-03-01"], step: 2, index: 0, kind: "preview",
               image: new Uint8Array(IMAGE), pixel: [], series: {}};
const listeners = {};
window.state = state;
const model = {
  get: (name) => state[name],
  set: (name, value) => { state[name] = value; },
  on: (name, call) => (listeners[name] ??= []).push(call),
  save_changes: () => {
    if (state.pixel.length) state.series = {indices: [0, 2], lines: [[0, 1], [2, 1]]};
    for (const calls of Object.values(listeners)) for (const call of calls) call();
  },
};
widget.render({model, el: document.getElementById("here")});
</script>
"""


def test_the_page_of_the_widget_shows_dates_and_reports_clicks(embedded: xr.Dataset, browser: "Browser") -> None:
    pytest.importorskip("anywidget", reason="the extra explore is not installed")
    image = list(embedded.thalweg.explore().image)
    files = {
        "/": ("text/html", PAGE.replace("IMAGE", str(image))),
        "/explore.js": ("text/javascript", SCRIPT.read_text("utf-8")),
    }

    def serve(route: Any) -> None:
        kind, body = files["/" + route.request.url.rpartition("/")[2]]
        route.fulfill(status=200, content_type=kind, body=body)

    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route("**/*", serve)
    page.goto("http://widget.test/")
    page.wait_for_function("document.querySelector('img')?.naturalWidth === 32")
    assert "click a pixel" in page.text_content("svg")
    page.locator("img").click(position={"x": 420 * 20.5 / 32, "y": 420 * 12.5 / 32})
    assert page.evaluate("state.pixel") == [24, 40]  # every second pixel is shown
    assert page.locator("polyline").count() == 2
    page.locator("select").select_option("components")
    assert page.evaluate("state.kind") == "components"
    page.locator("input").fill("2")
    page.locator("input").dispatch_event("change")
    assert page.evaluate("state.index") == 2
    assert "2018-03-01" in page.text_content("span")
    assert errors == []
    page.close()
