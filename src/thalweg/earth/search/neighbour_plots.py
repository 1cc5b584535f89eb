"""Figure of a pixel and its neighbours on the previews of their stores."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.plots import new_figure, save_figure
from thalweg.earth.search.neighbours import Neighbour, Neighbours
from thalweg.earth.store.reader import open_store
from thalweg.earth.store.schema import OBSERVED, PREVIEW
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

MAX_STORES = 5
"""Largest number of stores that are drawn: those with most neighbours."""

MAX_SIDE = 1024
"""Largest side of a drawn preview in pixels; larger grids are drawn at every second, third ... pixel."""


def neighbour_map(neighbours: Neighbours, path: str | Path) -> Path:
    """Draw a pixel on the preview of its store, and its neighbours on those of the stores that hold most of them.

    Each preview is of the date of the nearest neighbour in the store, or of the overpass nearest to it; the neighbours
    of all dates are drawn on it, coloured by their distance.

    Args:
        neighbours: result of `find_neighbours`; at least one.
        path: PNG file to write.

    Raises:
        UsageError: There is no neighbour.
        ThalwegError: A preview cannot be read, or the file cannot be written.
    """
    if not neighbours.found:
        raise UsageError("no neighbour to draw: search with a smaller distance between neighbours")
    counts = Counter(one.store for one in neighbours.found)
    stores = [store for store, _ in counts.most_common(MAX_STORES)]
    figure = new_figure(4.2 * (1 + len(stores)), 4.8)
    first, *others = figure.subplots(1, 1 + len(stores))
    date = neighbours.date if neighbours.date is not None else neighbours.found[0].like_date
    _draw_preview(first, neighbours.store, date)
    _mark(first, neighbours)
    first.set_title(f"{neighbours.store.name}: {neighbours.pixel}\n{first.get_title()}", fontsize=9)
    farthest = max(one.distance for one in neighbours.found)
    for axis, store in zip(others, stores, strict=True):
        here = [one for one in neighbours.found if one.store == store]
        _draw_preview(axis, store, here[0].date)
        marks = _draw_neighbours(axis, here, farthest)
        if store == neighbours.store.resolve():
            _mark(axis, neighbours)
        title = f"{store.name}: {len(here)} of {len(neighbours.found)} neighbours"
        axis.set_title(f"{title}\npreview of {axis.get_title()}", fontsize=9)
    figure.colorbar(marks, ax=others[-1], label="distance", shrink=0.8)
    return save_figure(figure, path)


def _draw_preview(axis: "Axes", store: Path, date: np.datetime64) -> None:
    """Draw the preview of a store on the overpass nearest to a date, its axes in pixels."""
    dataset = open_store(store)
    index = _nearest_overpass(dataset, date)
    rows, columns = dataset.sizes["y"], dataset.sizes["x"]
    step = -(-max(rows, columns) // MAX_SIDE)
    part = dataset[PREVIEW].isel(time=index, y=slice(None, None, step), x=slice(None, None, step))
    axis.imshow(
        np.moveaxis(part.values, 0, -1), interpolation="nearest", extent=(-0.5, columns - 0.5, rows - 0.5, -0.5)
    )
    axis.set_axis_off()
    axis.set_title(np.datetime_as_string(dataset.time.values[index], "D"))


def _nearest_overpass(dataset: "xr.Dataset", date: np.datetime64) -> int:
    """Return the index of the overpass nearest to a date; of the nearest date if the store has no overpass."""
    overpasses = np.flatnonzero(dataset[OBSERVED].values)
    if not len(overpasses):
        overpasses = np.arange(dataset.sizes["time"])
    return int(overpasses[np.abs(dataset.time.values[overpasses] - date).argmin()])


def _draw_neighbours(axis: "Axes", here: "list[Neighbour]", farthest: float) -> "PathCollection":
    columns, rows = ([getattr(one.pixel, name) for one in here] for name in ("column", "row"))
    return axis.scatter(
        columns,
        rows,
        c=[one.distance for one in here],
        vmin=0,
        vmax=farthest,
        s=28,
        cmap="autumn",
        edgecolors="black",
        linewidths=0.6,
    )


def _mark(axis: "Axes", neighbours: Neighbours) -> None:
    """Mark the pixel that was searched for."""
    axis.plot(
        neighbours.pixel.column,
        neighbours.pixel.row,
        marker="s",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor="cyan",
        markeredgewidth=2,
    )
