"""Tiles of a store with overviews: they show its overviews, and read no chunk of the store itself."""

from pathlib import Path

import numpy as np
import pytest

from embedding_stores import StoreSpec, write_store
from thalweg.app.earth import tiles
from thalweg.app.earth.open_stores import OpenStore
from thalweg.earth.store.overviews.pyramid import write_overviews
from thalweg.earth.store.reader import open_overviews, open_store


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenStore:
    path: Path = tmp_path_factory.mktemp("stores") / "a.zarr"
    write_store(path, StoreSpec(shape=(300, 530), dimensions=3, block=64, dates=("2018-04-02T10:30",)))
    write_overviews(path)
    return OpenStore("a.zarr", "1", open_store(path), open_overviews(path))


def test_a_tile_of_a_level_is_the_overview_of_its_factor(opened: OpenStore) -> None:
    assert list(opened.overviews) == [2, 4] and tiles.levels(opened) == 3
    for level, factor in ((1, 2), (2, 4)):
        part = tiles.overview(opened, level, 0, 0)
        whole = opened.overviews[factor].embeddings.values[..., :256, :256]
        np.testing.assert_array_equal(part.embeddings.values, whole)
        assert tiles.stride(opened, level) == factor
    second = tiles.overview(opened, 1, 0, 1)
    assert dict(second.sizes)["x"] == 265 - 256
    np.testing.assert_array_equal(tiles.overview(opened, 0, 1, 2).x.values, opened.dataset.x.values[512:])


def test_every_layer_is_drawn_from_it(opened: OpenStore) -> None:
    for layer in ("preview", "components", "quality"):
        assert tiles.draw_tile(opened, layer, 2, 0, 0, 0).startswith(b"\x89PNG")
