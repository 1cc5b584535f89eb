"""Library messages name parameters; the command line names the flags that set them."""

import re
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup, TyperOption

Command = Any  # typer keeps the base class of its commands to itself


def invoked_command(root: Command, arguments: Sequence[str]) -> Command:
    """Return the command that `arguments` (without the program's name) call."""
    command = root
    for argument in arguments:
        if isinstance(command, TyperGroup) and argument in command.commands:
            command = command.commands[argument]
    return command


def with_flags(message: str, command: Command) -> str:
    """Return a message with each of the command's parameters as the user writes it.

    "`site`" becomes "--site", and "`site=A`" becomes "--site A"; a switch loses its "=True". Names that are no
    parameter of the command stay as they are.
    """
    for parameter in command.params:
        if not isinstance(parameter, TyperOption) or parameter.name is None:
            continue
        flag = next((name for name in parameter.opts if name.startswith("--")), parameter.opts[0])
        name = re.escape(parameter.name)
        if parameter.is_flag:
            message = re.sub(rf"`{name}(?:=True)?`", flag, message)
        message = re.sub(rf"`{name}`", flag, message)
        message = re.sub(rf"`{name}=([^`]*)`", rf"{flag} \1", message)
    return message
