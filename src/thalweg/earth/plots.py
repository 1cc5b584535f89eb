"""Figures of cubes and embeddings, as PNG."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.analysis.similarity import similarity
from thalweg.earth.positions import Position, dataset_geobox, locate
from thalweg.earth.sensors import Quality
from thalweg.earth.store.lookup import date_index
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_file, write_failure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from thalweg.earth.cube.cube import Cube

MAX_LINES = 7
"""Largest number of dimensions that are drawn over time."""


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, its size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=110)


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Write a figure as PNG, complete or not at all, and create the parents of its path.

    Raises:
        ThalwegError: The file cannot be written.
    """
    path = Path(path)
    try:
        with atomic_file(path) as unfinished:
            figure.savefig(unfinished, format="png")
    except OSError as error:
        raise write_failure(path, error) from error
    return path


def availability(cube: "Cube", path: str | Path, fractions: "Mapping[str, NDArray] | None" = None) -> Path:
    """Draw the clear fraction of every date of each sensor of a cube.

    Args:
        cube: the cube.
        path: PNG file to write.
        fractions: (T,) per sensor name, `Cube.usable_fraction`, which otherwise reads the whole cube.

    Raises:
        ThalwegError: The file cannot be written.
    """
    fractions = fractions or {name: cube.usable_fraction(name) for name in cube.series}
    figure = new_figure(10, 1 + 1.3 * len(cube.series))
    axes = figure.subplots(len(cube.series), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, series) in zip(axes, cube.series.items(), strict=True):
        axis.vlines(series.dates, 0, fractions[name], color="#26706b", linewidth=1.5)
        axis.set_ylim(0, 1.02)
        axis.set_ylabel("clear fraction")
        axis.set_title(f"{series.sensor.title}: {len(series.dates)} dates", loc="left", fontsize=10)
    return save_figure(figure, path)


def clearest_date(dataset: "xr.Dataset") -> int:
    """Return the index of the date with the largest clear fraction in an embedding dataset."""
    return int((dataset.quality.values <= Quality.WATER).mean((1, 2)).argmax())


def embedding_map(
    dataset: "xr.Dataset",
    path: str | Path,
    date: int | str | None = None,
    components: PrincipalComponents | None = None,
) -> Path:
    """Draw the RGB preview of a date next to the first three principal components of its embeddings.

    Args:
        dataset: an embedding dataset.
        path: PNG file to write.
        date: an index, from 0, or an ISO date at most three days from an embedding; the clearest date by default.
        components: three components that give the colours; fitted to the dataset by default.

    Raises:
        UsageError: There is no embedding near the date.
        ThalwegError: The file cannot be written.
    """
    index = clearest_date(dataset) if date is None else date_index(dataset, date)
    preview = np.moveaxis(dataset.picture.isel(time=index).values, 0, -1) / 255
    usable = dataset.quality.isel(time=index).values <= Quality.WATER
    preview = np.where(usable[..., None], preview, 0.85)
    figure = new_figure(10, 5.4)
    left, right = figure.subplots(1, 2)
    left.imshow(preview, interpolation="nearest")
    bands = ", ".join(dataset.picture.attrs["bands"])
    left.set_title(f"{np.datetime_as_string(dataset.time.values[index], 'D')}: {bands}", fontsize=10)
    colours = PrincipalComponents.of(dataset) if components is None else components
    right.imshow(colours.to_rgb(dataset.embeddings.isel(time=index).values), interpolation="nearest")
    right.set_title(f"first three principal components of {dataset.sizes['embedding']} dimensions", fontsize=10)
    for axis in (left, right):
        axis.set_axis_off()
    figure.suptitle(dataset.attrs["title"], fontsize=11)
    return save_figure(figure, path)


def pixel_series(dataset: "xr.Dataset", path: str | Path, position: Position) -> Path:
    """Draw the embedding of one pixel over time with its 68 % intervals: the first seven dimensions, counted from 1.

    Raises:
        UsageError: The position lies outside the grid, or its pixel has no embedding on any date.
        ThalwegError: The file cannot be written.
    """
    pixel = locate(position, dataset_geobox(dataset))
    series = dataset.isel(y=pixel.row, x=pixel.column)
    usable = np.isfinite(series.embeddings.values).all(1)
    if not usable.any():
        raise UsageError(f"pixel {pixel} has no embedding on any date: choose another")
    figure = new_figure(10, 5)
    axis = figure.subplots()
    times = series.time.values[usable]
    for index in range(min(MAX_LINES, dataset.sizes["embedding"])):
        values = series.embeddings.values[usable, index]
        half_width = series.uncertainty.values[usable, index]
        (line,) = axis.plot(times, values, marker=".", linewidth=1, label=str(index + 1))
        axis.fill_between(
            times, values - half_width, values + half_width, color=line.get_color(), alpha=0.2, linewidth=0
        )
    axis.set_ylabel("embedding")
    axis.legend(title="dimension", ncols=MAX_LINES, fontsize=8)
    axis.set_title(f"{pixel}, with 68 % intervals", loc="left", fontsize=10)
    return save_figure(figure, path)


def similarity_map(dataset: "xr.Dataset", path: str | Path, position: Position) -> Path:
    """Draw the similarity of the embedding series of every pixel to that of one pixel.

    Raises:
        UsageError: The position lies outside the grid, or its pixel has no embedding on any date.
        ThalwegError: The file cannot be written.
    """
    pixel = locate(position, dataset_geobox(dataset))
    figure = new_figure(6.4, 5.4)
    axis = figure.subplots()
    image = axis.imshow(similarity(dataset, pixel), vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    axis.plot(pixel.column, pixel.row, marker="o", markersize=9, markerfacecolor="none", markeredgecolor="red")
    axis.set_axis_off()
    axis.set_title(f"similarity to {pixel} over {dataset.sizes['time']} dates", fontsize=10)
    figure.colorbar(image, ax=axis, shrink=0.85)
    return save_figure(figure, path)
