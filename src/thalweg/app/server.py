"""`thalweg app`: one page behind guards, on one port."""

import functools
import socket

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse

from thalweg.app.earth import earth_router, earth_tab
from thalweg.app.guard import add_guards, check_host, person_of
from thalweg.app.jobs import JobQueue
from thalweg.app.steering.desk import Desks, Studio
from thalweg.app.steering.tabs import AT_ONCE, steering_tabs
from thalweg.app.steering.tabs import HERE as STEERING
from thalweg.app.workspace import Workspace
from thalweg.diffusion.choice import ModelChoice
from thalweg.embedding import SUFFIX
from thalweg.errors import ThalwegError, UsageError

UPLOAD_LIMIT = 20_000_000
"""Largest upload in bytes; the largest embedding known, of FLUX, has 4 MB."""
SERVED = (".png", ".csv", ".json", SUFFIX)
"""What the browser may fetch of a run."""
OPEN_STREAM_EVERY = 2.0
"""Seconds between the streams that the page opens for answers that found none."""


def create_app(
    workspace: Workspace,
    choice: ModelChoice,
    host: str = "127.0.0.1",
    token: str | None = None,
    upload_limit: int = UPLOAD_LIMIT,
) -> FastAPI:
    """Return the app, its model loaded.

    Args:
        workspace: the folder that it works in and reaches nothing beyond.
        choice: the text-to-image model.
        host: the address it will be bound to.
        token: what lets people in; needed beyond the loopback address.
        upload_limit: largest upload, bytes.

    Raises:
        UsageError: a host that others reach without a token, a model that can not be loaded.
    """
    check_host(host, token)
    load_scorer = functools.cache(choice.load_scorer)
    desks = Desks(Studio(workspace, JobQueue(), choice, choice.load(), load_scorer))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_guards(app, host, token)

    @app.get("/runs/{name}/{file:path}")
    def run_file(name: str, file: str, request: Request) -> FileResponse:
        try:
            folder = workspace.run(person_of(request.cookies), name)
            path = workspace.inside(f"{name}/{file}")
        except UsageError as error:
            raise HTTPException(404, str(error)) from error
        if path.suffix not in SERVED or not path.is_file() or not path.is_relative_to(folder):
            raise HTTPException(404, "expected the name of a picture, table or embedding of the run")
        return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})

    app.include_router(earth_router(workspace))
    return gr.mount_gradio_app(
        app,
        _page(desks),
        path="/",
        server_name=host,
        footer_links=[],
        run_history=False,
        max_file_size=upload_limit,
        css_paths=[STEERING / "steering.css"],
        head=f"<script>{(STEERING.parent / 'page.js').read_text()}</script>",
        show_error=True,
        ssr_mode=False,
    )


def bind(host: str, port: int) -> socket.socket:
    """Take a port, 0 for any that is free.

    Raises:
        ThalwegError: it is taken, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen(128)  # who comes before the model is loaded waits
    except (OSError, OverflowError) as error:
        taken.close()
        raise ThalwegError(f"can't bind to {host}:{port} ({error}): choose another --port or --host") from error
    return taken


def serve(app: FastAPI, taken: socket.socket) -> None:
    """Answer on a bound port until interrupted."""
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[taken])


def _page(desks: Desks) -> gr.Blocks:
    with gr.Blocks(title="Thalweg", analytics_enabled=False, fill_width=True) as page:
        # Gradio's browser side holds its stream of answers for open until the stream's end arrives. The answer to
        # what is asked in between waits for the next stream, so the page opens one now and then, whether or not the
        # last tick was answered.
        gr.Timer(OPEN_STREAM_EVERY).tick(lambda: None, **AT_ONCE)
        gr.Markdown("# Thalweg\nMove an embedding by gradient and by eye, and read the Earth's.")
        with gr.Tabs():
            with gr.Tab("Steer images", id="steer"):
                steering_tabs(desks, page)
            with gr.Tab("Earth", id="earth"):
                earth_tab(desks.studio.workspace)
    return page
