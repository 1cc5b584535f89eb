"""The one folder the browser reaches: runs, embedding files and stores in it, each run with the person it is of."""

import contextlib
import hashlib
import json
import secrets
from pathlib import Path, PurePosixPath

from thalweg.errors import UsageError
from thalweg.files import write_whole
from thalweg.steer.runs import RECORD

OWNER = "person.txt"
_PEOPLE = ".people"


class Workspace:
    """A folder that everything the browser names lies in.

    People are told apart by a secret that their browser holds; files know only its hash.

    Attributes:
        folder: where it lies, resolved.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: expected a folder as the workspace, this is a file")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()

    def inside(self, name: str) -> Path:
        """Return where `name`, relative to the workspace, lies.

        Raises:
            UsageError: it leads outside, by `..`, from the root or through a link, or to a hidden file.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or "\0" in name or any(part.startswith((".", "/")) or ":" in part for part in parts):
            raise UsageError(f"expected the name of something in the workspace, got {name!r}")
        path = self.folder.joinpath(*parts).resolve()
        if not path.is_relative_to(self.folder):
            raise UsageError(f"expected the name of something in the workspace, {name!r} leads outside")
        return path

    def runs(self, person: str, operation: str) -> list[str]:
        """Names of the runs of a tool that a person may open: their own, and those of the command line."""
        return sorted(
            record.parent.name
            for record in self.folder.glob(f"*/{RECORD}")
            if self._operation(record) == operation and self._owner(record.parent) in (None, _mark(person))
        )

    def run(self, person: str, name: str) -> Path:
        """Return the folder of a run that a person may open: their own, or one of the command line.

        Raises:
            UsageError: there is none of that name, or it is another person's.
        """
        folder = self.inside(name)
        if not (folder / RECORD).is_file() or self._owner(folder) not in (None, _mark(person)):
            raise UsageError(f"expected the name of a run of yours in the workspace, got {name!r}")
        return folder

    def new_run(self, person: str, title: str) -> Path:
        """Make an empty folder for a run of a person, named after `title`."""
        words = "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())
        folder = self.inside(f"{words[:40] or 'run'}-{secrets.token_hex(3)}")
        folder.mkdir()
        return folder

    def claim(self, person: str, folder: Path) -> None:
        """Make a run a person's; `UsageError` where it is another's by now."""
        if self._owner(folder) is None:
            with contextlib.suppress(FileExistsError), (folder / OWNER).open("x") as file:
                file.write(_mark(person))
        if self._owner(folder) != _mark(person):
            raise UsageError(f"expected the name of a run of yours in the workspace, got {folder.name!r}")

    def remember(self, person: str, tool: str, name: str) -> None:
        """Keep which run of a tool a person has open, for when they come back."""
        write_whole(self._memory(person), json.dumps(self.open_runs(person) | {tool: name}).encode())

    def open_runs(self, person: str) -> dict[str, str]:
        """The runs a person has open, by tool; those that are gone are left out."""
        try:
            known = json.loads(self._memory(person).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {tool: name for tool, name in known.items() if (self.folder / name / RECORD).is_file()}

    def _memory(self, person: str) -> Path:
        return self.folder / _PEOPLE / f"{_mark(person)}.json"

    @staticmethod
    def _owner(folder: Path) -> str | None:
        file = folder / OWNER
        return file.read_text() if file.is_file() else None

    @staticmethod
    def _operation(record: Path) -> str | None:
        try:
            found = json.loads(record.read_text()).get("operation")
        except (OSError, ValueError, AttributeError):
            return None
        return found if isinstance(found, str) else None


def _mark(person: str) -> str:
    return hashlib.sha256(person.encode()).hexdigest()[:32]
