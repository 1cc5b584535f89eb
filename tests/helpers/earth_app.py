"""Earth tab and its routes, served alone."""

from typing import Any

from thalweg.app.workspace import Workspace


def earth_app(workspace: Workspace) -> Any:
    """Return the Earth tab and its routes as an app, with the guards of the whole app."""
    import gradio as gr
    from fastapi import FastAPI

    from thalweg.app.earth import earth_router, earth_tab
    from thalweg.app.security.auth import add_guards
    from thalweg.app.security.uploads import Uploads

    app = FastAPI()
    add_guards(app, "127.0.0.1", None)
    app.include_router(earth_router(workspace, Uploads()))
    with gr.Blocks(title="Thalweg") as blocks:
        earth_tab(workspace)
    return gr.mount_gradio_app(app, blocks, path="/")


def wait_until_drawn(page: Any) -> None:
    """Wait until both maps have drawn all tiles in view."""
    page.wait_for_function(
        """() => ["left", "right"].every((name) =>
            document.querySelector(`[data-part="${name}"]`)?.dataset.ready === "true")"""
    )


def choose_pixel(page: Any, row: int, column: int) -> None:
    """Click a pixel in the left map, where it is in view, and wait for its series and bands."""
    canvas = page.locator('[data-part="left"]')
    box = canvas.bounding_box()
    x, y, zoom = map(float, canvas.get_attribute("data-view").split())
    left = box["width"] / 2 + (column + 0.5 - x) * zoom
    top = box["height"] / 2 + (row + 0.5 - y) * zoom
    canvas.click(position={"x": left, "y": top})
    page.locator('[data-part="series"] svg').wait_for()
    page.wait_for_function("document.querySelector('[data-part=decoded]').children.length > 0")
