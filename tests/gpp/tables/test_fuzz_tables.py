"""Damaged flux files and daily tables: a message of one line, or the values in the file; never a traceback."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import ThalwegError
from thalweg.gpp.data.fluxnet import read_flux

SEED = 17
TRIES = 40
DAYS = 35
MEASURED = ["gpp", "TA_F", "P_F"]
FLUX = "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2019-2019_1-4.csv"
HEADERS = {FLUX: "TIMESTAMP,GPP_NT_VUT_REF,TA_F,P_F", "table.csv": "site,time,gpp,TA_F,P_F"}

pytestmark = [
    pytest.mark.filterwarnings("ignore::thalweg.errors.DataWarning"),
    pytest.mark.parametrize("name", HEADERS),
]


def rows(name: str) -> list[str]:
    """Return the lines of a valid file without the header."""
    random = np.random.default_rng(0)
    days = pd.date_range("2019-01-01", periods=DAYS)
    keys = days.strftime("%Y%m%d") if name == FLUX else "XX-Abc," + days.strftime("%Y-%m-%d")
    values = np.stack([random.uniform(1, 20, DAYS), random.uniform(5, 25, DAYS), random.uniform(0, 9, DAYS)], 1)
    return [f"{key},{','.join(f'{value:.3f}' for value in row)}" for key, row in zip(keys, values, strict=True)]


def content(name: str) -> bytes:
    return "\n".join([HEADERS[name], *rows(name), ""]).encode()


def read(folder: Path, name: str, damaged: bytes) -> pd.DataFrame | None:
    """Read a damaged file; None if it is refused with a message of one line."""
    path = folder / name
    path.write_bytes(damaged)
    try:
        return read_flux(path)
    except ThalwegError as error:
        assert "\n" not in str(error)
        return None


def check(name: str, found: pd.DataFrame, damaged: bytes) -> None:
    """Compare the table with the damaged text cell by cell; a cell may be missing."""
    written = {}
    for line in damaged.decode("utf-8").splitlines()[1:]:
        cells = [cell.strip(' "').replace(",", ".") for cell in line.replace("\t", ";").split(";")]
        cells = cells if len(cells) > 1 else [cell.strip(' "') for cell in line.split(",")]
        written[pd.Timestamp(cells[-4])] = [float(cell) for cell in cells[-3:] if cell]
    assert set(found["time"]) <= set(written)
    for row in found.itertuples():
        for column, value in zip(MEASURED, written[row.time], strict=False):
            own = getattr(row, column, np.nan)
            assert np.isnan(own) or own == pytest.approx(value, rel=1e-9)


def damage(name: str, tmp_path: Path, change: Callable[[np.random.Generator, bytes], bytes]) -> int:
    """Read files with random damage and count those that are not refused."""
    random, whole, accepted = np.random.default_rng(SEED), content(name), 0
    for _ in range(TRIES):
        damaged = change(random, whole)
        found = read(tmp_path, name, damaged)
        if found is not None:
            check(name, found, damaged)
            accepted += 1
    return accepted


def test_the_whole_file_is_read(name: str, tmp_path: Path):
    found = read(tmp_path, name, content(name))
    assert found is not None and len(found) == DAYS and found[MEASURED].notna().all(axis=None)
    check(name, found, content(name))


def test_truncated_files(name: str, tmp_path: Path):
    accepted = damage(name, tmp_path, lambda random, whole: whole[: random.integers(len(whole))])
    assert accepted < TRIES / 3  # a file that ends with a whole row is a shorter file


def test_flipped_bytes(name: str, tmp_path: Path):
    def flip(random: np.random.Generator, whole: bytes) -> bytes:
        place = int(random.integers(len(HEADERS[name]) + 1, len(whole)))
        return whole[:place] + bytes([random.integers(256)]) + whole[place + 1 :]

    assert damage(name, tmp_path, flip) < TRIES / 2


def test_flipped_bytes_of_the_header(name: str, tmp_path: Path):
    def flip(random: np.random.Generator, whole: bytes) -> bytes:
        place = int(random.integers(len(HEADERS[name])))
        return whole[:place] + bytes([random.integers(32, 127)]) + whole[place + 1 :]

    damage(name, tmp_path, flip)


def test_swapped_separators(name: str, tmp_path: Path):
    def swap(random: np.random.Generator, whole: bytes) -> bytes:
        separator = b";\t, |"[int(random.integers(5)) :][:1]
        parts = whole.split(b",")
        kept = random.random(len(parts) - 1) < random.choice([0, 0.02, 0.5])
        return b"".join(part + (b"," if keep else separator) for part, keep in zip(parts, [*kept, True], strict=True))[
            :-1
        ]

    assert 0 < damage(name, tmp_path, swap) < TRIES


def test_lines_removed_doubled_and_moved(name: str, tmp_path: Path):
    def shuffle(random: np.random.Generator, whole: bytes) -> bytes:
        header, *lines = whole.rstrip().split(b"\n")
        chosen = random.choice(len(lines), len(lines) - 2, replace=bool(random.integers(2)))
        return b"\n".join([header, *(lines[index] for index in chosen), b""])

    assert 0 < damage(name, tmp_path, shuffle) < TRIES
