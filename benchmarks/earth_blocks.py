"""Cost of finding a block's window in a job of a million blocks.

The job embeds a simulated cube whose grid is enlarged to SIDE x SIDE pixels, in blocks of 64 pixels: 10^6 blocks, more
than a country of 350,000 km2 at 10 m has (873,000). Nothing is embedded.

blocks: number of blocks.
seconds_per_window_list: seconds to find one window by listing all windows, as the runner did for every block (median).
seconds_per_window_index: seconds to find one window from its index (`Job.window`), mean over all blocks.
ratio: the former over the latter, in the same run.
seconds_per_window_small: as seconds_per_window_index, in a job of 100 blocks: the cost does not grow with the number.
identical: whether both ways give the same windows, for every block.
core_hours_saved: time that listing would take over all blocks.
"""

import statistics
import time
from dataclasses import replace
from typing import Any

from odc.geo.geobox import GeoBox

from common import arguments, report
from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import pixel_centers
from thalweg.earth.cube.windows import Window
from thalweg.earth.inference.job import Job
from thalweg.earth.model.earth_model import EarthModel
from thalweg.simulate import simulate

SIDE, SMALL_SIDE = 64_000, 640
LISTINGS = 5


def job_on(cube: Cube, model: EarthModel, side: int) -> Job:
    """A job of a cube whose grid has `side` by `side` pixels."""
    grid = GeoBox((side, side), cube.grid.affine, cube.grid.crs)
    x, y = pixel_centers(grid)
    return Job(replace(cube, grid=grid, x=x, y=y), model)


def list_windows(job: Job) -> list[Window]:
    """All windows of a job, row by row, written out without `Job.window`."""
    (rows, columns), side = job.cube.grid.shape, job.block
    return [
        Window(top, left, min(side, rows - top), min(side, columns - left))
        for top in range(0, rows, side)
        for left in range(0, columns, side)
    ]


def seconds_per_window(job: Job) -> float:
    """Mean time of `Job.window` over all blocks."""
    start = time.perf_counter()
    for index in range(job.block_count):
        job.window(index)
    return (time.perf_counter() - start) / job.block_count


def measure(cube: Cube, model: EarthModel) -> dict[str, Any]:
    job = job_on(cube, model, SIDE)
    listing = []
    for _ in range(LISTINGS):
        start = time.perf_counter()
        windows = list_windows(job)
        windows[job.block_count // 2]
        listing.append(time.perf_counter() - start)
    by_list, by_index = statistics.median(listing), seconds_per_window(job)
    return {
        "blocks": job.block_count,
        "seconds_per_window_list": by_list,
        "seconds_per_window_index": by_index,
        "ratio": by_list / by_index,
        "seconds_per_window_small": seconds_per_window(job_on(cube, model, SMALL_SIDE)),
        "identical": len(windows) == job.block_count
        and all(window == job.window(index) for index, window in enumerate(windows)),
        "core_hours_saved": (by_list - by_index) * job.block_count / 3600,
    }


def main() -> None:
    options = arguments(__doc__)
    model = EarthModel.load(options.model)
    landscape = simulate(seed=21, size=24, years=1)
    report(measure(Cube.open({"sentinel-2": landscape.sentinel2}, model.sensors), model), options.json)


if __name__ == "__main__":
    main()
