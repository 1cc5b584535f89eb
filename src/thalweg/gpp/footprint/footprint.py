"""Footprint of a flux tower: the pixels within a radius, and their weighted mean and spread by date."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.cube.grid import describe_crs, pixel_centers
from thalweg.earth.cube.windows import Window
from thalweg.earth.positions import LonLat, MapPoint, Position, map_point
from thalweg.errors import UsageError
from thalweg.gpp.footprint.flow_records import FlowSeries
from thalweg.gpp.footprint.kljun import TowerHeights

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

DEFAULT_RADIUS = 100.0
"""Default radius of a disc in m, of the order of a flux tower's footprint."""

MIN_SHARE = 0.25
"""Smallest share of a footprint's pixels that must be usable on a date of its series."""

MIN_DATES = 5
"""Smallest number of dates of a daily series."""


@dataclass(frozen=True)
class Tower:
    """Flux tower and its footprint: a disc, or with records of wind and stability that of Kljun et al. (2015).

    Attributes:
        position: Position of the tower: `LonLat` in degrees, `MapPoint` in the reference system of the cube, or
            `PixelIndex`.
        radius: Radius around the tower in m that the footprint is limited to; None is `DEFAULT_RADIUS` for a disc,
            and for a footprint from records the distance that holds 80 % of it in half of them.
        flow: Half-hourly wind and stability; None for a disc.
        heights: Heights of the tower, needed with `flow`.

    Raises:
        UsageError: The radius is not a positive number, or records come without heights.
    """

    position: Position
    radius: float | None = None
    flow: FlowSeries | None = None
    heights: TowerHeights | None = None

    def __post_init__(self) -> None:
        if self.flow is not None and self.heights is None:
            raise UsageError("no measurement height: expected that of the tower for a footprint from wind records")
        if self.radius is not None and not (np.isfinite(self.radius) and self.radius > 0):
            raise UsageError(f"radius {self.radius:g} m: expected the radius of the tower's footprint, above 0 m")


@dataclass(frozen=True)
class Footprint:
    """Pixels of a footprint.

    Attributes:
        window: Smallest rectangle around the pixels.
        inside: (height, width) boolean mask of the pixels whose centre lies within the radius; at least one.
    """

    window: Window
    inside: NDArray[np.bool_]

    @classmethod
    def on(cls, grid: "GeoBox", tower: Tower, label: str) -> "Footprint":
        """Return the footprint of a tower on a grid.

        Args:
            grid: North-up grid in m.
            tower: Position and radius.
            label: Name of the grid's cube in messages.

        Raises:
            UsageError: The grid does not cover the footprint.
        """
        room = covered_radius(grid, tower.position, label)
        radius = DEFAULT_RADIUS if tower.radius is None else tower.radius
        if radius > room + grid.resolution.x / 2:
            raise UsageError(
                f"{label}: covers {room:.0f} m around the tower at {tower.position}, expected its footprint of "
                f"{radius:g} m: use a larger cube or a smaller radius"
            )
        east, north = distances(grid, tower.position)
        distance = np.hypot(east, north[:, None])
        near = distance <= max(radius, float(distance.min())) + 1e-6 * grid.resolution.x
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        window = Window(int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
        return cls(window, near[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def covered_radius(grid: "GeoBox", position: Position, label: str) -> float:
    """Return the distance in m from a tower to the nearest edge of a grid.

    Args:
        grid: North-up grid in m.
        position: Position of the tower.
        label: Name of the grid's cube in messages.

    Raises:
        UsageError: The tower is outside of the grid.
    """
    point = map_point(position, grid)
    x, y = point.x, point.y
    west, south, east, north = grid.boundingbox
    if not (west <= x <= east and south <= y <= north):
        raise UsageError(
            f"{label}: does not cover the tower at {position} ({x:.0f} {y:.0f} in {describe_crs(grid)}), it "
            f"spans x {west:.0f} to {east:.0f}, y {south:.0f} to {north:.0f}: {_advice(grid, position)}"
        )
    return float(min(x - west, east - x, y - south, north - y))


def distances(grid: "GeoBox", position: Position) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances in m of the columns to the east and of the rows to the north of a tower."""
    point = map_point(position, grid)
    x, y = pixel_centers(grid)
    return x - point.x, y - point.y


def _advice(grid: "GeoBox", position: Position) -> str:
    """Return what to write instead of a position outside the grid: swapped coordinates, if those lie inside."""
    left, bottom, right, top = grid.boundingbox
    if isinstance(position, LonLat) and abs(position.longitude) <= 90:
        swapped: Position = LonLat(position.latitude, position.longitude)
        rule, numbers = "longitude comes before latitude", f"{position.latitude:.10g} {position.longitude:.10g}"
    elif isinstance(position, MapPoint):
        swapped = MapPoint(position.y, position.x)
        rule, numbers = "x comes before y", f"{position.y:.10g} {position.x:.10g}"
    else:
        return "use a cube around the tower"
    point = map_point(swapped, grid)
    if left <= point.x <= right and bottom <= point.y <= top:
        return f"{rule}: write {numbers}"
    if isinstance(position, MapPoint) and abs(position.x) <= 180 and abs(position.y) <= 90:
        return "use a cube around the tower, or write degrees as `lonlat`"
    return "use a cube around the tower"


@dataclass(frozen=True)
class FootprintSeries:
    """Features of a footprint on the dates with enough usable pixels.

    Attributes:
        names: K feature names.
        dates: (T,) datetime64[ns], in order.
        mean: (T, K) float64, weighted mean over the pixels.
        spread: (T, K) float64, weighted standard deviation between the pixels.
        uncertainty: (T, K) float64, half-width of the 68 % interval of the mean; 0 for features without uncertainty.
        share: (T,) float64, share of the footprint's pixels that are usable.
    """

    names: tuple[str, ...]
    dates: NDArray[np.datetime64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    share: NDArray[np.float64]

    def select(self, chosen: NDArray) -> "FootprintSeries":
        """Return the dates of a mask or an index."""
        fields = ("dates", "mean", "spread", "uncertainty", "share")
        return replace(self, **{name: getattr(self, name)[chosen] for name in fields})


def average_pixels(
    footprint: Footprint,
    dates: NDArray[np.datetime64],
    names: Sequence[str],
    values: NDArray,
    usable: NDArray[np.bool_],
    uncertainty: NDArray | None = None,
) -> FootprintSeries:
    """Average the pixels of a footprint's window.

    Unusable pixels have no weight. With an uncertainty u, a pixel has the weight 1 / (u^2 + s^2) of a random-effects
    mean, where s^2 is the variance between the date's pixels: uncertain pixels weigh less, and no pixel dominates.
    Neighbouring pixels share their context, so the uncertainty of the mean is the weighted mean of the pixels'
    uncertainty, not divided by their number.

    Args:
        footprint: Footprint; the arrays cover its window.
        dates: (T,) datetime64[ns].
        names: K feature names.
        values: (T, K, height, width), NaN where unusable.
        usable: (T, height, width) boolean.
        uncertainty: (T, K, height, width); None for values without uncertainty.

    Returns:
        The series on the dates on which at least `MIN_SHARE` of the pixels are usable.
    """
    usable_inside = usable[:, footprint.inside]
    share = usable_inside.mean(1)
    selected = share >= MIN_SHARE
    pixels = values[:, :, footprint.inside][selected].astype(float)
    weights = np.broadcast_to(usable_inside[selected][:, None], pixels.shape).astype(float)
    pixels = np.where(weights > 0, pixels, 0.0)
    half_width = np.zeros_like(pixels)
    if uncertainty is not None:
        half_width = np.where(weights > 0, uncertainty[:, :, footprint.inside][selected], 0.0)
        _, between = _weighted_moments(pixels, weights)
        weights = weights / np.maximum(half_width**2 + between[..., None], np.finfo(float).tiny)
    mean, variance = _weighted_moments(pixels, weights)
    return FootprintSeries(
        names=tuple(names),
        dates=dates[selected],
        mean=mean,
        spread=np.sqrt(variance),
        uncertainty=(weights * half_width).sum(-1) / weights.sum(-1),
        share=share[selected],
    )


def _weighted_moments(values: NDArray, weights: NDArray) -> tuple[NDArray, NDArray]:
    """Return the weighted mean and variance over the last axis."""
    total = weights.sum(-1)
    mean = (weights * values).sum(-1) / total
    return mean, (weights * (values - mean[..., None]) ** 2).sum(-1) / total


def too_few_dates(label: str, count: int) -> UsageError:
    """Return the error that a series has too few dates.

    Args:
        label: Name of the series.
        count: Number of its dates.
    """
    return UsageError(
        f"{label}: {count} dates with enough usable pixels of the footprint, expected at least {MIN_DATES}: "
        "use a longer series or a larger radius"
    )
