"""Progress logs: one writer per store, locks of killed processes, and damaged logs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.errors import UsageError
from thalweg.io.progress_log import LOG_FILE, ProgressLog, complete_finalize

IDENTITY = {"model": "some", "size": 7}
HOLDER = """
import sys, time
from pathlib import Path
from thalweg.io.progress_log import ProgressLog
with ProgressLog(Path(sys.argv[1])) as log:
    log.start({"model": "some", "size": 7})
    log.add_done(3)
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run" / "out.zarr"


def test_a_second_process_is_refused_and_a_killed_one_frees_its_lock(out: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UsageError, match=r"out.zarr: another process is writing it: wait for it") as caught:
            ProgressLog(out)
        assert "\n" not in str(caught.value)
        holder.kill()
        assert holder.wait() == -signal.SIGKILL
    with ProgressLog(out) as log:
        assert log.done(IDENTITY) == {3}
    assert {entry.name for entry in out.parent.iterdir()} == {".out.zarr.unfinished"}


def test_the_log_resumes_its_own_job_only(out: Path) -> None:
    with ProgressLog(out) as log:
        assert log.done(IDENTITY) is None
        log.start(IDENTITY)
        log.add_done(0)
        log.add_failed(1, "damaged")
        log.add_done(2)
    with ProgressLog(out) as log:
        assert log.done(IDENTITY) == {0, 2}
        assert log.done({**IDENTITY, "size": 32}) is None


@pytest.mark.parametrize(
    ("end", "expected"), [(b'{"done": 5', {0}), (b'{"done": "x"}\n', {0}), (b"[5]\n", None), (b"\xff\xfe\n", None)]
)
def test_a_damaged_end_loses_no_more_than_itself(end: bytes, expected: set[int] | None, out: Path) -> None:
    with ProgressLog(out) as log:
        log.start(IDENTITY)
        log.add_done(0)
        with (log.folder / LOG_FILE).open("ab") as file:
            file.write(end)
        assert log.done(IDENTITY) == expected
        log.add_done(7)
        assert log.done(IDENTITY) == (expected | {7} if expected else None)


def test_a_finalized_store_has_neither_log_nor_lock(out: Path) -> None:
    with ProgressLog(out) as log:
        log.start(IDENTITY)
        (log.folder / "shard").write_bytes(b"data")
        (log.folder / "shard.partial").write_bytes(b"da")
        log.finalize()
    assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]
    assert [entry.name for entry in out.iterdir()] == ["shard"]
    assert not complete_finalize(out)
    with pytest.raises(UsageError, match="exists already"):
        ProgressLog(out)
    assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]


def test_a_kill_before_the_log_is_removed_leaves_a_complete_store(out: Path) -> None:
    out.mkdir(parents=True)
    (out / LOG_FILE).write_text("{}\n")
    assert complete_finalize(out)
    assert list(out.iterdir()) == []


def test_an_aborted_store_leaves_nothing(out: Path) -> None:
    with ProgressLog(out) as log:
        log.start(IDENTITY)
        log.abort()
    assert list(out.parent.iterdir()) == []


def test_clear_keeps_the_log(out: Path) -> None:
    with ProgressLog(out) as log:
        log.start(IDENTITY)
        (log.folder / "folder").mkdir()
        (log.folder / "file").write_bytes(b"")
        log.clear()
        assert [entry.name for entry in log.folder.iterdir()] == [LOG_FILE]
