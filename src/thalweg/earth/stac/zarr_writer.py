"""Incremental Zarr writer: a fetched cube's store grows date by date under a hidden name until it is complete."""

import json
import shutil
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from thalweg._version import __version__
from thalweg.earth.sensors import Sensor, sensor_by_name
from thalweg.earth.stac.encoding import date_bytes, storage_attributes
from thalweg.earth.stac.plan import FetchPlan
from thalweg.earth.stac.search.request import Request
from thalweg.earth.stac.search.scenes import Overpass, Scene
from thalweg.earth.store.zarr_chunks import checked_compressors
from thalweg.errors import ThalwegError
from thalweg.io.atomic import atomic_write
from thalweg.io.progress_log import ProgressLog
from thalweg.io.redaction import redact

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


DATES_FILE = "dates.json"
"""State of an unfinished store: the dates that were read and kept, and the items skipped."""

CHUNK = 128
"""Rows, and columns, of a chunk."""

SHARD = 1024
"""Rows, and columns, of a shard; one window of this size is read, and held in memory, at a time."""


class IncrementalZarrWriter:
    """Writer of an unfinished store; one process holds it at a time, by its progress log.

    Attributes:
        out: path of the store once it is complete.
        plan: the plan that is fetched.
        path: path of the unfinished store.
        shape: rows and columns of the grid.
    """

    def __init__(self, out: Path, planned: FetchPlan) -> None:
        self.out, self.plan = out, planned
        self.shape = planned.shape
        self._log = ProgressLog(out)
        self.path = self._log.folder
        self._state: dict[str, Any] = {}

    def __enter__(self) -> "IncrementalZarrWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        has_no_date = isinstance(error, Exception) and not self._state.get("read")
        if has_no_date or isinstance(error, OSError):
            self._log.abort()
        self._log.__exit__(kind, error, trace)

    def resume(self, skipped: dict[str, str]) -> None:
        """Resume an earlier fetch of the same request, or start from scratch.

        Args:
            skipped: reasons by item; those of the earlier fetch are added to it.
        """
        can_resume = self._log.done(self._identity()) is not None
        try:
            self._state = json.loads((self.path / DATES_FILE).read_text())
            can_resume &= all(
                [date.names for date in dates[: self.num_read(name)]] == self._state["read"].get(name, [])
                for name, dates in self.plan.dates.items()
            )
            if can_resume:
                skipped.update(self._state["skipped"])
                return
        except (OSError, LookupError, TypeError, ValueError, AttributeError):
            pass  # missing or damaged: the fetch starts from scratch
        self._log.clear()
        self._log.start(self._identity())
        self._state = {"read": {}, "kept": {}, "skipped": {}}
        self._create()
        self._save()

    def _identity(self) -> dict[str, Any]:
        """Return what must be the same for a fetch to resume another."""
        variables = {name: self.plan.bands(name) for name in self.plan.dates}
        return {"request": request_attributes(self.plan), "version": __version__, "sensors": variables}

    def _create(self) -> None:
        import zarr

        root = zarr.open_group(self.path, mode="a")
        for name in self.plan.dates:
            sensor = sensor_by_name(name)
            group = root.create_group(name)
            for variable in self.plan.bands(name):
                if sensor.validity is not None and variable == sensor.validity.variable:
                    mask = sensor.validity.storage
                    self._array(group, variable, mask.dtype, mask.fill, {"grid_mapping": "spatial_ref"})
                else:
                    storage = sensor.storage_of(variable)
                    attributes = storage_attributes(storage, "1" if sensor.units == "reflectance" else sensor.units)
                    self._array(group, variable, storage.dtype, storage.fill, attributes)

    def _array(self, group: Any, name: str, dtype: str, fill: int, attributes: dict[str, Any]) -> None:
        shard = tuple(min(SHARD, CHUNK * -(-side // CHUNK)) for side in self.shape)
        group.create_array(
            name,
            shape=(0, *self.shape),
            chunks=(1, CHUNK, CHUNK),
            shards=(1, *shard),
            dtype=dtype,
            fill_value=fill,
            compressors=checked_compressors(),
            dimension_names=("time", "y", "x"),
            attributes=attributes,
        )

    def num_read(self, sensor: str) -> int:
        """Return the number of dates of a sensor that were read."""
        return len(self._state["read"].get(sensor, []))

    def megabytes_done(self) -> float:
        """Return the size of the dates that were read, before compression, in megabytes (1e6 bytes)."""
        return sum(self.num_read(name) * date_bytes(sensor_by_name(name), self.shape) / 1e6 for name in self.plan.dates)

    def arrays_with_new_date(self, sensor: Sensor) -> dict[str, Any]:
        """Return the sensor's arrays (time, y, x) by name, with one date in addition to those kept so far."""
        arrays = self._arrays(sensor)
        self._resize(arrays, len(self._state["kept"].get(sensor.name, [])) + 1)
        return arrays

    def _arrays(self, sensor: Sensor) -> dict[str, Any]:
        import zarr

        group = zarr.open_group(self.path / sensor.name, mode="r+")
        return {name: group[name] for name in self.plan.bands(sensor.name)}

    def _resize(self, arrays: dict[str, Any], dates: int) -> None:
        for array in arrays.values():
            if array.shape[0] != dates:
                array.resize((dates, *self.shape))

    def record(self, sensor: Sensor, date: Overpass, used: list[Scene], skipped: dict[str, str]) -> None:
        """Record a date as read and, if a scene had a pixel in the grid, as kept."""
        self._state["read"].setdefault(sensor.name, []).append(date.names)
        if used:
            self._state["kept"].setdefault(sensor.name, []).append(_date_metadata(date, used))
        self._state["skipped"] = dict(skipped)
        self._save()

    def _save(self) -> None:
        atomic_write(self.path / DATES_FILE, json.dumps(self._state).encode())

    def finish(self, skipped: dict[str, str]) -> None:
        """Write times, grid and attributes, and rename the store to `out`.

        Raises:
            ThalwegError: no date has a pixel in the grid; the unfinished store is removed.
        """
        import zarr

        kept = {name: dates for name, dates in self._state["kept"].items() if dates}
        if not kept:
            self._log.abort()
            why = next(iter(skipped.values()), "the items' footprints only touch its edge")
            raise ThalwegError(f"{self.out}: no pixel in the box on any date ({len(skipped)} items skipped): {why}")
        for name in self.plan.dates:
            if name not in kept:
                shutil.rmtree(self.path / name, ignore_errors=True)
                continue
            sensor = sensor_by_name(name)
            self._resize(self._arrays(sensor), len(kept[name]))
            coordinates = _coordinates(sensor, kept[name], self.plan.grid)
            encoding = {variable: {"compressors": checked_compressors()} for variable in coordinates.variables}
            coordinates.to_zarr(self.path, group=name, mode="a", zarr_format=3, consolidated=False, encoding=encoding)
        root = zarr.open_group(self.path, mode="r+")
        root.attrs.update(
            {
                "Conventions": "CF-1.8",
                "title": f"Satellite series from {redact(self.plan.catalogue.name)}",
                "thalweg:version": __version__,
                "thalweg:request": request_attributes(self.plan),
                "thalweg:skipped": dict(skipped),
            }
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # consolidation is not part of format 3 yet
            zarr.consolidate_metadata(self.path)
        self._log.finalize()
        (self.out / DATES_FILE).unlink()  # last: without it, a fetch killed before could not resume


def request_attributes(planned: FetchPlan) -> dict[str, Any]:
    """Return a request as the store records it and a resumed fetch compares it; it holds no credentials."""
    request = planned.request
    return {
        "bbox": list(request.bbox),
        "time": request.time,
        "sensors": list(request.sensors or []),
        "crs": request.grid_crs,
        "chosen_crs": request.crs,
        "catalogue": redact(planned.catalogue.url),
    }


def fetched_request(store: str | Path) -> Request | None:
    """Return the request that a store was fetched for; None for any other store, path or damaged attributes."""
    import zarr

    try:
        fields: Any = zarr.open_group(store, mode="r").attrs["thalweg:request"]
        return Request(tuple(fields["bbox"]), fields["time"], tuple(fields["sensors"]) or None, fields["chosen_crs"])
    except (OSError, LookupError, TypeError, ValueError, AttributeError, ThalwegError, zarr.errors.BaseZarrError):
        return None  # not a fetched store, or damaged attributes


def _date_metadata(date: Overpass, used: list[Scene]) -> dict[str, Any]:
    """Return the metadata of a date; baseline and orbit are those of its preferred scene."""
    state, number = used[0].orbit
    return {
        "time": date.time.isoformat(),
        "item_id": " ".join(scene.name for scene in used),
        "processing_baseline": None if np.isnan(used[0].baseline) else used[0].baseline,
        "orbit_state": state,
        "relative_orbit": number,
    }


def _coordinates(sensor: Sensor, dates: list[dict[str, Any]], grid: "GeoBox") -> Any:
    """Return times, metadata of each date and the grid as a dataset without bands."""
    import rioxarray  # noqa: F401  (gives datasets their .rio)
    import xarray as xr

    rows, columns = grid.shape
    affine = grid.affine
    times = pd.to_datetime([date["time"] for date in dates], format="ISO8601").values.astype("datetime64[ns]")

    def series(key: str, dtype: Any) -> tuple[str, np.ndarray]:
        return "time", np.array([np.nan if date[key] is None else date[key] for date in dates], dtype)

    variables = {
        "item_id": series("item_id", object),
        "orbit_state": series("orbit_state", object),
        "relative_orbit": series("relative_orbit", np.int32),
    }
    attributes: dict[str, Any] = {"sensor": sensor.name}
    if sensor.offset_since_baseline is not None:
        variables["processing_baseline"] = series("processing_baseline", np.float64)
        attributes["boa_offset_applied"] = 1  # NetCDF has no booleans
    dataset = xr.Dataset(
        variables,
        {
            "time": ("time", times),
            "y": ("y", affine.f + affine.e * (np.arange(rows) + 0.5), {"units": "m"}),
            "x": ("x", affine.c + affine.a * (np.arange(columns) + 0.5), {"units": "m"}),
        },
        attributes,
    )
    dataset["time"].encoding = {"units": "microseconds since 1970-01-01", "dtype": "int64"}
    return dataset.rio.write_crs(str(grid.crs))
