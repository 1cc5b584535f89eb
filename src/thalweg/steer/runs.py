"""A run folder: one tool's settings, images, embeddings and trace, readable by people and resumable by commands."""

import csv
import io
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from thalweg._version import __version__
from thalweg.embedding import ModelIdentity
from thalweg.errors import NotFiniteError, ThalwegError, UsageError
from thalweg.io.atomic import atomic_write
from thalweg.io.hashing import json_hash
from thalweg.io.image_files import png
from thalweg.io.json_files import read_as, read_json
from thalweg.io.state import STATE
from thalweg.limits import shown

FORMAT_VERSION = 1
RECORD = "run.json"
TRACE = "trace.csv"


class Run:
    """One folder that a tool writes; every file in it is written whole or not at all.

    Attributes:
        folder: where it lies.
        operation: the tool: "optimize", "navigate", "path", "imprint".
        model: the model the run's embeddings belong to.
        settings: the tool's parameters, as JSON values.
        loading: how the model was loaded, as JSON values; empty where nobody said.
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
            UsageError: something lies in the folder already.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder}: expected a new or empty folder for the run; choose another or resume that run")
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
        """Open a run to go on with it.

        Raises:
            UsageError: no run, another tool's or another model's, or of another format version.
        """
        run = cls.open_any(folder)
        if run.operation != operation:
            raise UsageError(f"{folder}: expected a run of {operation}, got one of {run.operation}")
        if model is not None and not model.matches(run.model):
            raise UsageError(f"{folder}: the run belongs to {run.model}, the model loaded is {model}; load that model")
        return run

    @classmethod
    def open_any(cls, folder: Path | str) -> "Run":
        """Open a run, whatever its tool and its model.

        Raises:
            UsageError: no run, or of another format version.
        """
        folder = Path(folder)
        if not (folder / RECORD).is_file():
            raise UsageError(f"{folder}: expected a run folder, found no {RECORD} in it")
        record = read_json(folder / RECORD, f"{folder}: its {RECORD}")
        if isinstance(record, dict) and record.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
            written_by = shown(record.get("thalweg_version")).strip("'")
            raise UsageError(
                f"{folder}: run format version {shown(record['format_version'])}, this package reads {FORMAT_VERSION}; "
                f"go on with the thalweg {written_by} that wrote it"
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
        """Open the run that lies in `folder` where it was asked the same, or begin one in an empty folder.

        The model is known by its weights, so that its folder and its device may be others.

        Raises:
            UsageError: as `open` and `create`, and for a run with other settings.
        """
        folder = Path(folder)
        if not (folder / RECORD).is_file():
            return cls.create(folder, operation, model, settings, loading)
        run = cls.open(folder, operation, model)
        had = {**run.loading, **run.settings}
        for name, value in json.loads(json.dumps({**(loading or {}), **settings})).items():
            if name not in ("model", "device") and had.get(name) != value:
                raise UsageError(
                    f"{folder}: the run there has {name} {had.get(name)!r}, asked for is {value!r}; "
                    "choose another folder, or the same settings to go on"
                )
        return run

    def path(self, name: str) -> Path:
        """Where the file `name` of this run lies; its folder is made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write one file, whole or not at all."""
        return atomic_write(self.path(name), content)

    def write_json(self, name: str, value: Any) -> Path:
        """Write `value` as indented JSON.

        Raises:
            NotFiniteError: it holds NaN or infinity, for which JSON has no words.
        """
        try:
            text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise NotFiniteError(f"{name}: expected finite numbers, got NaN or infinity; nothing is written") from error
        return self.write_bytes(name, text.encode())

    def write_record(self, name: str, record: Mapping[str, Any]) -> Path:
        """Write a record as JSON with the hash of what it says, by which `read_record` knows whether it was changed."""
        return self.write_json(name, {**record, "hash": json_hash(record)})

    def read_record(self, name: str) -> dict[str, Any]:
        """Return a record of this run, without its hash.

        Raises:
            UsageError: it can't be read, or was changed.
        """
        return checked_record(read_json(self.folder / name, f"{self.folder}: its {name}"), self.folder / name)

    def write_image(self, name: str, image: Tensor) -> Path:
        """Write one image (3, H, W) in 0..1 as PNG."""
        return self.write_bytes(name, png(image, name))

    def write_trace(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write the trace, one row a step, as CSV; columns are the first row's keys."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
        return self.write_bytes(TRACE, text.getvalue().encode())

    def read_trace(self) -> list[dict[str, str]]:
        """Return the trace's rows as text; none where nothing was traced yet."""
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
        """Return some columns of the trace as numbers, `step` as a whole one.

        Args:
            columns: which.
            optional: those of them that a row may leave empty: it then lacks the name.

        Raises:
            UsageError: the trace can't be read, lacks a column, or holds something else than numbers there.
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
    """What run.json holds."""

    format_version: int
    thalweg_version: str
    operation: str
    model: ModelIdentity
    settings: dict[str, Any]
    loading: dict[str, Any] | None = None


def checked_record(record: Any, path: Path) -> dict[str, Any]:
    """Return a record without its hash; one of an earlier version has none.

    Raises:
        UsageError: no record, or it was changed since it was written.
    """
    if not isinstance(record, dict):
        raise UsageError(
            f"{path.parent}: its {path.name} can't be read: expected names and values, got {shown(record)}"
        )
    said = {name: value for name, value in record.items() if name != "hash"}
    if "hash" in record and record["hash"] != json_hash(said):
        raise UsageError(f"{path.parent}: its {path.name} can't be read: it was changed since the tool wrote it")
    return said


def contact_sheet(images: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Return one picture (3, H', W') of images (N, 3, H, W) in rows of `columns`, white between them."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = images.new_ones(channels, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for index, image in enumerate(images.detach()):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


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
