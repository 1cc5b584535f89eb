"""Cubes with one damaged chunk: only its block fails, and the message names the file and the block."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import thalweg
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import DataWarning, ThalwegError
from thalweg.simulate import Landscape

SIDE = 8


@pytest.fixture(scope="module")
def zarr_cube(landscape: Landscape, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentinel-2 as a Zarr store in blocks of 8 x 8 pixels, one date per chunk."""
    data: xr.Dataset = landscape.sentinel2.isel(time=slice(0, None, 6))
    path = tmp_path_factory.mktemp("cubes") / "cube.zarr"
    encoding = {name: {"chunks": (1, SIDE, SIDE)} for name in data.data_vars if data[name].ndim == 3}
    data.to_zarr(path, encoding=encoding, zarr_format=3, consolidated=False)
    return path


def damaged(cube: Path, copy: Path, variable: str, chunk: str) -> Path:
    shutil.copytree(cube, copy)
    path = copy / variable / "c" / chunk
    assert path.is_file()
    path.write_bytes(b"\x07" * 40)
    return copy


@pytest.mark.parametrize("variable", ["B04", "SCL"])
def test_a_damaged_chunk_only_fails_its_block(
    variable: str, zarr_cube: Path, model: EarthModel, tmp_path: Path
) -> None:
    copy = damaged(zarr_cube, tmp_path / "cube.zarr", variable, "2/0/3")
    out = tmp_path / "out.zarr"
    whole = embed_to_zarr(Job(Cube.open(zarr_cube), model, block=SIDE), tmp_path / "whole.zarr")
    with pytest.raises(ThalwegError) as caught, pytest.warns(DataWarning, match=f"cannot be read.*{variable}"):
        embed_to_zarr(Job(Cube.open(copy), model, block=SIDE), out)
    line = str(caught.value)
    assert "\n" not in line and "blocks failed, the first at row 0, column " in line and f"{variable} cannot be" in line
    shutil.copy(zarr_cube / variable / "c" / "2/0/3", copy / variable / "c" / "2/0/3")
    embed_to_zarr(Job(Cube.open(copy), model, block=SIDE), out)
    xr.testing.assert_identical(thalweg.open(out).drop_attrs().compute(), thalweg.open(whole).drop_attrs().compute())


def test_the_error_in_memory_names_the_block(zarr_cube: Path, model: EarthModel, tmp_path: Path) -> None:
    copy = damaged(zarr_cube, tmp_path / "cube.zarr", "B04", "2/0/3")
    with (
        pytest.raises(ThalwegError, match=r"block at row 0, column 0: .*cube.zarr: B04 cannot be read") as caught,
        pytest.warns(DataWarning),
    ):
        thalweg.embed(copy, model)
    assert "\n" not in str(caught.value)


def test_the_commands_report_damage_in_one_line(
    zarr_cube: Path, model_folder: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    copy = damaged(zarr_cube, tmp_path / "cube.zarr", "SCL", "2/0/3")
    seen = cli("earth", "inspect", copy)
    assert seen.code == 0 and "cannot be read, the first at row 0, column 16" in seen.out + seen.err
    ran = cli("earth", "embed", copy, "out.zarr", "--model", model_folder)
    assert ran.code == 1
    assert "Traceback" not in ran.err and ran.err.splitlines()[-1].startswith("thalweg: ")


def test_an_unreadable_cube_raises_one_line_error(zarr_cube: Path, model: EarthModel, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(zarr_cube, tmp_path / "cube.zarr"))
    for path in (copy / "SCL" / "c").rglob("*"):
        if path.is_file():
            path.write_bytes(b"\x07")
    with pytest.raises(ThalwegError, match=r"SCL cannot be read|damaged") as caught:
        thalweg.embed(copy, model)
    assert "\n" not in str(caught.value)
