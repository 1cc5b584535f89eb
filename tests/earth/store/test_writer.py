"""The store: what xarray and rioxarray find in it, and what a kill leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.errors
import rioxarray  # noqa: F401  (gives datasets their .rio)
import xarray as xr
from pyproj import CRS

import thalweg
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import Outcome, embed_to_zarr, finish_block, run_in_process
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import Quality
from thalweg.earth.store.portable import structured
from thalweg.earth.store.reader import open_store
from thalweg.errors import ThalwegError, UsageError
from thalweg.gpp.data.features import open_source
from thalweg.io.progress_log import LOG_FILE

BLOCK = 12
KILLED = """
import os, signal, sys
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.inference.runner import embed_to_zarr
cube, model, out, block, blocks = sys.argv[1:]
told = []
def progress(done, total):
    told.append(done)
    if len(told) == int(blocks):
        os.kill(os.getpid(), signal.SIGKILL)
embed_to_zarr(Job(Cube.open(cube), EarthModel.load(model), block=int(block)), out, progress)
"""
KILLED_AT_RANDOM = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.io.progress_log import LOG_FILE
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.inference.runner import embed_to_zarr

torch.set_num_threads(1)
cube, model, out, block = sys.argv[1:5]
job, out = Job(Cube.open(cube), EarthModel.load(model), block=int(block)), Path(out)
moments, kills, resumed = random.Random(0), 0, 0
job.dates()  # reads the cube once, here
log = out.with_name(f".{out.name}.unfinished") / LOG_FILE
lines = lambda: len(log.read_bytes().splitlines()) if log.exists() else 0
while True:
    before = lines()
    resumed += before > 1
    child = os.fork()
    if not child:
        embed_to_zarr(job, out)
        os._exit(0)
    if kills < 20:
        further = moments.choice([0, 1])
        while lines() < before + further and not out.exists():
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        kills += 1
    if out.exists():
        if kills >= 20:
            break
        shutil.rmtree(out)
print(kills, resumed)
"""
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from thalweg.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # a file may not grow beyond it, as on a full disk
sys.argv = ["thalweg", "earth", "embed", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="module")
def store(cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embed_to_zarr(Job(cube, model, block=BLOCK), tmp_path_factory.mktemp("stores") / "plain.zarr")


def killed_run(cube_folder: Path, model_folder: Path, out: Path, blocks: int) -> dict[Path, int]:
    """Kill a run after some blocks; the shards it left and when they were written."""
    arguments = [cube_folder, model_folder, out, BLOCK, blocks]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    (left,) = out.parent.iterdir()
    return {
        file.relative_to(left): file.stat().st_mtime_ns
        for file in left.rglob("*")
        if "c" in file.parts and file.is_file()
    }


def test_the_store_is_what_the_same_embedding_in_memory_is(store: Path, cube: Cube, model: EarthModel) -> None:
    dataset, memory = open_store(store), embed(cube, model)
    assert set(dataset.data_vars) == set(memory.data_vars)
    assert set(dataset.coords) == set(memory.coords)
    for name in memory.variables:
        if np.issubdtype(memory[name].dtype, np.floating):
            np.testing.assert_allclose(dataset[name].values, memory[name].values, atol=1e-5, err_msg=str(name))
        else:
            np.testing.assert_array_equal(dataset[name].values, memory[name].values, err_msg=str(name))
    assert {key: dataset.attrs[key] for key in memory.attrs} == memory.attrs


def test_nothing_but_the_store_is_left(store: Path) -> None:
    assert [entry.name for entry in store.parent.iterdir()] == ["plain.zarr"]
    assert not (store / "unfinished.json").exists()


def test_plain_xarray_opens_it_with_its_reference_system(store: Path, cube: Cube) -> None:
    dataset = xr.open_zarr(store)
    assert dataset.rio.crs == CRS.from_wkt(cube.grid.crs.to_wkt())
    assert dataset.rio.crs.to_epsg() == 32631
    assert dataset.embeddings.dims == ("time", "embedding", "y", "x")
    assert dataset.embeddings.rio.crs.to_epsg() == 32631
    transform = dataset.isel(time=0, embedding=0).embeddings.rio.transform()
    assert list(transform)[:6] == dataset.attrs["spatial:transform"]
    assert dataset.quality.dtype == np.uint8
    np.testing.assert_array_equal(dataset.time.values.astype("datetime64[s]"), cube_dates(cube))


def cube_dates(cube: Cube) -> np.ndarray:
    return cube.reference.dates[cube.eligible()].astype("datetime64[s]")


def test_attributes_follow_their_conventions(store: Path, cube: Cube, model: EarthModel) -> None:
    attributes = xr.open_zarr(store).attrs
    names = {convention["name"] for convention in attributes["zarr_conventions"]}
    assert names == {"geoemb:", "proj:", "spatial:"}
    assert all(len(convention["uuid"]) == 36 for convention in attributes["zarr_conventions"])
    left, top = cube.x[0] - 5, cube.y[0] + 5
    expected = {
        "geoemb:type": "pixel",
        "geoemb:dimensions": 7,
        "geoemb:model": model.identifier,
        "geoemb:source_data": ["Sentinel-2 L2A", "Sentinel-1"],
        "geoemb:gsd": 10.0,
        "proj:code": "EPSG:32631",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [10.0, 0.0, left, 0.0, -10.0, top],
        "spatial:shape": [32, 32],
        "spatial:bbox": [left, top - 320, left + 320, top],
        "thalweg:version": thalweg.__version__,
    }
    assert {key: attributes[key] for key in expected} == expected
    assert attributes["proj:wkt2"].startswith("PROJCRS[")  # WKT 2; WKT 1 begins with PROJCS
    assert CRS.from_wkt(attributes["proj:wkt2"]).to_epsg() == 32631
    sources = attributes["thalweg:sources"]
    assert {name: source["where"] for name, source in sources.items()} == {
        "sentinel-2": "s2.nc",
        "sentinel-1": "s1.nc",
    }
    assert sources["sentinel-2"]["dates"] == len(cube.reference.dates)
    assert sources["sentinel-1"]["bands"] == ["VV", "VH"]


def test_a_reference_system_without_a_code_is_given_as_wkt_only(
    datasets: dict[str, xr.Dataset], model: EarthModel, tmp_path: Path
) -> None:
    own = CRS.from_proj4("+proj=laea +lat_0=50.7 +lon_0=3.5 +datum=WGS84 +units=m")
    data = datasets["sentinel-2"].isel(y=slice(8, 16), x=slice(8, 16)).rio.write_crs(own)
    attributes = xr.open_zarr(embed_to_zarr(Job(Cube.open(data), model), tmp_path / "out.zarr")).attrs
    assert "proj:code" not in attributes
    assert CRS.from_wkt(attributes["proj:wkt2"]).to_dict() == own.to_dict()


def test_flags_say_what_they_mean(store: Path) -> None:
    attributes = xr.open_zarr(store).quality.attrs
    assert attributes["flag_values"] == [int(quality) for quality in Quality]
    assert attributes["flag_meanings"].split() == [quality.name.lower() for quality in Quality]


def test_interval_factors_rise_through_one_at_68_percent(store: Path) -> None:
    attributes = xr.open_zarr(store).uncertainty.attrs
    factors = dict(zip(attributes["interval_levels"], attributes["interval_factors"], strict=True))
    assert factors[0.68] == 1
    assert sorted(factors.values()) == [factors[level] for level in sorted(factors)]


def test_source_items_are_kept(datasets: dict[str, xr.Dataset], model: EarthModel, tmp_path: Path) -> None:
    data = datasets["sentinel-2"].isel(y=slice(8, 16), x=slice(8, 16))
    items = [f"S2_{index}" for index in range(data.sizes["time"])]
    out = embed_to_zarr(Job(Cube.open(data.assign(item_id=("time", items))), model), tmp_path / "out.zarr")
    assert structured(open_store(out).attrs, "thalweg:sources")["sentinel-2"]["items"] == items


def test_a_store_is_one_shard_a_block(store: Path) -> None:
    shards = [file for file in (store / "embeddings" / "c").rglob("*") if file.is_file()]
    assert len(shards) == 9


@pytest.mark.skipif(
    tuple(map(int, rasterio.__gdal_version__.split(".")[:2])) >= (3, 13), reason="this rasterio's GDAL reads shards"
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_older_gdal_lists_the_arrays_and_says_what_it_lacks(store: Path) -> None:
    with rasterio.open(f'ZARR:"{store}"') as file:
        assert any(name.endswith(":/embeddings") for name in file.subdatasets)
    with pytest.raises(rasterio.errors.RasterioIOError, match="Unsupported codec: sharding_indexed"):
        rasterio.open(f'ZARR:"{store}":/embeddings')


def test_a_killed_run_goes_on_where_it_stopped(
    store: Path, cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run" / "out.zarr"
    out.parent.mkdir()
    written = killed_run(cube_folder, model_folder, out, blocks=4)
    assert sum(file.parts[0] == "embeddings" for file in written) == 4
    told: list[int] = []
    job = Job(Cube.open(cube_folder), EarthModel.load(model_folder), block=BLOCK)
    assert embed_to_zarr(job, out, lambda done, total: told.append(done)) == out
    assert len(told) == 9
    for file, when in written.items():
        assert (out / file).stat().st_mtime_ns == when, file
    xr.testing.assert_identical(xr.open_zarr(out).compute(), xr.open_zarr(store).compute())
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == sorted(p.relative_to(store) for p in store.rglob("*"))
    assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]


def test_a_run_killed_twenty_times_at_random_equals_an_undisturbed_one(
    store: Path, cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run" / "out.zarr"
    arguments = [str(argument) for argument in (cube_folder, model_folder, out, BLOCK)]
    done = subprocess.run([sys.executable, "-c", KILLED_AT_RANDOM, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, resumed = map(int, done.stdout.split())
    assert kills >= 20
    assert resumed > 5  # most runs went on with something, as opposed to having been killed at once
    assert contents(out) == contents(store)
    assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]


def test_another_job_starts_afresh(
    datasets: dict[str, xr.Dataset], cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run" / "out.zarr"
    out.parent.mkdir()
    killed_run(cube_folder, model_folder, out, blocks=2)
    # The same folder and dates, but Sentinel-1 is gone: what is finished is of another cube.
    fewer = tmp_path / cube_folder.name
    fewer.mkdir()
    os.symlink(cube_folder / "s2.nc", fewer / "s2.nc")
    model = EarthModel.load(model_folder)
    embed_to_zarr(Job(Cube.open(fewer), model, block=BLOCK), out)
    expected = embed(Cube.open(fewer), model)
    np.testing.assert_allclose(open_store(out).embeddings.values, expected.embeddings.values, atol=1e-5)
    assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]


def test_changed_values_start_afresh(
    datasets: dict[str, xr.Dataset], cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run" / "out.zarr"
    out.parent.mkdir()
    killed_run(cube_folder, model_folder, out, blocks=2)
    mended = tmp_path / cube_folder.name
    mended.mkdir()
    os.symlink(cube_folder / "s1.nc", mended / "s1.nc")
    brighter = datasets["sentinel-2"].copy(deep=True)
    brighter["B08"] += 300
    brighter["B08"].attrs = datasets["sentinel-2"]["B08"].attrs
    brighter.to_netcdf(mended / "s2.nc", engine="h5netcdf")
    model = EarthModel.load(model_folder)
    embed_to_zarr(Job(Cube.open(mended), model, block=BLOCK), out)
    expected = embed(Cube.open(mended), model)
    np.testing.assert_allclose(open_store(out).embeddings.values, expected.embeddings.values, atol=1e-5)


def test_an_existing_path_is_refused(store: Path, cube: Cube, model: EarthModel) -> None:
    with pytest.raises(UsageError, match=r"plain.zarr: exists already: choose another name or remove it"):
        embed_to_zarr(Job(cube, model), store)


def test_a_block_that_fails_is_recorded_and_the_others_go_on(
    damaged_corner: Path, model: EarthModel, tmp_path: Path
) -> None:
    cube = Cube.open(damaged_corner)
    out = tmp_path / "run" / "out.zarr"
    told: list[int] = []
    with pytest.raises(
        ThalwegError, match=r"4 of 9 blocks failed, .*s1.zarr: V[VH] cannot be read.*same command again"
    ) as caught:
        embed_to_zarr(Job(cube, model, block=BLOCK), out, lambda done, total: told.append(done))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, UsageError)  # exit code 1: some of it is done
    assert len(told) == 9
    (left,) = out.parent.iterdir()
    entries = [json.loads(line) for line in (left / LOG_FILE).read_text().splitlines()[1:]]
    assert sorted(entry["done"] for entry in entries if "done" in entry) == [0, 1, 2, 3, 6]
    assert sorted(entry["failed"] for entry in entries if "failed" in entry) == [4, 5, 7, 8]
    assert all("cannot be read" in entry["reason"] for entry in entries if "failed" in entry)


def test_the_same_job_again_does_the_failed_blocks_only(
    cube: Cube, store: Path, model: EarthModel, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"

    def two_fail(job: Job, folder: Path, indices: Sequence[int]) -> Iterator[Outcome]:
        for index in indices:
            yield Outcome(index, failed="OSError: a bad disk") if index in (2, 7) else finish_block(job, folder, index)

    with pytest.raises(ThalwegError, match="2 of 9 blocks failed, the first at row 0, column 24"):
        embed_to_zarr(Job(cube, model, block=BLOCK), out, executor=two_fail)
    redone: list[int] = []

    def noted(job: Job, folder: Path, indices: Sequence[int]) -> Iterator[Outcome]:
        redone.extend(indices)
        yield from run_in_process(job, folder, indices)

    embed_to_zarr(Job(cube, model, block=BLOCK), out, executor=noted)
    assert redone == [2, 7]
    assert contents(out) == contents(store)


def contents(path: Path) -> dict[Path, bytes]:
    """Every file of a folder, hidden ones included."""
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_job_of_which_no_block_can_be_done_leaves_nothing(
    damaged_corner: Path, model: EarthModel, tmp_path: Path
) -> None:
    cube = Cube.open(damaged_corner)
    with pytest.raises(ThalwegError, match=r"s1.zarr: V[VH] cannot be read"):
        embed_to_zarr(Job(cube, model, block=32), tmp_path / "run" / "out.zarr")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(cube: Cube, model: EarthModel, tmp_path: Path) -> None:
    out = tmp_path / "run" / "out.zarr"
    arguments = ["-c", FULL_DISK, str(cube.series["sentinel-2"].where), str(out)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert re.search(r"out.zarr: could not be written \(.*File too large.*\): free some space", done.stderr)
    assert list(out.parent.iterdir()) == []


def test_a_second_writer_is_refused_and_a_dead_ones_lock_is_taken_over(
    store: Path, cube: Cube, model: EarthModel, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    job = Job(cube, model, block=BLOCK)

    def meanwhile(job: Job, folder: Path, indices: Sequence[int]) -> Iterator[Outcome]:
        with pytest.raises(UsageError, match=r"out.zarr: another process is writing it: wait for it") as caught:
            embed_to_zarr(job, out)
        assert "\n" not in str(caught.value)
        yield from run_in_process(job, folder, indices[:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_to_zarr(job, out, executor=meanwhile)
    assert not out.exists()
    embed_to_zarr(job, out)
    assert contents(out) == contents(store)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.zarr"]


def test_a_cube_that_is_no_good_leaves_no_folder(
    datasets: dict[str, xr.Dataset], model: EarthModel, tmp_path: Path
) -> None:
    dark = datasets["sentinel-2"].copy(deep=True)
    dark["SCL"][:] = 9
    with pytest.raises(UsageError, match="no valid pixel"):
        embed_to_zarr(Job(Cube.open(dark), model), tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_in_the_last_instant_leaves_nothing_to_do(
    store: Path, cube: Cube, model: EarthModel, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    shutil.copytree(store, out)
    (out / LOG_FILE).write_text("{}\n")  # renamed, but the record not yet removed
    assert embed_to_zarr(Job(cube, model, block=BLOCK), out) == out
    assert contents(out) == contents(store)


def test_what_is_no_store_of_embeddings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such store"):
        open_store(tmp_path / "nothing.zarr")
    (tmp_path / "file.zarr").write_text("text")
    with pytest.raises(UsageError, match="not a readable Zarr store"):
        open_store(tmp_path / "file.zarr")
    xr.Dataset({"rain": ("x", [1.0])}).to_zarr(tmp_path / "rain.zarr", consolidated=False)
    with pytest.raises(UsageError, match="a Zarr store without embeddings"):
        open_store(tmp_path / "rain.zarr")


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", '{"zarr_format": 3, "node_type": "group", "attributes": 5}'])
def test_damaged_metadata_are_one_line(content: str, store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy.zarr"))
    (copy / "zarr.json").write_text(content)
    for opening in (thalweg.open, open_source):
        with pytest.raises(UsageError) as caught:
            opening(copy)
        assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{copy}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [("geoemb:gsd", 20.0), ("geoemb:dimensions", 8), ("spatial:transform", [10.0, 0.0, 0.0, 0.0, -10.0, 0.0])],
)
def test_a_store_that_contradicts_itself_is_refused(name: str, value: object, store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy.zarr"))
    metadata = json.loads((copy / "zarr.json").read_text())
    metadata["attributes"][name] = value
    (copy / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(UsageError, match="its metadata are damaged"):
        open_store(copy)
