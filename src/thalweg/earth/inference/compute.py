"""Embeddings of a cube in memory: dense, block by block with a halo, so that memory is bounded."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.series import Observations
from thalweg.earth.cube.windows import Window
from thalweg.earth.inference.job import Job, Progress
from thalweg.earth.model.context import HALO, SensorContext, as_context, days_since_epoch
from thalweg.earth.model.earth_model import EarthModel, evaluation_device
from thalweg.earth.model.fusion import SMALL_SIZE
from thalweg.earth.sensors import Quality
from thalweg.earth.store.portable import portable
from thalweg.earth.store.schema import CONTEXT_DAYS, INTERVAL_LEVEL, Block, empty_dataset
from thalweg.earth.store.writer import fill_block
from thalweg.errors import ThalwegError, UsageError
from thalweg.threads import one_thread

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.inference.calendar_dates import CalendarSource

WHITE_REFLECTANCE = 0.3
"""Reflectance that is white in the RGB preview."""


def embed(
    cube: "Cube | str | Path | xr.Dataset",
    model: EarthModel | None = None,
    size: int = SMALL_SIZE,
    assume_clear: bool = False,
    calendar: "CalendarSource | None" = None,
) -> "xr.Dataset":
    """Embed a cube in memory.

    Args:
        cube: a `Cube`, or anything that `Cube.open` takes.
        model: the model; the shipped weights by default.
        size: number of dimensions of an embedding, 7 (the paper's size) or 32.
        assume_clear: take a cube without a cloud mask as clear everywhere instead of refusing it.
        calendar: days to embed, whether a satellite passed or not: an interval with a period such as
            `2018-03-01/2018-10-31/P10D`, or a list of dates; by default the reference sensor's dates with enough clear
            pixels.

    Returns:
        Dataset with dimensions (time, embedding, y, x); the layout is that of a store (docs/store.md). `embeddings`
        and `uncertainty` are float32 without units, NaN where the reference sensor has no valid pixel; with a calendar,
        NaN only where it never has one or no sensor has one in the context. `observed` tells which dates are
        overpasses. Attributes that NetCDF cannot hold are JSON text.

    Raises:
        UsageError: the source is not a cube, it has no reference sensor that the model knows, or the calendar is
            malformed or beyond the reach of the cube's dates.
        ThalwegError: the cube cannot be read.
    """
    opened = cube if isinstance(cube, Cube) else Cube.open(cube, assume_clear=assume_clear)
    job = Job(opened, model or EarthModel.load(), size, calendar=calendar)
    dataset = empty_dataset(job.schema())
    for _, block in embed_blocks(job):
        fill_block(dataset, block)
    return portable(dataset)


def embed_blocks(
    job: Job, progress: Progress | None = None, skip: frozenset[int] = frozenset()
) -> Iterator[tuple[int, Block]]:
    """Embed a job's blocks one after the other.

    Args:
        job: cube and model.
        progress: callback with the number of finished pixel-dates and their total.
        skip: indices of blocks to leave out.

    Yields:
        The index of a block and its results.
    """
    dates, total, done = len(job.dates()), job.pixel_dates(), 0
    for index in range(job.block_count):
        window = job.window(index)
        if index not in skip:
            yield index, _embed_named(job, window)
        done += window.height * window.width * dates
        if progress:
            progress(done, total)


def _embed_named(job: Job, window: Window) -> Block:
    """Embed a block; if its input is damaged, the error names the block."""
    try:
        return embed_block(job, window)
    except UsageError:
        raise
    except ThalwegError as error:
        raise ThalwegError(f"block at row {window.top}, column {window.left}: {error}") from error


def embed_block(job: Job, window: Window, device: torch.device | None = None) -> Block:
    """Embed the pixels of a window on every date of a job.

    Args:
        job: cube and model.
        window: window of the cube's grid.
        device: device of the computation; the best one by default.

    Raises:
        ThalwegError: the cube cannot be read there.
    """
    return embed_observations(job, window, read_block(job, window), device)


def read_block(job: Job, window: Window) -> dict[str, Observations]:
    """Read the observations of a window and its halo, by name of the sensor."""
    around = window.grown(HALO)
    return {name: job.cube.series[name].read(around) for name in job.model.sensors if name in job.cube.series}


@one_thread()
@torch.inference_mode()
def embed_observations(
    job: Job, window: Window, observations: dict[str, Observations], device: torch.device | None = None
) -> Block:
    """Embed the pixels of a window, with one thread: results do not depend on the number of cores.

    Args:
        job: cube and model.
        window: pixels to embed.
        observations: observations of each sensor in the window and its margin, as `read_block` returns them.
        device: device of the computation; the best one by default.
    """
    device = device or evaluation_device()
    model = job.model.to(device)
    contexts = {name: as_context(job.cube.series[name], part).to(device) for name, part in observations.items()}
    centre_days = torch.from_numpy(days_since_epoch(job.dates())).float().to(device)
    # Allocated before the loop: results that outlive large temporary arrays would fragment the heap.
    shape = (len(centre_days), job.size, window.height, window.width)
    embeddings, uncertainty = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for first in range(0, len(centre_days), job.dates_at_once):
        some = slice(first, first + job.dates_at_once)
        fused = model(contexts, centre_days[some])
        embeddings[some] = fused.values[:, : job.size].cpu().numpy()
        uncertainty[some] = (
            model.fusion.interval_half_width(fused.spread[:, : job.size], INTERVAL_LEVEL, job.size).cpu().numpy()
        )

    centre = observations[job.cube.reference.sensor.name].inner(HALO)
    quality = _quality(job, centre)
    counts = np.asarray(sum(_count_valid_dates(context, centre_days) for context in contexts.values()), np.uint16)
    has_embedding = quality <= Quality.WATER
    if job.calendar is not None:  # estimated from the context where nothing was seen on the date
        has_embedding |= centre.valid.any(0) & (counts > 0)
    unusable = np.broadcast_to(~has_embedding[:, None], embeddings.shape)
    embeddings[unusable] = np.nan
    uncertainty[unusable] = np.nan
    gaps = {name: _signed_gap(contexts.get(name), centre_days, window) for name in job.auxiliary_sensors}
    return Block(window, embeddings, uncertainty, counts, quality, _preview(job, centre), gaps)


def _quality(job: Job, observations: Observations) -> np.ndarray:
    """Quality of the reference sensor on each date of a job, uint8 (T, h, w)."""
    overpasses = job.overpasses()
    has_overpass = (overpasses >= 0)[:, None, None]
    quality = np.where(has_overpass, observations.quality[overpasses], np.uint8(Quality.NO_OVERPASS))
    outside = observations.quality[0] == Quality.OUTSIDE  # of the sensor's footprint, on every date
    quality[:, outside] = Quality.OUTSIDE
    quality[:, ~observations.valid.any(0) & ~outside] = Quality.NEVER_OBSERVED
    return quality


def _preview(job: Job, observations: Observations) -> np.ndarray:
    """RGB preview, uint8 (T, 3, h, w): white at `WHITE_REFLECTANCE`, with a square root that brightens dark pixels.

    Black where there is no measurement, such as on a day without an overpass.
    """
    overpasses = job.overpasses()
    bands = [job.cube.reference.sensor.band_names.index(name) for name in job.preview_bands]
    colours = np.nan_to_num(observations.values[overpasses][:, bands] / WHITE_REFLECTANCE)
    colours[overpasses < 0] = 0
    return np.rint(255 * np.sqrt(np.clip(colours, 0, 1))).astype(np.uint8)


def _inner_valid(context: SensorContext) -> torch.Tensor:
    """Validity of the pixels without the halo, (T, h, w)."""
    return context.valid[:, 0, HALO:-HALO, HALO:-HALO]


def _count_valid_dates(context: SensorContext, centre_days: torch.Tensor) -> np.ndarray:
    """Number of valid dates within `CONTEXT_DAYS` of Q centre days, (Q, h, w)."""
    near = (context.days[None] - centre_days[:, None]).abs() <= CONTEXT_DAYS
    return torch.einsum("qt,thw->qhw", near.float(), _inner_valid(context)).cpu().numpy()


def _signed_gap(context: SensorContext | None, centre_days: torch.Tensor, window: Window) -> np.ndarray:
    """Days from Q centre days to the sensor's nearest valid date at each pixel, (Q, h, w); NaN if it has none."""
    gaps = np.full((len(centre_days), window.height, window.width), np.nan, np.float32)
    if context is None:
        return gaps
    valid = _inner_valid(context)
    for index, day in enumerate(centre_days):
        offsets = context.days - day
        order = offsets.abs().argsort()
        nearest = valid[order].argmax(0).cpu().numpy()
        gap = offsets[order].cpu().numpy()[nearest]
        gaps[index] = np.where(valid.amax(0).cpu().numpy() > 0, gap, np.nan)
    return gaps
