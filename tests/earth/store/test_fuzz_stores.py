"""Embedding stores, cubes and checkpoints with damaged bytes: a one-line error, or the values that were written."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.random import Generator

import thalweg
from damaging import change_json, damage
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel, load_autoencoder
from thalweg.earth.store.zarr_chunks import checked_compressors
from thalweg.errors import ThalwegError
from thalweg.simulate import Landscape

SEED = 17
Values = dict[str, np.ndarray]


def outcome(read: Callable[[], Values], damage_done: str) -> Values | None:
    """Return the values that are read, or None after a one-line error; any other exception fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except ThalwegError as error:
        assert "\n" not in str(error), damage_done
        assert len(str(error)) < 1000, damage_done
        return None


def assert_same(found: Values, truth: Values, damage_done: str) -> None:
    for name, values in truth.items():
        assert name in found, f"{damage_done}: {name} is missing"
        assert found[name].dtype == values.dtype, f"{damage_done}: {name}"
        np.testing.assert_array_equal(found[name], values, err_msg=f"{damage_done}: {name}")


NAMES = ("embeddings", "uncertainty", "quality", "picture", "valid_context_dates", "time", "x", "y")


def check_store(path: Path, truth: Values, damage_done: str) -> int:
    """Read each variable of a store, compare it with the truth, and return the number of refused variables."""

    def reader(dataset: xr.Dataset, name: str) -> Callable[[], Values]:
        return lambda: {name: dataset[name].values}

    opened: list[xr.Dataset] = []
    if outcome(lambda: opened.append(thalweg.open(path)) or {}, damage_done) is None:
        return len(NAMES)
    refused = 0
    for name in NAMES:
        found = outcome(reader(opened[0], name), damage_done)
        refused += found is None
        if found is not None:
            assert_same(found, {name: truth[name]}, damage_done)
    return refused


def read_store(path: Path) -> Values:
    dataset = thalweg.open(path)
    return {name: dataset[name].values for name in NAMES}


@pytest.fixture(scope="module", params=[None, 8])
def store(
    request: pytest.FixtureRequest, cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    job = Job(cube, model, block=16, quantize=request.param)
    return embed_to_zarr(job, tmp_path_factory.mktemp("stores") / "store.zarr")


def test_damaged_chunks_of_a_store(store: Path, tmp_path: Path) -> None:
    random, truth = np.random.default_rng(SEED), read_store(store)
    files = sorted(path.relative_to(store) for path in store.rglob("*") if path.is_file() and path.name != "zarr.json")
    copy = Path(shutil.copytree(store, tmp_path / "store.zarr"))
    refused = 0
    for _ in range(40):
        file = files[random.integers(len(files))]
        refused += check_store(copy, truth, damage(copy / file, random))
        shutil.copy(store / file, copy / file)
    assert refused > 20  # the damaged bytes were read


@pytest.mark.parametrize("alter", [damage, change_json])
def test_damaged_metadata_of_a_store(alter: Callable[[Path, Generator], str], store: Path, tmp_path: Path) -> None:
    random, truth = np.random.default_rng(SEED), read_store(store)
    files = sorted(path.relative_to(store) for path in store.rglob("zarr.json"))
    copy = Path(shutil.copytree(store, tmp_path / "store.zarr"))
    refused = 0
    for number in range(60):
        file = files[random.integers(len(files))] if number % 4 == 0 else Path("zarr.json")
        refused += check_store(copy, truth, alter(copy / file, random))
        shutil.copy(store / file, copy / file)
    assert refused > 10


def test_damaged_chunks_of_a_cube(landscape: Landscape, tmp_path: Path) -> None:
    """Chunks as `fetch` writes them, each with its checksum."""
    random = np.random.default_rng(SEED)
    data = landscape.sentinel2.isel(time=slice(0, None, 8))
    encoding: dict[str, dict[str, Any]] = {name: {"compressors": checked_compressors()} for name in data.variables}
    for name in (name for name in data.data_vars if data[name].ndim == 3):
        encoding[str(name)]["chunks"] = (2, 16, 16)
    path = tmp_path / "cube.zarr"
    data.to_zarr(path, encoding=encoding, zarr_format=3, consolidated=False)

    def read() -> Values:
        cube = Cube.open(path)
        seen = cube.reference.read(cube.whole)
        return {"values": seen.values, "quality": seen.quality, "dates": cube.reference.dates}

    truth = read()
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")
    refused = 0
    for _ in range(30):
        file = files[random.integers(len(files))]
        before = file.read_bytes()
        damage_done = damage(file, random)
        found = outcome(read, damage_done)
        refused += found is None
        if found is not None:
            assert_same(found, truth, damage_done)
        file.write_bytes(before)
    assert refused > 15


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
@pytest.mark.parametrize("alter", [damage, change_json])
def test_damaged_checkpoints(
    alter: Callable[[Path, Generator], str], name: str, model_folder: Path, tmp_path: Path
) -> None:
    if name == "weights.safetensors" and alter is change_json:
        alter = changed_header
    random = np.random.default_rng(SEED)
    folder = Path(shutil.copytree(model_folder / "sentinel-1", tmp_path / "sentinel-1"))

    def read() -> Values:
        loaded = load_autoencoder(folder)
        tensors = {key: tensor.numpy() for key, tensor in loaded.state_dict().items()}
        return {**tensors, "offsets": np.array(loaded.sensor.offsets)}

    truth = read()
    refused = 0
    for _ in range(60):
        damage_done = alter(folder / name, random)
        found = outcome(read, damage_done)
        refused += found is None
        if found is not None:
            assert_same(found, truth, damage_done)
        shutil.copy(model_folder / "sentinel-1" / name, folder / name)
    assert refused > 50


def changed_header(path: Path, random: Generator) -> str:
    """Replace one value of a safetensors file's header."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = path.with_name("header.json")
    header.write_bytes(content[8 : 8 + length])
    damage_done = change_json(header, random)
    changed = header.read_bytes()
    header.unlink()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])
    return damage_done
