"""Opening cubes for commands: the option that takes a cube without a mask as clear."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from thalweg.errors import UsageError

AssumeClear = Annotated[
    bool, typer.Option("--assume-clear", help="take a cube without a mask of clouds as clear everywhere")
]


@contextmanager
def naming_assume_clear() -> Iterator[None]:
    """Name the option, not the parameter, where a cube is refused because it has no mask."""
    from thalweg.earth.cube.measurements import NoMaskError

    try:
        yield
    except NoMaskError as error:
        raise UsageError(f"{error.found}: add it, or say that nothing is cloudy with --assume-clear") from error
