"""`thalweg app`: one page behind guards, on one port."""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse

from thalweg.app.auth import Streams, add_guards, check_host, user_of
from thalweg.app.checked_blocks import CheckedBlocks
from thalweg.app.earth import earth_router, earth_tab
from thalweg.app.gradio_requests import GradioRequests
from thalweg.app.jobs import JobQueue
from thalweg.app.steering.session import Sessions, Studio
from thalweg.app.steering.tabs import AT_ONCE, steering_tabs
from thalweg.app.steering.tabs import STATIC as STEERING_STATIC
from thalweg.app.uploads import UPLOAD_LIMIT, Uploads, private_folder
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig
from thalweg.embedding import SUFFIX
from thalweg.errors import ThalwegError, UsageError

STATIC = Path(__file__).parent / "static"
SERVED = (".png", SUFFIX)
"""What the browser may fetch of a run."""
OPEN_STREAM_EVERY = 2.0
"""Seconds between the streams that the page opens for answers that found none."""
SWEEP_EVERY = 60.0
"""Seconds between looks for uploads that nobody used."""
STOP_WITHIN = 2
"""Seconds that answers under way are given when the server is asked to stop."""


def create_app(
    workspace: Workspace,
    choice: ModelConfig,
    host: str = "127.0.0.1",
    token: str | None = None,
    upload_limit: int = UPLOAD_LIMIT,
    allow_hosts: Sequence[str] = (),
) -> FastAPI:
    """Return the app, its model loaded.

    Args:
        workspace: the folder that it works in and reaches nothing beyond.
        choice: the text-to-image model.
        host: the address it will be bound to.
        token: what lets people in; None lets in everyone on this machine, and is refused beyond the loopback address.
        upload_limit: largest upload, bytes.
        allow_hosts: host names under which it is reached in addition to its own, such as a reverse proxy's.

    Raises:
        UsageError: a host that others reach without a token, a name that is no host name, a model that cannot be
            loaded.
    """
    check_host(host, token)
    streams, uploads = Streams(), Uploads(upload_limit)
    load_scorer = functools.cache(choice.load_scorer)
    desks = Sessions(Studio(workspace, JobQueue(), choice, choice.load(), load_scorer))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=functools.partial(_lifespan, uploads))
    app.state.streams = streams
    app.add_middleware(GradioRequests, uploads=uploads)
    add_guards(app, host, token, allow_hosts, streams)

    @app.get("/runs/{name}/{file:path}")
    def run_file(name: str, file: str, request: Request) -> FileResponse:
        try:
            folder = workspace.run(user_of(request.cookies), name)
            path = workspace.inside(f"{name}/{file}")
        except UsageError as error:
            raise HTTPException(404, str(error)) from error
        if path.suffix not in SERVED or not path.is_file() or not path.is_relative_to(folder):
            raise HTTPException(404, "expected the name of an image or embedding of the run")
        return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})

    app.include_router(earth_router(workspace))
    page = _page(desks, uploads)
    # Gradio checks the paths of files only once a page has launched, which a mounted one never does; there is no
    # documented way to ask for the check. `GradioRequests` refuses such paths before; this is the second lock.
    page.has_launched = True
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=host,
        footer_links=[],
        run_history=False,
        max_file_size=upload_limit,
        css_paths=[STEERING_STATIC / "steering.css"],
        head=f"<script>{(STATIC / 'page_stream.js').read_text()}</script>",
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
    """Answer on a bound port until SIGTERM or Ctrl-C, either of which ends the process.

    The process ends right after the server: threads that render or watch cannot be interrupted and would hold it for as
    long as they take. What they write is written whole or not at all, and a run that was under way can be resumed.
    """
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=STOP_WITHIN)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: _end_process(number))  # uvicorn raises it again when it is done
    _Server(config, app.state.streams).run(sockets=[taken])


class _Server(uvicorn.Server):
    """A server that ends open streams when it stops, where uvicorn waits for their browsers."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, and end the process where that takes too long."""
        deadline = threading.Timer(2 * STOP_WITHIN, _end_process, [sig])
        deadline.daemon = True
        deadline.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the rest."""
        self._streams.close()
        await super().shutdown(sockets)


def _end_process(number: int) -> NoReturn:
    shutil.rmtree(private_folder(), ignore_errors=True)
    os._exit(128 + number)


@contextlib.asynccontextmanager
async def _lifespan(uploads: Uploads, _: FastAPI) -> AsyncIterator[None]:
    """Remove old uploads while the app is served, and all of them at its end."""

    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            uploads.sweep()

    sweeping = asyncio.create_task(sweep())
    try:
        yield
    finally:
        sweeping.cancel()
        uploads.close()


def _page(desks: Sessions, uploads: Uploads) -> gr.Blocks:
    with CheckedBlocks(title="Thalweg", analytics_enabled=False, fill_width=True) as page:
        page.workspace = desks.studio.workspace.folder
        # Gradio's browser side holds its stream of answers for open until the stream's end arrives. The answer to
        # what is asked in between waits for the next stream, so the page opens one now and then, whether or not the
        # last tick was answered.
        gr.Timer(OPEN_STREAM_EVERY).tick(lambda: None, **AT_ONCE)
        gr.Markdown("# Thalweg\nMove an embedding by gradient and by eye, and read the Earth's.")
        with gr.Tabs():
            with gr.Tab("Steer images", id="steer"):
                steering_tabs(desks, page, uploads)
            with gr.Tab("Earth", id="earth"):
                earth_tab(desks.studio.workspace)
    return page
