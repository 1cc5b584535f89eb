"""Does embedding scale: over processes, through kills, within a memory budget, and in fewer bits?

identical_dask: every byte of a store written by two worker processes is that of one written here.
speedup_two_workers: seconds of one worker with one thread over seconds of two, both clusters warm, the same job.
kills_survived, identical_after_kills: SIGKILLs at random moments of one job, resumed each time; bytes at the end.
peak_memory_mb: peak of `thalweg earth embed --memory 2048MB` on a cube whose arrays hold cube_mb megabytes: a
    simulated landscape laid side by side 11 x 11 times for 156 dates, in float64 and uncompressed, every band and date
    stored and read; most dates are declared cloudy, so that the embedding of the others ends in minutes.
io_share: time spent reading and writing, of all, block by block in one process (reading includes unpacking).
bytes_per_px_date_raw, _quantised (8 bits), _quantised_16: the size of the whole store, compressed, 7 values.
probe_loss_quantised: relative loss of macro F1 on site BE-2 with 8 bits, the worst of the crop probes of
    earth_quality.py (7 and 32 values, one date, logistic regression; 5 labels a class); negative is a gain.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (gives datasets their .rio)
import torch
import xarray as xr

from common import arguments, report
from thalweg.earth.cubes import Cube
from thalweg.earth.distributed import local_workers
from thalweg.earth.embedder import Job, embed_observations, read_block
from thalweg.earth.layout import create_store, write_block
from thalweg.earth.ledger import LEDGER
from thalweg.earth.model import EarthModel
from thalweg.earth.quantise import codings
from thalweg.earth.simulate import simulate
from thalweg.earth.store import embed_to_zarr

BLOCK = 16
KILLS = 20
BUDGET_MB = 2048
SIZE, TILES, DATES, CLEAR_EVERY = 48, 11, 156, 24


def contents(path: Path) -> dict[Path, bytes]:
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def in_a_process_of_its_own(task: str, *values: object) -> tuple[list[str], int]:
    """Run a task of this file; what it printed, and its peak resident memory in kB."""
    with tempfile.TemporaryFile("w+") as printed:
        child = os.fork()
        if child == 0:
            os.dup2(printed.fileno(), 1)
            os.execv(sys.executable, [sys.executable, __file__, task, *map(str, values)])
        _, status, usage = os.wait4(child, 0)
        if status:
            raise SystemExit(f"{task} failed")
        printed.seek(0)
        return printed.read().split(), usage.ru_maxrss


def over_processes(job: Job, plain: Path, folder: Path) -> dict[str, Any]:
    """Bytes and times of one worker and of two; the first run of a cluster warms it."""
    seconds, same = {}, True
    for count in (1, 2):
        with local_workers(count) as crew:
            for run in ("warm-up", "timed"):
                start = time.perf_counter()
                out = embed_to_zarr(job, folder / f"{count}-{run}.zarr", crew=crew)
                seconds[count] = time.perf_counter() - start
                same &= contents(out) == contents(plain)
    return {"identical_dask": same, "speedup_two_workers": seconds[1] / seconds[2]}


def killed_again_and_again(cube: Path, model: str, out: Path) -> None:
    """Print how many kills a job survived: each run is killed soon after none or one block more."""
    torch.set_num_threads(1)
    loaded = EarthModel.load(model or None)
    job = Job(Cube.open(cube, loaded.sensors), loaded, block=BLOCK)
    _ = job.dates  # read once, here
    ledger = out.with_name(f".{out.name}.unfinished") / LEDGER
    moments, kills = random.Random(0), 0

    def entries() -> int:
        return len(ledger.read_bytes().splitlines()) if ledger.exists() else 0

    while not out.exists():
        before = entries()
        child = os.fork()
        if child == 0:
            embed_to_zarr(job, out)
            os._exit(0)
        if kills < KILLS:
            further = moments.choice((0, 1))
            while entries() < before + further and not out.exists():
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.2))
            os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if out.exists() and kills < KILLS:
            shutil.rmtree(out)
    print(kills)


def large_cube(folder: Path, out: Path) -> float:
    """Write a large cube from a small one without holding it: its arrays' size in megabytes.

    Its chunks are links to those of one tile, which neither reader nor encoder knows.
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
        for band in set(tile.data_vars) - {"SCL"}:  # decoded, as xarray writes it
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


def timed_parts(job: Job, folder: Path) -> dict[str, float]:
    """Seconds of reading, embedding and writing, block by block; reading which dates are clear counts as reading."""
    seconds = dict.fromkeys(("read", "embed", "write"), 0.0)
    moment = time.perf_counter()

    def passed(part: str) -> None:
        nonlocal moment
        now = time.perf_counter()
        seconds[part] += now - moment
        moment = now

    count = len(job.dates)
    passed("read")
    create_store(job, folder)
    passed("write")
    for window in job.windows():
        seen = read_block(job, window)
        passed("read")
        block = embed_observations(job, window, seen)
        passed("embed")
        write_block(folder, block, job.quantise)
        passed("write")
    total = sum(seconds.values())
    rows, columns = job.cube.grid.shape
    return {
        "io_share": (seconds["read"] + seconds["write"]) / total,
        "pixel_dates_per_second": rows * columns * count / total,
    }


def probe_losses(data: Path, model: EarthModel) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    from earth_quality import SIZES, Embedded, few_shot, labelled, single_date_probe

    folder = data / "BE-2"
    crop, use = labelled(folder)
    exact = Embedded(folder, model).values.movedim(1, -1).numpy()
    losses = {}
    for bits in (8, 16):
        coding = codings(bits)["embeddings"]
        coded = coding.decode(coding.encode(exact))
        scores = [
            tuple(
                single_date_probe(vectors[..., :size], crop, use, LogisticRegression(max_iter=400))
                for vectors in (exact, coded)
            )
            for size in SIZES
        ]
        scores.append(tuple(few_shot(vectors[..., :7], crop, use) for vectors in (exact, coded)))
        losses[bits] = max((before - after) / before for before, after in scores)
    return {"probe_loss_quantised": losses[8], "probe_loss_quantised_16": losses[16]}


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    model = EarthModel.load(options.model)
    name = str(options.model or "")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        simulate(seed=21, size=SIZE, years=1).write(work / "landscape")
        job = Job(Cube.open(work / "landscape", model.sensors), model, block=BLOCK)
        plain = embed_to_zarr(job, work / "plain.zarr")

        printed, _ = in_a_process_of_its_own("--kill", work / "landscape", name, work / "killed.zarr")
        results["kills_survived"] = int(printed[-1])
        results["identical_after_kills"] = contents(work / "killed.zarr") == contents(plain)

        results |= over_processes(job, plain, work)

        rows, columns = job.cube.grid.shape
        pixel_dates = rows * columns * len(job.dates)
        fresh = Job(Cube.open(work / "landscape", model.sensors), model)
        results |= timed_parts(fresh, work / "timed.zarr")
        results["bytes_per_px_date_raw"] = size_of(work / "timed.zarr") / pixel_dates
        for bits, key in ((8, "quantised"), (16, "quantised_16")):
            coded = embed_to_zarr(Job(fresh.cube, model, quantise=bits), work / f"{bits}.zarr")
            results[f"bytes_per_px_date_{key}"] = size_of(coded) / pixel_dates

        results["cube_mb"] = large_cube(work / "landscape", work / "large")
        _, peak = in_a_process_of_its_own("--embed", work / "large", work / "large.zarr", name)
        results["peak_memory_mb"] = peak * 1024 / 1e6
    if (options.data / "BE-2").is_dir():
        results |= probe_losses(options.data, model)
    report(results, options.json)


if __name__ == "__main__":
    if "--kill" in sys.argv:
        killed_again_and_again(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    elif "--embed" in sys.argv:
        from thalweg.cli import main as thalweg

        given = ["--model", sys.argv[4]] if sys.argv[4] else []
        limits = ["--memory", f"{BUDGET_MB}MB", "--workers", "1"]
        sys.argv = ["thalweg", "earth", "embed", sys.argv[2], sys.argv[3], *limits, *given]
        thalweg()
    else:
        main()
