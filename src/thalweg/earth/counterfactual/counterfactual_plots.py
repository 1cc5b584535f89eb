"""Figures of counterfactuals, principal directions and decoded paths."""

from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.counterfactual.counterfactual import Counterfactual
from thalweg.earth.counterfactual.directions import STEPS, PrincipalDirection
from thalweg.earth.counterfactual.interpolation import DecodedPath
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.plots import new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINE_CHARACTERS = 150
"""Characters in a line of text below a figure."""


def draw_counterfactual(result: Counterfactual) -> "Figure":
    """Draw the bands before and after with their intervals, one panel per sensor, and the summary below them."""
    figure = new_figure(10, 4.4)
    widths = [max(len(before), 3) for before in result.before.values()]
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    for axis, (sensor, before) in zip(panels, result.before.items(), strict=True):
        _draw_sensor(axis, before, result.after[sensor])
        axis.set_title(sensor, loc="left", fontsize=10)
    panels[0].legend(fontsize=8, frameon=False)
    figure.suptitle(f"{result.place}, {result.target}", x=0.01, ha="left", fontsize=11)
    figure.supxlabel(fill(result.summary, MAX_LINE_CHARACTERS), fontsize=8)
    return figure


def _draw_sensor(axis: "Axes", before: "pd.DataFrame", after: "pd.DataFrame") -> None:
    """Draw bands as points with error bars, before and after side by side."""
    positions = np.arange(len(before))
    for bands, offset, colour, label in ((before, -0.12, "#8c8c8c", "before"), (after, 0.12, "#26706b", "after")):
        bars = np.stack([bands.value - bands.low, bands.high - bands.value])
        axis.errorbar(
            positions + offset, bands.value, bars, fmt="o", color=colour, markersize=4, capsize=2, label=label
        )
    axis.set_xticks(positions, list(before.band), fontsize=8)
    axis.set_xlim(-0.6, len(before) - 0.4)
    units = before.units.iloc[0]
    axis.set_ylabel("reflectance" if units == "1" else f"backscatter, {units}", fontsize=9)


def draw_directions(directions: list[PrincipalDirection], model: EarthModel) -> "Figure":
    """Draw one row of panels per direction: the decoded bands of each sensor and the RGB preview at `STEPS`."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    names = list(model.sensors)
    widths = [max(len(model.autoencoder(name).sensor.bands), 3) for name in names]
    figure = new_figure(10.5, 2.5 * len(directions) + 0.6)
    panels = figure.subplots(len(directions), len(names) + 1, width_ratios=[*widths, 2], squeeze=False, sharey="col")
    shades = ScalarMappable(Normalize(STEPS[0] - 0.6, STEPS[-1] + 0.6), "viridis")
    for number, (direction, row) in enumerate(zip(directions, panels, strict=True), 1):
        for axis, name in zip(row, names, strict=False):
            sensor = model.autoencoder(name).sensor
            for step, values in zip(STEPS, direction.bands[name], strict=True):
                colour = shades.to_rgba(np.array(step))
                axis.plot(sensor.band_names, values, marker="o", markersize=3, color=colour, label=f"{step:+g}")
            axis.set_ylabel("reflectance" if sensor.units == "reflectance" else f"backscatter, {sensor.units}")
            axis.tick_params(labelsize=8)
            if number == 1:
                axis.set_title(sensor.title, fontsize=10)
        row[0].text(
            0.02, 0.95, f"direction {number}: {direction.variance_share:.0%} of the variance",
            transform=row[0].transAxes, va="top", fontsize=9,
        )  # fmt: skip
        row[-1].imshow(direction.rgb[:, None], aspect="auto")
        row[-1].set_yticks(range(len(STEPS)), [f"{step:+g}" for step in STEPS], fontsize=8)
        row[-1].set_xticks([])
    panels[0][-1].set_title("RGB preview", fontsize=10)
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), title="standard deviations from the mean", fontsize=8,
        title_fontsize=8, ncols=len(STEPS), loc="outside lower center",
    )  # fmt: skip
    return figure


def draw_path(decoded: DecodedPath) -> "Figure":
    """Draw the RGB previews of a path in a row, and the decoded bands along the path below them."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    count = len(decoded.embeddings)
    figure = new_figure(10, 5.2)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 2])[:, 0]
    shades = ScalarMappable(Normalize(-0.2 * count, 1.2 * count), "viridis")
    panels = above.subplots(1, count, squeeze=False)[0]
    for step, (axis, preview) in enumerate(zip(panels, decoded.previews, strict=True)):
        axis.imshow(preview, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(f"{step / (count - 1):.0%} of the way", fontsize=8)
    axis = below.subplots()
    for step, values in enumerate(decoded.bands):
        ends = {0: decoded.start, count - 1: decoded.end}
        colour = shades.to_rgba(np.array(step))
        axis.plot(decoded.band_names, values, marker="o", markersize=3, color=colour, label=ends.get(step))
    axis.set_ylabel("reflectance")
    axis.legend(fontsize=8)
    return figure
