"""`thalweg app`: the browser interface."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.models import Clip, DenoisingSteps, Device, GradientMode, Guidance, Model, Scheduler
from thalweg.errors import UsageError


def app(
    workspace: Annotated[Path, typer.Argument(help="folder for runs, embedding files and stores; made if missing")],
    host: Annotated[str, typer.Option(help="address to bind to; beyond 127.0.0.1 a token is needed")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to bind to; 0 for any that is free")] = 7860,
    token: Annotated[
        str | None, typer.Option(envvar="THALWEG_TOKEN", help="what lets people in; at least 12 characters")
    ] = None,
    upload_limit: Annotated[int, typer.Option(help="largest upload, in megabytes")] = 20,
    model: Model = None,
    device: Device = "cpu",
    steps: DenoisingSteps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    gradient: GradientMode = "full",
    clip: Clip = None,
) -> None:
    """Steer embeddings, and read the Earth's, in the browser; Ctrl-C ends it, runs stay in the workspace."""
    from thalweg.app.guard import check_host
    from thalweg.app.server import bind, create_app, serve
    from thalweg.app.workspace import Workspace
    from thalweg.diffusion.choice import ModelChoice

    if upload_limit < 1:
        raise UsageError(f"expected an upload limit of at least 1 MB, got {upload_limit}")
    check_host(host, token)
    choice = ModelChoice(model, device, steps, guidance, scheduler, gradient, clip)
    with bind(host, port) as taken:
        made = create_app(Workspace(workspace), choice, host, token, upload_limit * 1_000_000)
        address = f"[{host}]" if ":" in host else host
        print(f"http://{address}:{taken.getsockname()[1]}/{f'?token={token}' if token else ''}", flush=True)
        serve(made, taken)
