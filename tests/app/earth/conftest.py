"""A workspace with a small store, a broken one and a cube."""

from pathlib import Path

import pytest
import xarray as xr

from thalweg.app.workspace import Workspace
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel

pytest.importorskip("gradio", reason="gradio is not installed")


@pytest.fixture(scope="session")
def workspace(cube: Cube, datasets: dict[str, xr.Dataset], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """`fields.zarr` is a store, `broken.zarr` is damaged, `text.zarr` is none, `cube.zarr` has no embeddings."""
    import shutil

    folder = tmp_path_factory.mktemp("workspace")
    embed_to_zarr(Job(cube, EarthModel.load()), folder / "fields.zarr")
    shutil.copytree(folder / "fields.zarr", folder / "broken.zarr")
    for name in ("picture", "embeddings"):
        for shard in (folder / "broken.zarr" / name / "c").rglob("*"):
            if shard.is_file():
                shard.write_bytes(b"these bytes are no shard")
    (folder / "text.zarr").mkdir()
    (folder / "text.zarr" / "zarr.json").write_text("this is no metadata")
    datasets["sentinel-1"].drop_vars("spatial_ref").to_zarr(folder / "cube.zarr", zarr_format=3, consolidated=False)
    return Workspace(folder)


@pytest.fixture(scope="session")
def store(workspace: Workspace) -> Path:
    return workspace.folder / "fields.zarr"
