"""Training data: sites in memory, random tiles of centre pixels, and the targets to reconstruct."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import HALO, SensorContext, cube_context, days_since_epoch
from thalweg.errors import UsageError

MAX_TARGET_DAYS = 65.0
"""Largest distance in days of a reconstructed date from its centre date."""

MAX_CONTEXT_DAYS = 250.0
"""Largest distance in days of a tile's dates from a centre date."""

VALIDATION_SEED_OFFSET = 10**6


@dataclass(frozen=True)
class TrainingSite:
    """Cube in memory, with a halo around it.

    Attributes:
        name: name of the cube.
        contexts: contexts (T, C, H + 14, W + 14) by sensor name.
        centre_days: (Q,), float32, the reference sensor's clear dates, of which tiles draw their centre dates.
        size: rows H and columns W of the cube.
    """

    name: str
    contexts: dict[str, SensorContext]
    centre_days: Tensor
    size: tuple[int, int]

    @classmethod
    def load(cls, path: str | Path, sensors: Sequence[str], assume_clear: bool = False) -> "TrainingSite":
        """Read those of `sensors` that a cube has.

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
        return cls(cube.name, contexts, torch.from_numpy(days).float(), cube.grid.shape.yx)


@dataclass(frozen=True)
class Tile:
    """Sample of a training step.

    Attributes:
        contexts: contexts (T, C, h + 14, w + 14) by sensor name.
        centre_days: (Q,), float32, the centre dates.
    """

    contexts: dict[str, SensorContext]
    centre_days: Tensor


def tile_at(
    site: TrainingSite, top: int, left: int, size: int, centre_days: Tensor, max_days: float = MAX_CONTEXT_DAYS
) -> Tile:
    """Cut a tile out of a site.

    Args:
        site: the site.
        top: first row of the centre pixels.
        left: first column of the centre pixels.
        size: centre pixels each way; the halo comes on top.
        centre_days: (Q,), centre dates.
        max_days: largest distance of a date from a centre date.
    """
    rows, columns = slice(top, top + size + 2 * HALO), slice(left, left + size + 2 * HALO)
    contexts = {}
    for name, context in site.contexts.items():
        near = ((context.days[:, None] - centre_days[None]).abs() <= max_days).any(1)
        cut = context.select(near)
        contexts[name] = replace(cut, values=cut.values[..., rows, columns], valid=cut.valid[..., rows, columns])
    return Tile(contexts, centre_days)


class RandomTiles(IterableDataset[Tile]):
    """Random tiles of one side of a spatial split: an endless stream for training, a fixed set for validation.

    Training tiles, halo included, come from the west of a cube, validation tiles from its east quarter. They share no
    pixel. The same seed gives the same tiles.

    Args:
        sites: sites, drawn with equal probability.
        seed: of the tiles.
        size: centre pixels each way, at most.
        centres: centre dates per tile, at most.
        validation: number of validation tiles; None for training tiles.
    """

    def __init__(
        self, sites: Sequence[TrainingSite], seed: int, size: int = 24, centres: int = 3, validation: int | None = None
    ) -> None:
        super().__init__()
        self.sites = sites
        self.seed = seed
        self.size = size
        self.centres = centres
        self.validation = validation

    def __iter__(self) -> Iterator[Tile]:
        generator = torch.Generator().manual_seed(self.seed + (VALIDATION_SEED_OFFSET if self.validation else 0))
        count = 0
        while self.validation is None or count < self.validation:
            site = self.sites[int(torch.randint(len(self.sites), (), generator=generator))]
            yield self._draw(site, generator)
            count += 1

    def evenly(self, count: int) -> Iterator[Tile]:
        """Yield `count` tiles, site by site in turn, that use all dates of a site before they use one again."""
        generator = torch.Generator().manual_seed(self.seed)
        remaining: list[list[int]] = [[] for _ in self.sites]
        for number in range(count):
            site, dates = self.sites[number % len(self.sites)], remaining[number % len(self.sites)]
            if not dates:
                dates.extend(torch.randperm(len(site.centre_days), generator=generator).tolist())
            chosen, dates[:] = dates[: self.centres], dates[self.centres :]
            yield self._draw(site, generator, torch.tensor(chosen))

    def _draw(self, site: TrainingSite, generator: torch.Generator, dates: Tensor | None = None) -> Tile:
        """Draw a tile at a random place; `dates` are indices of its centre dates, random by default."""
        rows, columns = site.size
        split = columns * 3 // 4
        first, last = (0, split - HALO) if self.validation is None else (split + HALO, columns)
        size = min(self.size, rows, last - first)
        if size < 1:
            raise UsageError(f"{site.name}: {columns} columns, expected at least {4 * (HALO + 1)} for a spatial split")

        def between(low: int, high: int) -> int:
            return int(torch.randint(low, high + 1, (), generator=generator))

        if dates is None:
            dates = torch.randperm(len(site.centre_days), generator=generator)[: self.centres]
        return tile_at(site, between(0, rows - size), between(first, last - size), size, site.centre_days[dates])


@dataclass(frozen=True)
class Targets:
    """Observations that a decoder has to reconstruct, D per centre date.

    Attributes:
        days: (Q, D), days from each centre date.
        values: (Q, D, C, h, w), in 0..1.
        weight: (Q, D, 1, h, w), validity times a weight that decreases with the distance in time and space.
    """

    days: Tensor
    values: Tensor
    weight: Tensor


def draw_targets(context: SensorContext, centre_days: Tensor, count: int, neighbour_weight: float) -> Targets:
    """Draw the dates to reconstruct around each centre date, with torch's global generator.

    Half of the time all targets are those of one neighbouring pixel, at most 2 px away. The centre date has weight 1,
    other dates `neighbour_weight`, less with the distance; both factors apply to other dates of a neighbour. (In
    arXiv 2511.11706, stage 1, the weight decreases far faster.)

    Args:
        context: (T, C, h + 14, w + 14).
        centre_days: (Q,).
        count: number of dates per centre date, at most.
        neighbour_weight: weight of other dates and of neighbouring pixels.
    """
    distance = context.days[None] - centre_days[:, None]
    is_centre = distance.abs() < 0.5
    order = torch.where(is_centre, 2.0, torch.rand_like(distance) - 9.0 * (distance.abs() > MAX_TARGET_DAYS))
    chosen = order.topk(min(count, len(context.days)), dim=1).indices
    days = distance.gather(1, chosen)
    shift = torch.randint(-2, 3, (2,)) if torch.rand(()) < 0.5 else torch.zeros(2, dtype=torch.long)
    rows, columns = (slice(HALO + int(step), -HALO + int(step)) for step in shift)
    values = context.values[..., rows, columns][chosen]
    valid = context.valid[..., rows, columns][chosen]
    near = neighbour_weight * torch.exp(-days.abs() / MAX_TARGET_DAYS) * (days.abs() <= MAX_TARGET_DAYS)
    weight = torch.where(days.abs() < 0.5, torch.ones_like(near), near)
    if bool(shift.any()):
        weight = weight * neighbour_weight
    return Targets(days, values, valid * weight[..., None, None, None])
