"""One way to write a file, one to write a folder (whole or not at all), and one to read a JSON file of any origin."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import shown

MAX_JSON_BYTES = 64 * 2**20
"""Largest JSON file that is read."""

MAX_JSON_DEPTH = 64
"""Deepest nesting of lists and names in it."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_Kind = TypeVar("_Kind")


def write_whole(path: Path, content: bytes) -> Path:
    """Write `content` to `path`, its folder made where it is missing; a failure leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


@contextmanager
def new_folder(out: str | Path, *faults: type[Exception]) -> Iterator[Path]:
    """A folder to fill that gets its name when all is written, or vanishes.

    Args:
        out: its name; its parents are made.
        faults: what a library raises, besides OSError, when it can not write.

    Raises:
        UsageError: `out` exists already.
        ThalwegError: it can not be written.
    """
    out = Path(out)
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    unfinished = out.with_name(f".{out.name}.unfinished")
    failing: tuple[type[Exception], ...] = (OSError, *faults)
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(out)
    except failing as error:
        reason = " ".join(str(error).split())
        raise ThalwegError(f"{out}: could not be written ({reason}): free some space or choose another disk") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_json(path: Path, where: str | None = None) -> Any:
    """Return the value in a JSON file.

    Args:
        path: the file.
        where: what a message names; the path by default.

    Raises:
        UsageError: there is no regular file, or it is too large, not UTF-8, not JSON, or nested too deep.
    """
    where = where or str(path)
    try:
        if not path.is_file():  # a pipe of that name would wait for ever
            raise UsageError(f"{where} can't be read: there is no such file")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UsageError(f"{where} can't be read: expected at most {MAX_JSON_BYTES:,} bytes of JSON")
        content = path.read_bytes()
        value = json.loads(content.decode())
        if _SURROGATE.search(content):  # half of a character parses, but can be neither written nor shown
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise _too_deep(where) from error
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{where} can't be read as JSON ({reason[:200]})") from error
    if _is_deep(value):
        raise _too_deep(where)
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _too_deep(where: str) -> UsageError:
    return UsageError(f"{where} can't be read: expected JSON nested at most {MAX_JSON_DEPTH} deep")


def read_as(kind: type[_Kind], value: Any, where: str) -> _Kind:
    """Return a JSON value as a dataclass (or another type that pydantic knows), nothing converted in silence.

    Args:
        kind: the type.
        value: what `read_json` gave, or a part of it.
        where: what the message names: the file, or the file and what in it.

    Raises:
        UsageError: a field is missing, unknown or of another type, or the type's own check refuses it.
    """
    from dataclasses import fields, is_dataclass

    from pydantic import TypeAdapter, ValidationError

    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise UsageError(f"{where} can't be read: expected fields and their values, got {shown(value)}")
        if unknown := sorted(str(name) for name in value.keys() - {field.name for field in fields(kind)}):
            raise UsageError(f"{where} can't be read: unknown field {shown(unknown[0])}")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "value"
        raise UsageError(
            f"{where} can't be read: {place}: {first['msg'].lower()}, got {shown(first['input'])}"
        ) from error
    except (RecursionError, OverflowError, ValueError) as error:
        raise UsageError(f"{where} can't be read ({shown(str(error))})") from error
