"""The command line: thin, one function a command; heavy libraries load where they are used."""

import sys
import warnings
from typing import Annotated

import typer

from thalweg._version import __version__
from thalweg.cli.earth import earth
from thalweg.cli.images import generate, miniature
from thalweg.cli.steer import steer
from thalweg.errors import PromptCut, ThalwegError, UsageError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(earth, name="earth")
app.command()(generate)
app.add_typer(steer, name="steer")
app.add_typer(miniature, name="miniature")


def main() -> None:
    """Run the command line; a `ThalwegError` is one line on stderr, exit code 2 (usage) or 1 (failure)."""
    warnings.showwarning = _show_warning
    try:
        app()
    except ThalwegError as error:
        print(f"thalweg: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except OSError as error:  # a full or read-only disk where a library wrote
        print(f"thalweg: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


def _show_warning(message: Warning | str, *details: object, **more: object) -> None:
    """Show the package's own warnings as one line; those of libraries are for their developers."""
    if isinstance(message, PromptCut):
        print(f"thalweg: {message}", file=sys.stderr)


def _version(asked: bool) -> None:
    if asked:
        print(f"thalweg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Learn embedding spaces of the Earth, and steer embedding spaces by gradient and by eye."""
