"""Plan of a fetch: the scenes found in a catalogue, grouped into dates, and their size, before anything is read."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.stac.encoding import date_bytes
from thalweg.earth.stac.search.catalogues import Catalogue, catalogue_by_name
from thalweg.earth.stac.search.client import CatalogueClient, RetryPolicy
from thalweg.earth.stac.search.request import Request
from thalweg.earth.stac.search.scenes import Overpass, group_overpasses
from thalweg.errors import UsageError
from thalweg.io.redaction import redact

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

DEFAULT_SENSORS = ("sentinel-2", "sentinel-1")
"""Sensors of the shipped model, fetched where a request names none."""


@dataclass(frozen=True)
class FetchPlan:
    """Scenes that a fetch will read, and the grid that it loads them onto. Build one with `plan`.

    Attributes:
        request: box, time, sensors and reference system.
        catalogue: catalogue that was searched.
        dates: overpasses of each sensor by its name, in order of time; each becomes one date.
        notes: lines for the user: choices that were made, sensors and bands that are missing, items skipped.
    """

    request: Request
    catalogue: Catalogue
    dates: dict[str, list[Overpass]]
    notes: tuple[str, ...]

    @property
    def grid(self) -> "GeoBox":
        """Grid of the store."""
        return self.request.grid

    def bands(self, sensor: str) -> list[str]:
        """Return a sensor's bands, and its mask, that at least one item has; the store holds no others."""
        declared = sensor_by_name(sensor)
        mask = [declared.validity.variable] if declared.validity else []
        found = {name for date in self.dates[sensor] for scene in date.scenes for name in scene.assets}
        return [name for name in (*declared.band_names, *mask) if name in found]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        rows, columns = self.grid.shape
        return int(rows), int(columns)

    @property
    def megabytes(self) -> float:
        """Size before compression: dates x bands x pixels x bytes, in megabytes (1e6 bytes)."""
        return (
            sum(len(dates) * date_bytes(sensor_by_name(name), self.shape) for name, dates in self.dates.items()) / 1e6
        )

    def lines(self) -> list[str]:
        """Return the plan in words: grid, dates per sensor, size, notes."""
        rows, columns = self.shape
        lines = [f"{redact(self.catalogue.name)}: {rows} x {columns} px of 10 m, {self.request.grid_crs}"]
        for name, dates in self.dates.items():
            items = sum(len(date.scenes) for date in dates)
            collections = dict.fromkeys(scene.product.collection for date in dates for scene in date.scenes)
            first, last = dates[0].time, dates[-1].time
            lines.append(
                f"{name}: {items} items of {' and '.join(collections)} on {len(dates)} dates, "
                f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
            )
        return [*lines, f"size: {self.megabytes:,.1f} MB before compression", *self.notes]


def plan(
    request: Request, catalogue: str | Catalogue = "planetary-computer", retry_policy: RetryPolicy | None = None
) -> FetchPlan:
    """Search a catalogue for the scenes that a request asks for; no file of measurements is read.

    Args:
        request: box, time, sensors and reference system.
        catalogue: a declared catalogue or its name, or the URL or path of any other STAC API or static catalogue.
        retry_policy: how requests are repeated after a fault of the server; `RetryPolicy()` if None.

    Returns:
        The plan, for `fetch`.

    Raises:
        UsageError: nothing was found (the message names the filter that removed everything), there is no such
            catalogue, it is not STAC, credentials are missing, or the box does not fit the grid.
        ThalwegError: the server does not answer.
    """
    try:
        import odc.stac  # noqa: F401
        import pystac_client  # noqa: F401
    except ImportError as error:
        raise UsageError(f"catalogues need {error.name}: install thalweg[archive]") from error
    chosen = catalogue if isinstance(catalogue, Catalogue) else catalogue_by_name(catalogue)
    chosen.signer()
    grid_crs = request.grid_crs
    assert request.grid.shape  # a box that does not fit its grid is refused before the first request
    client = CatalogueClient(chosen, retry_policy)
    dates: dict[str, list[Overpass]] = {}
    notes = [request.note] if request.note else []
    for name in dict.fromkeys(request.sensors or DEFAULT_SENSORS):
        try:
            dates[name] = group_overpasses(client.scenes(request, name), grid_crs)
        except UsageError as error:
            if request.sensors is not None or sensor_by_name(name).is_reference:
                raise
            notes.append(f"without {name}: {error}")
    found = FetchPlan(request, chosen, dates, ())
    skipped = (f"{name}: skipped, {reason}" for name, reason in client.skipped.items())
    return replace(found, notes=(*notes, *skipped, *_missing_bands(found)))


def _missing_bands(found: FetchPlan) -> Iterator[str]:
    """Yield a line for each band that no item of a sensor has, and for each item without a band that others have."""
    for name, dates in found.dates.items():
        sensor, bands = sensor_by_name(name), found.bands(name)
        nowhere = [band for band in sensor.band_names if band not in bands]
        if nowhere:
            yield f"{name}: no item has {', '.join(nowhere)}: the cube is without"
        if sensor.validity is not None and sensor.validity.variable not in bands:
            yield f"{name}: no item has {sensor.validity.variable}: the cube is read only where all is assumed clear"
        for scene in (scene for date in dates for scene in date.scenes):
            missing = [band for band in scene.missing() if band in bands]
            if missing:
                yield f"{scene.name}: has no {', '.join(missing)}: its pixels count as missing"
