"""Embedding stores with chosen or random values, written without a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from thalweg.earth.cube.grid import pixel_centers
from thalweg.earth.cube.windows import grid_windows
from thalweg.earth.sensors import SENTINEL_2, Quality
from thalweg.earth.store.conventions.geo_embeddings import source_uri
from thalweg.earth.store.schema import Block, StoreSchema
from thalweg.earth.store.writer import create_store, write_block
from thalweg.io.hashing import hash_uri

DATES = ("2018-01-10T10:50:00", "2018-04-10T10:50:00", "2018-07-10T10:50:00", "2018-12-20T10:50:00")


@dataclass(frozen=True)
class StoreSpec:
    """Contents of a store.

    Attributes:
        shape: rows and columns.
        corner: x and y of the upper left corner in metres.
        dates: ISO dates and times.
        seed: seed of the values.
        dimensions: dimensions of an embedding.
        model: identifier of the model.
        quantize: bits of the encoding.
        block: side of a block in pixels.
        epsg: reference system.
        resolution: side of a pixel in metres.
        uncertainty: uncertainty of all embeddings; random from 0.01 to 0.11 by default.
        missing: share of pixel-dates under clouds.
    """

    shape: tuple[int, int] = (24, 20)
    corner: tuple[float, float] = (500_000.0, 5_600_000.0)
    dates: Sequence[str] = DATES
    seed: int = 0
    dimensions: int = 7
    model: str = "model-a"
    quantize: int | None = None
    block: int = 16
    epsg: int = 32631
    resolution: float = 10.0
    uncertainty: float | None = None
    missing: float = 0.2

    @property
    def grid(self) -> GeoBox:
        """The pixel grid."""
        step = self.resolution
        return GeoBox(self.shape, Affine(step, 0, self.corner[0], 0, -step, self.corner[1]), f"EPSG:{self.epsg}")


def write_store(path: Path, spec: StoreSpec) -> Path:
    """Write a store whose embeddings vary smoothly over its grid, with noise; clouds hide some pixels."""
    x, y = pixel_centers(spec.grid)
    schema = StoreSchema(
        name=path.stem,
        model=spec.model,
        model_uri=hash_uri(spec.model),
        dates=np.array(spec.dates, "datetime64[ns]"),
        observed=np.ones(len(spec.dates), bool),
        reference="Sentinel-2 L2A",
        dimensions=spec.dimensions,
        grid=spec.grid,
        x=x,
        y=y,
        block=spec.block,
        quantize=spec.quantize,
        sources={"sentinel-2": {"where": f"{path.stem}.nc", "dates": 9, "bands": ["B02", "B03"], "items": [path.stem]}},
        source_uris=(source_uri(SENTINEL_2),),
        preview_bands=("B04", "B03", "B02"),
        auxiliary_sensors=("sentinel-1",),
        interval_factors={0.68: 1.0, 0.9: 1.6},
    )
    create_store(schema, path)
    random = np.random.default_rng(spec.seed)
    directions = np.random.default_rng(9).normal(size=(3, spec.dimensions))
    for window in grid_windows(spec.shape, spec.block):
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        pixels = (len(spec.dates), window.height, window.width)
        vectors = (pixels[0], spec.dimensions, *pixels[1:])
        smooth = (
            directions[0][:, None, None] * np.sin((x[columns] - x[0]) / 90)
            + directions[1][:, None, None] * np.cos((y[rows] - y[0]) / 70)[:, None]
        )
        season = directions[2][:, None, None] * np.linspace(-1, 1, pixels[0])[:, None, None, None]
        embeddings = (smooth + season + random.normal(0, 0.2, vectors)).astype(np.float32)
        uncertainty = (
            random.uniform(0.01, 0.11, vectors) if spec.uncertainty is None else np.full(vectors, spec.uncertainty)
        ).astype(np.float32)
        cloudy = random.random(pixels) < spec.missing
        hidden = np.broadcast_to(cloudy[:, None], vectors)
        embeddings[hidden] = uncertainty[hidden] = np.nan
        write_block(
            path,
            Block(
                window=window,
                embeddings=embeddings,
                uncertainty=uncertainty,
                valid_context_dates=random.integers(1, 9, pixels).astype(np.uint16),
                quality=np.where(cloudy, Quality.CLOUD, Quality.CLEAR).astype(np.uint8),
                preview=random.integers(1, 255, (pixels[0], 3, *pixels[1:])).astype(np.uint8),
                gaps={"sentinel-1": random.normal(size=pixels).astype(np.float32)},
            ),
            spec.quantize,
        )
    return path
