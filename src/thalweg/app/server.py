"""Server of the browser interface: one page behind guards, on one port."""

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

from thalweg.app.earth import earth_router, earth_tab
from thalweg.app.jobs import JobQueue
from thalweg.app.security.auth import Streams, add_guards, user_of
from thalweg.app.security.checked_blocks import CheckedBlocks
from thalweg.app.security.gradio_requests import GradioRequests
from thalweg.app.security.hosts import check_access
from thalweg.app.security.uploads import UPLOAD_LIMIT, Uploads, private_folder
from thalweg.app.steering.session import Sessions, SteeringContext
from thalweg.app.steering.tabs import AT_ONCE, steering_tabs
from thalweg.app.steering.tabs import STATIC as STEERING_STATIC
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.safetensors_files import SUFFIX

STATIC = Path(__file__).parent / "static"
SERVED = (".png", SUFFIX)
"""Ends of the names of a run's files that the browser may fetch."""
OPEN_STREAM_EVERY = 2.0
"""Seconds between two streams that the page opens for responses that wait for one."""
SWEEP_EVERY = 60.0
"""Seconds between two removals of old uploads."""
STOP_WITHIN = 2
"""Seconds that active responses have to finish when the server stops."""


def create_app(
    workspace: Workspace,
    config: ModelConfig,
    host: str = "127.0.0.1",
    token: str | None = None,
    upload_limit: int = UPLOAD_LIMIT,
    allow_hosts: Sequence[str] = (),
) -> FastAPI:
    """Load the model and return the app.

    Args:
        workspace: the only folder that the app reads and writes.
        config: config of the text-to-image model.
        host: address that the app will be bound to.
        token: token of users; None admits all users of this machine, and is refused for other than loopback addresses.
        upload_limit: largest upload, bytes.
        allow_hosts: further host names under which it is reached, such as a reverse proxy's.

    Raises:
        UsageError: an address that other machines reach without a token, an invalid host name, or an invalid model.
        ThalwegError: the model's files can't be read.
    """
    check_access(host, token)
    streams, uploads = Streams(), Uploads(upload_limit)
    load_scorer = functools.cache(config.load_scorer)
    sessions = Sessions(SteeringContext(workspace, JobQueue(), config, config.load(), load_scorer))
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

    app.include_router(earth_router(workspace, uploads))
    page = _page(sessions, uploads)
    # Gradio checks the paths of files only on launched pages, and a mounted page is never launched. There is no
    # documented way to enable the check. `GradioRequests` refuses such paths earlier; this is a second guard.
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
        head=f"<script>{(STATIC / 'app.js').read_text()}</script>",
        show_error=True,
        ssr_mode=False,
    )


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port, 0 for any that is free.

    Raises:
        ThalwegError: the port is in use, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named: else each waits some 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # requests that arrive before the model is loaded wait
    except (OSError, OverflowError) as error:
        listening.close()
        raise ThalwegError(f"can't bind to {host}:{port} ({error}): choose another `port` or `host`") from error
    return listening


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve the app on a listening socket until SIGTERM or Ctrl-C, which end the process.

    The process ends right after the server, without waiting for threads that render or watch, which cannot be
    interrupted. They write files atomically, and an unfinished run can be resumed.
    """
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=STOP_WITHIN)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: _end_process(number))  # uvicorn raises the signal again at its end
    _Server(config, app.state.streams).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Server that ends open streams when it stops, where uvicorn waits for their browsers."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown, and end the process where it takes too long."""
        deadline = threading.Timer(2 * STOP_WITHIN, _end_process, [sig])
        deadline.daemon = True
        deadline.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then shut down the server."""
        self._streams.close()
        await super().shutdown(sockets)


def _end_process(number: int) -> NoReturn:
    shutil.rmtree(private_folder(), ignore_errors=True)
    os._exit(128 + number)


@contextlib.asynccontextmanager
async def _lifespan(uploads: Uploads, _: FastAPI) -> AsyncIterator[None]:
    """Remove old uploads while the app is served, and all uploads at its end."""

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


def _page(sessions: Sessions, uploads: Uploads) -> gr.Blocks:
    with CheckedBlocks(title="Thalweg", analytics_enabled=False, fill_width=True) as page:
        page.workspace = sessions.context.workspace.folder
        # Gradio's script takes its stream of responses for open until the end of the stream arrives. The response to an
        # event in between waits for the next stream, so the page opens one regularly, even while the last tick is open.
        gr.Timer(OPEN_STREAM_EVERY).tick(lambda: None, **AT_ONCE)
        gr.Markdown("# Thalweg\nSteer embeddings by gradient and by eye, and explore Earth embeddings.")
        with gr.Tabs():
            with gr.Tab("Steer images", id="steer"):
                steering_tabs(sessions, page, uploads)
            with gr.Tab("Earth", id="earth"):
                earth_tab(sessions.context.workspace)
    return page
