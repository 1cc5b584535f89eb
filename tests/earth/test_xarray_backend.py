"""Backend of xarray: found by its name as an installed entry point, opens stores and other projects' files."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import thalweg
from foreign_files import unit_integers, write_alphaearth
from thalweg.earth.xarray_backend import ThalwegBackend
from thalweg.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    return write_alphaearth(tmp_path, unit_integers())


def test_the_entry_point_is_found_by_its_name(tile: Path, tmp_path: Path) -> None:
    """Install the declared entry points next to the source, then open by the engine's name in a fresh process."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["xarray.backends"]
    info = tmp_path / "site" / "thalweg_entry_points-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thalweg-entry-points\nVersion: 0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in declared.items())
    (info / "entry_points.txt").write_text(f"[xarray.backends]\n{lines}\n")
    program = """
import sys, xarray as xr
dataset = xr.open_dataset(sys.argv[1], engine="thalweg")
print(dataset.embeddings.shape, dataset.attrs["thalweg:model"])
"""
    path = f"{info.parent}:{ROOT / 'src'}"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tile)], capture_output=True, text=True, env={"PYTHONPATH": path}
    )
    assert done.stdout.split("\n")[0] == "(1, 64, 48, 48) alphaearth-foundations-v1", done.stderr


def test_it_gives_what_open_gives(tile: Path) -> None:
    expected = thalweg.open(tile)
    opened = xr.open_dataset(tile, engine=ThalwegBackend)
    xr.testing.assert_identical(opened.drop_encoding(), expected.drop_encoding())
    chunked = xr.open_dataset(tile, engine=ThalwegBackend, chunks={"y": 16})
    np.testing.assert_array_equal(chunked.embeddings.isel(x=5).values, expected.embeddings.isel(x=5).values)
    assert "embeddings" not in xr.open_dataset(tile, engine=ThalwegBackend, drop_variables="embeddings")


def test_it_is_never_guessed(tile: Path) -> None:
    assert not ThalwegBackend().guess_can_open(tile)
    with pytest.raises(UsageError, match="expected the path of embeddings"):
        ThalwegBackend().open_dataset(b"bytes")
