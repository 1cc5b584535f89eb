"""What a fetch will read: found in a catalogue, grouped into dates, sized before anything is read."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.stac.catalogues import Catalogue, catalogue_by_name
from thalweg.earth.stac.client import CatalogueClient, RetryPolicy
from thalweg.earth.stac.encoding import date_bytes
from thalweg.earth.stac.request import Request
from thalweg.earth.stac.scenes import Overpass, group_overpasses
from thalweg.errors import UsageError
from thalweg.io.redaction import redact

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

DEFAULT_SENSORS = ("sentinel-2", "sentinel-1")
"""The sensors of the shipped model."""


@dataclass(frozen=True)
class FetchPlan:
    """What a fetch will read, and onto which grid."""

    request: Request
    catalogue: Catalogue
    dates: dict[str, list[Overpass]]
    notes: tuple[str, ...]

    @property
    def grid(self) -> "GeoBox":
        """The grid."""
        return self.request.grid

    def bands(self, sensor: str) -> list[str]:
        """Bands of a sensor, and its validity layer, that any of the items has; the store has no others."""
        declared = sensor_by_name(sensor)
        layer = [declared.validity.variable] if declared.validity else []
        here = {name for date in self.dates[sensor] for scene in date.scenes for name in scene.assets}
        return [name for name in (*declared.band_names, *layer) if name in here]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        rows, columns = self.grid.shape
        return int(rows), int(columns)

    @property
    def megabytes(self) -> float:
        """Size before compression: dates x bands x pixels x bytes."""
        return (
            sum(len(dates) * date_bytes(sensor_by_name(name), self.shape) for name, dates in self.dates.items()) / 1e6
        )

    def lines(self) -> list[str]:
        """The plan in words: grid, dates a sensor, size, notes."""
        rows, columns = self.shape
        said = [f"{redact(self.catalogue.name)}: {rows} x {columns} px of 10 m, {self.request.grid_crs}"]
        for name, dates in self.dates.items():
            items = sum(len(date.scenes) for date in dates)
            collections = dict.fromkeys(scene.product.collection for date in dates for scene in date.scenes)
            first, last = dates[0].time, dates[-1].time
            said.append(
                f"{name}: {items} items of {' and '.join(collections)} on {len(dates)} dates, "
                f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
            )
        return [*said, f"size: {self.megabytes:,.1f} MB before compression", *self.notes]


def plan(
    request: Request, catalogue: str | Catalogue = "planetary-computer", patience: RetryPolicy | None = None
) -> FetchPlan:
    """Search a catalogue for what a request wants.

    Args:
        request: box, time, sensors, grid.
        catalogue: a declared catalogue or its name, or the URL or path of any other STAC API or static catalogue.
        patience: how often the server is asked again.

    Raises:
        UsageError: nothing found (the line says which filter removed everything), no such catalogue, no STAC,
            credentials missing.
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
    assert request.grid.shape  # a box that does not fit its grid is told before anything is asked
    archive = CatalogueClient(chosen, patience)
    dates: dict[str, list[Overpass]] = {}
    notes = [request.note] if request.note else []
    for name in dict.fromkeys(request.sensors or DEFAULT_SENSORS):
        try:
            dates[name] = group_overpasses(archive.scenes(request, name), grid_crs)
        except UsageError as error:
            if request.sensors is not None or sensor_by_name(name).is_reference:
                raise
            notes.append(f"without {name}: {error}")
    planned = FetchPlan(request, chosen, dates, ())
    skipped = (f"{name}: skipped, {reason}" for name, reason in archive.skipped.items())
    return replace(planned, notes=(*notes, *skipped, *_lacking(planned)))


def _lacking(planned: FetchPlan) -> Iterator[str]:
    """A line for each band that no item of a sensor has, and for each item without a band that others have."""
    for name, dates in planned.dates.items():
        sensor, here = sensor_by_name(name), planned.bands(name)
        nowhere = [band for band in sensor.band_names if band not in here]
        if nowhere:
            yield f"{name}: no item has {', '.join(nowhere)}: the cube is without"
        if sensor.validity is not None and sensor.validity.variable not in here:
            yield f"{name}: no item has {sensor.validity.variable}: the cube is read only where all is assumed clear"
        for scene in (scene for date in dates for scene in date.scenes):
            lacking = [band for band in scene.missing() if band in here]
            if lacking:
                yield f"{scene.name}: has no {', '.join(lacking)}: its pixels count as missing"
