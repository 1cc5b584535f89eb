"""What the directions of an embedding mean: decoded spectra along the principal directions of real embeddings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.generator import check_made_by, picture
from thalweg.earth.counterfactual.quantities import decoded
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.plots import new_figure
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Standard deviations from the population's mean at which a direction is decoded."""


@dataclass(frozen=True, eq=False)
class Direction:
    """One principal direction of a population.

    Attributes:
        share: of the population's variance that lies along it.
        spread: standard deviation along it.
        axis: (K,), of length 1.
        bands: by sensor, decoded bands (steps, C) at `STEPS`, in the sensor's units.
        colours: (steps, 3), the picture there, in 0..1.
    """

    share: float
    spread: float
    axis: NDArray[np.floating]
    bands: dict[str, NDArray[np.float32]]
    colours: NDArray[np.float32]


def explain(
    dataset: "xr.Dataset",
    model: EarthModel | None = None,
    population: EmbeddingDistribution | None = None,
    count: int = 4,
) -> list[Direction]:
    """Decode what lies along the first principal directions of real embeddings.

    A direction is what varies together in the population, not one cause; its sign has no meaning.

    Args:
        dataset: embeddings, as `thalweg.open` gives them.
        model: the model that made them; the shipped weights by default.
        population: real embeddings; those of the dataset by default.
        count: how many directions.

    Raises:
        UsageError: embeddings of another model, or more directions than values.
    """
    model = EarthModel.load() if model is None else model
    check_made_by(dataset, model)
    population = EmbeddingDistribution.of(dataset) if population is None else population
    population.check_model(model.identifier)
    if not 1 <= count <= population.size:
        raise UsageError(f"{count} directions: expected 1 to {population.size}, the values of an embedding")
    axes, spreads = population.axes
    shares = spreads**2 / (spreads**2).sum()
    found = []
    for axis, spread, share in zip(axes[:count], spreads, shares, strict=False):
        places = population.mean + np.array(STEPS)[:, None] * spread * axis
        vectors = torch.from_numpy(places.astype(np.float32))[..., None, None]
        with torch.inference_mode():
            bands = {name: decoded(model, name, vectors)[..., 0, 0].numpy() for name in model.sensors}
            colours = picture(model).of(vectors)[..., 0, 0].numpy()
        found.append(Direction(float(share), float(spread), axis, bands, colours))
    return found


def draw(directions: list[Direction], model: EarthModel) -> "Figure":
    """Draw a row of panels a direction: the decoded bands of each sensor at `STEPS`, and the picture's colours."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    names = list(model.sensors)
    sizes = [max(len(model.autoencoder(name).sensor.bands), 3) for name in names]
    figure = new_figure(10.5, 2.5 * len(directions) + 0.6)
    panels = figure.subplots(len(directions), len(names) + 1, width_ratios=[*sizes, 2], squeeze=False, sharey="col")
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
            0.02, 0.95, f"direction {number}: {direction.share:.0%} of the variance", transform=row[0].transAxes,
            va="top", fontsize=9,
        )  # fmt: skip
        row[-1].imshow(direction.colours[:, None], aspect="auto")
        row[-1].set_yticks(range(len(STEPS)), [f"{step:+g}" for step in STEPS], fontsize=8)
        row[-1].set_xticks([])
    panels[0][-1].set_title("colour", fontsize=10)
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), title="standard deviations from the mean", fontsize=8,
        title_fontsize=8, ncols=len(STEPS), loc="outside lower center",
    )  # fmt: skip
    return figure
