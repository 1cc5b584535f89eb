"""JSON files of any origin: bounded reading, and strict conversion of their values to types."""

import json
import re
from pathlib import Path
from typing import Any, TypeVar

from thalweg.errors import MissingPathError, UsageError
from thalweg.limits import shown

MAX_JSON_BYTES = 64 * 2**20
"""Largest JSON file that is read."""

MAX_JSON_DEPTH = 64
"""Deepest nesting of arrays and objects that is read."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_Kind = TypeVar("_Kind")


def read_json(path: Path, where: str | None = None) -> Any:
    """Return the value in a JSON file.

    Args:
        path: File to read.
        where: Name of the file in messages; the path by default.

    Raises:
        MissingPathError: There is no regular file at `path`.
        UsageError: The file is too large, not UTF-8, not JSON, or nested too deep.
    """
    where = where or str(path)
    try:
        if not path.is_file():  # reading a named pipe would block forever
            raise MissingPathError(f"{where} can't be read: there is no such file")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UsageError(f"{where} can't be read: expected at most {MAX_JSON_BYTES:,} bytes of JSON")
        content = path.read_bytes()
        value = json.loads(content.decode())
        if _SURROGATE.search(content):  # half of a surrogate pair parses, but cannot be encoded again
            json.dumps(value, ensure_ascii=False).encode()
    except UsageError:
        raise
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
    """Convert a JSON value to a dataclass, or to another type that pydantic validates, without silent conversions.

    Args:
        kind: Type to return.
        value: Result of `read_json`, or a part of it.
        where: Name of the value in messages: the file, or the file and the part of it.

    Raises:
        UsageError: A field is missing, unknown or of another type, or the type's own validation fails.
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
        if isinstance(own := first.get("ctx", {}).get("error"), UsageError):  # of the type's own validation
            raise UsageError(f"{where} can't be read: {own}") from error
        place = ".".join(str(part) for part in first["loc"]) or "value"
        raise UsageError(
            f"{where} can't be read: {place}: {first['msg'].lower()}, got {shown(first['input'])}"
        ) from error
    except UsageError:
        raise
    except (RecursionError, OverflowError, ValueError) as error:
        raise UsageError(f"{where} can't be read ({shown(str(error))})") from error
