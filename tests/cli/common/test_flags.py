from typing import Annotated

import pytest
import typer

from thalweg.cli import app
from thalweg.cli.common.flags import invoked_command, with_flags
from thalweg.errors import MissingPathError, ThalwegError, UsageError

ROOT = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(["earth", "embed", "x", "--out", "y"], "embed"), (["gpp", "predict"], "predict"), (["generate"], "generate")],
)
def test_the_command_that_was_called_is_found(arguments: list[str], name: str) -> None:
    assert invoked_command(ROOT, arguments).name == name


def test_parameters_become_flags_and_other_names_stay() -> None:
    single = typer.Typer()

    @single.command()
    def command(
        assume_clear: Annotated[bool, typer.Option("--assume-clear")] = False,
        site: Annotated[str, typer.Option("-s", "--site")] = "",
    ) -> None: ...

    told = "no mask: pass `assume_clear=True`, or name a `site` such as `site=A 1`; `crs` and site stay"
    assert with_flags(told, typer.main.get_command(single)) == (
        "no mask: pass --assume-clear, or name a --site such as --site A 1; `crs` and site stay"
    )


def test_usage_errors_are_value_errors_and_missing_paths_also_file_not_found_errors() -> None:
    assert issubclass(UsageError, ValueError) and issubclass(UsageError, ThalwegError)
    error = MissingPathError("a.nc: not found")
    assert isinstance(error, UsageError) and isinstance(error, FileNotFoundError) and str(error) == "a.nc: not found"
