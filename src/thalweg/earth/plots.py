"""Figures of cubes and embeddings, as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.analysis.similarity import PrincipalComponents, pixel_index, similarity
from thalweg.earth.sensors import Quality
from thalweg.earth.store.lookup import date_index
from thalweg.errors import ThalwegError, UsageError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from thalweg.earth.cube.cube import Cube


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, its size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=110)


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all; `ThalwegError` where it can not be written."""
    path = Path(path)
    new = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(new, format="png")
        new.replace(path)
    except OSError as error:
        if new.exists():
            new.unlink()
        raise ThalwegError(f"{path}: could not be written ({error}): free some space or choose another disk") from error
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return path


def availability(cube: "Cube", path: str | Path) -> Path:
    """Draw when each sensor saw how much of the cube."""
    figure = new_figure(10, 1 + 1.3 * len(cube.series))
    axes = figure.subplots(len(cube.series), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, series) in zip(axes, cube.series.items(), strict=True):
        axis.vlines(series.dates, 0, cube.usable_fraction(name), color="#26706b", linewidth=1.5)
        axis.set_ylim(0, 1.02)
        axis.set_ylabel("clear share")
        axis.set_title(f"{series.sensor.title}: {len(series.dates)} acquisitions", loc="left", fontsize=10)
    return save_figure(figure, path)


def _date_index(dataset: "xr.Dataset", date: str | None) -> int:
    """The index of the date asked for (the nearest one within three days), or of the clearest date."""
    if date is None:
        clear = (dataset.quality.values <= Quality.WATER).mean((1, 2))
        return int(clear.argmax())
    return date_index(dataset, date)


def embedding_map(dataset: "xr.Dataset", path: str | Path, date: str | None = None) -> Path:
    """Draw a date's picture beside the embedding's first three principal components."""
    index = _date_index(dataset, date)
    picture = np.moveaxis(dataset.picture.isel(time=index).values, 0, -1) / 255
    usable = dataset.quality.isel(time=index).values <= Quality.WATER
    picture = np.where(usable[..., None], picture, 0.85)
    figure = new_figure(10, 5.4)
    left, right = figure.subplots(1, 2)
    left.imshow(picture, interpolation="nearest")
    bands = ", ".join(dataset.picture.attrs["bands"])
    left.set_title(f"{np.datetime_as_string(dataset.time.values[index], 'D')}: {bands}", fontsize=10)
    right.imshow(
        PrincipalComponents.of(dataset).colours(dataset.embeddings.isel(time=index).values), interpolation="nearest"
    )
    right.set_title(f"first three components of {dataset.sizes['embedding']} values", fontsize=10)
    for axis in (left, right):
        axis.set_axis_off()
    figure.suptitle(dataset.attrs["title"], fontsize=11)
    return save_figure(figure, path)


def pixel_series(dataset: "xr.Dataset", path: str | Path, pixel: Sequence[float]) -> Path:
    """Draw one pixel's embedding over time with its 68 % interval; up to seven values."""
    row, column = pixel_index(dataset, pixel)
    here = dataset.isel(y=row, x=column)
    seen = np.isfinite(here.embeddings.values).all(1)
    if not seen.any():
        raise UsageError(f"pixel {pixel[0]:g} {pixel[1]:g} has no embedding on any date: choose another")
    figure = new_figure(10, 5)
    axis = figure.subplots()
    times = here.time.values[seen]
    for index in range(min(7, dataset.sizes["embedding"])):
        values = here.embeddings.values[seen, index]
        spread = here.uncertainty.values[seen, index]
        (line,) = axis.plot(times, values, marker=".", linewidth=1, label=str(index + 1))
        axis.fill_between(times, values - spread, values + spread, color=line.get_color(), alpha=0.2, linewidth=0)
    axis.set_ylabel("embedding value")
    axis.legend(title="value", ncols=7, fontsize=8)
    axis.set_title(f"row {row}, column {column}: bands are 68 % intervals", loc="left", fontsize=10)
    return save_figure(figure, path)


def similarity_map(dataset: "xr.Dataset", path: str | Path, pixel: Sequence[float]) -> Path:
    """Draw the similarity of every pixel's season to one pixel's."""
    row, column = pixel_index(dataset, pixel)
    figure = new_figure(6.4, 5.4)
    axis = figure.subplots()
    image = axis.imshow(similarity(dataset, pixel), vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    axis.plot(column, row, marker="o", markersize=9, markerfacecolor="none", markeredgecolor="red")
    axis.set_axis_off()
    axis.set_title(f"similarity to row {row}, column {column} over {dataset.sizes['time']} dates", fontsize=10)
    figure.colorbar(image, ax=axis, shrink=0.85)
    return save_figure(figure, path)
