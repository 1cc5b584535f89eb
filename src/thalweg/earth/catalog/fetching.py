"""The fetch itself: what will be read, then a store that grows date by date under a hidden name."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from thalweg._version import __version__
from thalweg.earth.catalog.catalogues import Catalogue, catalogue_by_name
from thalweg.earth.catalog.loading import Loader
from thalweg.earth.catalog.request import Request
from thalweg.earth.catalog.scenes import Acquisition, Scene, acquisitions
from thalweg.earth.catalog.search import Archive, Patience, http_reader
from thalweg.earth.catalog.storage import coding_of, layer_codes
from thalweg.earth.sensors import Sensor, sensor_by_name
from thalweg.errors import ThalwegError, UsageError
from thalweg.files import write_whole

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

PROGRESS_FILE = "unfinished.json"

CHUNK = 128
"""Pixels of a chunk, each way."""

SHARD = 2048
"""Pixels of a shard, each way: one window is read, and held in memory, at a time."""

DEFAULT_SENSORS = ("sentinel-2", "sentinel-1")
"""The sensors of the shipped model."""

Progress = Callable[[int, int], None]
"""Called with megabytes done and megabytes in all, before compression."""


@dataclass(frozen=True)
class Plan:
    """What a fetch will read, and onto which grid."""

    request: Request
    catalogue: Catalogue
    dates: dict[str, list[Acquisition]]
    notes: tuple[str, ...]

    @property
    def grid(self) -> "GeoBox":
        """The grid."""
        return self.request.grid

    @property
    def megabytes(self) -> float:
        """Size before compression: dates x bands x pixels x bytes."""
        return (
            sum(len(dates) * _date_bytes(sensor_by_name(name), self.grid) for name, dates in self.dates.items()) / 1e6
        )

    def lines(self) -> list[str]:
        """The plan in words: grid, dates a sensor, size, notes."""
        rows, columns = self.grid.shape
        said = [f"{self.catalogue.name}: {rows} x {columns} px of 10 m, {self.request.grid_crs}"]
        for name, dates in self.dates.items():
            items = sum(len(date.scenes) for date in dates)
            collections = dict.fromkeys(scene.product.collection for date in dates for scene in date.scenes)
            first, last = dates[0].time, dates[-1].time
            said.append(
                f"{name}: {items} items of {' and '.join(collections)} on {len(dates)} dates, "
                f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
            )
        return [*said, f"size: {self.megabytes:,.1f} MB before compression", *self.notes]


def plan(request: Request, catalogue: str | Catalogue = "planetary-computer", patience: Patience | None = None) -> Plan:
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
    chosen = catalogue if isinstance(catalogue, Catalogue) else catalogue_by_name(catalogue)
    chosen.signer()
    grid_crs = request.grid_crs
    assert request.grid.shape  # a box that does not fit its grid is told before anything is asked
    archive = Archive(chosen, patience)
    dates: dict[str, list[Acquisition]] = {}
    notes = [request.note] if request.note else []
    for name in dict.fromkeys(request.sensors or DEFAULT_SENSORS):
        try:
            dates[name] = acquisitions(archive.scenes(request, name), grid_crs)
        except UsageError as error:
            if request.sensors is not None or sensor_by_name(name).sets_dates:
                raise
            notes.append(f"without {name}: {error}")
    for found in dates.values():
        for scene in (scene for date in found for scene in date.scenes):
            if scene.missing():
                notes.append(f"{scene.name}: has no {', '.join(scene.missing())}: its pixels count as missing")
    return Plan(request, chosen, dates, tuple(notes))


def fetch(
    what: Plan,
    out: str | Path,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    patience: Patience | None = None,
) -> Path:
    """Read a plan's dates into a Zarr store that `Cube.open` reads, one group a sensor.

    The store grows beside `out` under a hidden name and gets its own when complete. A fetch that is killed, or
    whose server stops to answer, goes on where it stopped when the same request is fetched again. An item that
    can not be read is skipped, told, and recorded in the attribute `thalweg:skipped`; dates without a pixel in
    the box are left out.

    Args:
        what: from `plan`.
        out: the store to write; must not exist.
        progress: called after each window of a date.
        tell: called with one line for each item skipped.
        patience: how often the server is asked again.

    Raises:
        UsageError: `out` exists already.
        ThalwegError: the server does not answer, nothing lies in the box, or the store can not be written.
    """
    out = Path(out)
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    patience = patience or Patience()
    loader = Loader(
        grid=what.grid,
        sign=what.catalogue.signer(),
        options=what.catalogue.reading,
        read_text=http_reader(patience).read_text,
        patience=patience,
        tell=tell or (lambda line: None),
    )
    store = _Store(out, what)
    try:
        store.resume(loader.skipped)
        done = store.megabytes_done()
        for name, dates in what.dates.items():
            sensor = sensor_by_name(name)
            for date in dates[store.read(name) :]:
                done = _fetch_date(store, sensor, date, loader, done, progress)
        store.finish(loader.skipped)
    except OSError as error:
        store.remove()
        raise ThalwegError(f"{out}: could not be written ({error}): free some space or choose another disk") from error
    return out


def _fetch_date(
    store: "_Store", sensor: Sensor, date: Acquisition, loader: Loader, done: float, progress: Progress | None
) -> float:
    """Read a date window by window; the megabytes done thereafter."""
    rows, columns = store.shape
    windows = [
        (slice(top, min(top + SHARD, rows)), slice(left, min(left + SHARD, columns)))
        for top in range(0, rows, SHARD)
        for left in range(0, columns, SHARD)
    ]
    arrays = store.room_for_a_date(sensor)
    skipped_before, start = len(loader.skipped), done
    used: list[Scene] = []
    for count, window in enumerate(windows):
        numbers, scenes = loader.read(date, *window)
        if count and len(loader.skipped) > skipped_before:  # what the windows before took of it goes again
            return _fetch_date(store, sensor, date, loader, start, progress)
        used += [scene for scene in scenes if scene not in used]
        for name, values in numbers.items():
            arrays[name][-1, window[0], window[1]] = values
        skipped_before = len(loader.skipped)
        done += values.size * _bytes_a_pixel(sensor) / 1e6
        if progress:
            progress(round(done), round(store.plan.megabytes))
    store.record(sensor, date, used, loader.skipped)
    return done


class _Store:
    """The unfinished store: its arrays, and which dates it has."""

    def __init__(self, out: Path, what: Plan) -> None:
        self.out, self.plan = out, what
        self.path = out.with_name(f".{out.name}.unfinished")
        rows, columns = what.grid.shape
        self.shape = int(rows), int(columns)
        self._state: dict[str, Any] = {}

    def resume(self, skipped: dict[str, str]) -> None:
        """Go on with what an earlier fetch of the same request left, or start afresh."""
        try:
            self._state = json.loads((self.path / PROGRESS_FILE).read_text())
            goes_on = self._state["identity"] == self._identity() and all(
                [date.names for date in dates[: self.read(name)]] == self._state["read"].get(name, [])
                for name, dates in self.plan.dates.items()
            )
        except (OSError, ValueError, KeyError):
            goes_on = False
        if goes_on:
            skipped.update(self._state["skipped"])
            return
        shutil.rmtree(self.path, ignore_errors=True)
        self._state = {"identity": self._identity(), "read": {}, "kept": {}, "skipped": {}}
        self._create()
        self._save()

    def _identity(self) -> dict[str, Any]:
        return {"request": request_attributes(self.plan), "version": __version__, "sensors": list(self.plan.dates)}

    def _create(self) -> None:
        import zarr

        root = zarr.open_group(self.path, mode="w")
        for name in self.plan.dates:
            sensor = sensor_by_name(name)
            group, coding = root.create_group(name), coding_of(sensor)
            for band in sensor.band_names:
                self._array(group, band, coding.dtype, coding.fill, coding.attributes)
            if sensor.validity is not None:
                layer = layer_codes(sensor.validity.variable)
                attributes = {"grid_mapping": "spatial_ref"}
                self._array(group, sensor.validity.variable, layer.dtype, layer.fill, attributes)

    def _array(self, group: Any, name: str, dtype: str, fill: int, attributes: dict[str, Any]) -> None:
        shard = tuple(min(SHARD, CHUNK * -(-side // CHUNK)) for side in self.shape)
        group.create_array(
            name,
            shape=(0, *self.shape),
            chunks=(1, CHUNK, CHUNK),
            shards=(1, *shard),
            dtype=dtype,
            fill_value=fill,
            dimension_names=("time", "y", "x"),
            attributes=attributes,
        )

    def read(self, sensor: str) -> int:
        """Dates of a sensor that were read."""
        return len(self._state["read"].get(sensor, []))

    def megabytes_done(self) -> float:
        """Size of the dates that were read, before compression."""
        return sum(
            self.read(name) * _date_bytes(sensor_by_name(name), self.plan.grid) / 1e6 for name in self.plan.dates
        )

    def room_for_a_date(self, sensor: Sensor) -> dict[str, Any]:
        """The sensor's arrays, one date longer than those kept so far."""
        arrays = self._arrays(sensor)
        self._resize(arrays, len(self._state["kept"].get(sensor.name, [])) + 1)
        return arrays

    def _arrays(self, sensor: Sensor) -> dict[str, Any]:
        import zarr

        group = zarr.open_group(self.path / sensor.name, mode="r+")
        layer = [sensor.validity.variable] if sensor.validity else []
        return {name: group[name] for name in (*sensor.band_names, *layer)}

    def _resize(self, arrays: dict[str, Any], dates: int) -> None:
        for array in arrays.values():
            if array.shape[0] != dates:
                array.resize((dates, *self.shape))

    def record(self, sensor: Sensor, date: Acquisition, used: list[Scene], skipped: dict[str, str]) -> None:
        """Count a date as read, and as kept where a scene had a pixel."""
        self._state["read"].setdefault(sensor.name, []).append(date.names)
        if used:
            self._state["kept"].setdefault(sensor.name, []).append(_facts(date, used))
        self._state["skipped"] = dict(skipped)
        self._save()

    def _save(self) -> None:
        write_whole(self.path / PROGRESS_FILE, json.dumps(self._state).encode())

    def finish(self, skipped: dict[str, str]) -> None:
        """Write times, grid and attributes, and give the store its name."""
        import zarr

        kept = {name: dates for name, dates in self._state["kept"].items() if dates}
        if not kept:
            self.remove()
            why = next(iter(skipped.values()), "the items' footprints only graze it")
            raise ThalwegError(f"{self.out}: no pixel in the box on any date ({len(skipped)} items skipped): {why}")
        for name in self.plan.dates:
            if name not in kept:
                shutil.rmtree(self.path / name)
                continue
            sensor = sensor_by_name(name)
            self._resize(self._arrays(sensor), len(kept[name]))
            _coordinates(sensor, kept[name], self.plan.grid).to_zarr(
                self.path, group=name, mode="a", zarr_format=3, consolidated=False
            )
        root = zarr.open_group(self.path, mode="r+")
        root.attrs.update(
            {
                "Conventions": "CF-1.8",
                "title": f"Satellite series from {self.plan.catalogue.name}",
                "thalweg:version": __version__,
                "thalweg:request": request_attributes(self.plan),
                "thalweg:skipped": dict(skipped),
            }
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)  # consolidation is no part of format 3 yet
            zarr.consolidate_metadata(self.path)
        (self.path / PROGRESS_FILE).unlink()
        self.path.rename(self.out)

    def remove(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self.path, ignore_errors=True)


def request_attributes(what: Plan) -> dict[str, Any]:
    """A request as the store records it."""
    request = what.request
    return {
        "bbox": list(request.bbox),
        "time": request.time,
        "sensors": list(request.sensors or []),
        "crs": request.grid_crs,
        "chosen_crs": request.crs,
        "catalogue": what.catalogue.url,
    }


def fetched_request(store: str | Path) -> Request | None:
    """The request a store was fetched for; None where it is no fetched store."""
    import zarr

    try:
        said: Any = zarr.open_group(store, mode="r").attrs["thalweg:request"]
        return Request(tuple(said["bbox"]), said["time"], tuple(said["sensors"]) or None, said["chosen_crs"])
    except (OSError, KeyError, zarr.errors.BaseZarrError):
        return None


def _facts(date: Acquisition, used: list[Scene]) -> dict[str, Any]:
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
        attributes["boa_offset_applied"] = True
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


def _bytes_a_pixel(sensor: Sensor) -> int:
    layer = np.dtype(layer_codes(sensor.validity.variable).dtype).itemsize if sensor.validity else 0
    return len(sensor.bands) * np.dtype(coding_of(sensor).dtype).itemsize + layer


def _date_bytes(sensor: Sensor, grid: "GeoBox") -> int:
    return int(grid.shape[0] * grid.shape[1]) * _bytes_a_pixel(sensor)
