"""Training on tables of points: series of single pixels, whose neighbourhood is missing."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from thalweg.earth.declarations import Sensor
from thalweg.earth.model.context import HALO, RECEPTIVE_FIELD, SensorContext, days_since_epoch
from thalweg.earth.training.tiles import Tile, TileShape, draw_dates, near_days
from thalweg.errors import UsageError

POINTS_PER_SIDE = 4
"""Points of a tile, each way."""

MIN_DATES = 4
"""Dates of the reference sensor that a place needs."""


@dataclass(frozen=True, eq=False)
class PointSite:
    """Points with the same dates, in memory.

    Attributes:
        name: name of the table and of its dates.
        contexts: contexts (T, C, 1, N) of the N points, by sensor name.
        centre_days: (Q,), float32, of which tiles draw their centre dates.
        places: identifiers of the points.
        truth: empty, as nothing but the sensors' values is known.
    """

    name: str
    contexts: dict[str, SensorContext]
    centre_days: Tensor
    places: tuple[str, ...]
    truth: dict[str, Tensor] = field(default_factory=dict)

    def centred_on(self, sensor: str) -> "PointSite":
        """Return the points with the dates of one sensor as centre dates."""
        return replace(self, centre_days=self.contexts[sensor].days)

    def draw(self, generator: torch.Generator, shape: TileShape, validation: bool) -> Tile:
        """Draw a tile of random points, every fifth of which is kept for validation."""
        kept = torch.arange(len(self.places))
        own = kept[(kept % 5 == 4) == validation] if len(kept) >= 5 else kept
        chosen = own[torch.randperm(len(own), generator=generator)[: POINTS_PER_SIDE**2]]
        days = self.centre_days[draw_dates(generator, len(self.centre_days), shape.centres)]
        return self.tile(chosen, days)

    def tile(self, points: Tensor, centre_days: Tensor) -> Tile:
        """Lay points (indices) out so far from each other that none is in another's context."""
        rows = -(-len(points) // POINTS_PER_SIDE)
        contexts = {}
        for name, context in self.contexts.items():
            cut = context.select(near_days(context.days, centre_days))
            contexts[name] = replace(
                cut,
                values=_spread_out(cut.values[..., 0, :][..., points], rows),
                valid=_spread_out(cut.valid[..., 0, :][..., points], rows),
            )
        return Tile(contexts, centre_days, RECEPTIVE_FIELD)


def _spread_out(values: Tensor, rows: int) -> Tensor:
    """Place points (T, C, N) on a grid of `RECEPTIVE_FIELD` px with empty pixels between them."""
    dates, channels, count = values.shape
    grid = values.new_zeros(dates, channels, rows * POINTS_PER_SIDE)
    grid[..., :count] = values
    spread = values.new_zeros(dates, channels, rows, RECEPTIVE_FIELD, POINTS_PER_SIDE, RECEPTIVE_FIELD)
    spread[:, :, :, HALO, :, HALO] = grid.unflatten(-1, (rows, POINTS_PER_SIDE))
    return spread.flatten(2, 3).flatten(3, 4)


def read_points(
    path: str | Path,
    sensors: Sequence[Sensor],
    period_days: float = 0.0,
    scale: float = 1e-4,
    suffixes: Sequence[str] = ("", "_dB"),
    max_blue: float = 0.2,
    leave_out: Collection[str] = (),
) -> list[PointSite]:
    """Read a Parquet table of points, one row per place and date.

    Args:
        path: table with the columns `sample_id`, `time`, and those of the sensors' bands: reflectance as numbers of
            which 0 is missing, backscatter in dB.
        sensors: declared sensors to look for.
        period_days: length of a composite's period; its centre counts as the date.
        scale: reflectance of the number 1.
        suffixes: what may follow the name of a band in the name of its column.
        leave_out: values of the column `ref_id` (reference data set) to leave out.
        max_blue: largest reflectance of the blue band that counts as free of cloud and snow.

    Returns:
        The points, grouped by equal dates. Centre dates are those of the reference sensor, or of the first sensor of a
        table without it.

    Raises:
        UsageError: a column is missing, or the table has no band of any sensor.
    """
    table = pd.read_parquet(path)
    needed = {"sample_id", "time", *(["ref_id"] if leave_out else [])}
    if missing := needed - set(table.columns):
        raise UsageError(f"{path}: no column {' or '.join(sorted(missing))}, it has {', '.join(table.columns)}")
    if leave_out:
        table = table[~table.ref_id.isin(leave_out)]
    columns = {
        sensor.name: [
            next((band + suffix for suffix in suffixes if band + suffix in table), None) for band in sensor.band_names
        ]
        for sensor in sensors
    }
    columns = {name: found for name, found in columns.items() if any(found)}
    if not columns:
        names = ", ".join(sensor.name for sensor in sensors)
        raise UsageError(f"{path}: no band of {names} among its columns {', '.join(table.columns)}")
    table = table.assign(sample_id=table.sample_id.astype(str)).sort_values(["sample_id", "time"])
    reference = next((sensor.name for sensor in sensors if sensor.is_reference and sensor.name in columns), None)
    reference = reference or next(iter(columns))
    places_by_dates: dict[tuple[pd.Timestamp, ...], list[str]] = {}
    for place, times in table.groupby("sample_id").time:
        places_by_dates.setdefault(tuple(times), []).append(str(place))
    sites = []
    for number, (dates, places) in enumerate(places_by_dates.items()):
        rows = table[table.sample_id.isin(places)]
        middle = np.array(dates, "datetime64[ns]") + np.timedelta64(round(period_days * 43_200), "s")
        days = torch.from_numpy(days_since_epoch(middle)).float()
        contexts = {
            sensor.name: _context(rows, sensor, columns[sensor.name], len(places), days, scale, max_blue)
            for sensor in sensors
            if sensor.name in columns
        }
        seen = contexts[reference].valid.amax((1, 2, 3)) > 0
        if int(seen.sum()) >= MIN_DATES:
            sites.append(PointSite(f"{Path(path).stem}-{number}", contexts, days[seen], tuple(places)))
    return sites


def _context(
    rows: pd.DataFrame,
    sensor: Sensor,
    columns: Sequence[str | None],
    count: int,
    days: Tensor,
    scale: float,
    max_blue: float,
) -> SensorContext:
    """Return the context (T, C, 1, N) of points, whose rows are sorted by place and date."""
    optical = sensor.units == "reflectance"
    values = np.stack(
        [np.zeros(len(rows)) if column is None else rows[column].to_numpy(float) for column in columns], -1
    ).reshape(count, len(days), -1)
    present = np.asarray(np.nan_to_num(values).any((0, 1)))
    measured = values[..., present] > 0 if optical else np.isfinite(values[..., present])
    known = np.asarray(measured.all(-1))
    if optical:
        values = values * scale
        if (blue := sensor.band_by_common_name("blue")) is not None:
            known &= values[..., sensor.bands.index(blue)] <= max_blue
    scaled = np.where(known[..., None] & present, sensor.scale(np.nan_to_num(values)), 0.0)
    return SensorContext(
        torch.from_numpy(scaled.transpose(1, 2, 0)[:, :, None].astype(np.float32)),
        torch.from_numpy(known.T[:, None, None].astype(np.float32)),
        days,
        torch.from_numpy(present),
    )
