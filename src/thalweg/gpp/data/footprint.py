"""What a tower sees of a cube: the mean and the spread of the pixels inside a radius, date by date."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import describe_crs, pixel_centers, projection, read_grid
from thalweg.earth.cube.windows import Window
from thalweg.earth.model.context import HALO
from thalweg.earth.sensors import Quality
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

    from thalweg.earth.model.earth_model import EarthModel

RADIUS = 100.0
"""Default radius of a footprint in m, of the order of a flux tower's."""

MIN_SHARE = 0.25
"""Share of a footprint's pixels that must be usable for a date to count."""


@dataclass(frozen=True)
class Tower:
    """A tower and the radius of its footprint.

    Attributes:
        x: degrees east, or the map coordinate in the cube's reference system.
        y: degrees north, or the map coordinate. Values within 180 and 90 are degrees.
        radius: of the footprint, in m.
    """

    x: float
    y: float
    radius: float = RADIUS

    def __post_init__(self) -> None:
        if not (np.isfinite([self.x, self.y]).all() and self.radius > 0):
            raise UsageError(f"tower at {self.x:g} {self.y:g}, radius {self.radius:g} m: expected a place and a radius")

    @property
    def in_degrees(self) -> bool:
        """Whether the place is longitude and latitude."""
        return abs(self.x) <= 180 and abs(self.y) <= 90

    def map_coordinates(self, grid: "GeoBox") -> tuple[float, float]:
        """The place in the grid's reference system."""
        if not self.in_degrees:
            return self.x, self.y
        from pyproj import Transformer

        x, y = Transformer.from_crs("EPSG:4326", projection(grid), always_xy=True).transform(self.x, self.y)
        return float(x), float(y)

    def latitude(self, grid: "GeoBox") -> float:
        """Degrees north."""
        if self.in_degrees:
            return self.y
        from pyproj import Transformer

        return float(Transformer.from_crs(projection(grid), "EPSG:4326", always_xy=True).transform(self.x, self.y)[1])


@dataclass(frozen=True)
class Footprint:
    """The pixels of a footprint.

    Attributes:
        window: the smallest rectangle around them.
        inside: (height, width) boolean, pixels whose centre lies within the radius; at least one.
    """

    window: Window
    inside: NDArray[np.bool_]

    @classmethod
    def on(cls, grid: "GeoBox", tower: Tower, where: str) -> "Footprint":
        """The footprint's pixels on a grid.

        Raises:
            UsageError: the grid does not cover the footprint.
        """
        x, y = tower.map_coordinates(grid)
        half = grid.resolution.x / 2
        columns_x, rows_y = pixel_centers(grid)
        west, east = float(columns_x[0]) - half, float(columns_x[-1]) + half
        south, north = float(rows_y[-1]) - half, float(rows_y[0]) + half
        if not (west <= x <= east and south <= y <= north):
            raise UsageError(
                f"{where}: does not cover the tower at {tower.x:.10g} {tower.y:.10g} ({x:.0f} {y:.0f} in "
                f"{describe_crs(grid)}), it spans x {west:.0f} to {east:.0f}, y {south:.0f} to {north:.0f}: "
                f"{_advice(grid, tower)}"
            )
        room = min(x - west, east - x, y - south, north - y)
        if tower.radius > room + half:
            raise UsageError(
                f"{where}: covers {room:.0f} m around the tower at {tower.x:.10g} {tower.y:.10g}, expected its "
                f"footprint of {tower.radius:g} m: take a larger cube or a smaller radius"
            )
        away = np.hypot(columns_x - x, rows_y[:, None] - y)
        near = away <= max(tower.radius, float(away.min())) + 1e-6 * grid.resolution.x
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        window = Window(int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
        return cls(window, near[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _advice(grid: "GeoBox", tower: Tower) -> str:
    """What to write where a grid does not cover a tower: the place meant, if another reading of it lies inside."""
    swapped, turned = Tower(tower.y, tower.x, tower.radius), Tower(tower.x - 360, tower.y, tower.radius)
    order = "longitude comes before latitude" if swapped.in_degrees else "x comes before y"
    for meant, rule in ((swapped, order), (turned, "longitude goes from -180 to 180")):
        x, y = meant.map_coordinates(grid)
        columns_x, rows_y = pixel_centers(grid)
        if columns_x[0] <= x <= columns_x[-1] and rows_y[-1] <= y <= rows_y[0]:
            return f"{rule}: write {meant.x:.10g} {meant.y:.10g}"
    if not tower.in_degrees and abs(tower.x) <= 360 and abs(tower.y) <= 360:
        return "expected longitude within 180 and latitude within 90 degrees, or map coordinates"
    return "take a cube around the tower"


@dataclass(frozen=True)
class FootprintSeries:
    """A footprint's features on the dates on which enough of it was seen.

    Attributes:
        names: K feature names.
        dates: (T,) datetime64[ns], in order.
        mean: (T, K) weighted mean over the pixels.
        spread: (T, K) weighted standard deviation between the pixels.
        uncertainty: (T, K) of the mean, half-width of the 68 % interval; 0 where the features carry none.
        share: (T,) share of the footprint's pixels that were usable.
    """

    names: tuple[str, ...]
    dates: NDArray[np.datetime64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    share: NDArray[np.float64]

    def select(self, chosen: NDArray) -> "FootprintSeries":
        """The dates that a mask or an index chooses."""
        fields = ("dates", "mean", "spread", "uncertainty", "share")
        return replace(self, **{name: getattr(self, name)[chosen] for name in fields})


def average(
    footprint: Footprint,
    dates: NDArray[np.datetime64],
    names: Sequence[str],
    values: NDArray,
    usable: NDArray[np.bool_],
    uncertainty: NDArray | None = None,
) -> FootprintSeries:
    """Average the pixels of a footprint's window.

    Unusable pixels weigh nothing. Where the values carry an uncertainty u, a pixel weighs 1 / (u^2 + s^2) with s^2
    the variance between the date's pixels, the weights of a random-effects mean: a pixel that the model is less sure
    of counts less, and none counts for all. Neighbours share their context, so the mean's uncertainty is taken as
    the pixels' weighted mean uncertainty, not divided by their number.

    Args:
        footprint: its `window` is what the arrays cover.
        dates: (T,).
        names: K feature names.
        values: (T, K, height, width), NaN where unusable.
        usable: (T, height, width).
        uncertainty: (T, K, height, width), or None where the values carry none.

    Returns:
        The dates on which at least `MIN_SHARE` of the pixels are usable.
    """
    seen = usable[:, footprint.inside]
    share = seen.mean(1)
    kept = share >= MIN_SHARE
    pixels = values[:, :, footprint.inside][kept].astype(float)
    weights = np.broadcast_to(seen[kept][:, None], pixels.shape).astype(float)
    pixels = np.where(weights > 0, pixels, 0.0)
    half_width = np.zeros_like(pixels)
    if uncertainty is not None:
        half_width = np.where(weights > 0, uncertainty[:, :, footprint.inside][kept], 0.0)
        _, between = _weighted(pixels, weights)
        weights = weights / np.maximum(half_width**2 + between[..., None], np.finfo(float).tiny)
    mean, variance = _weighted(pixels, weights)
    return FootprintSeries(
        names=tuple(names),
        dates=dates[kept],
        mean=mean,
        spread=np.sqrt(variance),
        uncertainty=(weights * half_width).sum(-1) / weights.sum(-1),
        share=share[kept],
    )


def _weighted(values: NDArray, weights: NDArray) -> tuple[NDArray, NDArray]:
    """Weighted mean and variance over the last axis."""
    total = weights.sum(-1)
    mean = (weights * values).sum(-1) / total
    return mean, (weights * (values - mean[..., None]) ** 2).sum(-1) / total


def embedding_names(size: int) -> tuple[str, ...]:
    """Names of an embedding's values as features: e1, e2, ..."""
    return tuple(f"e{index + 1}" for index in range(size))


def from_embeddings(dataset: "xr.Dataset", tower: Tower, where: str = "embeddings") -> FootprintSeries:
    """The footprint of a tower in an embedding cube, as `embed` returns and `open_embeddings` opens it.

    Raises:
        UsageError: the cube does not cover the footprint.
    """
    footprint = Footprint.on(read_grid(dataset, where)[0], tower, where)
    window = footprint.window
    part = dataset.isel(
        y=slice(window.top, window.top + window.height), x=slice(window.left, window.left + window.width)
    )
    return average(
        footprint,
        part.time.values.astype("datetime64[ns]"),
        embedding_names(part.sizes["embedding"]),
        part.embeddings.values,
        part.quality.values <= Quality.WATER,
        part.uncertainty.values,
    )


def around(cube: Cube, footprint: Footprint) -> tuple[Cube, Footprint]:
    """The cube cut to a footprint and what an encoder needs around it, and the footprint in it."""
    window = footprint.window.grown(HALO)
    rows = slice(max(window.top, 0), window.top + window.height)
    columns = slice(max(window.left, 0), window.left + window.width)
    inner = footprint.window
    moved = Window(inner.top - rows.start, inner.left - columns.start, inner.height, inner.width)
    return cube.crop(rows, columns), Footprint(moved, footprint.inside)


def from_cube(cube: "Cube | str | Path", tower: Tower, model: "EarthModel", size: int) -> FootprintSeries:
    """The footprint of a tower in a satellite cube; only what the footprint needs is read and embedded.

    Args:
        cube: a `Cube`, or anything `Cube.open` takes.
        tower: where, and how far around it.
        model: embeds the cube.
        size: 7 or 32 values.

    Raises:
        UsageError: the cube does not cover the footprint, or can not be embedded.
    """
    from thalweg.earth.inference.job import Job, embed_block

    cube = cube if isinstance(cube, Cube) else Cube.open(cube)
    near, footprint = around(cube, Footprint.on(cube.grid, tower, cube.name))
    job = Job(near, model, size)
    block = embed_block(job, footprint.window)
    return average(
        footprint,
        job.dates,
        embedding_names(size),
        block.embeddings,
        block.quality <= Quality.WATER,
        block.uncertainty,
    )


def from_bands(cube: "Cube | str | Path", tower: Tower) -> dict[str, FootprintSeries]:
    """The raw bands of every sensor in a tower's footprint, by sensor name, each on its own dates.

    Reflectance as a fraction, backscatter in dB after the sensor's own averaging over acquisitions.

    Raises:
        UsageError: the cube does not cover the footprint.
    """
    cube = cube if isinstance(cube, Cube) else Cube.open(cube)
    near, footprint = around(cube, Footprint.on(cube.grid, tower, cube.name))
    found = {}
    for name, series in near.series.items():
        seen = series.read(footprint.window)
        here = series.present_bands
        names = [band for band, present in zip(series.sensor.band_names, here, strict=True) if present]
        found[name] = average(footprint, series.dates, names, seen.values[:, here], seen.valid)
    return found


def ask(
    cube: "Cube | str | Path",
    tower: Tower,
    model: "EarthModel",
    size: int,
    dates: NDArray[np.datetime64],
    views: Mapping[str, Sequence[str]],
) -> dict[str, FootprintSeries]:
    """Embed a tower's footprint on dates of one's own choice, as if only some sensors were there.

    The model answers on any date from the context around it, whether or not a sensor passed; between the clear
    dates of Sentinel-2 the radar goes on seeing. Each sensor is encoded once for all views.

    Args:
        cube: a `Cube`, or anything `Cube.open` takes.
        tower: where, and how far around it.
        model: embeds the cube.
        size: 7 or 32 values.
        dates: (T,) datetime64[ns].
        views: names of the sensors to listen to, by name of the view.

    Returns:
        One series a view, on the dates on which any of its sensors has seen the pixels.

    Raises:
        UsageError: the cube does not cover the footprint, or lacks a sensor.
    """
    import torch

    from thalweg.earth.inference.job import DATES_AT_ONCE
    from thalweg.earth.model.context import cube_context, days_since_epoch

    cube = cube if isinstance(cube, Cube) else Cube.open(cube)
    for sensor in {sensor for sensors in views.values() for sensor in sensors}:
        if sensor not in cube.series or sensor not in model.sensors:
            raise UsageError(f"{cube.name}: no {sensor}, it has {', '.join(cube.series)}: leave the sensor out")
    near, footprint = around(cube, Footprint.on(cube.grid, tower, cube.name))
    contexts = cube_context(near, footprint.window.grown(HALO), model.sensors)
    found: dict[str, list[tuple[NDArray, NDArray, NDArray]]] = {view: [] for view in views}
    with torch.inference_mode():
        for days in torch.from_numpy(days_since_epoch(dates)).float().split(DATES_AT_ONCE):
            encodings = model.encode(contexts, days)
            for view, sensors in views.items():
                heard = {name: encodings[name] for name in sensors}
                fused = model.fusion(heard)
                half_width = model.fusion.intervals(fused.spread[:, :size], 0.68)
                seen = torch.stack([encoding.seen[:, 0] for encoding in heard.values()]).amax(0) > 0
                found[view].append((fused.values[:, :size].numpy(), half_width.numpy(), seen.numpy()))
    joined = {view: [np.concatenate(part) for part in zip(*parts, strict=True)] for view, parts in found.items()}
    return {
        view: average(footprint, dates, embedding_names(size), values, seen, half_width)
        for view, (values, half_width, seen) in joined.items()
    }
