"""Embedding jobs: everything that decides the embeddings of a cube, and the blocks they are computed in."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window, window_at, window_count
from thalweg.earth.inference.calendar_dates import calendar_days
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, QUANTILE_LEVELS, SMALL_SIZE
from thalweg.earth.store.conventions.geo_embeddings import source_uri
from thalweg.earth.store.quantization import check_bits
from thalweg.earth.store.schema import CONTEXT_DAYS, INTERVAL_LEVEL, StoreSchema
from thalweg.errors import UsageError
from thalweg.io.redaction import redact

if TYPE_CHECKING:
    from thalweg.earth.inference.calendar_dates import CalendarSource

BLOCK = 64
"""Side of a block in pixels; a block is one shard of the Zarr store."""

DATES_AT_ONCE = 16
"""Number of centre dates encoded together; it bounds the memory of a block whatever the number of dates."""

Progress = Callable[[int, int], None]
"""Callback that takes the number of finished pixel-dates and their total."""


@dataclass(frozen=True)
class Job:
    """A cube to embed with a model.

    Attributes:
        cube: cube to embed.
        model: model that embeds it.
        size: number of dimensions of an embedding, 7 or 32.
        block: side of a block in pixels.
        dates_at_once: number of centre dates encoded together.
        quantize: bits of the quantized encoding of a store, 8 or 16; None for float32.
        calendar: days to embed, as `calendar_days` takes them, whether a sensor passed or not; a job holds them as
            datetime64[D]. None for the reference sensor's dates with enough usable pixels.

    Raises:
        UsageError: the cube has no reference sensor that the model knows, a number is not one of those above, or a day
            of the calendar is more than `CONTEXT_DAYS` days from every date of the cube.
    """

    cube: Cube
    model: EarthModel
    size: int = SMALL_SIZE
    block: int = BLOCK
    dates_at_once: int = DATES_AT_ONCE
    quantize: int | None = None
    calendar: "CalendarSource | None" = None

    def __post_init__(self) -> None:
        check_bits(self.quantize)
        if self.size not in (SMALL_SIZE, FULL_SIZE):
            raise UsageError(f"size {self.size}: expected {SMALL_SIZE} or {FULL_SIZE}")
        reference = self.cube.reference.sensor
        if not reference.is_reference or reference.name not in self.model.sensors:
            raise UsageError(
                f"{self.cube.name}: no sensor that sets the dates (has {', '.join(self.cube.series)}, the model "
                f"knows {', '.join(self.model.sensors)}): add {self.model.fusion.reference.title}"
            )
        if self.calendar is not None:
            days = calendar_days(self.calendar)
            self._check_reach(days)
            object.__setattr__(self, "calendar", days)

    def _check_reach(self, days: tuple[np.datetime64, ...]) -> None:
        """Refuse days without a date of the cube within `CONTEXT_DAYS`: they would have no context."""
        observed = [series.dates for name, series in self.cube.series.items() if name in self.model.sensors]
        known = np.unique(np.concatenate(observed).astype("datetime64[D]"))
        after = np.searchsorted(known, days)
        around = known[np.stack([np.maximum(after - 1, 0), np.minimum(after, len(known) - 1)])]
        distant = np.abs(around - np.array(days)).min(0) > np.timedelta64(CONTEXT_DAYS, "D")
        if distant.any():
            first = np.array(days)[distant][0]
            raise UsageError(
                f"calendar: {distant.sum()} of {len(days)} day(s), the first {first}, are more than {CONTEXT_DAYS} "
                f"days from any date of {self.cube.name} ({known[0]} to {known[-1]}): choose days nearer to its dates"
            )

    def dates(self) -> np.ndarray:
        """Return the dates that get embeddings, datetime64[ns] (T,).

        They are the times of the reference sensor's overpasses; a day of a calendar without one is midnight UTC. The
        first call reads the reference sensor's mask over the whole cube; the cube keeps the result.
        """
        return self._timeline[0]

    def overpasses(self) -> np.ndarray:
        """Return for each of `dates` the index of the reference sensor's overpass, -1 on a day without one (T,)."""
        return self._timeline[1]

    @cached_property
    def _timeline(self) -> tuple[np.ndarray, np.ndarray]:
        dates, eligible = self.cube.reference.dates, self.cube.eligible()
        if self.calendar is None:
            return dates[eligible], eligible
        # Of several overpasses on one day, the first with enough usable pixels, else the first, is that day's.
        preferred = [*eligible, *np.setdiff1d(np.arange(len(dates)), eligible)]
        by_day = {dates[index].astype("datetime64[D]"): index for index in reversed(preferred)}
        days = np.array(self.calendar, "datetime64[D]")
        overpasses = np.array([by_day.get(day, -1) for day in days])
        return np.where(overpasses >= 0, dates[overpasses], days.astype("datetime64[ns]")), overpasses

    def pixel_dates(self) -> int:
        """Return the number of pixels times the number of dates."""
        rows, columns = self.cube.grid.shape
        return rows * columns * len(self.dates())

    @property
    def auxiliary_sensors(self) -> tuple[str, ...]:
        """Names of the model's sensors other than the reference, in its order, whether the cube has them or not."""
        reference = self.cube.reference.sensor.name
        return tuple(name for name in self.model.sensors if name != reference)

    @property
    def preview_bands(self) -> tuple[str, ...]:
        """Bands of the reference sensor shown as red, green and blue."""
        reference = self.cube.reference
        present = {
            name for name, here in zip(reference.sensor.band_names, reference.present_bands, strict=True) if here
        }
        complete = (bands for bands in reference.sensor.rgb_previews if present.issuperset(bands))
        return next(complete, 3 * (min(present),))

    @property
    def block_count(self) -> int:
        """Number of blocks that cover the grid."""
        return window_count(self.cube.grid.shape, self.block)

    def window(self, index: int) -> Window:
        """Return the window of a block; its cost does not depend on the number of blocks.

        Raises:
            IndexError: `index` is not from 0 to `block_count - 1`.
        """
        return window_at(self.cube.grid.shape, self.block, index)

    def schema(self) -> StoreSchema:
        """Return the layout and the metadata of the embeddings."""
        cube = self.cube
        quantiles = [float(value) for value in self.model.fusion.interval_factors(self.size)]
        unit = quantiles[QUANTILE_LEVELS.index(INTERVAL_LEVEL)]
        return StoreSchema(
            name=cube.name,
            model=self.model.identifier,
            model_uri=self.model.uri,
            dates=self.dates(),
            observed=self.overpasses() >= 0,
            reference=cube.reference.sensor.title,
            dimensions=self.size,
            grid=cube.grid,
            x=cube.x,
            y=cube.y,
            block=self.block,
            quantize=self.quantize,
            sources={
                name: {
                    "where": redact(Path(series.where).name),
                    "dates": len(series.dates),
                    "bands": [
                        band for band, here in zip(series.sensor.band_names, series.present_bands, strict=True) if here
                    ],
                    "items": [redact(item) for item in series.items],
                    **({"assumed_clear": True} if series.is_assumed_clear else {}),
                }
                for name, series in cube.series.items()
                if name in self.model.sensors
            },
            source_uris=tuple(source_uri(series.sensor) for series in cube.series.values()),
            preview_bands=self.preview_bands,
            auxiliary_sensors=self.auxiliary_sensors,
            interval_factors={level: value / unit for level, value in zip(QUANTILE_LEVELS, quantiles, strict=True)},
        )
