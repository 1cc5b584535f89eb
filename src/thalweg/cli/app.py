"""`thalweg app`: the browser interface."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from thalweg.cli.common.models import model_options
from thalweg.cli.common.progress import announce
from thalweg.errors import UsageError

if TYPE_CHECKING:
    from thalweg.diffusion.config import ModelConfig


@model_options("clip", "gradient")
def app(
    workspace: Annotated[Path, typer.Argument(help="folder for runs, embedding files and stores; made if missing")],
    host: Annotated[
        str, typer.Option(help="address to bind to; other machines reach any but a loopback address")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to bind to; 0 for any that is free")] = 7860,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="THALWEG_TOKEN", help="token of users, at least 12 characters; a new one at each start if left out"
        ),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="admit all users of this machine; only on a loopback address")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="host name of a reverse proxy in front; may be given several times"),
    ] = None,
    upload_limit: Annotated[int, typer.Option(help="largest upload, in megabytes")] = 20,
    *,
    model_config: "ModelConfig",
) -> None:
    """Steer embeddings and explore Earth embeddings in the browser; Ctrl-C ends it, runs stay in the workspace."""
    from thalweg.app.security.hosts import LOOPBACK, AllowedHosts, check_access, check_port, new_token

    if upload_limit < 1:
        raise UsageError(f"expected an upload limit of at least 1 MB, got {upload_limit}")
    if no_token and token is not None:
        raise UsageError("expected --no-token or a token (--token, THALWEG_TOKEN), got both: leave one out")
    if host not in LOOPBACK and token is None:
        raise UsageError(f"--host {host} lets other machines connect: expected --token too, or leave --host out")
    if token is None and not no_token:
        token = new_token()
    check_access(host, token)
    check_port(port)
    AllowedHosts(host, tuple(allow_host or ()))
    announce(f"loading {model_config.name}")

    from thalweg.app.server import bind, create_app, serve
    from thalweg.app.workspace import Workspace

    with bind(host, port) as listening:
        made = create_app(Workspace(workspace), model_config, host, token, upload_limit * 1_000_000, allow_host or ())
        address = f"[{host}]" if ":" in host else host
        entry = f"?token={quote(token, safe='')}" if token else ""
        print(f"http://{address}:{listening.getsockname()[1]}/{entry}", flush=True)
        serve(made, listening)
