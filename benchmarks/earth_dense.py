"""Exactness, speed and memory of the dense encoder.

max_abs_diff_dense_patch: embeddings of single pixels from 15 x 15 px patches, against those from the whole cube.
max_abs_diff_tiled_whole: a cube embedded in small blocks, against the same in one block.
ratio_dense_over_patch: pixel-dates per second, dense against patch by patch, with the same weights and pixels.
pixel_dates_per_second: of `thalweg earth embed --size 32` on one core, per second of processor time (the wall clock of
    an idle machine), start, reading and writing included; 128 x 128 px, 72 overpasses of Sentinel-2
    and 80 of Sentinel-1.
peak_memory_ratio_4x_cube: peak memory of the embedding process for a cube of four times the area, against one.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from common import arguments, report
from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window
from thalweg.earth.inference.compute import embed_blocks
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.context import RECEPTIVE_FIELD, cube_context, days_since_epoch
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.schema import empty_dataset
from thalweg.earth.store.writer import fill_block
from thalweg.simulate import simulate

PATCHES = 40
SIZE = 64
OVERPASSES = {"s2": 72, "s1": 80}


def embedded(cube: Cube, model: EarthModel, block: int) -> np.ndarray:
    """Embeddings of a cube in memory."""
    job = Job(cube, model, 32, block)
    dataset = empty_dataset(job.schema())
    for _, part in embed_blocks(job):
        fill_block(dataset, part)
    values: np.ndarray = dataset.embeddings.values
    return values


@torch.inference_mode()
def by_patch(cube: Cube, model: EarthModel, dense: np.ndarray) -> tuple[float, float]:
    """Largest difference to the dense result over random pixel-dates, and seconds per pixel-date."""
    random = np.random.default_rng(0)
    usable = np.argwhere(np.isfinite(dense).all(1))
    half = RECEPTIVE_FIELD // 2
    days = torch.from_numpy(days_since_epoch(cube.reference.dates[cube.eligible()])).float()
    worst, seconds = 0.0, 0.0
    for date, row, column in usable[random.choice(len(usable), PATCHES, replace=False)]:
        window = Window(row - half, column - half, RECEPTIVE_FIELD, RECEPTIVE_FIELD)
        contexts = cube_context(cube, window, model.sensors)  # reading is timed on neither side
        start = time.perf_counter()
        values = model(contexts, days[date : date + 1]).values[0, :, 0, 0].numpy()
        seconds += time.perf_counter() - start
        worst = max(worst, float(np.abs(values - dense[date, :, row, column]).max()))
    return worst, seconds / PATCHES


def peak_memory(folder: Path, model: Path | None) -> float:
    """Peak resident memory in MB of a separate process that embeds a cube."""
    command = [sys.executable, __file__, "--embed", str(folder), str(model or "")]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])


def command_seconds(folder: Path, out: Path, model: Path | None) -> float:
    """Processor time in seconds of `thalweg earth embed` on one core."""
    command = [str(Path(sys.executable).with_name("thalweg")), "earth", "embed", str(folder), str(out), "--size", "32"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*command, *(["--model", str(model)] if model else [])],
        env={**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")},
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def own_peak_memory() -> float:
    """Peak resident memory of this program in MB; `ru_maxrss` would include the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def enlarged(folder: Path, out: Path, times: int) -> None:
    """Write a cube of `times` x `times` copies of another, side by side."""
    out.mkdir()
    for file in folder.glob("*.nc"):
        if file.stem not in ("s1", "s2"):
            continue
        with xr.open_dataset(file, engine="h5netcdf", mask_and_scale=False) as cube:
            wide = xr.concat([cube.drop_vars("x")] * times, "x", data_vars="minimal")
            large = xr.concat([wide.drop_vars("y")] * times, "y", data_vars="minimal")
            rows, columns = large.sizes["y"], large.sizes["x"]
            large = large.assign_coords(
                x=float(cube.x[0]) + 10.0 * np.arange(columns), y=float(cube.y[0]) - 10.0 * np.arange(rows)
            )
            large.attrs = cube.attrs
            large.to_netcdf(out / file.name, engine="h5netcdf")


def with_overpasses(folder: Path, out: Path) -> int:
    """Write a cube with the first `OVERPASSES` of another; return the number of dates that are embedded."""
    out.mkdir()
    for name, count in OVERPASSES.items():
        with xr.open_dataset(folder / f"{name}.nc", engine="h5netcdf", mask_and_scale=False) as cube:
            if cube.sizes["time"] < count:
                raise SystemExit(f"{name}: {cube.sizes['time']} overpasses, expected at least {count}")
            cube.isel(time=slice(count)).to_netcdf(out / f"{name}.nc", engine="h5netcdf")
    return len(Cube.open(out).eligible())


def main() -> None:
    options = arguments(__doc__)
    model = EarthModel.load(options.model)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "landscape"
        simulate(seed=21, size=SIZE, years=1).write(folder)
        cube = Cube.open(folder, model.sensors)
        whole = embedded(cube, model, SIZE)
        tiled = embedded(cube, model, 16)
        # The encoder without reading the file, as for the patches.
        contexts = cube_context(cube, cube.whole.grown(RECEPTIVE_FIELD // 2), model.sensors)
        days = torch.from_numpy(days_since_epoch(cube.reference.dates[cube.eligible()])).float()
        start = time.perf_counter()
        with torch.inference_mode():
            for some in days.split(16):
                model(contexts, some)
        dense_seconds = (time.perf_counter() - start) / (len(days) * SIZE * SIZE)
        results["max_abs_diff_dense_patch"], patch_seconds = by_patch(cube, model, whole)
        results["max_abs_diff_tiled_whole"] = float(np.nanmax(np.abs(whole - tiled)))
        results["ratio_dense_over_patch"] = patch_seconds / dense_seconds
        large = Path(scratch) / "large"
        enlarged(folder, large, 2)
        two_years, record = Path(scratch) / "two-years", Path(scratch) / "record"
        simulate(seed=21, size=SIZE, years=2).write(two_years)
        dates = with_overpasses(two_years, record)
        large_record = Path(scratch) / "large-record"
        enlarged(record, large_record, 2)
        seconds = command_seconds(large_record, Path(scratch) / "out.zarr", options.model)
        results["pixel_dates_per_second"] = dates * (2 * SIZE) ** 2 / seconds
        small_peak, large_peak = peak_memory(folder, options.model), peak_memory(large, options.model)
        results["peak_memory_mb"] = large_peak
        results["peak_memory_ratio_4x_cube"] = large_peak / small_peak
    report(results, options.json)


if __name__ == "__main__":
    if "--embed" in sys.argv:
        source, model_folder = sys.argv[2:4]
        with tempfile.TemporaryDirectory() as scratch:
            loaded = EarthModel.load(model_folder or None)
            embed_to_zarr(Job(Cube.open(source, loaded.sensors), loaded, block=32), Path(scratch) / "out.zarr")
        print(own_peak_memory())
    else:
        main()
