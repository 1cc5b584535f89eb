"""Text and Parquet files of other programs: read to the same values, or refused with a message of one line."""

import gzip
import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from thalweg.errors import MissingPathError, UsageError
from thalweg.gpp.tables.table_files import open_table, split_units_row, to_numbers

TEXT = "TIMESTAMP,TA_F (degC),GPP\n20190101,-1.5,2\n20190102,0.25,-9999\n20190103,3,\n"
READ = [[20190101, -1.5, 2], [20190102, 0.25, -9999], [20190103, 3, None]]


def read(path: Path) -> pd.DataFrame:
    file = open_table(path)
    return to_numbers(file.read(), file.name, decimal_comma=file.delimiter != ",")


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", ";").replace(".", ",").encode(),
        TEXT.replace(",", "\t").replace(".", ",").encode(),
        TEXT.replace(",", " , ").encode(),
        TEXT.replace("20190101,-1.5,2", '"20190101","-1.5","2"').encode(),
        f"# a comment, with commas\n\n{TEXT}".encode(),
        TEXT.replace("3,\n", "3,NaN\n\n").encode(),
    ],
)
def test_all_spellings_give_the_same_values(tmp_path: Path, content: bytes):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    file = open_table(path)
    assert file.names == ("TIMESTAMP", "TA_F", "GPP") and file.units == {"TA_F": "degC"}
    pd.testing.assert_frame_equal(
        read(path).reset_index(drop=True), pd.DataFrame(READ, columns=list(file.names)), check_dtype=False
    )


def test_parquet_is_read_with_its_index(tmp_path: Path):
    frame = pd.DataFrame(READ, columns=["TIMESTAMP", "TA_F", "GPP"])
    frame.set_index("TIMESTAMP").to_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(read(tmp_path / "table.parquet"), frame)


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("table.csv", TEXT)
    return content.getvalue()


def cut_parquet() -> bytes:
    content = io.BytesIO()
    pd.DataFrame({"a": [1.0]}).to_parquet(content)
    return content.getvalue()[:-5]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "an empty file"),
        (b" \n\n", "an empty file"),
        (b"# comment\n", "comments only"),
        (TEXT.splitlines()[0].encode(), "no rows"),
        (TEXT.encode("utf-16-le"), "zero bytes"),
        (TEXT.encode("utf-16")[:-1], "is not utf-16"),
        (TEXT.replace("degC", "°C").encode("latin-1"), "the byte 0xb0 is not utf-8 text"),
        (TEXT.encode()[:-2], "line 4 has 2 cells, the header 3: the file is cut short"),
        (TEXT.encode() + b"20190104,1,2,3\n", "line 5 has 4 cells, the header 3"),
        (TEXT.replace("-1.5", "-1,5").encode(), "decimal commas"),
        (TEXT.replace(",", ";").replace("-1.5", "-1,5").encode(), "has a decimal comma"),
        (TEXT.replace("-1.5", '"-1,5"').encode(), "'-1,5' is not a number"),
        (TEXT.replace(",", ";").replace("0.25", "1.000,25").encode(), "'1.000,25' is not a number"),
        (TEXT.replace("0.25", "O.25").encode(), "column 'TA_F', line 3: 'O.25' is not a number"),
        (TEXT.replace("0.25", "1_000").encode(), "'1_000' is not a number"),
        (TEXT.replace("20190102", '"20190102').encode(), "not a table"),
        (TEXT.replace("TA_F (degC)", "GPP").encode(), "column 'GPP' is repeated"),
        (f'"{TEXT}'.encode(), "line 1 is not a header"),
        (zipped(), "unpack it"),
        (gzip.compress(TEXT.encode(), mtime=0), "unpack it"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 or NetCDF file"),
        (cut_parquet(), "not a readable Parquet file"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes, expected: str):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read(path)
    assert expected in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith("table.csv: ")
    assert "(table.csv" not in str(refused.value)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot be read"):
        open_table(tmp_path)
    with pytest.raises(MissingPathError, match="cannot be read"):
        open_table(tmp_path / "none.csv")


def test_a_row_of_units_is_separated_from_data():
    frame = pd.DataFrame({"time": ["-", "20190101"], "gpp": ["gC m-2 d-1", "1"], "e1": ["", "2"]})
    units, rows = split_units_row(frame, "time", "table")
    assert units == {"gpp": "gC m-2 d-1"} and rows["gpp"].tolist() == ["1"]
    without_date = pd.DataFrame({"time": ["", "20190101"], "gpp": ["3", "1"]})
    assert split_units_row(without_date, "time", "table") == ({}, without_date)
    with pytest.raises(UsageError, match="no rows under the units"):
        split_units_row(frame.iloc[:1], "time", "table")
