"""The command line: thin, one function per command; heavy libraries load where they are used."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

from thalweg._version import __version__
from thalweg.cli.app import app as serve_app
from thalweg.cli.common.flags import invoked_command, with_flags
from thalweg.cli.earth import earth
from thalweg.cli.gpp import gpp
from thalweg.cli.images import generate, miniature
from thalweg.cli.steer import steer
from thalweg.errors import ThalwegError, ThalwegWarning, UsageError
from thalweg.io.redaction import redact

TRACEBACK = "THALWEG_TRACEBACK"
"""Environment variable that asks for the traceback of an unexpected error."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(earth, name="earth")
app.add_typer(gpp, name="gpp")
app.command()(generate)
app.add_typer(steer, name="steer")
app.add_typer(miniature, name="miniature")
app.command("app")(serve_app)


def main() -> None:
    """Run the command line; a failure is one line on stderr, exit code 2 (usage) or 1 (anything else).

    With `THALWEG_TRACEBACK` set, an error that the package does not know is raised with its traceback.
    """
    try:
        with _own_warnings_in_one_line():
            app()
    except ThalwegError as error:
        command = invoked_command(typer.main.get_command(app), sys.argv[1:])
        _fail(with_flags(str(error), command), 2 if isinstance(error, UsageError) else 1)
    except ModuleNotFoundError as error:
        if (error.name or "thalweg").partition(".")[0] == "thalweg":
            raise
        _fail(
            f"this command needs {error.name}, which is not installed: install the extra it is in, such as "
            "thalweg[earth,archive,mapping,gpp] or thalweg[app,diffusion,steer]"
        )
    except OSError as error:  # a full or read-only disk where a library wrote
        _fail(error)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        _fail(
            f"{type(error).__name__}: {error}: this is a fault of thalweg, please report it with the traceback that "
            f"{TRACEBACK}=1 shows"
        )


def _fail(reason: Exception | str, code: int = 1) -> NoReturn:
    """End the command with one line, whatever line breaks the reason has."""
    print(f"thalweg: {redact(' '.join(line.strip() for line in str(reason).splitlines()))}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def _own_warnings_in_one_line() -> Iterator[None]:
    """Show the package's own warnings as one line each; others as they were."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_in_one_line(message: Warning | str, *details: Any, **more: Any) -> None:
            if isinstance(message, ThalwegWarning):
                command = invoked_command(typer.main.get_command(app), sys.argv[1:])
                print(f"thalweg: {with_flags(str(message), command)}", file=sys.stderr)
            else:
                show(message, *details, **more)

        warnings.showwarning = show_in_one_line
        yield


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
