"""A cube's store that grows date by date under a hidden name, and gets its own when complete."""

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
from thalweg.earth.stac.encoding import date_bytes, layer_codes, storage_encoding_of
from thalweg.earth.stac.plan import FetchPlan
from thalweg.earth.stac.request import Request
from thalweg.earth.stac.scenes import Overpass, Scene
from thalweg.errors import ThalwegError
from thalweg.io.atomic import atomic_write
from thalweg.io.progress_log import ProgressLog
from thalweg.io.redaction import redact
from thalweg.io.zarr_chunks import checked_compressor

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


DATES_FILE = "dates.json"
"""Which dates the unfinished store has read and kept, and the items skipped."""

CHUNK = 128
"""Pixels of a chunk, each way."""

SHARD = 1024
"""Pixels of a shard, each way: one window is read, and held in memory, at a time."""


class IncrementalZarrWriter:
    """The unfinished store: its arrays, and which dates it has; held by one process at a time (`Ledger`)."""

    def __init__(self, out: Path, what: FetchPlan) -> None:
        self.out, self.plan = out, what
        self.path = out.with_name(f".{out.name}.unfinished")
        self.shape = what.shape
        self._ledger = ProgressLog(self.path, out)
        self._state: dict[str, Any] = {}

    def __enter__(self) -> "IncrementalZarrWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        nothing_to_go_on_with = isinstance(error, Exception) and not self._state.get("read")
        if nothing_to_go_on_with or isinstance(error, OSError):
            self._ledger.discard()
        self._ledger.__exit__(kind, error, trace)

    def resume(self, skipped: dict[str, str]) -> None:
        """Go on with what an earlier fetch of the same request left, or start afresh."""
        goes_on = self._ledger.done(self._identity()) is not None
        try:
            self._state = json.loads((self.path / DATES_FILE).read_text())
            goes_on &= all(
                [date.names for date in dates[: self.read(name)]] == self._state["read"].get(name, [])
                for name, dates in self.plan.dates.items()
            )
            if goes_on:
                skipped.update(self._state["skipped"])
                return
        except (OSError, LookupError, TypeError, ValueError, AttributeError):
            pass  # not there, or damaged: it starts from scratch
        self._ledger.clear()
        self._ledger.start(self._identity())
        self._state = {"read": {}, "kept": {}, "skipped": {}}
        self._create()
        self._save()

    def _identity(self) -> dict[str, Any]:
        return {"request": request_attributes(self.plan), "version": __version__, "sensors": list(self.plan.dates)}

    def _create(self) -> None:
        import zarr

        root = zarr.open_group(self.path, mode="a")
        for name in self.plan.dates:
            sensor = sensor_by_name(name)
            group, coding = root.create_group(name), storage_encoding_of(sensor)
            for variable in self.plan.bands(name):
                if variable in sensor.band_names:
                    self._array(group, variable, coding.dtype, coding.fill, coding.attributes)
                else:
                    layer = layer_codes(variable)
                    self._array(group, variable, layer.dtype, layer.fill, {"grid_mapping": "spatial_ref"})

    def _array(self, group: Any, name: str, dtype: str, fill: int, attributes: dict[str, Any]) -> None:
        shard = tuple(min(SHARD, CHUNK * -(-side // CHUNK)) for side in self.shape)
        group.create_array(
            name,
            shape=(0, *self.shape),
            chunks=(1, CHUNK, CHUNK),
            shards=(1, *shard),
            dtype=dtype,
            fill_value=fill,
            compressors=(checked_compressor(),),
            dimension_names=("time", "y", "x"),
            attributes=attributes,
        )

    def read(self, sensor: str) -> int:
        """Dates of a sensor that were read."""
        return len(self._state["read"].get(sensor, []))

    def megabytes_done(self) -> float:
        """Size of the dates that were read, before compression."""
        return sum(self.read(name) * date_bytes(sensor_by_name(name), self.shape) / 1e6 for name in self.plan.dates)

    def room_for_a_date(self, sensor: Sensor) -> dict[str, Any]:
        """The sensor's arrays, one date longer than those kept so far."""
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
        """Count a date as read, and as kept where a scene had a pixel."""
        self._state["read"].setdefault(sensor.name, []).append(date.names)
        if used:
            self._state["kept"].setdefault(sensor.name, []).append(_facts(date, used))
        self._state["skipped"] = dict(skipped)
        self._save()

    def _save(self) -> None:
        atomic_write(self.path / DATES_FILE, json.dumps(self._state).encode())

    def finish(self, skipped: dict[str, str]) -> None:
        """Write times, grid and attributes, and give the store its name."""
        import zarr

        kept = {name: dates for name, dates in self._state["kept"].items() if dates}
        if not kept:
            self._ledger.discard()
            why = next(iter(skipped.values()), "the items' footprints only graze it")
            raise ThalwegError(f"{self.out}: no pixel in the box on any date ({len(skipped)} items skipped): {why}")
        for name in self.plan.dates:
            if name not in kept:
                shutil.rmtree(self.path / name, ignore_errors=True)
                continue
            sensor = sensor_by_name(name)
            self._resize(self._arrays(sensor), len(kept[name]))
            coordinates = _coordinates(sensor, kept[name], self.plan.grid)
            encoding = {variable: {"compressors": (checked_compressor(),)} for variable in coordinates.variables}
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
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # consolidation is no part of format 3 yet
            zarr.consolidate_metadata(self.path)
        self._ledger.finish(self.out)
        (self.out / DATES_FILE).unlink()  # last: a kill before would cost all that was read


def request_attributes(what: FetchPlan) -> dict[str, Any]:
    """A request as the store records it, and by which a fetch is resumed: credentials, which change, are not in it."""
    request = what.request
    return {
        "bbox": list(request.bbox),
        "time": request.time,
        "sensors": list(request.sensors or []),
        "crs": request.grid_crs,
        "chosen_crs": request.crs,
        "catalogue": redact(what.catalogue.url),
    }


def fetched_request(store: str | Path) -> Request | None:
    """The request a store was fetched for; None where it is no fetched store."""
    import zarr

    try:
        said: Any = zarr.open_group(store, mode="r").attrs["thalweg:request"]
        return Request(tuple(said["bbox"]), said["time"], tuple(said["sensors"]) or None, said["chosen_crs"])
    except (OSError, LookupError, TypeError, ValueError, AttributeError, ThalwegError, zarr.errors.BaseZarrError):
        return None  # not a fetched store, or its attributes are damaged


def _facts(date: Overpass, used: list[Scene]) -> dict[str, Any]:
    """What is kept of a date beside its numbers; baseline and orbit are its preferred scene's."""
    state, number = used[0].orbit
    return {
        "time": date.time.isoformat(),
        "item_id": " ".join(scene.name for scene in used),
        "processing_baseline": None if np.isnan(used[0].baseline) else used[0].baseline,
        "orbit_state": state,
        "relative_orbit": number,
    }


def _coordinates(sensor: Sensor, dates: list[dict[str, Any]], grid: "GeoBox") -> Any:
    """Times, what is known of each date, and the grid, as a dataset without bands."""
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
        attributes["boa_offset_applied"] = 1  # NetCDF has no truth values
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
