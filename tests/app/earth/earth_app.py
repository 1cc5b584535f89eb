"""The Earth tab and its routes served by themselves."""

from typing import Any

from thalweg.app.workspace import Workspace


def earth_app(workspace: Workspace) -> Any:
    """The Earth tab and its routes as an app of their own, guarded as the whole app is."""
    import gradio as gr
    from fastapi import FastAPI

    from thalweg.app.earth import earth_router, earth_tab
    from thalweg.app.guard import add_guards

    app = FastAPI()
    add_guards(app, "127.0.0.1", None)
    app.include_router(earth_router(workspace))
    with gr.Blocks(title="Thalweg") as blocks:
        earth_tab(workspace)
    return gr.mount_gradio_app(app, blocks, path="/")
