"""Daily footprints of a tower on the pixels of a cube, from half-hourly wind and stability."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.positions import LonLat, lon_lat, map_point
from thalweg.errors import DataWarning, UsageError
from thalweg.gpp.footprint.footprint import Footprint, Tower, covered_radius, distances
from thalweg.gpp.footprint.kljun import FlowRecord, TowerHeights, scaled_extent, source_density

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

SOURCE_SHARE = 0.8
"""Share of the footprint that the radius of a tower with records is chosen for."""

MAX_RADIUS = 500.0
"""Largest radius in m that is chosen without being asked for."""

MIN_COVERAGE = 0.5
"""Share of the footprint within the radius below which a warning is given."""

MIN_RECORDS = 4
"""Smallest number of half-hours of a day that has a footprint of its own."""

_MAX_SUBPIXELS = 8  # along the side of a pixel
_NORTH_STEP = 1e-4  # degrees of latitude over which the direction of north is taken


@dataclass(frozen=True)
class KljunFootprints:
    """Footprint of each day on the pixels around a tower.

    Attributes:
        footprint: Pixels within the radius.
        radius: Radius in m.
        days: (D,) datetime64[ns], days with at least `MIN_RECORDS` records.
        weights: (D, P) float32, mean share of the flux of the day's records from each pixel.
        mean: (P,) float64, the same over all records, for the other days.
    """

    footprint: Footprint
    radius: float
    days: NDArray[np.datetime64]
    weights: NDArray[np.float32]
    mean: NDArray[np.float64]

    @property
    def coverage(self) -> float:
        """Mean share of the footprint within the radius, 0 to 1."""
        return float(self.mean.sum())

    def describe(self, days: NDArray[np.datetime64]) -> str:
        """Return the footprint of some days in words."""
        own = int(np.isin(days.astype("datetime64[D]"), self.days.astype("datetime64[D]")).sum())
        others = ", the mean of all records on the others" if own < len(days) else ""
        return (
            f"Kljun et al. (2015) within {self.radius:g} m, {self.coverage:.0%} of the footprint; its own on {own} of "
            f"{len(days)} days{others}"
        )

    def on_days(self, days: NDArray[np.datetime64]) -> NDArray[np.float64]:
        """Return (D, P) weights of days, which add up to 1: their own, or those of all records."""
        own = dict(zip(self.days.astype("datetime64[D]").tolist(), self.weights, strict=True))
        rows = [own.get(day, self.mean) for day in days.astype("datetime64[D]").tolist()]
        weights = np.stack(rows).astype(float)
        return weights / weights.sum(1, keepdims=True)

    @classmethod
    def on(cls, grid: "GeoBox", tower: Tower, label: str, within: Sequence[np.datetime64]) -> "KljunFootprints":
        """Compute the footprints of a tower with records.

        Args:
            grid: North-up grid in m.
            tower: Position, records and heights; a radius of None is chosen.
            label: Name of the grid's cube in messages.
            within: First and last date; records of other days are left out.

        Raises:
            UsageError: No record can be used, or the grid does not cover the footprint.
        """
        assert tower.flow is not None and tower.heights is not None
        room = covered_radius(grid, tower.position, label)
        days = tower.flow.time.astype("datetime64[D]")
        first, last = np.asarray(within).astype("datetime64[D]")
        latitude = lon_lat(tower.position, grid).latitude
        records = [
            (days[index], record)
            for index, record in tower.flow.records(tower.heights, latitude, direction_of_north(grid, tower))
            if first <= days[index] <= last
        ]
        if not records:
            raise UsageError(
                f"{label}: no half-hour from {first} to {last} with a measured flux, wind and stability that a "
                "footprint can be computed from: use a disc, or records of these days"
            )
        radius = tower.radius or _radius([record for _, record in records], room)
        footprint = Footprint.on(grid, replace(tower, radius=radius), label)
        shares = _PixelShares(grid, tower, footprint, tower.heights)
        sums: dict[np.datetime64, NDArray[np.float64]] = {}
        counts: Counter[np.datetime64] = Counter()
        for day, record in records:
            sums[day] = sums.get(day, 0.0) + shares.of(record)
            counts[day] += 1
        mean = np.sum(list(sums.values()), axis=0) / len(records)
        if mean.sum() <= 0:
            raise UsageError(f"{label}: no footprint within {radius:g} m of the tower: use a larger radius")
        if mean.sum() < MIN_COVERAGE:
            warnings.warn(
                f"{label}: {mean.sum():.0%} of the tower's footprint lies within {radius:g} m, expected "
                f"{MIN_COVERAGE:.0%} or more: use a larger radius or cube",
                DataWarning,
                stacklevel=2,
            )
        own = [day for day, total in sums.items() if counts[day] >= MIN_RECORDS and total.sum() > 0]
        weights = np.array([sums[day] / counts[day] for day in own], np.float32).reshape(len(own), len(mean))
        return cls(footprint, radius, np.array(own, "datetime64[ns]"), weights, mean)


def direction_of_north(grid: "GeoBox", tower: Tower) -> float:
    """Return the direction of true north at a tower, degrees clockwise from the y axis of the grid."""
    here = lon_lat(tower.position, grid)
    start = map_point(here, grid)
    end = map_point(LonLat(here.longitude, here.latitude + _NORTH_STEP), grid)
    return float(np.degrees(np.arctan2(end.x - start.x, end.y - start.y)))


def _radius(records: Sequence[FlowRecord], room: float) -> float:
    """Return the radius that holds most of the footprint in half of the records, as far as the grid reaches."""
    extent = scaled_extent(SOURCE_SHARE) * float(np.median([record.scale for record in records]))
    return float(np.floor(min(extent, MAX_RADIUS, room)))


class _PixelShares:
    """Share of the flux from each pixel of a footprint, integrated on a finer grid.

    Close to a low tower a footprint is narrower than a pixel: a pixel is divided until its parts are a quarter of the
    height above the displaced flow.
    """

    def __init__(self, grid: "GeoBox", tower: Tower, footprint: Footprint, heights: TowerHeights) -> None:
        pixel = float(grid.resolution.x)
        sides = int(np.clip(np.ceil(4 * pixel / heights.above_displacement), 1, _MAX_SUBPIXELS))
        offset = (np.arange(sides) + 0.5) / sides * pixel - pixel / 2
        window = footprint.window
        east, north = distances(grid, tower.position)
        east, north = (
            east[window.left : window.left + window.width],
            north[window.top : window.top + window.height],
        )
        rows, columns = np.nonzero(footprint.inside)
        shape = (len(rows), sides, sides)
        self._east = np.broadcast_to(east[columns][:, None, None] + offset[None, None], shape).ravel()
        self._north = np.broadcast_to(north[rows][:, None, None] + offset[None, :, None], shape).ravel()
        self._parts, self._area = sides**2, pixel**2

    def of(self, record: FlowRecord) -> NDArray[np.float64]:
        """Return (P,) shares of a record."""
        density = source_density(record, self._east, self._north)
        return density.reshape(-1, self._parts).mean(1) * self._area
