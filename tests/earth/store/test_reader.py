"""Stores that are refused: missing, damaged, or with contradictory metadata."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

import thalweg
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.reader import holds_embeddings, open_store
from thalweg.errors import MissingPathError, UsageError

WITHOUT_POSIX = """
import sys, warnings
from pathlib import Path
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None  # an import of it fails, as on Windows
warnings.simplefilter("ignore")
import thalweg
from thalweg.io.progress_log import ProgressLog
print(thalweg.open(sys.argv[1]).sizes["embedding"])
with ProgressLog(Path(sys.argv[2])) as log:
    log.start({})
    log.finalize()
"""


@pytest.fixture(scope="module")
def store(cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embed_to_zarr(Job(cube, model), tmp_path_factory.mktemp("stores") / "plain.zarr")


def test_a_path_without_an_embedding_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="no such store"):
        open_store(tmp_path / "nothing.zarr")
    (tmp_path / "file.zarr").write_text("text")
    with pytest.raises(UsageError, match="not a readable Zarr store"):
        open_store(tmp_path / "file.zarr")
    xr.Dataset({"rain": ("x", [1.0])}).to_zarr(tmp_path / "rain.zarr", consolidated=False)
    with pytest.raises(UsageError, match="a Zarr store without embeddings"):
        open_store(tmp_path / "rain.zarr")


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", '{"zarr_format": 3, "node_type": "group", "attributes": 5}'])
def test_damaged_metadata_raise_one_line_error(content: str, store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy.zarr"))
    (copy / "zarr.json").write_text(content)
    for opening in (thalweg.open, holds_embeddings):
        with pytest.raises(UsageError) as caught:
            opening(copy)
        assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{copy}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [("geoemb:gsd", 20.0), ("geoemb:dimensions", 8), ("spatial:transform", [10.0, 0.0, 0.0, 0.0, -10.0, 0.0])],
)
def test_a_store_with_contradictory_metadata_is_refused(name: str, value: object, store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy.zarr"))
    metadata = json.loads((copy / "zarr.json").read_text())
    metadata["attributes"][name] = value
    (copy / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(UsageError, match="its metadata are damaged"):
        open_store(copy)


def test_a_store_opens_and_is_locked_without_modules_of_posix(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run" / "out.zarr"
    done = subprocess.run([sys.executable, "-c", WITHOUT_POSIX, store, out], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "7"), done.stderr
    assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]
