"""Run folder: one tool's settings, images, embeddings and trace, readable by people and resumable by commands."""

import csv
import io
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg._version import __version__
from thalweg.embedding import ModelIdentity
from thalweg.errors import MissingPathError, NotFiniteError, ThalwegError, UsageError
from thalweg.io.atomic import atomic_write
from thalweg.io.hashing import json_hash
from thalweg.io.json_files import read_as, read_json
from thalweg.io.state import STATE
from thalweg.limits import shown

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
RECORD = "run.json"
TRACE = "trace.csv"


class Run:
    """Folder that a tool writes; every file in it is written atomically.

    Attributes:
        folder: the folder.
        operation: the tool: "optimize", "navigate", "path", "imprint", "generate".
        model: the model that the run's embeddings belong to.
        settings: the tool's parameters, as JSON values.
        loading: how the model was loaded, as JSON values; empty if unknown.
    """

    def __init__(
        self,
        folder: Path,
        operation: str,
        model: ModelIdentity,
        settings: Mapping[str, Any],
        loading: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.operation = operation
        self.model = model
        self.settings = dict(settings)
        self.loading = dict(loading or {})

    @classmethod
    def create(
        cls,
        folder: Path | str,
        operation: str,
        model: ModelIdentity,
        settings: Mapping[str, Any],
        loading: Mapping[str, Any] | None = None,
    ) -> "Run":
        """Begin a run in a new or empty folder.

        Raises:
            UsageError: the folder is not empty.
        """
        folder = Path(folder)
        check_new_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder, operation, model, settings, loading)
        record = {
            "format_version": FORMAT_VERSION,
            "thalweg_version": __version__,
            "operation": operation,
            "model": model.record(),
            "settings": run.settings,
            "loading": run.loading,
        }
        run.write_record(RECORD, record)
        return run

    @classmethod
    def open(cls, folder: Path | str, operation: str, model: ModelIdentity | None = None) -> "Run":
        """Open a run of a tool, to resume it.

        Raises:
            UsageError: the folder holds no run, or one of another tool, model or format version.
        """
        run = cls.open_any(folder)
        if run.operation != operation:
            raise UsageError(f"{folder}: expected a run of {operation}, got one of {run.operation}")
        if model is not None and not model.matches(run.model):
            raise UsageError(f"{folder}: the run belongs to {run.model}, the model loaded is {model}; load that model")
        return run

    @classmethod
    def open_any(cls, folder: Path | str) -> "Run":
        """Open a run of any tool and any model.

        Raises:
            MissingPathError: there is no such folder.
            UsageError: the folder holds no run, or one of another format version.
        """
        folder = Path(folder)
        if not (folder / RECORD).is_file():
            kind = UsageError if folder.exists() else MissingPathError
            raise kind(f"{folder}: expected a run folder, found no {RECORD} in it")
        record = read_json(folder / RECORD, f"{folder}: its {RECORD}")
        if isinstance(record, dict) and record.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
            written_by = shown(record.get("thalweg_version")).strip("'")
            raise UsageError(
                f"{folder}: run format version {shown(record['format_version'])}, this package reads {FORMAT_VERSION}; "
                f"resume it with the thalweg {written_by} that wrote it"
            )
        known = read_as(_Record, checked_record(record, folder / RECORD), f"{folder}: its {RECORD}")
        return cls(folder, known.operation, known.model, known.settings, known.loading)

    @classmethod
    def resume_or_create(
        cls,
        folder: Path | str,
        operation: str,
        model: ModelIdentity,
        settings: Mapping[str, Any],
        loading: Mapping[str, Any] | None = None,
    ) -> "Run":
        """Open the run in a folder if it has the same settings, or begin one in a new or empty folder.

        The model is identified by its weights; its folder and its device may differ.

        Raises:
            UsageError: as `open` and `create`, or the run has other settings.
        """
        folder = Path(folder)
        check_resumable(folder, operation, settings, loading)
        if not (folder / RECORD).is_file():
            return cls.create(folder, operation, model, settings, loading)
        return cls.open(folder, operation, model)

    def path(self, name: str) -> Path:
        """Return the path of the file `name` of this run; its folder is made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write one file atomically."""
        return atomic_write(self.path(name), content)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a value as indented JSON.

        Raises:
            NotFiniteError: the value holds NaN or infinity, which JSON does not have.
        """
        try:
            text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise NotFiniteError(f"{name}: expected finite numbers, got NaN or infinity; nothing is written") from error
        return self.write_bytes(name, text.encode())

    def write_record(self, name: str, record: Mapping[str, Any]) -> Path:
        """Write a record as JSON with a hash of its content, with which `read_record` detects changes."""
        return self.write_json(name, {**record, "hash": json_hash(record)})

    def read_record(self, name: str) -> dict[str, Any]:
        """Return a record of this run without its hash.

        Raises:
            UsageError: the record can't be read, or was changed.
        """
        return checked_record(read_json(self.folder / name, f"{self.folder}: its {name}"), self.folder / name)

    def write_image(self, name: str, image: "Tensor") -> Path:
        """Write one image (3, H, W) in 0..1 as PNG."""
        from thalweg.io.image_files import png

        return self.write_bytes(name, png(image, name))

    def write_trace(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write the trace as CSV, one row per step; the columns are the first row's keys."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
        return self.write_bytes(TRACE, text.getvalue().encode())

    def read_trace(self) -> list[dict[str, str]]:
        """Return the trace's rows as text; an empty list if there is no trace yet.

        Raises:
            UsageError: the trace can't be read.
        """
        path = self.folder / TRACE
        if not path.is_file():
            return []
        try:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file, strict=True)
                rows = list(reader)
        except (OSError, ValueError, csv.Error) as error:
            raise UsageError(f"{self.folder}: its {TRACE} can't be read ({shown(str(error))})") from error
        for row in rows:
            if None in row or None in row.values():
                expected = len(reader.fieldnames or ())
                raise UsageError(f"{self.folder}: its {TRACE} can't be read: expected {expected} values in each row")
        return rows

    def read_numbers(self, columns: Collection[str], optional: Collection[str] = ()) -> list[dict[str, float]]:
        """Return columns of the trace as numbers, `step` as an integer.

        Args:
            columns: names of the columns.
            optional: columns that may be empty in a row; the row then lacks the name.

        Raises:
            UsageError: the trace can't be read, lacks a column, or holds something other than numbers there.
        """
        where = f"{self.folder}: its {TRACE} can't be read"
        rows: list[dict[str, float]] = []
        for row in self.read_trace():
            numbers: dict[str, float] = {}
            for name in columns:
                if name not in row:
                    raise UsageError(f"{where}: it has no column {name}")
                if row[name] or name not in optional:
                    try:
                        numbers[name] = int(row[name]) if name == "step" else float(row[name])
                    except ValueError as error:
                        raise UsageError(f"{where}: expected a number as {name}, got {shown(row[name])}") from error
            rows.append(numbers)
        return rows


@dataclass(frozen=True)
class _Record:
    """Content of run.json."""

    format_version: int
    thalweg_version: str
    operation: str
    model: ModelIdentity
    settings: dict[str, Any]
    loading: dict[str, Any] | None = None


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that is not empty or can't be made, before anything is computed for it.

    Raises:
        UsageError: the folder is a file, is in a file, or is not empty.
        ThalwegError: it can't be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: expected a new or empty folder for the run; choose another or resume that run")
    _check_writable(folder)


def _check_writable(folder: Path) -> None:
    """Refuse a folder that can't be written or, where there is none, can't be made.

    Raises:
        UsageError: the folder is in a file.
        ThalwegError: the folder, or the one that it is to be made in, is read-only.
    """
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        raise UsageError(f"{folder}: expected a new or empty folder for the run, {place} is a file; choose another")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ThalwegError(f"{folder}: expected a folder that can be written, {place} is read-only; choose another")


def check_resumable(
    folder: Path, operation: str, settings: Mapping[str, Any], loading: Mapping[str, Any] | None = None
) -> None:
    """Refuse a folder that is neither empty nor a run with the same settings; needs no model.

    Args:
        folder: the run folder.
        operation: the tool.
        settings: the tool's parameters, as JSON values or what JSON makes of them.
        loading: how the model is to be loaded; its folder and its device may differ.

    Raises:
        UsageError: the folder holds something else, or a run of another tool or with other settings.
    """
    if not (folder / RECORD).is_file():
        check_new_folder(folder)
        return
    run = Run.open(folder, operation)
    _check_writable(folder)
    known = {**run.loading, **run.settings}
    for name, value in json.loads(json.dumps({**(loading or {}), **settings})).items():
        is_default = name not in known and value in (None, [])  # of an option that the run's version did not have
        if name not in ("model", "device") and known.get(name) != value and not is_default:
            raise UsageError(
                f"{folder}: the run there has {name} {known.get(name)!r}, asked for is {value!r}; choose another "
                "folder, or the same settings to resume it"
            )


def checked_record(record: Any, path: Path) -> dict[str, Any]:
    """Return a record without its hash; records of the first version have none.

    Raises:
        UsageError: the value is no record, or was changed after it was written.
    """
    if not isinstance(record, dict):
        raise UsageError(
            f"{path.parent}: its {path.name} can't be read: expected names and values, got {shown(record)}"
        )
    content = {name: value for name, value in record.items() if name != "hash"}
    if "hash" in record and record["hash"] != json_hash(content):
        raise UsageError(f"{path.parent}: its {path.name} can't be read: it was changed since the tool wrote it")
    return content


@contextmanager
def remove_failed_run(folder: Path) -> Iterator[None]:
    """Remove a run that began in this block and failed before there was anything to resume."""
    existed = folder.exists()
    is_new = not existed or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except (ThalwegError, OSError):
        if is_new and folder.is_dir() and not _can_resume(folder):
            for entry in folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            if not existed:
                folder.rmdir()
        raise


def _can_resume(folder: Path) -> bool:
    """Return whether a search has a state, or a navigation a node after its first."""
    return (folder / STATE).is_file() or len(list(folder.glob("nodes/*"))) > 1
