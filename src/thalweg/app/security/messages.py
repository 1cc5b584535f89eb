"""Error messages for the browser: one line, without the paths of this machine's files."""

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


def browser_message(error: BaseException, workspace: Path | None = None) -> str:
    """Return the message of an error for the browser, with the error's class where it is not the package's own.

    Args:
        error: the error.
        workspace: folder to which paths in the message become relative.
    """
    message = str(error) if isinstance(error, ThalwegError) else f"{type(error).__name__}: {error}"
    return without_paths(message, workspace)


def without_paths(text: str, workspace: Path | None = None) -> str:
    """Return a text in one line of limited length, each absolute path in it reduced to its name.

    A path in the workspace becomes relative to it. Known folders of this machine are replaced literally, since their
    names may hold spaces; other paths are recognised by their form.
    """
    line = " ".join(text.split()).replace("file://", "")
    if workspace is not None:
        line = line.replace(f"{workspace}/", "").replace(f"{workspace}\\", "").replace(str(workspace), "the workspace")
    for folder in _known_folders():
        line = re.sub(rf"{re.escape(folder)}(?=[\\/])", "/-", line)  # the rest is then reduced like any other path
    line = redact(_ABSOLUTE.sub(lambda found: found["name"] or "a folder", line))
    return line if len(line) <= MAX_MESSAGE else f"{line[:MAX_MESSAGE]}..."


def _known_folders() -> list[str]:
    """Return the folders with which paths in messages of libraries begin, the longest first."""
    known = {sysconfig.get_path("purelib"), sys.prefix, sys.base_prefix, tempfile.gettempdir()}
    known |= {str(Path(__file__).parents[3]), str(Path.home())}
    with contextlib.suppress(OSError):  # the working folder was removed
        known.add(str(Path.cwd()))
    return sorted((folder for folder in known if folder and len(Path(folder).parts) > 1), key=len, reverse=True)
