"""Executors with several processes: identical bytes, workers that die, schedulers that do not answer."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import dask.config
import numpy as np
import psutil
import pytest
import torch
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed_block
from thalweg.earth.inference.dask_backend import MIN_PIXEL_DATES, default_workers, local_workers, scheduler_workers
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import Executor, embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import ThalwegError, UsageError

BLOCK = 12


@pytest.fixture(scope="module")
def plain(cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embed_to_zarr(Job(cube, model, block=BLOCK), tmp_path_factory.mktemp("plain") / "plain.zarr")


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with local_workers(2) as workers:
        yield workers


def contents(path: Path) -> dict[Path, bytes]:
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_two_processes_are_identical_to_one(
    plain: Path, cube: Cube, model: EarthModel, executor: Executor, tmp_path: Path
) -> None:
    calls: list[int] = []
    job = Job(cube, model, block=BLOCK)
    out = embed_to_zarr(job, tmp_path / "out.zarr", lambda done, total: calls.append(done), executor)
    assert contents(out) == contents(plain)
    assert calls == sorted(calls)
    assert calls[-1] == 32 * 32 * len(job.dates())
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.zarr"]


def test_a_cube_in_memory_is_sent(
    datasets: dict[str, xr.Dataset], plain: Path, model: EarthModel, executor: Executor, tmp_path: Path
) -> None:
    out = embed_to_zarr(Job(Cube.open(datasets), model, block=BLOCK), tmp_path / "out.zarr", executor=executor)
    for name in ("embeddings", "uncertainty", "quality"):
        assert contents(out / name / "c") == contents(plain / name / "c")


def test_a_cube_in_files_is_sent_as_their_paths(cube: Cube) -> None:
    pixels = 32 * 32 * len(cube.reference.dates) * 10 * 2
    assert len(pickle.dumps(cube)) < pixels / 4


def workers_of_this_process() -> set[int]:
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if any("spawn_main" in word for word in child.cmdline())}


def test_a_worker_that_dies_is_replaced_and_its_blocks_are_computed_again(
    plain: Path, cube: Cube, model: EarthModel, executor: Executor, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        if not killed:
            killed.append(min(workers_of_this_process()))
            psutil.Process(killed[0]).kill()

    out = embed_to_zarr(Job(cube, model, block=BLOCK), tmp_path / "out.zarr", kill_one, executor)
    assert killed
    assert killed[0] not in workers_of_this_process()
    assert contents(out) == contents(plain)


def test_a_failed_block_in_a_worker_is_recorded_and_the_others_are_embedded(
    damaged_corner: Path, model: EarthModel, executor: Executor, tmp_path: Path
) -> None:
    cube = Cube.open(damaged_corner)
    with pytest.raises(ThalwegError, match=r"4 of 9 blocks failed.*s1.zarr: V[VH] cannot be read"):
        embed_to_zarr(Job(cube, model, block=BLOCK), tmp_path / "out.zarr", executor=executor)


def test_an_unwritable_folder_raises_one_line_error_and_leaves_nothing(
    cube: Cube, model: EarthModel, executor: Executor, tmp_path: Path
) -> None:
    out = tmp_path / "run" / "out.zarr"

    def with_a_blocked_folder(job: Job, folder: Path, indices: object) -> object:
        shards = folder / "quality" / "c"
        shards.write_text("a file instead of a folder")
        return executor(job, folder, indices)

    with pytest.raises(ThalwegError, match=r"out.zarr: could not be written") as caught:
        embed_to_zarr(Job(cube, model, block=BLOCK), out, executor=with_a_blocked_folder)
    assert "\n" not in str(caught.value)
    assert list(out.parent.iterdir()) == []


def test_a_running_scheduler_is_used(plain: Path, cube: Cube, model: EarthModel, tmp_path: Path) -> None:
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        scheduler_workers(cluster.scheduler_address) as workers,
    ):
        out = embed_to_zarr(Job(cube, model, block=BLOCK), tmp_path / "out.zarr", executor=workers)
    assert contents(out) == contents(plain)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere at all"])
def test_a_missing_scheduler_raises_one_line_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.earth.inference.dask_backend.CONNECT_TIMEOUT", "1s")
    with (
        pytest.raises(UsageError, match=f"scheduler {address}: not reachable: expected the address") as caught,
        scheduler_workers(address),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert dask.config.get("scheduler", None) is None  # otherwise dask would look for the missing one


def test_a_scheduler_without_workers_raises_one_line_error() -> None:
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        pytest.raises(UsageError, match="has no workers: start some with `dask worker"),
        scheduler_workers(cluster.scheduler_address),
    ):
        pass


def test_results_do_not_depend_on_the_number_of_threads(cube: Cube, model: EarthModel) -> None:
    job = Job(cube, model)
    before = torch.get_num_threads()
    blocks = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        blocks.append(embed_block(job, job.window(0)))
    torch.set_num_threads(before)
    np.testing.assert_array_equal(blocks[0].embeddings, blocks[1].embeddings)
    np.testing.assert_array_equal(blocks[0].uncertainty, blocks[1].uncertainty)


def test_a_small_cube_is_embedded_by_one_process(
    cube: Cube, model: EarthModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(cube, model)
    monkeypatch.setattr("dask.system.CPU_COUNT", 3)
    assert 32 * 32 * len(job.dates()) < MIN_PIXEL_DATES
    assert default_workers(job) == 1
    monkeypatch.setattr("thalweg.earth.inference.dask_backend.MIN_PIXEL_DATES", 32 * 32 * len(job.dates()))
    assert default_workers(job) == 3
