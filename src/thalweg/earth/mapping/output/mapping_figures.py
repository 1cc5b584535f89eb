"""Figures of a map and of its evaluation, as PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.mapping.learning.area_estimates import AreaEstimates
from thalweg.earth.mapping.learning.mapping_model import MappingModel
from thalweg.earth.mapping.output.map_rasters import class_colours
from thalweg.earth.plots import new_figure, save_figure

MAX_FIGURE_SIDE = 1024
"""Longest side of the map in its figure, in pixels."""

_COLOUR, _SECOND_COLOUR = "#26706b", "#c2703d"
_MISSING = (0.9, 0.9, 0.9)


def draw_map(raster: Path, model: MappingModel, path: Path) -> None:
    """Draw a map, reduced to `MAX_FIGURE_SIDE` pixels, with its classes or a colour bar."""
    import rasterio

    with rasterio.open(raster) as file:
        factor = max(1, -(-max(file.shape) // MAX_FIGURE_SIDE))
        values = file.read(1, out_shape=tuple(-(-side // factor) for side in file.shape), masked=True)
    figure = new_figure(8.4, 6)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set_title(f"{model.column}, {model.learner}", fontsize=10)
    if model.classes:
        from matplotlib.patches import Patch

        colours = np.array([_MISSING, *(np.array(one) / 255 for one in class_colours(len(model.classes)).values())])
        axis.imshow(colours[values.filled(0)], interpolation="nearest")
        handles = [Patch(color=colours[code], label=name) for code, name in enumerate(model.classes, 1)]
        axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    else:
        image = axis.imshow(values, cmap="viridis", interpolation="nearest")
        figure.colorbar(image, ax=axis, shrink=0.85, label=model.column)
    save_figure(figure, path)


def draw_confusion(table: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix: classes of the labels in rows, predicted ones in columns."""
    side = 2.6 + 0.45 * len(classes)
    figure = new_figure(side + 0.6, side)
    axis = figure.subplots()
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    image = axis.imshow(shares, vmin=0, vmax=1, cmap="Greens")
    if len(classes) <= 20:
        for (row, column), count in np.ndenumerate(table):
            if count:
                colour = "white" if shares[row, column] > 0.6 else "black"
                axis.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
    axis.set_yticks(range(len(classes)), classes, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("label")
    figure.colorbar(image, ax=axis, shrink=0.8, label="share of the label's pixels")
    save_figure(figure, path)


def draw_learning_curve(curve: Sequence[tuple[float, float, float]], score_name: str, path: Path) -> None:
    """Draw the score by the number of training pixels."""
    figure = new_figure(5.6, 3.8)
    axis = figure.subplots()
    axis.plot([size for _, size, _ in curve], [score for *_, score in curve], marker="o", color=_COLOUR)
    for share, size, score in curve:
        axis.annotate(f"{share:.0%} of the blocks", (size, score), (0, -14), textcoords="offset points", fontsize=7,
                      ha="center")  # fmt: skip
    axis.margins(0.18)
    axis.set_xlabel("training pixels")
    axis.set_ylabel(score_name)
    axis.grid(alpha=0.3)
    save_figure(figure, path)


def draw_areas(areas: AreaEstimates, classes: Sequence[str], hectares: float, path: Path) -> None:
    """Draw the area per class: on the map, and estimated with its interval."""
    figure = new_figure(6.4, 1.6 + 0.36 * len(classes))
    axis = figure.subplots()
    rows = np.arange(len(classes))
    axis.barh(rows, areas.mapped * hectares, color="#a9c9c6", label="on the map")
    shares = np.clip(areas.shares, 0, 1)
    ends = np.stack([shares - areas.low, areas.high - shares]) * hectares
    axis.errorbar(
        shares * hectares, rows, xerr=ends, fmt="o", color=_SECOND_COLOUR, capsize=3, label="estimate, 90 % interval"
    )
    axis.set_yticks(rows, classes, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel("area, ha")
    axis.legend(fontsize=8)
    save_figure(figure, path)


def draw_plausible(counts: NDArray[np.int64], path: Path) -> None:
    """Draw the share of the mapped pixels by the number of plausible classes."""
    last = int(np.flatnonzero(counts)[-1]) if counts.any() else 1
    figure = new_figure(5.6, 3.6)
    axis = figure.subplots()
    axis.bar(range(1, last + 1), counts[1 : last + 1] / max(counts.sum(), 1), color=_COLOUR)
    axis.set_xticks(range(1, last + 1))
    axis.set_xlabel("plausible classes of a pixel, at 90 %")
    axis.set_ylabel("share of the map")
    save_figure(figure, path)


def draw_scatter(values: NDArray, predicted: NDArray, half_width: float, column: str, path: Path) -> None:
    """Draw labels against predictions, with the 90 % interval around the line of equality."""
    figure = new_figure(5.4, 5.2)
    axis = figure.subplots()
    ends = np.array([min(values.min(), predicted.min()), max(values.max(), predicted.max())])
    axis.fill_between(ends, ends - half_width, ends + half_width, color=_COLOUR, alpha=0.15, linewidth=0)
    axis.plot(ends, ends, color="black", linewidth=0.8)
    axis.scatter(predicted, values, s=8, color=_COLOUR, alpha=0.6, linewidths=0)
    axis.set_xlabel(f"predicted {column}")
    axis.set_ylabel(f"labelled {column}")
    save_figure(figure, path)
