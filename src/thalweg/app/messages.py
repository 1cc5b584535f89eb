"""Errors in words that a browser may see: one line, without the places of this machine's files."""

import contextlib
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

from thalweg.errors import ThalwegError
from thalweg.io.redaction import redact

MAX_MESSAGE = 500
"""Characters of a message."""

_ABSOLUTE = re.compile(
    r"(?<![\w.~/\\:<-])"  # not within a relative path, an address or a closing tag
    r"(?:[A-Za-z]:[\\/]|\\\\|/)(?:[^\s/\\'\"()<>:;,|]+[\\/])+(?P<name>[^\s/\\'\"()<>:;,|]*)"
)


def in_words(error: BaseException, workspace: Path | None = None) -> str:
    """Return an error's message as the browser may see it, with its kind where it is not the package's own.

    Args:
        error: what was raised.
        workspace: the folder that names are relative to.
    """
    message = str(error) if isinstance(error, ThalwegError) else f"{type(error).__name__}: {error}"
    return without_places(message, workspace)


def without_places(text: str, workspace: Path | None = None) -> str:
    """Return a text in one line of limited length, each absolute path in it reduced to its name.

    A path in the workspace keeps its name there. Folders of this machine that are known are looked for as they are,
    since their names may hold spaces; other paths are recognised by their form.
    """
    line = " ".join(text.split()).replace("file://", "")
    if workspace is not None:
        line = line.replace(f"{workspace}/", "").replace(f"{workspace}\\", "").replace(str(workspace), "the workspace")
    for place in _own_places():
        line = re.sub(rf"{re.escape(place)}(?=[\\/])", "/-", line)  # what follows it is reduced as any other path
    line = redact(_ABSOLUTE.sub(lambda found: found["name"] or "a folder", line))
    return line if len(line) <= MAX_MESSAGE else f"{line[:MAX_MESSAGE]}..."


def _own_places() -> list[str]:
    """The folders that paths in messages of libraries begin with, the longest first."""
    known = {sysconfig.get_path("purelib"), sys.prefix, sys.base_prefix, tempfile.gettempdir()}
    known |= {str(Path(__file__).parents[2]), str(Path.home())}
    with contextlib.suppress(OSError):  # a working folder that was removed
        known.add(str(Path.cwd()))
    return sorted((place for place in known if place and len(Path(place).parts) > 1), key=len, reverse=True)
