"""A store far larger than its tiles: only chunks in view are read, and memory stays bounded."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.abc.store import RangeByteRequest

from thalweg.app.earth import pixels, tiles
from thalweg.app.earth.open_stores import OpenStore, OpenStores
from thalweg.app.earth.routes import describe_store
from thalweg.app.workspace import Workspace
from thalweg.earth.positions import PixelIndex
from thalweg.earth.store.schema import spatial_attributes

BLOCK, BLOCKS = 64, 64
SIDE = BLOCK * BLOCKS


def enlarge(small: Path, large: Path) -> None:
    """Write a store of BLOCKS x BLOCKS shards, every one a hard link to one real shard: large, and cheap to make."""
    source = zarr.open_group(small, mode="r")
    target = zarr.open_group(large, mode="w", zarr_format=3)
    target.attrs.update(source.attrs)
    for name, array in source.arrays():
        flat = array.ndim < 3
        shape = (SIDE,) if name in ("x", "y") else array.shape if flat else (*array.shape[:-2], SIDE, SIDE)
        made = target.create_array(
            name,
            shape=shape,
            dtype=array.dtype,
            chunks=shape if flat else array.chunks,
            shards=None if flat else array.shards,
            fill_value=array.fill_value,
            dimension_names=array.metadata.dimension_names,
            attributes=dict(array.attrs),
        )
        if name in ("x", "y"):
            step = float(array[1] - array[0])
            made[:] = float(array[0]) + step * np.arange(SIDE)
        elif flat:
            made[...] = array[...]
        else:
            values = np.tile(array[:], (1,) * (array.ndim - 2) + (2, 2))
            made[..., :BLOCK, :BLOCK] = values
            link_everywhere(large / name / "c", array.ndim - 2)
    x, y = np.asarray(target["x"]), np.asarray(target["y"])
    target.attrs.update(spatial_attributes(x, y, source.attrs["geoemb:gsd"]))


def link_everywhere(chunks: Path, leading: int) -> None:
    corner = chunks.joinpath(*["0"] * leading)
    shard = corner / "0" / "0"
    for row in range(BLOCKS):
        (corner / str(row)).mkdir(exist_ok=True)
        for column in range(BLOCKS):
            if row or column:
                os.link(shard, corner / str(row) / str(column))


@pytest.fixture(scope="module")
def large(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    enlarge(store, folder / "large.zarr")
    return folder


@pytest.fixture
def opened(large: Path) -> OpenStore:
    return OpenStores(Workspace(large)).open("large.zarr")


class Reads:
    """Reads from the disk: shards touched, and chunks read from them, by variable."""

    def __init__(self) -> None:
        self.chunks: list[str] = []

    def of(self, variable: str) -> list[str]:
        return [key for key in self.chunks if f"{variable}/c/" in key]

    def shards(self, variable: str) -> set[tuple[int, int]]:
        return {(int(key.split("/")[-2]), int(key.split("/")[-1])) for key in self.of(variable)}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    found = Reads()
    read = zarr.storage.LocalStore.get

    async def counted(self, key, prototype=None, byte_range=None):  # type: ignore[no-untyped-def]
        if "/c/" in key and (byte_range is None or isinstance(byte_range, RangeByteRequest)):
            found.chunks.append(key)
        return await read(self, key, prototype, byte_range)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", counted)
    yield found


def in_view(level: int, row: int, column: int) -> set[tuple[int, int]]:
    """The shards under a tile."""
    covered = tiles.TILE_SIZE * 2**level // BLOCK
    return {
        (shard_row, shard_column)
        for shard_row in range(row * covered, min(BLOCKS, (row + 1) * covered))
        for shard_column in range(column * covered, min(BLOCKS, (column + 1) * covered))
    }


@pytest.mark.parametrize(("layer", "variable"), [("preview", "picture"), ("quality", "quality")])
def test_a_tile_reads_the_chunks_under_it_on_its_date_alone(
    opened: OpenStore, reads: Reads, layer: str, variable: str
) -> None:
    tiles.draw_tile(opened, layer, 0, 3, 5, date=2)
    assert reads.shards(variable) == in_view(0, 3, 5)
    assert len(reads.of(variable)) == 16
    assert not reads.of("embeddings")


def test_a_tile_of_components_reads_its_own_chunks_once_the_axes_are_fitted(opened: OpenStore, reads: Reads) -> None:
    opened.components()
    assert len(reads.of("embeddings")) <= 2048
    reads.chunks.clear()
    tiles.draw_tile(opened, "components", 0, 3, 5, date=2)
    assert reads.shards("embeddings") == in_view(0, 3, 5)
    assert len(reads.chunks) == 16


@pytest.mark.parametrize("level", range(5))
def test_a_tile_of_any_level_keeps_to_its_budget(opened: OpenStore, reads: Reads, level: int) -> None:
    shown = np.frombuffer(tiles.draw_tile(opened, "quality", level, 0, 0, date=2), np.uint8)
    assert shown.size > 50
    assert 0 < len(reads.of("quality")) <= tiles.MAX_CHUNKS
    assert reads.shards("quality") <= in_view(level, 0, 0)
    reads.chunks.clear()
    similarity = opened.similarity_to(PixelIndex(7, 9), tiles.similarity_dates(opened, level))
    reads.chunks.clear()
    part = tiles.window(opened, level, 0, 0, tiles.stride(opened, level, tiles.MAX_SIMILARITY_CHUNKS))
    similarity.compute(part)
    assert 0 < len(reads.chunks) <= tiles.MAX_SIMILARITY_READS


def test_a_pixel_reads_its_own_shard(opened: OpenStore, reads: Reads) -> None:
    series = pixels.pixel_series(opened, PixelIndex(1000, 2000))
    dates = opened.dataset.sizes["time"]
    assert len(series["values"]) == dates
    for variable in ("embeddings", "uncertainty", "quality"):
        assert reads.shards(variable) == {(1000 // BLOCK, 2000 // BLOCK)}
        assert len(reads.of(variable)) <= dates


def test_opening_reads_no_data_and_clear_fractions_a_bounded_part(opened: OpenStore, reads: Reads) -> None:
    describe_store(opened)
    assert not [key for key in reads.chunks if key.split("/c/")[0] not in ("x", "y", "time", "embedding")]
    clear = opened.clear_fractions()
    assert len(clear) == opened.dataset.sizes["time"]
    assert 0 < len(reads.of("quality")) <= 2048


READ_EVERYTHING = """
import resource, sys
from thalweg.app.earth import pixels, tiles
from thalweg.app.earth.routes import describe_store
from thalweg.app.earth.open_stores import OpenStores
from thalweg.app.workspace import Workspace
from thalweg.earth.positions import PixelIndex

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

opened = OpenStores(Workspace(sys.argv[1])).open("large.zarr")
before = peak()
describe_store(opened), opened.clear_fractions()
for level in range(tiles.levels(opened)):
    for layer in tiles.LAYERS:
        tiles.draw_tile(opened, layer, level, 0, 0, date=2, pixel=PixelIndex(7, 9))
pixels.pixel_series(opened, PixelIndex(1000, 2000))
print(peak() - before)
"""


def test_memory_stays_far_below_one_date_of_the_store(large: Path) -> None:
    one_date = SIDE * SIDE * 7 * 4
    done = subprocess.run(
        [sys.executable, "-c", READ_EVERYTHING, str(large)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout)
    assert grown < one_date / 2, f"{grown / 1e6:.0f} MB, one date of the embeddings has {one_date / 1e6:.0f} MB"
