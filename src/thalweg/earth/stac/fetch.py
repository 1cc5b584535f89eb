"""Fetch: the dates of a plan are read, window by window, and written to a store."""

from collections.abc import Callable
from pathlib import Path

from thalweg.earth.sensors import Sensor, sensor_by_name
from thalweg.earth.stac import zarr_writer
from thalweg.earth.stac.encoding import date_bytes
from thalweg.earth.stac.plan import FetchPlan
from thalweg.earth.stac.read import Loader
from thalweg.earth.stac.search.client import RetryPolicy, http_reader
from thalweg.earth.stac.search.scenes import Overpass, Scene
from thalweg.earth.stac.zarr_writer import IncrementalZarrWriter
from thalweg.errors import ThalwegError
from thalweg.io.atomic import refuse_existing, write_failure
from thalweg.io.progress_log import complete_finalize

Progress = Callable[[int, int], None]
"""Function that is called with the megabytes done and the megabytes in all, before compression."""


def fetch(
    planned: FetchPlan,
    out: str | Path,
    progress: Progress | None = None,
    on_skipped: Callable[[str], None] | None = None,
    retry_policy: RetryPolicy | None = None,
) -> Path:
    """Read a plan's dates into a Zarr store that `Cube.open` reads, one group per sensor.

    The store is written next to `out` under a hidden name and renamed when it is complete. A fetch that was killed,
    or whose server stopped answering, resumes when the same request is fetched again. An item that cannot be read is
    skipped and recorded in the attribute `thalweg:skipped`. Dates without a pixel in the box are left out.

    Args:
        planned: the plan, from `plan`.
        out: store to write; must not exist.
        progress: function that is called after each window of a date.
        on_skipped: function that is called with one line for each item skipped.
        retry_policy: how requests are repeated after a fault of the server; `RetryPolicy()` if None.

    Returns:
        Path of the store. Bands are (time, y, x) integers with CF attributes `scale_factor`, `add_offset` and
        `_FillValue`; reflectance is a fraction and backscatter in dB.

    Raises:
        UsageError: `out` exists already, or another process is writing it.
        ThalwegError: the server does not answer, no pixel is in the box, or the store cannot be written.
    """
    out = Path(out)
    if complete_finalize(out):
        return out
    refuse_existing(out)
    retry_policy = retry_policy or RetryPolicy()
    loader = Loader(
        grid=planned.grid,
        sign=planned.catalogue.signer(),
        options=planned.catalogue.reading,
        read_text=http_reader(retry_policy).read_text,
        retry_policy=retry_policy,
        on_skipped=on_skipped or (lambda line: None),
    )
    try:
        with IncrementalZarrWriter(out, planned) as store:
            _fill(store, loader, progress)
    except ThalwegError:
        raise
    except OSError as error:
        raise write_failure(out, error) from error
    return out


def _fill(store: IncrementalZarrWriter, loader: Loader, progress: Progress | None) -> None:
    """Read the dates that the store does not have yet, and finish the store."""
    store.resume(loader.skipped)
    done = store.megabytes_done()
    for name, dates in store.plan.dates.items():
        for date in dates[store.num_read(name) :]:
            done = _fetch_date(store, sensor_by_name(name), date, loader, done, progress)
    store.finish(loader.skipped)


def _fetch_date(
    store: IncrementalZarrWriter, sensor: Sensor, date: Overpass, loader: Loader, done: float, progress: Progress | None
) -> float:
    """Read a date window by window; return the megabytes done afterwards."""
    rows, columns = store.shape
    windows = [
        (slice(top, min(top + zarr_writer.SHARD, rows)), slice(left, min(left + zarr_writer.SHARD, columns)))
        for top in range(0, rows, zarr_writer.SHARD)
        for left in range(0, columns, zarr_writer.SHARD)
    ]
    arrays = store.arrays_with_new_date(sensor)
    skipped_before, start = len(loader.skipped), done
    used: list[Scene] = []
    for count, window in enumerate(windows):
        numbers, scenes = loader.read(date, *window)
        if count and len(loader.skipped) > skipped_before:  # earlier windows hold pixels of a scene skipped since
            return _fetch_date(store, sensor, date, loader, start, progress)
        used += [scene for scene in scenes if scene not in used]
        for name, array in arrays.items():
            array[-1, window[0], window[1]] = numbers[name]
        skipped_before = len(loader.skipped)
        height, width = (extent.stop - extent.start for extent in window)
        done += date_bytes(sensor, (height, width)) / 1e6
        if progress:
            progress(round(done), round(store.plan.megabytes))
    store.record(sensor, date, used, loader.skipped)
    return done
