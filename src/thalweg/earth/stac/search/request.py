"""Request of a fetch: a box, a span of time, sensors, and the grid that everything is loaded onto."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.sensors import sensor_by_name
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from odc.geo.geobox import GeoBox

RESOLUTION = 10.0
"""Pixel size of the grid, in metres."""

UTM_LATITUDES = (-80.0, 84.0)
"""Latitudes in degrees between which UTM is defined; the polar grids lie beyond."""


@dataclass(frozen=True)
class Request:
    """Box and span of time to fetch and, optionally, sensors and reference system.

    Args:
        bbox: west, south, east, north in degrees (WGS 84).
        time: a day, month or year, or two of them: `2022-01/2022-12` is all of 2022.
        sensors: names of declared sensors; those of the shipped model that the catalogue has, if None.
        crs: reference system of the grid in metres, such as `EPSG:32631`; the UTM zone of the box's centre if None.

    Raises:
        UsageError: the box, the time, a sensor or the reference system is invalid.
    """

    bbox: tuple[float, float, float, float]
    time: str
    sensors: tuple[str, ...] | None = None
    crs: str | None = None

    def __post_init__(self) -> None:
        _check_box(self.bbox)
        _parsed_interval(self.time)
        for name in self.sensors or ():
            sensor_by_name(name)
        if self.crs is not None:
            _check_crs(self.crs)

    @cached_property
    def interval(self) -> "tuple[pd.Timestamp, pd.Timestamp]":
        """First and last instant, UTC without a zone."""
        return _parsed_interval(self.time)

    @cached_property
    def zones(self) -> list[str]:
        """EPSG codes of the UTM zones that the box touches, from west to east."""
        west, south, east, north = self.bbox
        hemisphere = 326 if south + north >= 0 else 327
        first, last = _zone(west), _zone(np.nextafter(east, west))
        return [f"EPSG:{hemisphere}{zone:02d}" for zone in range(first, last + 1)]

    @cached_property
    def grid_crs(self) -> str:
        """Reference system of the grid, such as `EPSG:32631`."""
        if self.crs is not None:
            return self.crs
        middle = _zone((self.bbox[0] + self.bbox[2]) / 2)
        return self.zones[middle - _zone(self.bbox[0])]

    @cached_property
    def note(self) -> str | None:
        """Line about the UTM zone that was chosen; None if the box lies in one zone or `crs` is given."""
        if len(self.zones) == 1 or self.crs is not None:
            return None
        others = " or ".join(zone for zone in self.zones if zone != self.grid_crs)
        return (
            f"the box reaches into {len(self.zones)} UTM zones: its grid is in {self.grid_crs}, the zone of its "
            f"centre; `crs={others}` chooses another"
        )

    @cached_property
    def grid(self) -> "GeoBox":
        """Grid of 10 m pixels that contains the box, its edges on multiples of 10 m.

        Raises:
            UsageError: the box lies outside of the reference system.
        """
        from affine import Affine
        from odc.geo.geobox import GeoBox
        from pyproj import Transformer

        to_grid = Transformer.from_crs("EPSG:4326", self.grid_crs, always_xy=True)
        edges = np.array(to_grid.transform_bounds(*self.bbox, densify_pts=21)) / RESOLUTION
        if not np.isfinite(edges).all():
            raise UsageError(f"`crs={self.grid_crs}`: the box lies outside of it: choose {' or '.join(self.zones)}")
        left, bottom = np.floor(edges[:2] + 1e-6).astype(int)
        right, top = np.ceil(edges[2:] - 1e-6).astype(int)
        affine = Affine(RESOLUTION, 0, left * RESOLUTION, 0, -RESOLUTION, top * RESOLUTION)
        return GeoBox((int(top - bottom), int(right - left)), affine, self.grid_crs)


def _zone(longitude: float) -> int:
    return min(int((longitude + 180) // 6) + 1, 60)


def _check_box(bbox: tuple[float, float, float, float]) -> None:
    west, south, east, north = bbox
    shown = f"`bbox={west:g} {south:g} {east:g} {north:g}`"
    if not (np.isfinite(bbox).all() and max(abs(west), abs(east)) <= 180 and max(abs(south), abs(north)) <= 90):
        raise UsageError(f"{shown}: expected west south east north in degrees, -180..180 and -90..90")
    if west > 0 > east and west - east > 180:
        raise UsageError(f"{shown}: reaches over the antimeridian: give one box on either side of it")
    if west >= east:
        raise UsageError(f"{shown}: west {west:g} is not less than east {east:g}: expected west south east north")
    if south >= north:
        raise UsageError(f"{shown}: south {south:g} is not less than north {north:g}: expected west south east north")
    if south < UTM_LATITUDES[0] or north > UTM_LATITUDES[1]:
        low, high = UTM_LATITUDES
        raise UsageError(f"{shown}: reaches over {low:g}..{high:g} degrees of latitude, beyond which UTM has no grid")


def _parsed_interval(time: str) -> "tuple[pd.Timestamp, pd.Timestamp]":
    import pandas as pd

    parts = time.split("/")
    try:
        if len(parts) > 2:
            raise ValueError("more than one /")
        periods = [pd.Period(part) for part in parts]
        first, last = periods[0].start_time, periods[-1].end_time
    except (ValueError, AttributeError) as error:  # an empty string is NaT, which has no start
        raise UsageError(f"`time={time}`: expected a day, month or year, or two, as in 2022-01/2022-12") from error
    if first > last:
        raise UsageError(f"`time={time}`: {parts[0]} is after {parts[1]}: expected the earlier one first")
    return first, last


def _check_crs(crs: str) -> None:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        found = CRS.from_user_input(crs)
    except CRSError as error:
        raise UsageError(f"`crs={crs}`: not a reference system: expected one such as EPSG:32631") from error
    if not found.is_projected or {axis.unit_name for axis in found.axis_info} != {"metre"}:
        raise UsageError(f"`crs={crs}`: {found.name} is not in metres: expected a UTM zone such as EPSG:32631")
