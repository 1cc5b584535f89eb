"""Configuration of a tool: one frozen object for the function, the run folder, the command line and the browser."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.io.json_files import read_as
from thalweg.prompts import is_embedding_name
from thalweg.steer.runs import Run

if TYPE_CHECKING:
    from thalweg.generator import Generator

START = "start.safetensors"
"""File of the start embedding in a run folder."""


class ToolConfig:
    """Base of the tools' frozen configurations.

    Subclasses are frozen dataclasses. They check their values when they are made, without any model.

    Attributes:
        operation: the tool's name in run folders.
        recorded: names of the fields that a run folder stores, in the order of the file.
        prompt: a prompt, or the name of an embedding file, which is copied into the run.
    """

    operation: ClassVar[str]
    recorded: ClassVar[tuple[str, ...]]

    prompt: str

    def record(self) -> dict[str, Any]:
        """Return the fields that a run folder stores, as JSON values."""
        values = asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses
        return {name: values[name] for name in self.recorded}

    @classmethod
    def read(cls, run: Run) -> Self:
        """Return the configuration that a run folder stores.

        Raises:
            UsageError: the run belongs to another tool, or a value is missing, unknown or invalid.
        """
        if run.settings.keys() != set(cls.recorded):
            raise UsageError(f"{run.folder}: its settings are not those of {cls.operation}; begin a new run")
        return read_as(cls, run.settings, f"{run.folder}: its settings")

    def begin_run(
        self,
        folder: Path,
        generator: "Generator",
        loading: Mapping[str, Any] | None = None,
        start: Embedding | None = None,
    ) -> Run:
        """Begin a run in a new or empty folder, or open the run there if it has the same configuration.

        Args:
            folder: the run folder.
            generator: the model.
            loading: how the model was loaded, as JSON values.
            start: the embedding to start from; None: that of `prompt`.

        Raises:
            UsageError: the folder holds something else, or `prompt` names no embedding of the model, or a file that was
                changed since the run began.
        """
        from thalweg.generator import read_embedding

        if start is None:
            start = read_embedding(self.prompt, generator)
        run = Run.resume_or_create(folder, self.operation, generator.model, self.record(), loading)
        if not (run.folder / START).is_file():
            start.save(run.path(START))
        elif is_embedding_name(self.prompt):
            check_unchanged(self.prompt, start.hash, start_of(run, generator).hash)
        self.check_files(run)
        return run

    def check_files(self, run: Run) -> None:
        """Refuse files that the request names and that were changed since the run began; by default it names none."""


def check_unchanged(name: str, found: str, begun: str) -> None:
    """Refuse a file that was changed since a run began with it.

    Args:
        name: name of the file.
        found: hash of its content.
        begun: the hash that the run began with.

    Raises:
        UsageError: the hashes differ.
    """
    if found != begun:
        raise UsageError(f"{name} was changed since the run began: restore it, or begin a new run")


def start_of(run: Run, generator: "Generator") -> Embedding:
    """Return the embedding that a run starts from.

    Raises:
        UsageError: its file is missing, invalid or of another model.
    """
    return Embedding.load(run.folder / START, generator.model)
