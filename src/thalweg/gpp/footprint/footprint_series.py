"""Series of a tower's footprint: embeddings of a store or a cube, raw bands, and embeddings on chosen dates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window
from thalweg.earth.model.context import HALO
from thalweg.errors import UsageError
from thalweg.gpp.footprint.footprint import Footprint, FootprintSeries, Tower, average_pixels

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.model.earth_model import EarthModel


def embedding_names(size: int) -> tuple[str, ...]:
    """Return the feature names of an embedding's dimensions, counted from 1: e1, e2, ..."""
    return tuple(f"e{index + 1}" for index in range(size))


@dataclass(frozen=True)
class FootprintPixels:
    """Embeddings of the pixels in a footprint's window on every date.

    Attributes:
        footprint: Footprint; the arrays cover its window.
        dates: (T,) datetime64[ns], in order.
        names: K feature names.
        values: (T, K, height, width), NaN where unusable.
        usable: (T, height, width) boolean.
        uncertainty: (T, K, height, width), half-width of the 68 % interval.
    """

    footprint: Footprint
    dates: NDArray[np.datetime64]
    names: tuple[str, ...]
    values: NDArray[np.float32]
    usable: NDArray[np.bool_]
    uncertainty: NDArray[np.float32]

    def average(self) -> FootprintSeries:
        """Average the pixels of the footprint with equal shares; see `average_pixels`."""
        return average_pixels(self.footprint, self.dates, self.names, self.values, self.usable, self.uncertainty)


def pixels_of_embeddings(dataset: "xr.Dataset", footprint: Footprint) -> FootprintPixels:
    """Return the pixels of a footprint in an embedding dataset.

    Args:
        dataset: Embeddings, as `thalweg.open` and `thalweg.embed` return them.
        footprint: Footprint on the grid of the dataset.
    """
    window = footprint.window
    part = dataset.isel(
        y=slice(window.top, window.top + window.height), x=slice(window.left, window.left + window.width)
    )
    values = part.embeddings.values
    return FootprintPixels(
        footprint=footprint,
        dates=part.time.values.astype("datetime64[ns]"),
        names=embedding_names(part.sizes["embedding"]),
        values=values,
        usable=np.isfinite(values).all(1),
        uncertainty=part.uncertainty.values,
    )


def pixels_of_cube(cube: Cube, footprint: Footprint, model: "EarthModel", size: int) -> FootprintPixels:
    """Embed the pixels of a footprint in a satellite cube; only its surroundings are read.

    Args:
        cube: Satellite cube.
        footprint: Footprint on the grid of the cube.
        model: Model that embeds the cube.
        size: Dimensions of the embedding, 7 or 32.

    Raises:
        UsageError: The cube cannot be embedded.
    """
    from thalweg.earth.inference.compute import embed_block
    from thalweg.earth.inference.job import Job

    part, cropped = crop_to_footprint(cube, footprint)
    job = Job(part, model, size)
    block = embed_block(job, cropped.window)
    return FootprintPixels(
        footprint=cropped,
        dates=job.dates(),
        names=embedding_names(size),
        values=block.embeddings,
        usable=np.isfinite(block.embeddings).all(1),
        uncertainty=block.uncertainty,
    )


def series_of_bands(cube: "Cube | str | Path", tower: Tower) -> dict[str, FootprintSeries]:
    """Average the raw bands of every sensor in a tower's footprint.

    Args:
        cube: A `Cube`, or anything `Cube.open` accepts.
        tower: Position and radius.

    Returns:
        One series per sensor name on the sensor's own dates: reflectance as a fraction, backscatter in dB after the
        sensor's temporal averaging.

    Raises:
        UsageError: The cube does not cover the footprint.
    """
    cube = cube if isinstance(cube, Cube) else Cube.open(cube)
    part, footprint = crop_to_footprint(cube, Footprint.on(cube.grid, tower, cube.name))
    found = {}
    for name, series in part.series.items():
        observations = series.read(footprint.window)
        present = series.present_bands
        names = [band for band, here in zip(series.sensor.band_names, present, strict=True) if here]
        found[name] = average_pixels(
            footprint, series.dates, names, observations.values[:, present], observations.valid
        )
    return found


def series_on_dates(
    cube: "Cube | str | Path",
    tower: Tower,
    model: "EarthModel",
    size: int,
    dates: NDArray[np.datetime64],
    views: Mapping[str, Sequence[str]],
) -> dict[str, FootprintSeries]:
    """Embed a tower's footprint on chosen dates, from subsets of the sensors.

    The model embeds any date from the context around it, whether or not a sensor passed; between the clear dates of
    Sentinel-2 the radar still contributes. Each sensor is encoded once for all views.

    Args:
        cube: A `Cube`, or anything `Cube.open` accepts.
        tower: Position and radius.
        model: Model that embeds the cube.
        size: Dimensions of the embedding, 7 or 32.
        dates: (T,) datetime64[ns].
        views: Names of the sensors of each view, by name of the view.

    Returns:
        One series per view, on the dates on which any of its sensors has observed the pixels.

    Raises:
        UsageError: The cube does not cover the footprint, or lacks a sensor.
    """
    import torch

    from thalweg.earth.inference.job import DATES_AT_ONCE
    from thalweg.earth.model.context import cube_context, days_since_epoch

    cube = cube if isinstance(cube, Cube) else Cube.open(cube)
    for sensor in {sensor for sensors in views.values() for sensor in sensors}:
        if sensor not in cube.series or sensor not in model.sensors:
            raise UsageError(f"{cube.name}: no {sensor}, it has {', '.join(cube.series)}: leave the sensor out")
    part, footprint = crop_to_footprint(cube, Footprint.on(cube.grid, tower, cube.name))
    contexts = cube_context(part, footprint.window.grown(HALO), model.sensors)
    by_view: dict[str, list[tuple[NDArray, NDArray, NDArray]]] = {view: [] for view in views}
    with torch.inference_mode():
        for days in torch.from_numpy(days_since_epoch(dates)).float().split(DATES_AT_ONCE):
            encodings = model.encode(contexts, days)
            for view, sensors in views.items():
                chosen = {name: encodings[name] for name in sensors}
                fused = model.fusion(chosen)
                half_width = model.fusion.interval_half_width(fused.spread[:, :size], 0.68, size)
                observed = torch.stack([encoding.observed[:, 0] for encoding in chosen.values()]).amax(0) > 0
                by_view[view].append((fused.values[:, :size].numpy(), half_width.numpy(), observed.numpy()))
    joined = {view: [np.concatenate(chunk) for chunk in zip(*chunks, strict=True)] for view, chunks in by_view.items()}
    return {
        view: average_pixels(footprint, dates, embedding_names(size), values, observed, half_width)
        for view, (values, half_width, observed) in joined.items()
    }


def crop_to_footprint(cube: Cube, footprint: Footprint) -> tuple[Cube, Footprint]:
    """Crop a cube to a footprint and the surroundings that an encoder needs.

    Returns:
        The cropped cube, and the footprint in it.
    """
    window = footprint.window.grown(HALO)
    rows = slice(max(window.top, 0), window.top + window.height)
    columns = slice(max(window.left, 0), window.left + window.width)
    inner = footprint.window
    moved = Window(inner.top - rows.start, inner.left - columns.start, inner.height, inner.width)
    return cube.crop(rows, columns), Footprint(moved, footprint.inside)
