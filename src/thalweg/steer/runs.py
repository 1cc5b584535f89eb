"""A run folder: one tool's settings, images, embeddings and trace, readable by people and resumable by commands."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from thalweg._version import __version__
from thalweg.embedding import ModelIdentity
from thalweg.errors import UsageError
from thalweg.files import write_whole

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
            "model": {"name": model.name, "hash": model.hash},
            "settings": run.settings,
            "loading": run.loading,
        }
        run.write_json(RECORD, record)
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
        if model is not None and model.hash != run.model.hash:
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
        try:
            record = json.loads((folder / RECORD).read_text())
            version, written_by = record["format_version"], record["thalweg_version"]
            if version != FORMAT_VERSION:
                raise UsageError(
                    f"{folder}: run format version {version}, this package reads {FORMAT_VERSION}; "
                    f"go on with the thalweg {written_by} that wrote it"
                )
            model = ModelIdentity(**record["model"])
            return cls(folder, record["operation"], model, record["settings"], record.get("loading"))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{folder}: its {RECORD} can't be read ({error!r})") from error

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

        Raises:
            UsageError: as `open` and `create`, and for a run with other settings.
        """
        folder = Path(folder)
        if not (folder / RECORD).is_file():
            return cls.create(folder, operation, model, settings, loading)
        run = cls.open(folder, operation, model)
        had = {**run.loading, **run.settings}
        for name, value in json.loads(json.dumps({**(loading or {}), **settings})).items():
            if had.get(name) != value:
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
        return write_whole(self.path(name), content)

    def write_json(self, name: str, value: Any) -> Path:
        """Write `value` as indented JSON."""
        return self.write_bytes(name, json.dumps(value, indent=2, ensure_ascii=False).encode())

    def write_image(self, name: str, image: Tensor) -> Path:
        """Write one image (3, H, W) in 0..1 as PNG."""
        return self.write_bytes(name, png(image))

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
        with path.open(newline="") as file:
            return list(csv.DictReader(file))


def png(image: Tensor) -> bytes:
    """Return an image (3, H, W) in 0..1 as the bytes of a PNG file; `UsageError` for other than 3 channels."""
    from PIL import Image

    if image.shape[0] != 3:
        raise UsageError(f"expected a picture of 3 channels, got {image.shape[0]}: leave out the run folder")

    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def contact_sheet(images: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Return one picture (3, H', W') of images (N, 3, H, W) in rows of `columns`, white between them."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = images.new_ones(channels, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for index, image in enumerate(images.detach()):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet
