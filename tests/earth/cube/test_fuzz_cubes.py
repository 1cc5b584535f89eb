"""Randomly damaged cubes are read as before or refused in one line, and never give other values."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from thalweg.earth.cube.cube import Cube
from thalweg.errors import ThalwegError

SEED = 17
FLIPS = 20
CUTS = 12

Writer = Callable[[xr.Dataset, Path], Path]


def netcdf_4(data: xr.Dataset, folder: Path) -> Path:
    encoding = {name: {"zlib": True, "fletcher32": True} for name in data.data_vars}
    data.to_netcdf(folder / "s2.nc", engine="h5netcdf", encoding=encoding)
    return folder / "s2.nc"


def netcdf_3(data: xr.Dataset, folder: Path) -> Path:
    data["SCL"] = data["SCL"].astype(np.int8)
    data.to_netcdf(folder / "s2.nc", engine="scipy")
    return folder / "s2.nc"


def zarr_2(data: xr.Dataset, folder: Path) -> Path:
    data.chunk(time=2).to_zarr(folder / "s2.zarr", zarr_format=2, consolidated=True)
    return folder / "s2.zarr"


def zarr_3(data: xr.Dataset, folder: Path) -> Path:
    codecs = [zarr.codecs.BytesCodec(), zarr.codecs.Crc32cCodec()]
    encoding = {name: {"serializer": codecs[0], "compressors": codecs[1:]} for name in data.data_vars}
    data.chunk(time=2).to_zarr(folder / "s2.zarr", zarr_format=3, consolidated=False, encoding=encoding)
    return folder / "s2.zarr"


def contents(source: Path) -> list[tuple[np.ndarray, ...]]:
    """Return everything that a cube holds.

    Raises:
        ThalwegError: the cube is refused.
    """
    cube = Cube.open(source)
    held = []
    for series in cube.series.values():
        seen = series.read(cube.whole)
        held.append((cube.x, cube.y, series.dates, seen.values, seen.quality))
    return held


def read_or_refused(source: Path) -> list[tuple[np.ndarray, ...]] | None:
    try:
        return contents(source)
    except ThalwegError as error:
        assert "\n" not in str(error)
        return None


def assert_as_before_or_refused(source: Path, before: list[tuple[np.ndarray, ...]]) -> bool:
    """Return whether the cube was refused."""
    after = read_or_refused(source)
    if after is None:
        return True
    for one, other in zip(after, before, strict=True):
        for array, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, expected)
    return False


def flipped(whole: bytes, places: np.ndarray, generator: np.random.Generator) -> Iterator[bytes]:
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        yield bytes(damaged)


@pytest.mark.parametrize("write", [netcdf_4, netcdf_3])
def test_a_truncated_netcdf_file(write: Writer, make_s2: Callable, tmp_path: Path) -> None:
    file = write(make_s2(), tmp_path)
    whole, before = file.read_bytes(), contents(file)
    refused = 0
    for length in np.linspace(0, len(whole) - 1, CUTS).astype(int):
        file.write_bytes(whole[:length])
        refused += assert_as_before_or_refused(file, before)
    assert refused >= CUTS - 1  # the last byte may be unused


@pytest.mark.parametrize("write", [netcdf_4, netcdf_3])
def test_a_netcdf_file_with_a_wrong_byte_anywhere(write: Writer, make_s2: Callable, tmp_path: Path) -> None:
    file = write(make_s2(), tmp_path)
    whole, generator = file.read_bytes(), np.random.default_rng(SEED)
    places = generator.integers(0, len(whole), FLIPS)
    read = []
    for damaged in flipped(whole, places, generator):
        file.write_bytes(damaged)
        read.append(read_or_refused(file) is not None)
    assert sum(read) > 0


def test_a_wrong_byte_in_the_numbers_of_a_netcdf_file_is_detected(make_s2: Callable, tmp_path: Path) -> None:
    file = netcdf_4(make_s2(), tmp_path)
    before, generator = contents(file), np.random.default_rng(SEED)
    with h5py.File(file) as opened:
        chunks = [opened[name].id.get_chunk_info(0) for name in ("B02", "B8A", "SCL")]
    whole = file.read_bytes()
    places = np.concatenate([chunk.byte_offset + generator.integers(0, chunk.size, 8) for chunk in chunks])
    refused = 0
    for damaged in flipped(whole, places, generator):
        file.write_bytes(damaged)
        refused += assert_as_before_or_refused(file, before)
    assert refused >= len(places) - 2


def test_a_wrong_byte_in_a_zarr_chunk_is_detected(make_s2: Callable, tmp_path: Path) -> None:
    store = zarr_3(make_s2(), tmp_path)
    before, generator = contents(store), np.random.default_rng(SEED)
    for name in ("B02", "SCL"):
        chunk = store / name / "c" / "1" / "0" / "0"
        whole = chunk.read_bytes()
        for damaged in flipped(whole, generator.integers(0, len(whole), 10), generator):
            chunk.write_bytes(damaged)
            assert assert_as_before_or_refused(store, before)
        chunk.write_bytes(whole)


@pytest.mark.parametrize("write", [zarr_2, zarr_3])
def test_a_truncated_zarr_chunk(write: Writer, make_s2: Callable, tmp_path: Path) -> None:
    store = write(make_s2(), tmp_path)
    before = contents(store)
    chunk = next(path for path in (store / "B02" / "c" / "1" / "0" / "0", store / "B02" / "1.0.0") if path.exists())
    whole = chunk.read_bytes()
    for length in np.linspace(0, len(whole) - 1, CUTS).astype(int):
        chunk.write_bytes(whole[:length])
        assert assert_as_before_or_refused(store, before)


def metadata_of(store: Path) -> list[Path]:
    names = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    return sorted(path for path in store.rglob("*") if path.name in names)


@pytest.mark.parametrize("write", [zarr_2, zarr_3])
def test_zarr_metadata_with_a_wrong_byte(write: Writer, make_s2: Callable, tmp_path: Path) -> None:
    store = write(make_s2(), tmp_path)
    generator = np.random.default_rng(SEED)
    files = metadata_of(store)
    for _ in range(FLIPS):
        file = files[generator.integers(len(files))]
        whole = file.read_bytes()
        (damaged,) = flipped(whole, generator.integers(0, len(whole), 1), generator)
        file.write_bytes(damaged)
        read_or_refused(store)
        file.write_bytes(whole)


INVALID: list[Any] = [
    None,
    -1,
    0,
    10**12,
    1e308,
    "",
    "x",
    [],
    {},
    [[]],
    {"a": [None]},
    True,
    ["x", "y", "z"],
    [10**9] * 3,
]


def entries_in(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) of a JSON document."""
    if isinstance(document, dict | list):
        for key in list(document) if isinstance(document, dict) else range(len(document)):
            yield document, key
            yield from entries_in(document[key])


@pytest.mark.parametrize("write", [zarr_2, zarr_3])
def test_zarr_metadata_with_an_invalid_value(write: Writer, make_s2: Callable, tmp_path: Path) -> None:
    store = write(make_s2(), tmp_path)
    generator = np.random.default_rng(SEED)
    files = [file for file in metadata_of(store) if file.parent.name in ("B02", "SCL", "x", "time", "spatial_ref")]
    for _ in range(2 * FLIPS):
        file = files[generator.integers(len(files))]
        whole = file.read_text()
        document = json.loads(whole)
        entries = list(entries_in(document))
        if entries:
            container, key = entries[generator.integers(len(entries))]
            container[key] = INVALID[generator.integers(len(INVALID))]
            file.write_text(json.dumps(document))
            read_or_refused(store)
            file.write_text(whole)


def test_endlessly_nested_metadata(make_s2: Callable, tmp_path: Path) -> None:
    store = zarr_3(make_s2(), tmp_path)
    (store / "B02" / "zarr.json").write_text("[" * 100_000)
    assert read_or_refused(store) is None
