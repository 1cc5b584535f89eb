"""Jobs that write stores: kills, failing blocks, full disks and concurrent writers."""

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
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import Outcome, embed_to_zarr, finish_block, run_in_process
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.reader import open_store
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.progress_log import LOG_FILE

BLOCK = 12
KILLED = """
import os, signal, sys
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.inference.runner import embed_to_zarr
cube, model, out, block, blocks = sys.argv[1:]
calls = []
def progress(done, total):
    calls.append(done)
    if len(calls) == int(blocks):
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
    """Kill a run after some blocks; return the shards that it left and when they were written."""
    arguments = [cube_folder, model_folder, out, BLOCK, blocks]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    left = out.with_name(f".{out.name}.unfinished")
    assert {entry.name for entry in out.parent.iterdir()} == {left.name, f".{out.name}.lock"}
    return {
        file.relative_to(left): file.stat().st_mtime_ns
        for file in left.rglob("*")
        if "c" in file.parts and file.is_file()
    }


def contents(path: Path) -> dict[Path, bytes]:
    """Every file of a folder, hidden ones included."""
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_finished_job_leaves_only_the_store(store: Path) -> None:
    assert [entry.name for entry in store.parent.iterdir()] == ["plain.zarr"]
    assert not (store / "unfinished.json").exists()


def test_a_killed_run_resumes(store: Path, cube_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run" / "out.zarr"
    out.parent.mkdir()
    written = killed_run(cube_folder, model_folder, out, blocks=4)
    assert sum(file.parts[0] == "embeddings" for file in written) == 4
    calls: list[int] = []
    job = Job(Cube.open(cube_folder), EarthModel.load(model_folder), block=BLOCK)
    assert embed_to_zarr(job, out, lambda done, total: calls.append(done)) == out
    assert len(calls) == 9
    for file, when in written.items():
        assert (out / file).stat().st_mtime_ns == when, file
    xr.testing.assert_identical(xr.open_zarr(out).compute(), xr.open_zarr(store).compute())
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == sorted(p.relative_to(store) for p in store.rglob("*"))
    assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]


def test_a_run_killed_twenty_times_at_random_is_identical_to_an_undisturbed_one(
    store: Path, cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run" / "out.zarr"
    arguments = [str(argument) for argument in (cube_folder, model_folder, out, BLOCK)]
    done = subprocess.run([sys.executable, "-c", KILLED_AT_RANDOM, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, resumed = map(int, done.stdout.split())
    assert kills >= 20
    assert resumed > 5  # most runs resumed something, as opposed to having been killed at once
    assert contents(out) == contents(store)
    assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]


def test_another_job_starts_from_scratch(
    datasets: dict[str, xr.Dataset], cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run" / "out.zarr"
    out.parent.mkdir()
    killed_run(cube_folder, model_folder, out, blocks=2)
    # The same folder and dates, but without Sentinel-1: the finished blocks belong to another cube.
    fewer = tmp_path / cube_folder.name
    fewer.mkdir()
    os.symlink(cube_folder / "s2.nc", fewer / "s2.nc")
    model = EarthModel.load(model_folder)
    embed_to_zarr(Job(Cube.open(fewer), model, block=BLOCK), out)
    expected = embed(Cube.open(fewer), model)
    np.testing.assert_allclose(open_store(out).embeddings.values, expected.embeddings.values, atol=1e-5)
    assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]


def test_changed_values_start_from_scratch(
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


def test_a_failed_block_is_recorded_and_the_others_are_embedded(
    damaged_corner: Path, model: EarthModel, tmp_path: Path
) -> None:
    cube = Cube.open(damaged_corner)
    out = tmp_path / "run" / "out.zarr"
    calls: list[int] = []
    with pytest.raises(
        ThalwegError, match=r"4 of 9 blocks failed, .*s1.zarr: V[VH] cannot be read.*same command again"
    ) as caught:
        embed_to_zarr(Job(cube, model, block=BLOCK), out, lambda done, total: calls.append(done))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, UsageError)  # exit code 1: some of it is done
    assert len(calls) == 9
    (left,) = out.parent.iterdir()
    entries = [json.loads(line) for line in (left / LOG_FILE).read_text().splitlines()[1:]]
    assert sorted(entry["done"] for entry in entries if "done" in entry) == [0, 1, 2, 3, 6]
    assert sorted(entry["failed"] for entry in entries if "failed" in entry) == [4, 5, 7, 8]
    assert all("cannot be read" in entry["reason"] for entry in entries if "failed" in entry)


def test_the_same_job_started_again_embeds_only_the_failed_blocks(
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


def test_a_job_without_a_finished_block_leaves_nothing(damaged_corner: Path, model: EarthModel, tmp_path: Path) -> None:
    cube = Cube.open(damaged_corner)
    with pytest.raises(ThalwegError, match=r"s1.zarr: V[VH] cannot be read"):
        embed_to_zarr(Job(cube, model, block=32), tmp_path / "run" / "out.zarr")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_full_disk_raises_one_line_error_and_leaves_nothing(cube: Cube, model: EarthModel, tmp_path: Path) -> None:
    out = tmp_path / "run" / "out.zarr"
    arguments = ["-c", FULL_DISK, str(cube.series["sentinel-2"].where), str(out)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert re.search(r"out.zarr: could not be written \(.*File too large.*\): free some space", done.stderr)
    assert list(out.parent.iterdir()) == []


def test_a_second_writer_is_refused_and_an_interrupted_one_is_resumed(
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


def test_an_unusable_cube_leaves_no_folder(datasets: dict[str, xr.Dataset], model: EarthModel, tmp_path: Path) -> None:
    dark = datasets["sentinel-2"].copy(deep=True)
    dark["SCL"][:] = 9
    with pytest.raises(UsageError, match="no valid pixel"):
        embed_to_zarr(Job(Cube.open(dark), model), tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_before_the_log_is_removed_leaves_a_complete_store(
    store: Path, cube: Cube, model: EarthModel, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    shutil.copytree(store, out)
    (out / LOG_FILE).write_text("{}\n")  # renamed, but the log not yet removed
    assert embed_to_zarr(Job(cube, model, block=BLOCK), out) == out
    assert contents(out) == contents(store)
