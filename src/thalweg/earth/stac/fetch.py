"""The fetch itself: a plan's dates are read, window by window, into a store."""

from collections.abc import Callable
from pathlib import Path

from thalweg.earth.sensors import Sensor, sensor_by_name
from thalweg.earth.stac import zarr_writer
from thalweg.earth.stac.client import RetryPolicy, http_reader
from thalweg.earth.stac.encoding import date_bytes
from thalweg.earth.stac.plan import FetchPlan
from thalweg.earth.stac.read import Loader
from thalweg.earth.stac.scenes import Overpass, Scene
from thalweg.earth.stac.zarr_writer import IncrementalZarrWriter
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.progress_log import abort

Progress = Callable[[int, int], None]
"""Called with megabytes done and megabytes in all, before compression."""


def fetch(
    what: FetchPlan,
    out: str | Path,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    patience: RetryPolicy | None = None,
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
        UsageError: `out` exists already, or another process is writing it.
        ThalwegError: the server does not answer, nothing lies in the box, or the store can not be written.
    """
    out = Path(out)
    if out.exists() and not abort(out):
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    if out.exists():  # complete but for its record, which a kill in the last instant left
        return out
    patience = patience or RetryPolicy()
    loader = Loader(
        grid=what.grid,
        sign=what.catalogue.signer(),
        options=what.catalogue.reading,
        read_text=http_reader(patience).read_text,
        patience=patience,
        tell=tell or (lambda line: None),
    )
    try:
        with IncrementalZarrWriter(out, what) as store:
            _fill(store, loader, progress)
    except OSError as error:
        raise ThalwegError(f"{out}: could not be written ({error}): free some space or choose another disk") from error
    return out


def _fill(store: IncrementalZarrWriter, loader: Loader, progress: Progress | None) -> None:
    """Read the dates that are not there yet, and finish the store."""
    store.resume(loader.skipped)
    done = store.megabytes_done()
    for name, dates in store.plan.dates.items():
        for date in dates[store.read(name) :]:
            done = _fetch_date(store, sensor_by_name(name), date, loader, done, progress)
    store.finish(loader.skipped)


def _fetch_date(
    store: IncrementalZarrWriter, sensor: Sensor, date: Overpass, loader: Loader, done: float, progress: Progress | None
) -> float:
    """Read a date window by window; the megabytes done thereafter."""
    rows, columns = store.shape
    windows = [
        (slice(top, min(top + zarr_writer.SHARD, rows)), slice(left, min(left + zarr_writer.SHARD, columns)))
        for top in range(0, rows, zarr_writer.SHARD)
        for left in range(0, columns, zarr_writer.SHARD)
    ]
    arrays = store.room_for_a_date(sensor)
    skipped_before, start = len(loader.skipped), done
    used: list[Scene] = []
    for count, window in enumerate(windows):
        numbers, scenes = loader.read(date, *window)
        if count and len(loader.skipped) > skipped_before:  # what the windows before took of it goes again
            return _fetch_date(store, sensor, date, loader, start, progress)
        used += [scene for scene in scenes if scene not in used]
        for name, array in arrays.items():
            array[-1, window[0], window[1]] = numbers[name]
        skipped_before = len(loader.skipped)
        rows_here, columns_here = (extent.stop - extent.start for extent in window)
        done += date_bytes(sensor, (rows_here, columns_here)) / 1e6
        if progress:
            progress(round(done), round(store.plan.megabytes))
    store.record(sensor, date, used, loader.skipped)
    return done
