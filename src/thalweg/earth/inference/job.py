"""Embedding jobs: everything that decides the embeddings of a cube, and the blocks they are computed in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window, window_at, window_count
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, QUANTILE_LEVELS, SMALL_SIZE
from thalweg.earth.store.quantization import check_bits
from thalweg.earth.store.schema import INTERVAL_LEVEL, StoreSchema
from thalweg.errors import UsageError
from thalweg.io.redaction import redact

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

    Raises:
        UsageError: the cube has no reference sensor that the model knows, or a number is not one of those above.
    """

    cube: Cube
    model: EarthModel
    size: int = SMALL_SIZE
    block: int = BLOCK
    dates_at_once: int = DATES_AT_ONCE
    quantize: int | None = None

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

    def dates(self) -> np.ndarray:
        """Return the reference sensor's dates that get embeddings, datetime64[ns] (T,).

        The first call reads the reference sensor's mask over the whole cube; the cube keeps the result.
        """
        return self.cube.reference.dates[self.cube.eligible()]

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
        quantiles = [float(value) for value in self.model.fusion.quantiles]
        unit = quantiles[QUANTILE_LEVELS.index(INTERVAL_LEVEL)]
        return StoreSchema(
            name=cube.name,
            model=self.model.identifier,
            dates=self.dates(),
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
            source_titles=tuple(series.sensor.title for series in cube.series.values()),
            preview_bands=self.preview_bands,
            auxiliary_sensors=self.auxiliary_sensors,
            interval_factors={level: value / unit for level, value in zip(QUANTILE_LEVELS, quantiles, strict=True)},
        )
