"""Training data: sites in memory, random tiles of centre pixels, and the targets to reconstruct."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import HALO, SAME_DAY, SensorContext, cube_context, days_since_epoch
from thalweg.earth.model.fusion import TRAITS
from thalweg.errors import UsageError

MAX_TARGET_DAYS = 100.0
"""Largest distance in days of a reconstructed date from its centre date."""

MAX_CONTEXT_DAYS = 200.0
"""Largest distance in days of a tile's dates from a centre date."""

TRUTH = "truth.nc"
"""File of a simulated landscape with the truth that `TRAITS` are learned from."""

PARCELS = "parcel"
"""Variable of that file with the number of each pixel's parcel."""

VALIDATION_SEED_OFFSET = 10**6


@dataclass(frozen=True)
class Tile:
    """Sample of a training step: Q centre dates, h x w centre pixels.

    Attributes:
        contexts: contexts (T, C, H, W) by sensor name; the margin of 7 px on each side is included.
        centre_days: (Q,), float32, the centre dates.
        stride: every so many pixels inside the margin are centre pixels.
        truth: (Q, h, w) by name of a trait, NaN where unknown; empty for real sites.
        parcels: (h, w), int64, the number of each pixel's parcel; None for real sites.
    """

    contexts: dict[str, SensorContext]
    centre_days: Tensor
    stride: int = 1
    truth: dict[str, Tensor] = field(default_factory=dict)
    parcels: Tensor | None = None

    def to(self, device: torch.device | str) -> "Tile":
        """Return the tile on a device."""
        contexts = {name: context.to(device) for name, context in self.contexts.items()}
        truth = {name: values.to(device) for name, values in self.truth.items()}
        parcels = None if self.parcels is None else self.parcels.to(device)
        return Tile(contexts, self.centre_days.to(device), self.stride, truth, parcels)


class TileSource(Protocol):
    """Place that training tiles are drawn from."""

    @property
    def name(self) -> str:
        """Name of the place, for messages and cards."""

    @property
    def contexts(self) -> dict[str, SensorContext]:
        """Contexts (T, C, H, W) by sensor name."""

    @property
    def truth(self) -> dict[str, Tensor]:
        """Maps by name of a trait; empty for real places."""

    def centred_on(self, sensor: str) -> "TileSource":
        """Return the place with the sensor's own dates as centre dates."""

    def draw(self, generator: torch.Generator, shape: "TileShape", validation: bool) -> Tile:
        """Draw a random tile, of the training or of the validation side."""


@dataclass(frozen=True)
class TileShape:
    """Size of tiles.

    Attributes:
        size: pixels each way, at most; the margin comes on top.
        stride: every so many pixels are centre pixels.
        centres: centre dates, at most.
    """

    size: int = 20
    stride: int = 2
    centres: int = 6


@dataclass(frozen=True, eq=False)
class TrainingSite:
    """Cube in memory, with a halo around it.

    Attributes:
        name: name of the cube.
        contexts: contexts (T, C, H + 14, W + 14) by sensor name.
        centre_days: (Q,), float32, the reference sensor's clear dates, of which tiles draw their centre dates.
        size: rows H and columns W of the cube.
        truth_days: (D,), dates of the truth.
        truth: (D, H, W) by name of a trait; empty for real sites.
        parcels: (H, W), int64, the number of each pixel's parcel; None for real sites.
    """

    name: str
    contexts: dict[str, SensorContext]
    centre_days: Tensor
    size: tuple[int, int]
    truth_days: Tensor = field(default_factory=lambda: torch.zeros(0))
    truth: dict[str, Tensor] = field(default_factory=dict)
    parcels: Tensor | None = None

    @classmethod
    def load(cls, path: str | Path, sensors: Sequence[str], assume_clear: bool = False) -> "TrainingSite":
        """Read those of `sensors` that a cube has, and the truth of a simulated landscape.

        Args:
            path: anything that `Cube.open` takes.
            sensors: names of sensors.
            assume_clear: take a cube without a cloud mask as clear everywhere.

        Raises:
            UsageError: not a cube, or it has none of the sensors.
        """
        cube = Cube.open(path, assume_clear=assume_clear)
        available = [name for name in sensors if name in cube.series]
        if not available:
            raise UsageError(f"{path}: none of {', '.join(sensors)} in it, it has {', '.join(cube.series)}")
        days = days_since_epoch(cube.reference.dates[cube.eligible()])
        contexts = cube_context(cube, cube.whole.grown(HALO), available)
        truth = _read_truth(Path(path) / TRUTH)
        return cls(cube.name, contexts, torch.from_numpy(days).float(), cube.grid.shape.yx, *truth)

    def centred_on(self, sensor: str) -> "TrainingSite":
        """Return the site with the dates of one sensor, as far as they hold anything, as centre dates."""
        context = self.contexts[sensor]
        return replace(self, centre_days=context.days[context.valid.amax((1, 2, 3)) > 0])

    def draw(self, generator: torch.Generator, shape: TileShape, validation: bool) -> Tile:
        """Draw a tile; training tiles, halo included, lie in the west, validation tiles in the east quarter.

        Raises:
            UsageError: the site is too narrow for a spatial split.
        """
        rows, columns = self.size
        split = columns * 3 // 4
        first, last = (split + HALO, columns) if validation else (0, split - HALO)
        size = min(shape.size, rows, last - first)
        if size < 1:
            raise UsageError(f"{self.name}: {columns} columns, expected at least {4 * (HALO + 1)} for a spatial split")
        top, left = _between(generator, 0, rows - size), _between(generator, first, last - size)
        days = self.centre_days[draw_dates(generator, len(self.centre_days), shape.centres)]
        return tile_at(self, top, left, size, days, shape.stride)


def _read_truth(path: Path) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
    """Return what a landscape's truth holds; nothing where there is no such file.

    Returns:
        Days (D,), maps (D, H, W) of the traits, and the numbers of the parcels (H, W) if the file has them.
    """
    if not path.is_file():
        return torch.zeros(0), {}, None
    import xarray as xr

    with xr.open_dataset(path, engine="h5netcdf") as truth:
        maps = {name: torch.from_numpy(truth[name].values.astype(np.float32)) for name in TRAITS if name in truth}
        parcels = torch.from_numpy(truth[PARCELS].values.astype(np.int64)) if PARCELS in truth else None
        return torch.from_numpy(days_since_epoch(truth.time.values)).float(), maps, parcels


def _between(generator: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def draw_dates(generator: torch.Generator, available: int, count: int) -> Tensor:
    """Draw indices of centre dates, rising: at most `count` of twice as many consecutive ones."""
    reach = min(available, 2 * count)
    first = _between(generator, 0, available - reach)
    return first + torch.randperm(reach, generator=generator)[:count].sort().values


def tile_at(site: TrainingSite, top: int, left: int, size: int, centre_days: Tensor, stride: int = 1) -> Tile:
    """Cut a tile out of a site; dates more than `MAX_CONTEXT_DAYS` from all centre dates are left out.

    Args:
        site: the site.
        top: first row of the centre pixels.
        left: first column of the centre pixels.
        size: centre pixels each way; the halo comes on top.
        centre_days: (Q,), centre dates.
        stride: every so many pixels are centre pixels.
    """
    rows, columns = slice(top, top + size + 2 * HALO), slice(left, left + size + 2 * HALO)
    contexts = {}
    for name, context in site.contexts.items():
        cut = context.select(near_days(context.days, centre_days))
        contexts[name] = replace(cut, values=cut.values[..., rows, columns], valid=cut.valid[..., rows, columns])
    truth = {}
    if site.truth:
        distance = (site.truth_days[None] - centre_days[:, None]).abs()
        known = distance.amin(1) < 1
        for name, maps in site.truth.items():
            values = maps[distance.argmin(1), top : top + size : stride, left : left + size : stride].clone()
            values[~known] = torch.nan
            truth[name] = values
    parcels = site.parcels
    if parcels is not None:
        parcels = parcels[top : top + size : stride, left : left + size : stride]
    return Tile(contexts, centre_days, stride, truth, parcels)


def near_days(days: Tensor, centre_days: Tensor) -> Tensor:
    """Return which days (T,) lie within `MAX_CONTEXT_DAYS` of any centre day (Q,)."""
    return ((days[:, None] - centre_days[None]).abs() <= MAX_CONTEXT_DAYS).any(1)


class RandomTiles(IterableDataset[Tile]):
    """Random tiles of one side of a split: an endless stream for training, a fixed set for validation.

    Training and validation tiles share no pixel. The same seed gives the same tiles.

    Args:
        sources: places to draw from.
        seed: of the tiles.
        shape: size of the tiles.
        weights: relative probability of each place; equal by default.
        validation: number of validation tiles; None for training tiles.
    """

    def __init__(
        self,
        sources: Sequence[TileSource],
        seed: int,
        shape: TileShape | None = None,
        weights: Sequence[float] | None = None,
        validation: int | None = None,
    ) -> None:
        super().__init__()
        self.sources = sources
        self.seed = seed
        self.shape = shape or TileShape()
        self.weights = torch.tensor([1.0] * len(sources) if weights is None else list(weights))
        self.validation = validation

    def __iter__(self) -> Iterator[Tile]:
        generator = torch.Generator().manual_seed(self.seed + (VALIDATION_SEED_OFFSET if self.validation else 0))
        count = 0
        while self.validation is None or count < self.validation:
            source = self.sources[int(torch.multinomial(self.weights, 1, generator=generator))]
            yield source.draw(generator, self.shape, self.validation is not None)
            count += 1


@dataclass(frozen=True)
class Targets:
    """Observations that a decoder has to reconstruct, D per centre date.

    Attributes:
        days: (Q, D), days from each centre date.
        values: (Q, D, C, h, w), in 0..1.
        weight: (Q, D, 1, h, w), validity times a weight that decreases with the distance in time.
    """

    days: Tensor
    values: Tensor
    weight: Tensor


def draw_targets(
    context: SensorContext, centre_days: Tensor, count: int, neighbour_weight: float, stride: int = 1
) -> Targets:
    """Draw the dates to reconstruct around each centre date, with torch's global generator.

    The centre date has weight 1, other dates `neighbour_weight`, less with the distance. (In arXiv 2511.11706, stage
    1, the weight decreases far faster.)

    Args:
        context: (T, C, H, W).
        centre_days: (Q,).
        count: number of dates per centre date, at most.
        neighbour_weight: weight of other dates.
        stride: of the tile.
    """
    distance = context.days[None] - centre_days[:, None]
    is_centre = distance.abs() < SAME_DAY
    order = torch.where(is_centre, 2.0, torch.rand_like(distance) - 9.0 * (distance.abs() > MAX_TARGET_DAYS))
    chosen = order.topk(min(count, len(context.days)), dim=1).indices
    days = distance.gather(1, chosen)
    inner = slice(HALO, -HALO, stride)
    values, valid = context.values[..., inner, inner][chosen], context.valid[..., inner, inner][chosen]
    near = neighbour_weight * torch.exp(-days.abs() / MAX_TARGET_DAYS) * (days.abs() <= MAX_TARGET_DAYS)
    weight = torch.where(days.abs() < SAME_DAY, torch.ones_like(near), near)
    return Targets(days, values, valid * weight[..., None, None, None])
