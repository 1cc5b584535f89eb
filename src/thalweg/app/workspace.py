"""Workspace: the only folder that the browser reaches, with runs of users, embedding files and stores."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import threading
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any

from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_write
from thalweg.io.json_files import read_json
from thalweg.io.safetensors_files import SUFFIX
from thalweg.limits import check_text, shown
from thalweg.steer.runs import RECORD

OWNER = "person.txt"
"""File of a run folder with the digest of its user's secret."""
MAX_NAME = 100
"""Characters of the name of a new file."""
_USERS = ".people"
_MAX_PATH, _MAX_PART = 1000, 255
_STORE_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_DIGEST_LENGTH = 32
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class Workspace:
    """Folder that contains everything a browser can name.

    Users are distinguished by a secret in their browser; files contain only its digest. Every name from a browser is
    checked by `readable` or `writable`.

    Attributes:
        folder: the folder, resolved.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: expected a folder as the workspace, this is a file")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self._lock = threading.Lock()
        self._reserved: dict[Path, str] = {}

    def inside(self, name: str) -> Path:
        """Return the path of `name`, which is relative to the workspace.

        Raises:
            UsageError: it leads outside, by `..`, as an absolute path or through a link, or to a hidden file.
        """
        expected = "expected the name of something in the workspace"
        check_text("a name", name, _MAX_PATH)
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or any(_is_invalid_part(part) for part in parts):
            raise UsageError(f"{expected}, got {shown(name)}")
        try:
            path = self.folder.joinpath(*parts).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # too long a name, or a loop of links
            raise UsageError(f"{expected}, {shown(name)} leads nowhere") from error
        if not path.is_relative_to(self.folder):
            raise UsageError(f"{expected}, {shown(name)} leads outside")
        if any(part.startswith(".") for part in path.relative_to(self.folder).parts):
            raise UsageError(f"{expected}, {shown(name)} leads to a hidden file")
        return path

    def readable(self, user: str | None, name: str) -> Path:
        """Return the path of something that a user may read: in a run of their own, or in none.

        Args:
            user: secret of the user; None where it is unknown.
            name: name relative to the workspace.

        Raises:
            UsageError: it leads outside, into another user's run, or to a part of a store.
        """
        path = self.inside(name)
        for folder in self._ancestors(path):
            if folder != path and _is_store(folder):
                raise UsageError(f"expected the name of something in the workspace, {shown(name)} is a part of a store")
            if self._owner(folder) not in (None, None if user is None else _digest(user)):
                raise UsageError(
                    "expected the name of a run of yours in the workspace, or of a file outside the runs of others, "
                    f"got {shown(name)}"
                )
        return path

    def writable(self, name: str) -> Path:
        """Return the path of a new embedding file, directly in the workspace.

        Args:
            name: name of the file, with or without its suffix.

        Raises:
            UsageError: an invalid name on some system, or one that exists already, in lower or upper case.
        """
        stem = check_text("a name", name).strip().removesuffix(SUFFIX)
        if not stem or _FORBIDDEN.search(stem) or stem.startswith(".") or stem.endswith((".", " ")):
            raise UsageError(
                "expected a name of letters, digits, spaces, - and _ for the file, without / and not hidden, "
                f"got {shown(name)}"
            )
        if _RESERVED.fullmatch(stem) or len(stem) > MAX_NAME or len(os.fsencode(stem)) > 2 * MAX_NAME:
            raise UsageError(f"expected a name of at most {MAX_NAME} characters for the file, got {shown(name)}")
        path = self.inside(f"{stem}{SUFFIX}")
        folded = _folded(path.name)
        if path.parent != self.folder or any(_folded(known) == folded for known in os.listdir(self.folder)):
            raise UsageError(f"{shown(stem)}: exists already in the workspace: choose another name")
        return path

    def runs(self, user: str, operation: str) -> list[str]:
        """Return the names of a tool's runs that a user may open: their own, and those of the command line."""
        return sorted(
            record.parent.name
            for record in self.folder.glob(f"*/{RECORD}")
            if not record.parent.name.startswith(".")
            and self._operation(record) == operation
            and self._owner(record.parent) in (None, _digest(user))
        )

    def run(self, user: str, name: str) -> Path:
        """Return the folder of a run that a user may open: their own, or one of the command line.

        Raises:
            UsageError: there is no run of that name, or it is another user's.
        """
        folder = self.readable(user, name)
        if folder.parent != self.folder or not (folder / RECORD).is_file():
            raise UsageError(f"expected the name of a run of yours in the workspace, got {shown(name)}")
        return folder

    def new_run(self, user: str, title: str) -> Path:
        """Return the path of a new run's folder, named after `title` and reserved for the user."""
        slug = "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())
        short = slug[:40].encode()[:80].decode(errors="ignore")
        folder = self.inside(f"{short or 'run'}-{secrets.token_hex(3)}")
        with self._lock:
            if folder in self._reserved or folder.exists():
                raise UsageError(f"{folder.name}: exists already in the workspace: try again")
            self._reserved[folder] = _digest(user)
        return folder

    def claim(self, user: str, folder: Path) -> None:
        """Record a user as the owner of a run.

        Raises:
            UsageError: it is another user's run.
        """
        if self._owner(folder) in (None, _digest(user)):
            with contextlib.suppress(FileExistsError), (folder / OWNER).open("x") as file:
                file.write(_digest(user))
        if self._owner(folder) != _digest(user):
            raise UsageError(f"expected the name of a run of yours in the workspace, got {folder.name!r}")
        with self._lock:
            self._reserved.pop(folder, None)

    def remember(self, user: str, tool: str, name: str) -> None:
        """Store the name of the run that a user has open in a tool."""
        with self._lock:
            atomic_write(self._open_runs_file(user), json.dumps(self.open_runs(user) | {tool: name}).encode())

    def open_runs(self, user: str) -> dict[str, str]:
        """Return the names of a user's open runs, by tool, without those that no longer exist."""
        try:
            known = read_json(self._open_runs_file(user))
        except UsageError:
            return {}
        found = {}
        for tool, name in known.items() if isinstance(known, dict) else ():
            with contextlib.suppress(UsageError):
                found[tool] = self.run(user, name).name
        return found

    def _open_runs_file(self, user: str) -> Path:
        return self.folder / _USERS / f"{_digest(user)}.json"

    def _ancestors(self, path: Path) -> list[Path]:
        """Return the path and the folders that contain it, within the workspace."""
        return [folder for folder in (path, *path.parents) if self.folder in folder.parents]

    def _owner(self, folder: Path) -> str | None:
        """Return the digest of the user who owns a run; None where there is no owner, empty for an unreadable file."""
        if folder in self._reserved:
            return self._reserved[folder]
        path = folder / OWNER
        if not path.is_file():
            return "" if path.exists() else None
        try:
            with path.open(encoding="ascii") as file:
                return file.read(_DIGEST_LENGTH + 1)
        except (OSError, ValueError):
            return ""

    @staticmethod
    def _operation(record: Path) -> str | None:
        try:
            found: Any = read_json(record)
        except UsageError:
            return None
        operation = found.get("operation") if isinstance(found, dict) else None
        return operation if isinstance(operation, str) else None


def _is_invalid_part(part: str) -> bool:
    return (
        part.startswith((".", "/"))
        or ":" in part
        or part.endswith((".", " "))
        or not part.isprintable()
        or len(part.encode()) > _MAX_PART
    )


def _is_store(folder: Path) -> bool:
    return folder.suffix.lower() == ".zarr" or any((folder / name).exists() for name in _STORE_FILES)


def _folded(name: str) -> str:
    """Return a name in the form in which case-insensitive and normalising file systems compare it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _digest(user: str) -> str:
    return hashlib.sha256(user.encode()).hexdigest()[:_DIGEST_LENGTH]
