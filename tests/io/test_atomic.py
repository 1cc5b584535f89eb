"""Atomic writing: complete under its name, or nothing, and what was there before stays."""

from pathlib import Path

import pytest

from thalweg.errors import MissingPathError, ThalwegError, UsageError
from thalweg.io.atomic import atomic_file, atomic_folder, atomic_write


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    assert atomic_write(path, b"first") == path
    atomic_write(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["file.bin"]


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = atomic_write(tmp_path / "file.bin", b"first")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as unfinished:
        unfinished.write_bytes(b"sec")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file.bin"]


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with atomic_folder(out) as folder:
        (folder / "a").write_text("a")
        assert not out.exists()
    assert names(out.parent) == ["out"]
    assert (out / "a").read_text() == "a"
    with pytest.raises(UsageError, match="exists already"), atomic_folder(out):
        pass
    assert (out / "a").read_text() == "a"


@pytest.mark.parametrize("error", [OSError("disk\nfull"), LookupError("driver")])
def test_a_folder_that_cannot_be_written_raises_one_line_error(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(ThalwegError, match=r"out: could not be written \(.+\): free some space") as caught,
        atomic_folder(tmp_path / "out", LookupError) as folder,
    ):
        (folder / "a").write_text("a")
        raise error
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_errors_of_the_package_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"^there is no model$"), atomic_folder(tmp_path / "out"):
        raise MissingPathError("there is no model")
    assert names(tmp_path) == []


def test_a_folder_left_by_a_kill_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / ".out.unfinished"
    left.mkdir()
    (left / "old").write_text("old")
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["new"]
