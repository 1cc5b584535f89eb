"""Files of adapters as commands and run folders name them; checked without torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import MissingPathError, UsageError
from thalweg.io.safetensors_files import SUFFIX
from thalweg.limits import check_number, shown

MAX_STRENGTH = 10.0
"""Largest strength of a LoRA, in both directions; 1 is the strength that it was trained with."""
PICKLE_SUFFIXES = (".pt", ".bin", ".pth")
"""Suffixes of pickles that textual inversions are read from, if they hold tensors alone."""


_NUMBER = re.compile(r"\s*[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf|nan)\s*", re.IGNORECASE)
"""A strength as `float` reads it, without its underscores and other scripts' digits."""


@dataclass(frozen=True)
class LoraFile:
    """A LoRA and its strength.

    Attributes:
        path: safetensors file.
        strength: factor of what it adds to the weights.

    Raises:
        UsageError: no such file, no safetensors file, or a strength that is not from -10 to 10.
    """

    path: Path
    strength: float = 1.0

    def __post_init__(self) -> None:
        _check_file(self.path, "LoRA", (SUFFIX,))
        check_number(f"the strength of LoRA {self.path.name}", self.strength, -MAX_STRENGTH, MAX_STRENGTH)

    @classmethod
    def parse(cls, text: str) -> "LoraFile":
        """Read "path" or "path:strength".

        Raises:
            UsageError: as above, or what follows the last colon is no number.
        """
        name, colon, strength = text.rpartition(":")
        if not colon or strength.lower().endswith(SUFFIX):
            return cls(Path(text))
        if not _NUMBER.fullmatch(strength):
            raise UsageError(f"expected a LoRA as FILE or FILE:STRENGTH, such as style{SUFFIX}:0.8; got {shown(text)}")
        return cls(Path(name), float(strength))

    def absolute(self) -> str:
        """Return the text that `parse` reads, with an absolute path."""
        short = f"{self.strength:g}"
        return f"{self.path.resolve()}:{short if float(short) == self.strength else repr(self.strength)}"


def check_inversion_file(path: Path) -> Path:
    """Return the absolute path of a textual inversion's file.

    Raises:
        UsageError: no such file, or it has no suffix of one.
    """
    _check_file(path, "textual inversion", (SUFFIX, *PICKLE_SUFFIXES))
    return path.resolve()


def _check_file(path: Path, kind: str, suffixes: tuple[str, ...]) -> None:
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"expected a {kind} named *{', *'.join(suffixes)}, got {shown(str(path))}")
    if not path.is_file():
        raise MissingPathError(f"expected the file of a {kind}, found no {path}")
