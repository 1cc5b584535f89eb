"""What training sees: random tiles of centre pixels from cubes, their hidden parts, and the targets to rebuild."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import IterableDataset

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import HALO, SensorContext, cube_context, days_since_epoch
from thalweg.earth.sensors import Declaration
from thalweg.errors import UsageError

TARGET_REACH_DAYS = 65.0
"""Dates at most this far from the centre date are rebuilt."""


class Masking(Declaration):
    """How much of a context is hidden from the encoder in training, to be rebuilt from the rest."""

    dates: float = Field(default=0.7, ge=0, le=1, description="largest share of a sensor's dates hidden at once")
    clouds: float = Field(default=0.3, ge=0, le=1, description="chance that a date gets another date's clouds")
    bands: float = Field(default=0.2, ge=0, le=1, description="chance that some bands are hidden in a tile")
    sensors: float = Field(default=0.3, ge=0, le=1, description="chance that a sensor is hidden in a tile")
    context: float = Field(
        default=0.1, ge=0, le=1, description="chance that a tile shows the fusion one centre date and nothing else"
    )
    gain: float = Field(default=0.05, ge=0, description="spread of a random gain per band and tile")


@dataclass(frozen=True)
class TrainingSite:
    """A cube in memory, padded by the halo: contexts by sensor and the centre dates to draw from."""

    name: str
    contexts: dict[str, SensorContext]
    centre_days: Tensor
    size: tuple[int, int]

    @classmethod
    def load(cls, path: str | Path, sensors: Sequence[str], assume_clear: bool = False) -> "TrainingSite":
        """Read a cube's sensors among `sensors`; the centre dates are its reference's clear dates."""
        cube = Cube.open(path, assume_clear=assume_clear)
        wanted = [name for name in sensors if name in cube.series]
        if not wanted:
            raise UsageError(f"{path}: none of {', '.join(sensors)} in it, it has {', '.join(cube.series)}")
        days = days_since_epoch(cube.reference.dates[cube.eligible()])
        contexts = cube_context(cube, cube.whole.grown(HALO), wanted)
        return cls(cube.name, contexts, torch.from_numpy(days).float(), cube.grid.shape.yx)


@dataclass(frozen=True)
class Tile:
    """Contexts of a tile with its halo, and the centre days asked for."""

    contexts: dict[str, SensorContext]
    centre_days: Tensor


def tile_at(site: TrainingSite, top: int, left: int, size: int, centre_days: Tensor, reach_days: float = 250.0) -> Tile:
    """Cut `size` x `size` centre pixels with their halo, and the dates within `reach_days` of a centre date."""
    rows, columns = slice(top, top + size + 2 * HALO), slice(left, left + size + 2 * HALO)
    contexts = {}
    for name, context in site.contexts.items():
        near = ((context.days[:, None] - centre_days[None]).abs() <= reach_days).any(1)
        cut = context.select(near)
        contexts[name] = replace(cut, values=cut.values[..., rows, columns], valid=cut.valid[..., rows, columns])
    return Tile(contexts, centre_days)


class RandomTiles(IterableDataset[Tile]):
    """An endless stream of tiles, or a fixed set of them, from one side of a spatial split.

    Training tiles, halo included, come from the west of a cube, validation tiles from the east quarter: they
    share no pixel.
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
        generator = torch.Generator().manual_seed(self.seed + (10**6 if self.validation else 0))
        count = 0
        while self.validation is None or count < self.validation:
            site = self.sites[int(torch.randint(len(self.sites), (), generator=generator))]
            yield self._draw(site, generator)
            count += 1

    def evenly(self, count: int) -> Iterator[Tile]:
        """`count` tiles, site by site in turn, each site's dates all shown before one is shown again."""
        generator = torch.Generator().manual_seed(self.seed)
        waiting: list[list[int]] = [[] for _ in self.sites]
        for number in range(count):
            site, dates = self.sites[number % len(self.sites)], waiting[number % len(self.sites)]
            if not dates:
                dates.extend(torch.randperm(len(site.centre_days), generator=generator).tolist())
            chosen, dates[:] = dates[: self.centres], dates[self.centres :]
            yield self._draw(site, generator, torch.tensor(chosen))

    def _draw(self, site: TrainingSite, generator: torch.Generator, dates: Tensor | None = None) -> Tile:
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


def mask_context(context: SensorContext, hiding: Masking) -> SensorContext:
    """Hide dates, put other dates' clouds, hide bands: what the encoder gets to see of a context."""
    count = len(context.days)
    context = context.hide(torch.rand(count) < torch.rand(()) * hiding.dates)
    if count and torch.rand(()) < hiding.clouds:
        clouds = torch.where(
            (torch.rand(count) < 0.5)[:, None, None, None],
            context.valid[torch.randperm(count)],
            torch.ones_like(context.valid),
        )
        context = replace(context, values=context.values * clouds, valid=context.valid * clouds)
    if torch.rand(()) < hiding.bands and int(context.present.sum()) > 1:
        kept = context.present & (torch.rand(len(context.present)) < 0.7)
        if kept.any():
            context = replace(context, values=context.values * kept[:, None, None], present=kept)
    return context


def random_gain(context: SensorContext, spread: float) -> SensorContext:
    """The context as another instrument would see it: one random gain per band."""
    gain = 1 + spread * torch.randn(len(context.present))
    return replace(context, values=context.values * gain[:, None, None])


@dataclass(frozen=True)
class Targets:
    """What the decoder must rebuild.

    Attributes:
        days: (Q, K) days from each centre date.
        values: (Q, K, C, h, w) in 0..1.
        weight: (Q, K, 1, h, w), validity times nearness in time and space.
    """

    days: Tensor
    values: Tensor
    weight: Tensor


def targets(context: SensorContext, centre_days: Tensor, count: int, neighbour_weight: float) -> Targets:
    """Choose up to `count` dates around each centre date; half of the time look at a neighbouring pixel.

    The centre date counts one; the others count `neighbour_weight`, less the further they are; in the
    paper's loss the centre dominates far more.
    """
    away = context.days[None] - centre_days[:, None]
    is_centre = away.abs() < 0.5
    order = torch.where(is_centre, 2.0, torch.rand_like(away) - 9.0 * (away.abs() > TARGET_REACH_DAYS))
    chosen = order.topk(min(count, len(context.days)), dim=1).indices
    days = away.gather(1, chosen)
    shift = torch.randint(-2, 3, (2,)) if torch.rand(()) < 0.5 else torch.zeros(2, dtype=torch.long)
    rows, columns = ((HALO + int(s), -HALO + int(s)) for s in shift)
    values = context.values[..., rows[0] : rows[1], columns[0] : columns[1]][chosen]
    valid = context.valid[..., rows[0] : rows[1], columns[0] : columns[1]][chosen]
    near = neighbour_weight * torch.exp(-days.abs() / TARGET_REACH_DAYS) * (days.abs() <= TARGET_REACH_DAYS)
    weight = torch.where(days.abs() < 0.5, torch.ones_like(near), near)
    if bool(shift.any()):
        weight = weight * neighbour_weight
    return Targets(days, values, valid * weight[..., None, None, None])
