"""A cube in, an embedding cube out: dense, block by block with a halo, so that memory stays bounded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.series import Observations
from thalweg.earth.cube.windows import Window
from thalweg.earth.model.context import HALO, SensorContext, as_context, days_since_epoch
from thalweg.earth.model.earth_model import EarthModel, evaluation_device
from thalweg.earth.model.fusion import FULL, SMALL
from thalweg.earth.sensors import Quality
from thalweg.earth.store.quantization import check_bits
from thalweg.errors import ThalwegError, UsageError

if TYPE_CHECKING:
    import xarray as xr

BLOCK = 64
"""Pixels of a block, each way; also the shard of the Zarr store."""

DATES_AT_ONCE = 16
"""Centre dates encoded together: bounds the memory of a block whatever the record's length."""

CONTEXT_DAYS = 120
"""Reach of the context in days, for the count of valid context dates."""

Progress = Callable[[int, int], None]
"""Called with pixel-dates done and pixel-dates in all."""


@dataclass(frozen=True)
class Block:
    """Results of one window; arrays are (dates, ..., height, width)."""

    window: Window
    embeddings: np.ndarray
    uncertainty: np.ndarray
    valid_context_dates: np.ndarray
    quality: np.ndarray
    picture: np.ndarray
    gaps: dict[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """What is embedded with what: everything that decides the result.

    Attributes:
        cube: what was seen.
        model: what embeds it.
        size: 7 or 32 values.
        block: pixels of a block, each way.
        dates_at_once: centre dates encoded together.
        quantise: bits of the codes a store holds, 8 or 16; None for float32.
    """

    cube: Cube
    model: EarthModel
    size: int = SMALL
    block: int = BLOCK
    dates_at_once: int = DATES_AT_ONCE
    quantise: int | None = None

    def __post_init__(self) -> None:
        check_bits(self.quantise)
        if self.size not in (SMALL, FULL):
            raise UsageError(f"size {self.size}: expected {SMALL} or {FULL}")
        reference = self.cube.reference.sensor
        if not reference.is_reference or reference.name not in self.model.sensors:
            raise UsageError(
                f"{self.cube.name}: no sensor that sets the dates (has {', '.join(self.cube.series)}, the model "
                f"knows {', '.join(self.model.sensors)}): add {self.model.fusion.reference.title}"
            )

    @property
    def dates(self) -> np.ndarray:
        """The reference sensor's dates that get embeddings, datetime64[ns]."""
        return self.cube.reference.dates[self.cube.eligible()]

    @property
    def companions(self) -> tuple[str, ...]:
        """The other sensors of the model, in its order, whether the cube has them or not."""
        reference = self.cube.reference.sensor.name
        return tuple(name for name in self.model.sensors if name != reference)

    @property
    def picture_bands(self) -> tuple[str, ...]:
        """Bands of the reference sensor shown as red, green and blue."""
        reference = self.cube.reference
        present = {
            name for name, here in zip(reference.sensor.band_names, reference.present_bands, strict=True) if here
        }
        complete = (triple for triple in reference.sensor.rgb_previews if present.issuperset(triple))
        return next(complete, 3 * (min(present),))

    def windows(self) -> list[Window]:
        """The blocks that cover the grid."""
        return list(self.cube.windows(self.block))


def embed_block(job: Job, window: Window, device: torch.device | None = None) -> Block:
    """Embed the centre pixels of a window at every eligible date."""
    return embed_observations(job, window, read_block(job, window), device)


def read_block(job: Job, window: Window) -> dict[str, Observations]:
    """What the model's sensors saw in a window and its halo, by sensor name."""
    around = window.grown(HALO)
    return {name: job.cube.series[name].read(around) for name in job.model.sensors if name in job.cube.series}


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: sums over more come out in another order, and results would depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
@torch.inference_mode()
def embed_observations(
    job: Job, window: Window, seen: dict[str, Observations], device: torch.device | None = None
) -> Block:
    """Embed the centre pixels of a window from what `read_block` read, with one thread; more cores, more processes."""
    device = device or evaluation_device()
    model = job.model.to(device)
    contexts = {name: as_context(job.cube.series[name], part).to(device) for name, part in seen.items()}
    centre_days = torch.from_numpy(days_since_epoch(job.dates)).float().to(device)
    # Allocated before the loop: kept results between large temporary ones would break up the heap.
    shape = (len(centre_days), job.size, window.height, window.width)
    embeddings, uncertainty = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for first in range(0, len(centre_days), job.dates_at_once):
        some = slice(first, first + job.dates_at_once)
        fused = model(contexts, centre_days[some])
        embeddings[some] = fused.values[:, : job.size].cpu().numpy()
        uncertainty[some] = model.fusion.intervals(fused.spread[:, : job.size], 0.68).cpu().numpy()

    centre = seen[job.cube.reference.sensor.name].inner(HALO)
    state = centre.quality
    quality = state[job.cube.eligible()]
    never = ~(state <= Quality.WATER).any(0)
    quality[:, never & (quality[0] != Quality.OUTSIDE)] = Quality.NEVER_OBSERVED
    unusable = np.broadcast_to((quality > Quality.WATER)[:, None], embeddings.shape)
    embeddings[unusable] = np.nan
    uncertainty[unusable] = np.nan
    counts = sum(_valid_dates(context, centre_days) for context in contexts.values())
    gaps = {name: _signed_gap(contexts.get(name), centre_days, window) for name in job.companions}
    return Block(window, embeddings, uncertainty, np.asarray(counts, np.uint16), quality, _picture(job, centre), gaps)


def _picture(job: Job, seen: Observations) -> np.ndarray:
    """What the eye would see, uint8 (dates, 3, h, w): reflectance of 0.3 is white, a square root lifts the dark."""
    bands = [job.cube.reference.sensor.band_names.index(name) for name in job.picture_bands]
    colours = np.nan_to_num(seen.values[job.cube.eligible()][:, bands] / 0.3)
    return np.rint(255 * np.sqrt(np.clip(colours, 0, 1))).astype(np.uint8)


def _inner(context: SensorContext) -> torch.Tensor:
    """Validity of the centre pixels, (T, h, w)."""
    return context.valid[:, 0, HALO:-HALO, HALO:-HALO]


def _valid_dates(context: SensorContext, centre_days: torch.Tensor) -> np.ndarray:
    near = (context.days[None] - centre_days[:, None]).abs() <= CONTEXT_DAYS
    return torch.einsum("qt,thw->qhw", near.float(), _inner(context)).cpu().numpy()


def _signed_gap(context: SensorContext | None, centre_days: torch.Tensor, window: Window) -> np.ndarray:
    """Days from each centre date to the sensor's nearest valid date at the pixel; NaN where there is none."""
    gaps = np.full((len(centre_days), window.height, window.width), np.nan, np.float32)
    if context is None:
        return gaps
    valid = _inner(context)
    for index, day in enumerate(centre_days):
        away = context.days - day
        order = away.abs().argsort()
        nearest = valid[order].argmax(0).cpu().numpy()
        gap = away[order].cpu().numpy()[nearest]
        gaps[index] = np.where(valid.amax(0).cpu().numpy() > 0, gap, np.nan)
    return gaps


def embed_blocks(
    job: Job, progress: Progress | None = None, skip: frozenset[int] = frozenset()
) -> Iterator[tuple[int, Block]]:
    """Yield (index, block) over the grid, leaving out the indices in `skip`."""
    windows, dates = job.windows(), len(job.dates)
    total = sum(window.height * window.width for window in windows) * dates
    done = 0
    for index, window in enumerate(windows):
        if index not in skip:
            yield index, _embed_named(job, window)
        done += window.height * window.width * dates
        if progress:
            progress(done, total)


def _embed_named(job: Job, window: Window) -> Block:
    """Embed a block; where its input is damaged the error names the block."""
    try:
        return embed_block(job, window)
    except UsageError:
        raise
    except ThalwegError as error:
        raise ThalwegError(f"block at row {window.top}, column {window.left}: {error}") from error


def embed(
    cube: "Cube | str | Path | xr.Dataset",
    model: EarthModel | None = None,
    size: int = SMALL,
    assume_clear: bool = False,
) -> "xr.Dataset":
    """Embed a cube in memory.

    Args:
        cube: a `Cube`, or anything `Cube.open` takes.
        model: the shipped weights by default.
        size: 7 (the paper's size) or 32 values.
        assume_clear: take a cube without a mask of clouds as clear everywhere, instead of refusing it.

    Returns:
        Dataset with dims (time, embedding, y, x); the layout is that of `thalweg earth embed` (docs/store.md).
        Attributes that NetCDF cannot hold are JSON text.
    """
    from thalweg.earth.store.portable import portable
    from thalweg.earth.store.schema import empty_dataset, place

    opened = cube if isinstance(cube, Cube) else Cube.open(cube, assume_clear=assume_clear)
    job = Job(opened, model or EarthModel.load(), size)
    dataset = empty_dataset(job)
    for _, block in embed_blocks(job):
        place(dataset, block)
    return portable(dataset)
