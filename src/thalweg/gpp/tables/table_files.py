"""Table files: delimited text and Parquet, read strictly, column by column.

This module reads flux files, daily tables and lists of sites. Text may be UTF-8 or UTF-16 with a byte-order mark,
separated by commas, semicolons or tabs, with decimal points or (not between commas) decimal commas, with comment lines
before the header and a row of units below it. A file that cannot be read is refused with a message of one line.
"""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from thalweg.errors import MissingPathError, UsageError

MISSING_TEXTS = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none"})
"""Texts of a missing value, in lower case."""

_HEADER_BYTES = 1 << 20  # bytes that must hold the header
_DELIMITERS = ",;\t"
_MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the sheet as CSV",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"\x89HDF": "an HDF5 or NetCDF file: write its table as CSV",
    b"CDF": "a NetCDF file: write its table as CSV",
}
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_UNITS_IN_NAME = re.compile(r"^(?P<name>.+?)[ _]*[(\[]\s*(?P<units>[^)\]]+)[)\]]$|^(?P<bare>.+?)_(?P<mol>[uµμ]mol.*)$")


@dataclass(frozen=True)
class TableFile:
    """Table file whose header has been read.

    Attributes:
        path: Path of the file.
        names: Columns without their units, in order; "" for a column without a name.
        units: Units by column, where the names contain them.
        comments: Lines before the header that begin with ``#``.
        header: Line number of the header, from 1; 0 for Parquet.
        delimiter: Delimiter of the columns; "" for Parquet.
        encoding: Encoding of the text; "" for Parquet.
    """

    path: Path
    names: tuple[str, ...]
    units: dict[str, str] = field(default_factory=dict)
    comments: tuple[str, ...] = ()
    header: int = 0
    delimiter: str = ""
    encoding: str = ""

    @property
    def name(self) -> str:
        """Name of the file in messages."""
        return self.path.name

    def column(self, *names: str) -> str | None:
        """Return the file's spelling of the first of some column names that it has, ignoring case; None without one."""
        written = {name.lower(): name for name in reversed(self.names)}
        return next((written[name] for name in names if name in written), None)

    def read(self, wanted: Callable[[str], bool] = bool) -> pd.DataFrame:
        """Read columns with each cell as written: text, or the types of a Parquet file.

        Args:
            wanted: Predicate on column names that selects the columns; all named columns by default.

        Returns:
            One row per row of the file, indexed by line number.

        Raises:
            UsageError: The file has no row, a repeated column, a row of another length, or text in another encoding.
        """
        chosen = [name for name in self.names if wanted(name)]
        if twice := [name for name in chosen if chosen.count(name) > 1]:
            raise UsageError(f"{self.name}: column {twice[0]!r} is repeated: expected it once; remove or rename one")
        frame = self._text(chosen) if self.delimiter else _parquet(self.path)[chosen]
        if frame.empty:
            raise UsageError(f"{self.name}: no rows: expected data under the header")
        return frame

    def _text(self, chosen: list[str]) -> pd.DataFrame:
        positions = [self.names.index(name) for name in chosen]
        try:
            lines = self._check_lines()
            if not lines:
                return pd.DataFrame(columns=chosen)
            with self._open() as stream:
                for _ in range(self.header):
                    stream.readline()
                frame = pd.read_csv(
                    stream, sep=self.delimiter, header=None, usecols=positions, dtype=str, na_filter=False
                )
        except UnicodeError as error:
            raise UsageError(f"{self.name}: {_undecodable(error)}: save it as UTF-8") from error
        except UsageError:
            raise
        except (csv.Error, ValueError) as error:  # pandas' parser errors are ValueErrors
            raise UsageError(f"{self.name}: not a table ({' '.join(str(error).split())}): write it again") from error
        if len(frame) != len(lines):
            raise UsageError(f"{self.name}: {len(lines)} lines hold {len(frame)} rows: expected one row per line")
        frame = frame[positions]
        frame.columns = pd.Index(chosen)
        frame.index = pd.Index(lines, name="line")
        return frame

    def _check_lines(self) -> list[int]:
        """Return the line numbers of the rows, after checking that each has as many cells as the header.

        Raises:
            UsageError: A row has fewer or more cells.
        """
        lines = []
        with self._open() as stream:
            for number, line in enumerate(stream, 1):
                if number <= self.header or not line.strip("\r\n "):
                    continue
                if "\0" in line:
                    raise UsageError(f"{self.name}: line {number} holds a zero byte: damaged, download it again")
                cells = len(split(line, self.delimiter)) if '"' in line else line.count(self.delimiter) + 1
                if cells != len(self.names):
                    hint = "download it again or remove the line"
                    if not line.endswith("\n"):
                        hint = f"the file is cut short; {hint}"
                    elif cells > len(self.names) and self.delimiter == ",":
                        hint = f"with decimal commas, separate columns by semicolons; else {hint}"
                    raise UsageError(
                        f"{self.name}: line {number} has {cells} cells, the header {len(self.names)}: {hint}"
                    )
                lines.append(number)
        return lines

    def _open(self) -> IO[str]:
        return self.path.open(encoding=self.encoding)


def open_table(path: Path) -> TableFile:
    """Read the header of a table file.

    Raises:
        MissingPathError: The file does not exist.
        UsageError: The file is empty, not a table, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError as error:
        refused = MissingPathError if isinstance(error, FileNotFoundError) else UsageError
        raise refused(f"{path}: cannot be read ({error.strerror}): expected a table file") from error
    if not head.strip():
        raise UsageError(f"{path.name}: an empty file: expected a table")
    if head.startswith(b"PAR1"):
        return TableFile(path, tuple(str(name) for name in _parquet(path).columns))
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise UsageError(f"{path.name}: {what}")
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), "utf-8")
    text = head.decode(encoding, errors="replace")
    if "\0" in text:
        raise UsageError(f"{path.name}: holds zero bytes: expected text (UTF-8, or UTF-16 with a byte-order mark)")
    comments = []
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.startswith("#"):
            comments.append(line.rstrip())
        elif line.strip():
            delimiter = max(_DELIMITERS, key=line.count)
            try:
                written = split(line, delimiter)
            except csv.Error as error:
                raise UsageError(
                    f"{path.name}: line {number} is not a header ({error}): expected column names"
                ) from error
            names, units = _without_units([name.strip() for name in written])
            return TableFile(path, names, units, tuple(comments), number, delimiter, encoding)
    raise UsageError(f"{path.name}: comments only: expected a table")


def split(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line.

    Raises:
        csv.Error: The quotes of the line do not match.
    """
    return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, strict=True))


def split_units_row(frame: pd.DataFrame, key: str, label: str) -> tuple[dict[str, str], pd.DataFrame]:
    """Separate a row of units from the data.

    Args:
        frame: Cells from `TableFile.read`.
        key: Column whose values have digits, such as dates.
        label: Name of the file in a message.

    Returns:
        Units by column, if the first row holds them, and the other rows.

    Raises:
        UsageError: There is no other row.
    """
    first = as_text(frame.iloc[0])
    others = first.drop(key)
    words = pd.to_numeric(others, errors="coerce").isna() & ~others.str.lower().isin(MISSING_TEXTS)
    if re.search(r"\d", first[key]) or not words.any():
        return {}, frame
    if len(frame) == 1:
        raise UsageError(f"{label}: no rows under the units: expected data")
    return {str(name): unit for name, unit in others[words].items()}, frame.iloc[1:]


def to_numbers(frame: pd.DataFrame, label: str, decimal_comma: bool = False) -> pd.DataFrame:
    """Convert cells to numbers, NaN where missing; numeric columns stay as they are.

    Args:
        frame: Cells from `TableFile.read`.
        label: Name of the file in a message.
        decimal_comma: A comma may be a decimal comma.

    Raises:
        UsageError: A cell is not a number, or decimal points and commas are mixed.
    """
    texts = {str(name): as_text(cells) for name, cells in frame.items() if not pd.api.types.is_numeric_dtype(cells)}
    with_comma = _first_match(texts, r"^[+-]?\d*,\d+$") if decimal_comma else ""
    if with_comma and (pointed := _first_match(texts, r"\d\.\d|^\.\d|\d\.$")):
        raise UsageError(
            f"{label}: {with_comma} has a decimal comma, {pointed} a point: expected one of the two throughout"
        )
    read = {}
    for name, cells in texts.items():
        plain = cells.str.replace(",", ".", regex=False) if with_comma else cells
        values = pd.to_numeric(plain, errors="coerce").astype(float)
        wrong = values.isna() & ~plain.str.lower().isin(MISSING_TEXTS)
        if wrong.any():
            cell = cells[wrong]
            raise UsageError(
                f"{label}: column {name!r}, {first_row(cell)}: {cell.iloc[0][:40]!r} is not a number: expected "
                "numbers, missing ones as -9999, NaN or empty"
            )
        read[name] = values
    return pd.DataFrame(
        {str(name): read[str(name)] if name in read else _plain_dtype(cells) for name, cells in frame.items()},
        index=frame.index,
    )


def as_text(cells: pd.Series) -> pd.Series:
    """Return cells as text without surrounding spaces; "" where a cell is missing."""
    return cells.astype(str).where(cells.notna(), "").str.strip()


def first_row(cells: pd.Series) -> str:
    """Return the position of the first of some cells for a message: the line of a file, or the row of a frame."""
    return f"{cells.index.name or 'row'} {cells.index[0]}"


def _first_match(texts: dict[str, pd.Series], pattern: str) -> str:
    """Return the position of the first cell that matches, in words; "" without one."""
    for name, cells in texts.items():
        found = cells.str.contains(pattern)
        if found.any():
            return f"column {name!r}, {first_row(cells[found])}"
    return ""


def _plain_dtype(values: pd.Series) -> pd.Series:
    """Return numbers in a NumPy type; nullable integers of pandas become floats."""
    return values if isinstance(values.dtype, np.dtype) else values.astype(float)


def _without_units(written: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Split column names into names without units, and units by name."""
    names, units = [], {}
    for name in written:
        found = _UNITS_IN_NAME.match(name)
        plain = (found["name"] or found["bare"]) if found else name
        names.append(plain)
        if found:
            units[plain] = found["units"] or found["mol"]
    return tuple(names), units


def _parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file's table; a named index becomes a column."""
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(f"{path.name}: not a readable Parquet file ({reason}): write it again") from error
    frame = frame.reset_index() if any(frame.index.names) else frame.reset_index(drop=True)
    return frame.rename(columns=str)


def _undecodable(error: UnicodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"the byte 0x{error.object[error.start]:02x} is not {error.encoding} text"
    return f"cannot be decoded ({error})"
