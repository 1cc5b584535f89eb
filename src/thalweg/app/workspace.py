"""The one folder the browser reaches: runs, embedding files and stores in it, each run with the person it is of."""

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

from thalweg.embedding import SUFFIX
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_write
from thalweg.io.json_files import read_json
from thalweg.limits import check_text, shown
from thalweg.steer.runs import RECORD

OWNER = "person.txt"
MAX_NAME = 100
"""Characters of a name that is given to a file."""
_PEOPLE = ".people"
_MAX_PATH, _MAX_PART = 1000, 255
_STORE_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_MARK_LENGTH = 32
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class Workspace:
    """A folder that everything the browser names lies in.

    People are told apart by a secret that their browser holds; files know only its hash.

    Every name that comes from a browser goes through `readable` or `writable`, which decide whether it may be used.

    Attributes:
        folder: where it lies, resolved.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: expected a folder as the workspace, this is a file")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self._lock = threading.Lock()
        self._promised: dict[Path, str] = {}

    def inside(self, name: str) -> Path:
        """Return where `name`, relative to the workspace, lies.

        Raises:
            UsageError: it leads outside, by `..`, from the root or through a link, or to a hidden file.
        """
        expected = "expected the name of something in the workspace"
        check_text("a name", name, _MAX_PATH)
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or any(_is_no_name(part) for part in parts):
            raise UsageError(f"{expected}, got {shown(name)}")
        try:
            path = self.folder.joinpath(*parts).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a name too long, or links in a circle
            raise UsageError(f"{expected}, {shown(name)} leads nowhere") from error
        if not path.is_relative_to(self.folder):
            raise UsageError(f"{expected}, {shown(name)} leads outside")
        if any(part.startswith(".") for part in path.relative_to(self.folder).parts):
            raise UsageError(f"{expected}, {shown(name)} leads to a hidden file")
        return path

    def readable(self, person: str | None, name: str) -> Path:
        """Return where something that a person may read lies: their own, or nobody's.

        Args:
            person: who asks; None where nobody can be told from others.
            name: relative to the workspace.

        Raises:
            UsageError: it leads outside, or into another person's run, or to a part of a store.
        """
        path = self.inside(name)
        for folder in self._around(path):
            if folder != path and _is_store(folder):
                raise UsageError(f"expected the name of something in the workspace, {shown(name)} is a part of a store")
            if self._owner(folder) not in (None, None if person is None else _mark(person)):
                raise UsageError(
                    "expected the name of a run of yours in the workspace, or of a file outside the runs of others, "
                    f"got {shown(name)}"
                )
        return path

    def writable(self, name: str) -> Path:
        """Return where a new embedding file goes: in the workspace itself, not in a run, a store or another folder.

        Args:
            name: of the file, with or without its suffix.

        Raises:
            UsageError: no name for a file on every system, or one that is taken, be it in capitals.
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
        alike = _folded(path.name)
        if path.parent != self.folder or any(_folded(known) == alike for known in os.listdir(self.folder)):
            raise UsageError(f"{shown(stem)}: exists already in the workspace: choose another name")
        return path

    def runs(self, person: str, operation: str) -> list[str]:
        """Names of the runs of a tool that a person may open: their own, and those of the command line."""
        return sorted(
            record.parent.name
            for record in self.folder.glob(f"*/{RECORD}")
            if not record.parent.name.startswith(".")
            and self._operation(record) == operation
            and self._owner(record.parent) in (None, _mark(person))
        )

    def run(self, person: str, name: str) -> Path:
        """Return the folder of a run that a person may open: their own, or one of the command line.

        Raises:
            UsageError: there is none of that name, or it is another person's.
        """
        folder = self.readable(person, name)
        if folder.parent != self.folder or not (folder / RECORD).is_file():
            raise UsageError(f"expected the name of a run of yours in the workspace, got {shown(name)}")
        return folder

    def new_run(self, person: str, title: str) -> Path:
        """Return a folder for a run of a person, named after `title`: not there yet, and theirs as soon as it is."""
        words = "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())
        short = words[:40].encode()[:80].decode(errors="ignore")
        folder = self.inside(f"{short or 'run'}-{secrets.token_hex(3)}")
        with self._lock:
            if folder in self._promised or folder.exists():
                raise UsageError(f"{folder.name}: exists already in the workspace: try again")
            self._promised[folder] = _mark(person)
        return folder

    def claim(self, person: str, folder: Path) -> None:
        """Make a run a person's; `UsageError` where it is another's by now."""
        if self._owner(folder) in (None, _mark(person)):
            with contextlib.suppress(FileExistsError), (folder / OWNER).open("x") as file:
                file.write(_mark(person))
        if self._owner(folder) != _mark(person):
            raise UsageError(f"expected the name of a run of yours in the workspace, got {folder.name!r}")
        with self._lock:
            self._promised.pop(folder, None)

    def remember(self, person: str, tool: str, name: str) -> None:
        """Keep which run of a tool a person has open, for when they come back."""
        with self._lock:
            atomic_write(self._memory(person), json.dumps(self.open_runs(person) | {tool: name}).encode())

    def open_runs(self, person: str) -> dict[str, str]:
        """The runs a person has open, by tool; those that are gone are left out."""
        try:
            known = read_json(self._memory(person))
        except UsageError:
            return {}
        found = {}
        for tool, name in known.items() if isinstance(known, dict) else ():
            with contextlib.suppress(UsageError):
                found[tool] = self.run(person, name).name
        return found

    def _memory(self, person: str) -> Path:
        return self.folder / _PEOPLE / f"{_mark(person)}.json"

    def _around(self, path: Path) -> list[Path]:
        """The path and the folders around it in the workspace."""
        return [folder for folder in (path, *path.parents) if self.folder in folder.parents]

    def _owner(self, folder: Path) -> str | None:
        """The mark of the person whose run a folder is, None where it has none; a damaged mark lets nobody in."""
        if folder in self._promised:
            return self._promised[folder]
        path = folder / OWNER
        if not path.is_file():
            return "" if path.exists() else None
        try:
            with path.open(encoding="ascii") as file:
                return file.read(_MARK_LENGTH + 1)
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


def _is_no_name(part: str) -> bool:
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
    """A name as a file system that ignores capitals and ways of writing letters sees it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _mark(person: str) -> str:
    return hashlib.sha256(person.encode()).hexdigest()[:_MARK_LENGTH]
