"""JSON files: bounded reading, and values of the expected types only."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from thalweg.errors import MissingPathError, UsageError
from thalweg.io import json_files
from thalweg.io.json_files import read_as, read_json


@dataclass(frozen=True)
class Point:
    name: str
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("expected a name")


def test_a_value_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, null, "é"]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, None, "é"]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "as JSON"),
        (b"{", "as JSON"),
        (b"\xff\xfe", "as JSON"),
        (b'"\\ud800"', "as JSON"),
        (b"[" * 70 + b"]" * 70, "nested at most 64 deep"),
        (b"[" * 100_000, "nested at most 64 deep"),
        (b" " * 200, "at most 100 bytes"),
    ],
)
def test_a_damaged_file_raises_one_line_error(
    content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "at most 100 bytes":
        monkeypatch.setattr(json_files, "MAX_JSON_BYTES", 100)
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UsageError, match=reason) as caught:
        read_json(tmp_path / "a.json", "its settings")
    assert str(caught.value).startswith("its settings can't be read")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_missing_files_folders_and_pipes_are_missing_paths(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "pipe"):
        with pytest.raises(MissingPathError, match="there is no such file"):
            read_json(path)


def test_a_dataclass_is_read_without_conversions() -> None:
    assert read_as(Point, {"name": "a", "weights": [1, 2.5]}, "file") == Point("a", (1.0, 2.5))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "expected fields and their values"),
        ({"name": "a", "extra": 1}, "unknown field 'extra'"),
        ({}, "name: "),
        ({"name": 5}, "name: "),
        ({"name": "a", "weights": ["1"]}, "weights.0: "),
        ({"name": ""}, "expected a name"),
    ],
)
def test_values_of_other_types_are_invalid(value: object, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        read_as(Point, value, "file")
    assert "\n" not in str(caught.value)
