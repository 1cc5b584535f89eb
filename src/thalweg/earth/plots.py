"""Figures of cubes and embeddings, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.analysis.pca import MISSING_GREY, RGB_PERCENTILES, PrincipalComponents
from thalweg.earth.analysis.similarity import similarity
from thalweg.earth.positions import Position, dataset_geobox, locate
from thalweg.earth.sensors import Quality
from thalweg.earth.store.lookup import date_index
from thalweg.earth.store.overviews.map_view import whole_map
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_file, write_failure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from thalweg.earth.cube.cube import Cube
    from thalweg.earth.model.earth_model import EarthModel

MAX_LINES = 7
"""Largest number of dimensions that are drawn over time."""

QUALITY_COLOURS = {
    Quality.CLEAR: "#3b8f4a",
    Quality.WATER: "#2f6fd0",
    Quality.CLOUD: "#d3dbe4",
    Quality.MISSING: "#b3b3b3",
    Quality.NEVER_OBSERVED: "#7a4f9a",
    Quality.OUTSIDE: "#303030",
    Quality.NO_OVERPASS: "#e0a030",
}
"""Colours of the quality flags."""


MAX_MAP_SIDE = 2048
"""Largest height or width of a map in pixels; of a larger store an overview is shown."""


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
    """Return the index of the date with the largest clear fraction, or of the latest date without quality flags."""
    if "quality" not in dataset:
        return dataset.sizes["time"] - 1
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
    return save_figure(embedding_figure(dataset, date, components), path)


def embedding_figure(
    dataset: "xr.Dataset", date: int | str | None = None, components: PrincipalComponents | None = None
) -> "Figure":
    """Return the figure that `embedding_map` writes.

    Args:
        dataset: an embedding dataset.
        date: an index, from 0, or an ISO date at most three days from an embedding; the clearest date by default.
        components: three components that give the colours; fitted to the dataset by default.

    Raises:
        UsageError: There is no embedding near the date.
    """
    index = clearest_date(dataset) if date is None else date_index(dataset, date)
    day = np.datetime_as_string(dataset.time.values[index], "D")
    shown = whole_map(dataset, index, MAX_MAP_SIDE)
    has_preview = "picture" in dataset
    figure = new_figure(10 if has_preview else 5.2, 5.4)
    axes = figure.subplots(1, 1 + has_preview, squeeze=False)[0]
    if has_preview:
        _draw_preview(axes[0], shown, day)
    colours = PrincipalComponents.of(dataset) if components is None else components
    axes[-1].imshow(colours.to_rgb(shown.embeddings.values), interpolation="nearest")
    title = f"first three principal components of {dataset.sizes['embedding']} dimensions"
    axes[-1].set_title(title if has_preview else f"{day}: {title}", fontsize=10)
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(dataset.attrs["title"], fontsize=11)
    return figure


def _draw_preview(axis: "Axes", shown: "xr.Dataset", day: str) -> None:
    """Draw the RGB preview of a map of one date; grey where it is not clear."""
    preview = np.moveaxis(shown.picture.values, 0, -1) / 255
    usable = shown.quality.values <= Quality.WATER
    axis.imshow(np.where(usable[..., None], preview, 0.85), interpolation="nearest")
    axis.set_title(f"{day}: {', '.join(shown.picture.attrs['bands'])}", fontsize=10)


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
    times, has_intervals = series.time.values[usable], "uncertainty" in series
    for index in range(min(MAX_LINES, dataset.sizes["embedding"])):
        values = series.embeddings.values[usable, index]
        (line,) = axis.plot(times, values, marker=".", linewidth=1, label=str(index + 1))
        if has_intervals:
            half_width = series.uncertainty.values[usable, index]
            axis.fill_between(
                times, values - half_width, values + half_width, color=line.get_color(), alpha=0.2, linewidth=0
            )
    axis.set_ylabel("embedding")
    axis.legend(title="dimension", ncols=MAX_LINES, fontsize=8)
    axis.set_title(f"{pixel}, with 68 % intervals" if has_intervals else f"{pixel}", loc="left", fontsize=10)
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


def quantity_map(dataset: "xr.Dataset", path: str | Path, name: str, model: "EarthModel", date: int) -> Path:
    """Draw a spectral index or a trait, decoded from the embeddings of one date.

    Args:
        dataset: an embedding dataset.
        path: PNG file to write.
        name: name of an index, such as `ndvi`, or of a trait, such as `lai`.
        model: the model that made the embeddings.
        date: index of the date, from 0.

    Raises:
        UsageError: There is no such quantity, the model was trained without it, or another model made the embeddings.
        ThalwegError: The file cannot be written.
    """
    from thalweg.earth.analysis.decoded import decoded_map, decoded_quantity, decoded_units

    name = decoded_quantity(name)
    model.check_made(dataset)
    values = decoded_map(model, dataset.embeddings.isel(time=date).values, name)
    units = decoded_units(name)
    figure = new_figure(6.4, 5.4)
    axis = figure.subplots()
    low, high = _percentiles(values)
    image = axis.imshow(values, vmin=low, vmax=high, cmap="YlGn", interpolation="nearest")
    day = np.datetime_as_string(dataset.time.values[date], "D")
    _title(axis, f"{name} on {day}, decoded from {dataset.sizes['embedding']} dimensions")
    figure.colorbar(image, ax=axis, shrink=0.85, label="" if units == "1" else units, extend="both")
    return save_figure(figure, path)


def quality_map(dataset: "xr.Dataset", path: str | Path, date: int) -> Path:
    """Draw the quality flags of one date.

    Raises:
        UsageError: The embeddings have no quality flags.
        ThalwegError: The file cannot be written.
    """
    if "quality" not in dataset:
        raise UsageError("these embeddings have no quality flags: expected a store of `thalweg earth embed`")
    flags = dataset.quality.isel(time=date).values
    present = [quality for quality in Quality if (flags == quality).any()]
    names = [f"{quality.name.lower().replace('_', ' ')} {(flags == quality).mean():.1%}" for quality in present]
    colours = [QUALITY_COLOURS[quality] for quality in present]
    day = np.datetime_as_string(dataset.time.values[date], "D")
    values = np.searchsorted([int(quality) for quality in present], flags)
    return class_map(values, names, colours, f"quality on {day}", path)


def class_map(
    values: "NDArray[np.integer]", names: Sequence[str], colours: Sequence[str], title: str, path: str | Path
) -> Path:
    """Draw a map of classes with a legend.

    Args:
        values: (H, W), number of the class of each pixel, from 0; larger than that of the last class for none.
        names: names of the classes.
        colours: colours of the classes, as `#rrggbb`.
        title: title of the figure.
        path: PNG file to write.

    Raises:
        ThalwegError: The file cannot be written.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    table = np.array([*map(to_rgb, colours), (MISSING_GREY,) * 3])
    figure = new_figure(7.6, 5.4)
    axis = figure.subplots()
    axis.imshow(table[np.minimum(values, len(colours))], interpolation="nearest")
    _title(axis, title)
    patches = [Patch(color=colour, label=name) for name, colour in zip(names, colours, strict=True)]
    figure.legend(handles=patches, loc="outside right upper", fontsize=8, frameon=False)
    return save_figure(figure, path)


def change_map(result: "xr.Dataset", path: str | Path) -> Path:
    """Draw the magnitude of a change, its significance, and the decoded change of NDVI.

    Args:
        result: as `thalweg.earth.analysis.change.change` returns it.
        path: PNG file to write.

    Raises:
        ThalwegError: The file cannot be written.
    """
    figure = new_figure(14, 5)
    axes = figure.subplots(1, 3)
    magnitude = axes[0].imshow(
        result.magnitude, vmin=0, vmax=_percentiles(result.magnitude.values)[1], cmap="magma", interpolation="nearest"
    )
    _title(axes[0], "difference in units of its uncertainty")
    figure.colorbar(magnitude, ax=axes[0], shrink=0.8, extend="max")
    greys = np.where(np.isnan(result.significant.values), MISSING_GREY, 1 - result.significant.values)
    axes[1].imshow(greys, vmin=0, vmax=1, cmap="gray", interpolation="nearest")
    _title(axes[1], f"significant (black) at a false discovery rate of {result.attrs['level']:g}")
    reach = max(abs(limit) for limit in _percentiles(result.NDVI_change.values))
    decoded = axes[2].imshow(result.NDVI_change, vmin=-reach, vmax=reach, cmap="BrBG", interpolation="nearest")
    _title(axes[2], "change of NDVI, decoded")
    figure.colorbar(decoded, ax=axes[2], shrink=0.8, extend="both")
    figure.suptitle(f"{result.attrs['before']} to {result.attrs['after']}", fontsize=11)
    return save_figure(figure, path)


def _percentiles(values: "NDArray[np.floating]") -> tuple[float, float]:
    """Return the 2nd and 98th percentile of the values that are known; 0 and 1 if none is."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, RGB_PERCENTILES) if len(known) else (0.0, 1.0)
    return float(low), float(high)


def _title(axis: "Axes", text: str) -> None:
    axis.set_axis_off()
    axis.set_title(text, fontsize=10)
