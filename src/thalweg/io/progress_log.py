"""Progress log of an unfinished store, and the lock that lets one process at a time write the store."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from thalweg.errors import UsageError
from thalweg.io.atomic import refuse_existing, unfinished_folder

LOG_FILE = "unfinished.jsonl"
"""Name of the log. Its first line identifies the job; each further line holds one finished or failed block."""


class ProgressLog:
    """Progress log of a store that is written in a hidden folder next to its path, locked while it is open.

    The operating system releases the lock when its process ends, even if it is killed: an unfinished store can be
    resumed, and two processes never write one store. The lock file lies next to the hidden folder, not in it, because
    Windows does not rename a folder that holds an open file.

    Attributes:
        out: path of the store.
        folder: hidden folder in which it is written.

    Raises:
        UsageError: another process is writing the store, or it exists.
        OSError: the folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = unfinished_folder(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = out.with_name(f".{out.name}.lock")
        self._lock = FileLock(self._lock_file)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(f"{out}: another process is writing it: wait for it or choose another name") from error
        try:
            refuse_existing(out)  # another job may have finished it before the lock was acquired
            self.folder.mkdir(exist_ok=True)
            self._file = (self.folder / LOG_FILE).open("a+b")
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> "ProgressLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._release()

    def done(self, identity: dict[str, Any]) -> set[int] | None:
        """Return the blocks that an earlier run of the same job finished, or None if there is nothing to resume."""
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):  # cut off by a kill
            self._file.truncate(sum(map(len, lines[:-1])))
            lines.pop()
        try:
            first, *entries = (json.loads(line) for line in lines)
        except (ValueError, RecursionError):  # empty, or damaged
            return None
        if first != identity or not all(isinstance(entry, dict) for entry in entries):
            return None
        return {entry["done"] for entry in entries if isinstance(entry.get("done"), int)}

    def start(self, identity: dict[str, Any]) -> None:
        """Empty the log and record the identity of the job."""
        self._file.truncate(0)
        self._append(identity)

    def clear(self) -> None:
        """Remove everything in the folder except the log."""
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != LOG_FILE:
                entry.unlink()

    def add_done(self, index: int) -> None:
        """Record that a block is on disk."""
        self._append({"done": index})

    def add_failed(self, index: int, reason: str) -> None:
        """Record that a block could not be embedded, and the reason."""
        self._append({"failed": index, "reason": reason})

    def finalize(self) -> None:
        """Rename the folder to the path of the store, then remove the log (see `complete_finalize`)."""
        for partial in self.folder.rglob("*.partial"):  # left next to its shard by a killed write
            partial.unlink()
        self._file.close()
        self.folder.rename(self.out)
        (self.out / LOG_FILE).unlink(missing_ok=True)

    def abort(self) -> None:
        """Remove the unfinished store."""
        self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()

    def _release(self) -> None:
        """Release the lock and remove its file."""
        with suppress(PermissionError):  # Windows removes no open file; there the lock removes its file on release
            self._lock_file.unlink(missing_ok=True)
        self._lock.release()


def complete_finalize(out: Path) -> bool:
    """Return whether a kill left a complete store at `out` with its log, and remove the log."""
    if not (out / LOG_FILE).is_file():
        return False
    (out / LOG_FILE).unlink(missing_ok=True)
    return True
