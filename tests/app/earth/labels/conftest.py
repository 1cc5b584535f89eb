"""A workspace with a store whose classes are known."""

import pytest

from mapping_scenes import write_scene_store
from thalweg.app.earth.open_stores import OpenStore, OpenStores
from thalweg.app.workspace import Workspace

pytest.importorskip("gradio", reason="gradio is not installed")


@pytest.fixture(scope="session")
def scene_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """`scene.zarr` is a store of 48 x 48 pixels with three classes, `other.zarr` the same."""
    folder = tmp_path_factory.mktemp("scenes")
    for name in ("scene.zarr", "other.zarr"):
        write_scene_store(folder / name)
    return Workspace(folder)


@pytest.fixture(scope="session")
def scene_store(scene_workspace: Workspace) -> OpenStore:
    return OpenStores(scene_workspace).open("scene.zarr")
