"""Options of commands that open cubes."""

from typing import Annotated

import typer

AssumeClear = Annotated[
    bool, typer.Option("--assume-clear", help="take a cube without a cloud mask as clear everywhere")
]
