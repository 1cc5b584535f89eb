"""Which blocks of an unfinished store are done, and whose store it is while it is written."""

import fcntl
import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from thalweg.errors import UsageError

LEDGER = "unfinished.jsonl"
"""First line: what the job is. Then one line for each block that was done or failed."""


class ProgressLog:
    """The record of an unfinished store, held by one process at a time.

    The record is the lock: the operating system frees it when its process ends, however it ends, so that what a
    killed run left is taken over and two runs never write one store.

    Raises:
        UsageError: another process is writing the store.
        OSError: the folder can not be written.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / LEDGER).open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UsageError(f"{out}: another process is writing it: wait for it or choose another name") from error

    def __enter__(self) -> "ProgressLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def done(self, identity: dict[str, Any]) -> set[int] | None:
        """Blocks done by an earlier run of the same job, or None where there is nothing to go on with."""
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):  # cut off by a kill
            self._file.truncate(sum(map(len, lines[:-1])))
            lines.pop()
        try:
            first, *entries = (json.loads(line) for line in lines)
        except (ValueError, RecursionError):  # empty, or not ours
            return None
        if first != identity or not all(isinstance(entry, dict) for entry in entries):
            return None
        return {entry["done"] for entry in entries if isinstance(entry.get("done"), int)}

    def start(self, identity: dict[str, Any]) -> None:
        """Forget everything and record what the job is."""
        self._file.truncate(0)
        self._append(identity)

    def clear(self) -> None:
        """Remove everything in the folder but the record."""
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != LEDGER:
                entry.unlink()

    def add_done(self, index: int) -> None:
        """Record that a block is on disk."""
        self._append({"done": index})

    def add_failed(self, index: int, reason: str) -> None:
        """Record that a block could not be embedded, and why."""
        self._append({"failed": index, "reason": reason})

    def finish(self, out: Path) -> None:
        """Give the store its name; the record goes last, so that a kill in between is seen (`tidy`)."""
        for left in self.folder.rglob("*.partial"):  # what a killed write left beside its shard
            left.unlink()
        self.folder.rename(out)
        (out / LEDGER).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the unfinished store."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()


def abort(out: Path) -> bool:
    """Whether `out` was complete but for its record, left by a kill in the last instant; removes the record."""
    if not (out / LEDGER).is_file():
        return False
    (out / LEDGER).unlink(missing_ok=True)
    return True
