"""Scaling of embedding jobs: processes, kills, memory budgets and quantized stores.

Parts (one alone: --part NAME); each runs in a process of its own and prints its duration to stderr:

processes: a simulated landscape of 48 x 48 pixels, every third overpass of a year, in 16 blocks.
    identical_dask: whether a store by two worker processes is bit-identical to one by this process.
    speedup_two_workers: seconds of one worker with one thread over seconds of two, both clusters warm, the same job.
sizes: the same landscape with all overpasses, in one block.
    io_share: fraction of the processor time spent reading and writing, in one process (reading includes unpacking).
    pixel_dates_per_second: per second of processor time, reading and writing included.
    bytes_per_px_date_raw, _quantised (8 bits), _quantised_16: size of the whole store, compressed, 7 dimensions.
kills: the cube of "processes".
    kills_survived, identical_after_kills: SIGKILLs at random moments of one job, resumed each time; bytes at the end.
memory: peak_memory_mb, of `thalweg earth embed --memory 2048MB` on a cube whose arrays hold cube_mb megabytes: 11 x 11
    copies of a landscape side by side for 156 dates, in float64 and uncompressed, every band and date stored and read;
    four of five dates are declared cloudy. The command reads the whole cube to find its clear dates, and is stopped
    after memory_blocks of its 81 blocks: one of each kind (corner, edge, interior). --all-blocks runs it to the end.
probes: probe_loss_quantised, the relative loss of macro F1 on site BE-2 with 8 bits, the largest of the crop probes of
    earth_sites.py (7 and 32 dimensions, one date, logistic regression; 5 labels per class); negative is a gain.

Parts that measure time run alone; memory, kills and probes run two at once. Times are meaningful on an idle machine:
load_before is the load (one minute) at the start.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # libraries also use one thread per process

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (registers .rio)
import torch
import xarray as xr

from common import parser, report
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed_observations, read_block
from thalweg.earth.inference.dask_backend import local_workers
from thalweg.earth.inference.job import DATES_AT_ONCE, Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.quantization import dequantize, quantizations, quantize
from thalweg.earth.store.writer import create_store, write_block
from thalweg.io.progress_log import LOG_FILE
from thalweg.simulate import simulate

BLOCK = 12
EVERY = 3
KILLS = 20
BUDGET_MB = 2048
SIZE, TILES, DATES, CLEAR_EVERY = 48, 11, 156, 5
MEMORY_BLOCKS = 11
"""Nine blocks at the upper edge, one at the left edge, and the first interior one."""


def contents(path: Path) -> dict[Path, bytes]:
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def log_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.unfinished") / LOG_FILE


def entries(log: Path) -> int:
    """Number of lines of a log: the identity of the job, and one per block."""
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def short_job(model: EarthModel, folder: Path) -> Job:
    """Return a job that takes seconds: few overpasses, small blocks."""
    landscape = simulate(seed=21, size=SIZE, years=1)
    folder.mkdir()
    for name, series in (("s2", landscape.sentinel2), ("s1", landscape.sentinel1)):
        series.isel(time=slice(None, None, EVERY)).to_netcdf(folder / f"{name}.nc", engine="h5netcdf")
    return Job(Cube.open(folder, model.sensors), model, block=BLOCK)


def over_processes(model: EarthModel, folder: Path) -> dict[str, Any]:
    """Compare the bytes and times of one and of two workers; the first run of a cluster is a warm-up."""
    job = short_job(model, folder / "landscape")
    plain = embed_to_zarr(job, folder / "plain.zarr")
    seconds, same = {}, True
    for count in (1, 2):
        with local_workers(count) as executor:
            for run in ("warm-up", "timed"):
                start = time.perf_counter()
                out = embed_to_zarr(job, folder / f"{count}-{run}.zarr", executor=executor)
                seconds[count] = time.perf_counter() - start
                same &= contents(out) == contents(plain)
    return {"identical_dask": same, "speedup_two_workers": seconds[1] / seconds[2]}


def repeatedly_killed(model: EarthModel, folder: Path) -> dict[str, Any]:
    """Kill each run shortly after at most one further block; a store finished too early starts from scratch."""
    job = short_job(model, folder / "landscape")
    job.dates()  # read once, here
    out = folder / "killed.zarr"
    log, moments, kills = log_of(out), random.Random(0), 0
    while not out.exists():
        before = entries(log)
        child = os.fork()
        if child == 0:
            embed_to_zarr(job, out)
            os._exit(0)
        if kills < KILLS:
            further = moments.choice((0, 1))
            while entries(log) < before + further and not out.exists():
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.2))
            os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if out.exists() and kills < KILLS:
            shutil.rmtree(out)
    plain = embed_to_zarr(job, folder / "plain.zarr")
    return {"kills_survived": kills, "identical_after_kills": contents(out) == contents(plain)}


def sizes_and_shares(model: EarthModel, folder: Path) -> dict[str, Any]:
    """Measure the size of a store, and the fractions of the processor time for reading and writing its blocks.

    The mask, which gives the clear dates, counts as reading. The quantized stores are written from the same embeddings.
    """
    simulate(seed=21, size=SIZE, years=1).write(folder / "landscape")
    job = Job(Cube.open(folder / "landscape", model.sensors), model)
    quantized = {bits: Job(job.cube, model, quantize=bits) for bits in (8, 16)}
    seconds = dict.fromkeys(("read", "embed", "write"), 0.0)
    moment = time.process_time()

    def passed(part: str) -> None:
        nonlocal moment
        now = time.process_time()
        seconds[part] += now - moment
        moment = now

    pixel_dates = len(job.dates()) * int(np.prod(job.cube.grid.shape))
    passed("read")
    create_store(job.schema(), folder / "raw.zarr")
    passed("write")
    for bits, other in quantized.items():
        create_store(other.schema(), folder / f"{bits}.zarr")
    for window in job.cube.windows(job.block):
        moment = time.process_time()
        seen = read_block(job, window)
        passed("read")
        block = embed_observations(job, window, seen)
        passed("embed")
        write_block(folder / "raw.zarr", block)
        passed("write")
        for bits in quantized:
            write_block(folder / f"{bits}.zarr", block, bits)
    total = sum(seconds.values())
    return {
        "io_share": (seconds["read"] + seconds["write"]) / total,
        "pixel_dates_per_second": pixel_dates / total,
        "bytes_per_px_date_raw": size_of(folder / "raw.zarr") / pixel_dates,
        "bytes_per_px_date_quantised": size_of(folder / "8.zarr") / pixel_dates,
        "bytes_per_px_date_quantised_16": size_of(folder / "16.zarr") / pixel_dates,
    }


def large_cube(folder: Path, out: Path) -> float:
    """Write a large cube from a small one without holding it in memory; return its size in megabytes.

    Its chunks are hard links to those of one tile, which neither reader nor encoder notices.
    """
    import zarr

    out.mkdir()
    megabytes = 0.0
    for name in ("s2", "s1"):
        with xr.open_dataset(folder / f"{name}.nc", engine="h5netcdf", mask_and_scale=False) as small:
            crs, attributes = small.rio.crs, small.attrs
            layers = [band for band, layer in small.data_vars.items() if layer.dims == ("time", "y", "x")]
            tile = small[layers].load().drop_vars("spatial_ref", errors="ignore")
        years = [tile.assign_coords(time=tile.time + np.timedelta64(365 * year, "D")) for year in range(2)]
        tile = xr.concat(years, "time", data_vars="minimal").isel(time=slice(DATES))
        if "SCL" in tile:
            cloudy = np.arange(tile.sizes["time"]) % CLEAR_EVERY != CLEAR_EVERY // 2
            tile["SCL"].values[cloudy] = 9
        tile = tile.assign_attrs(attributes)
        for band in set(tile.data_vars) - {"SCL"}:  # decoded values, as xarray writes them
            values, attrs = tile[band].values, tile[band].attrs
            numbers = values * np.float64(attrs.get("scale_factor", 1e-4))
            numbers[values == attrs["_FillValue"]] = np.nan
            tile[band] = (tile[band].dims, numbers, {"units": attrs["units"]})
        side = tile.sizes["x"]
        store = out / f"{name}.zarr"
        axes = {
            "x": float(tile.x[0]) + 10.0 * np.arange(side * TILES),
            "y": float(tile.y[0]) - 10.0 * np.arange(side * TILES),
        }
        shape = (tile.sizes["time"], side * TILES, side * TILES)
        empty = xr.Dataset(coords={"time": tile.time, **axes}, attrs=tile.attrs).rio.write_crs(crs)
        empty.to_zarr(store, zarr_format=3, consolidated=False)
        group = zarr.open_group(store, mode="r+")
        for band in tile.data_vars:
            array = group.create_array(
                str(band),
                shape=shape,
                chunks=(shape[0], side // 2, side // 2),
                dtype=tile[band].dtype,
                compressors=None,
                dimension_names=("time", "y", "x"),
                attributes=tile[band].attrs,
            )
            array[:, :side, :side] = tile[band].values
            megabytes += array.nbytes / 1e6
            chunks = store / str(band) / "c" / "0"
            for row in range(2 * TILES):
                (chunks / str(row)).mkdir(exist_ok=True)
                for column in range(2 * TILES):
                    if row > 1 or column > 1:
                        os.link(chunks / str(row % 2) / str(column % 2), chunks / str(row) / str(column))
    return megabytes


def within_a_budget(model: EarthModel, folder: Path, name: str, all_blocks: bool) -> dict[str, Any]:
    """Measure the peak resident memory of the command, stopped after `MEMORY_BLOCKS` blocks or run to its end."""
    simulate(seed=21, size=SIZE, years=1).write(folder / "landscape")
    megabytes = large_cube(folder / "landscape", folder / "large")
    out = folder / "large.zarr"
    command = ["earth", "embed", folder / "large", out, "--memory", f"{BUDGET_MB}MB", "--workers", "1"]
    command += ["--model", name] if name else []
    running = subprocess.Popen(
        [sys.executable, "-c", "from thalweg.cli import main; main()", *map(str, command)], stdout=sys.stderr
    )
    done = 0
    while os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        done = max(done, entries(log_of(out)) - 1)
        if done >= MEMORY_BLOCKS and not all_blocks:
            running.kill()
            break
        time.sleep(0.05)
    _, status, usage = os.wait4(running.pid, 0)
    if status and not os.WIFSIGNALED(status):
        raise SystemExit("thalweg earth embed failed")
    return {"cube_mb": megabytes, "peak_memory_mb": usage.ru_maxrss * 1024 / 1e6, "memory_blocks": done}


def probe_losses(model: EarthModel, data: Path) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    from crop_probes import few_shot, labelled, single_date_probe
    from thalweg.earth.training.tiles import TrainingSite

    folder = data / "BE-2"
    if not folder.is_dir():
        return {}
    crop, use = labelled(folder)
    site = TrainingSite.load(folder, model.sensors)
    with torch.inference_mode():
        some_dates = [model(site.contexts, days).values for days in site.centre_days.split(DATES_AT_ONCE)]
    exact = torch.cat(some_dates).movedim(1, -1).numpy()

    def scores(vectors: np.ndarray) -> np.ndarray:
        probes = [
            single_date_probe(vectors[..., :size], crop, use, LogisticRegression(max_iter=400)) for size in (7, 32)
        ]
        return np.array([*probes, few_shot(vectors[..., :7], crop, use)])

    before = scores(exact)
    losses = {}
    for bits in (8, 16):
        encoding = quantizations(bits)["embeddings"]
        losses[bits] = float(np.max(1 - scores(dequantize(quantize(exact, encoding), encoding)) / before))
    return {"probe_loss_quantised": losses[8], "probe_loss_quantised_16": losses[16]}


TIMED, UNTIMED = ("processes", "sizes"), ("memory", "probes", "kills")


def one_part(options: argparse.Namespace) -> dict[str, Any]:
    """Run the requested part in this process."""
    torch.set_num_threads(1)
    model = EarthModel.load(options.model)
    name = str(options.model or "")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "processes": partial(over_processes, model, work),
            "sizes": partial(sizes_and_shares, model, work),
            "memory": partial(within_a_budget, model, work, name, options.all_blocks),
            "probes": partial(probe_losses, model, options.data),
            "kills": partial(repeatedly_killed, model, work),
        }
        return parts[options.part]()


def in_own_process(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a part in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--data", str(options.data)]
    command += ["--model", str(options.model)] if options.model else []
    command += ["--all-blocks"] if options.all_blocks else []
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(f"{part}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--part", choices=TIMED + UNTIMED, help="run this part only")
    arguments.add_argument("--all-blocks", action="store_true", help="embed all of the large cube")
    options = arguments.parse_args()
    if options.part:
        report(one_part(options), options.json)
        return
    results: dict[str, Any] = {"load_before": os.getloadavg()[0]}
    for part in TIMED:
        results |= in_own_process(part, options)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(partial(in_own_process, options=options), UNTIMED):
            results |= found
    report(results, options.json)


if __name__ == "__main__":
    main()
