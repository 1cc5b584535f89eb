"""What would have to be different: the smallest plausible change of a pixel's embedding that reaches a target.

It shows what the model associates with the target, not what would happen (docs/what-if.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.generator import EarthGenerator, check_made_by
from thalweg.earth.counterfactual.quantities import LinearProbe, decoded
from thalweg.earth.counterfactual.solver import MinimalPerturbation, minimal_perturbation
from thalweg.earth.counterfactual.target import Target
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import SMALL
from thalweg.earth.plots import new_figure
from thalweg.earth.store.lookup import at_pixel
from thalweg.embedding import Embedding

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from thalweg.gpp.models.checkpoint import SavedModel

DRAWS = 500
"""Draws from the embedding's uncertainty behind an interval."""
INTERVAL = (0.05, 0.95)
"""Quantiles of the draws at an interval's ends."""
LIMITS = (
    "It shows what the model associates with the target, not what would happen. Intervals hold the uncertainty of the "
    "embedding (90 %), not the error of the decoder."
)


@dataclass(frozen=True)
class WhatIf:
    """A pixel's state before and after the smallest plausible change that reaches a target.

    Attributes:
        before: by sensor, a table with the columns band, value, low, high and units: the decoded bands on the date, and
            the interval that holds nine of ten draws from the embedding's uncertainty.
        after: the same after the change; the draws are the same, too.
        reached: whether the target was reached.
        score_before: of the target: the quantity's value; of a spectrum, the root mean square distance from it.
        score_after: the same after the change.
        target: as it was asked for.
        distance: Mahalanobis length of the change.
        apart: the median distance between two real embeddings, for comparison.
        plausible: whether the changed embedding lies inside the region of real embeddings.
        embedding: the changed embedding, with its uncertainty and lineage.
        place: the pixel and its date, in words.
        text: what was found and what it does not say, in a few words.
    """

    before: "Mapping[str, pd.DataFrame]"
    after: "Mapping[str, pd.DataFrame]"
    reached: bool
    score_before: float
    score_after: float
    target: str
    distance: float
    apart: float
    plausible: bool
    embedding: Embedding
    place: str
    text: str


def what_if(
    dataset: "xr.Dataset",
    pixel: tuple[float, float],
    date: int | str,
    target: str,
    model: EarthModel | None = None,
    population: EmbeddingDistribution | None = None,
    level: float = 0.95,
    readouts: Mapping[str, LinearProbe] | None = None,
    gpp: "SavedModel | None" = None,
) -> WhatIf:
    """Find the smallest plausible change of a pixel's embedding that reaches a target, and decode it.

    Args:
        dataset: embeddings, as `thalweg.open` or `thalweg.earth.embed` give them.
        pixel: column and row, or map coordinates x and y.
        date: an index, or an ISO date at most three days from an embedding.
        target: `ndvi=0.8`, `ndvi+0.1`, `spectrum:B4=0.05,B8=0.4`; any band, NDVI, NIRv, EVI, kNDVI, and what
            `readouts` and `gpp` add.
        model: the model that made the embeddings; the shipped weights by default.
        population: real embeddings; those of the dataset by default.
        level: share of them inside the region that the result must lie in.
        readouts: further quantities, by the name the target calls them.
        gpp: a GPP model, whose prediction the target calls `gpp`.

    Raises:
        UsageError: a pixel, date or target at fault, or embeddings of another model.
    """
    model = EarthModel.load() if model is None else model
    check_made_by(dataset, model)
    seen = at_pixel(dataset, pixel, date)
    given = {name: readout.quantity(model) for name, readout in (readouts or {}).items()}
    if gpp is not None:
        from thalweg.gpp.quantity import gpp_quantity

        given["gpp"] = gpp_quantity(gpp, dataset, seen)
    asked = Target.read(target, model, given)
    population = EmbeddingDistribution.of(dataset) if population is None else population
    population.check_model(model.identifier)
    start = torch.from_numpy(seen.vector)[None, :, None, None]
    with torch.inference_mode():
        values = asked.measure(start)[0].double().numpy()
    goals = asked.goals(values)
    change = minimal_perturbation(population, seen.vector, asked.measure, goals, asked.tolerances, level)
    generator = EarthGenerator(model, dataset=dataset)
    first = generator.embedding(seen)
    settings = {"target": target, "level": level, "distance": change.distance, "reached": change.reached}
    after = first.derive({"embedding": torch.from_numpy(change.vector)}, "whatif", **settings)
    decoded_after = spectra(model, change.vector, seen.uncertainty)
    text = _sentence(asked, values, change, population, level, float(population.distance(seen.vector)))
    return WhatIf(
        before=spectra(model, seen.vector, seen.uncertainty),
        after=decoded_after,
        reached=change.reached,
        score_before=_score(values, goals),
        score_after=_score(change.values, goals),
        target=target,
        distance=change.distance,
        apart=population.apart(),
        plausible=change.plausible,
        embedding=after,
        place=seen.name,
        text=" ".join([text, *_impossible(model, decoded_after), LIMITS]),
    )


def spectra(model: EarthModel, vector: NDArray, uncertainty: NDArray) -> "dict[str, pd.DataFrame]":
    """Decode what every sensor of the model sees, with intervals.

    The half-width of the embedding's 68 % interval is taken for a standard deviation, and values are drawn
    independently of each other; the same draws for every call.

    Args:
        model: the Earth model.
        vector: (K,), an embedding.
        uncertainty: (K,), half-width of its 68 % interval.

    Returns:
        By sensor, columns band, value, low, high (reflectance as a fraction, dB) and units.
    """
    import pandas as pd

    normal = torch.randn(DRAWS, len(vector), generator=torch.Generator().manual_seed(0))
    centre = torch.from_numpy(np.asarray(vector, np.float32))
    drawn = centre + normal * torch.from_numpy(np.asarray(uncertainty, np.float32))
    tables = {}
    for name in model.sensors:
        sensor = model.autoencoder(name).sensor
        with torch.inference_mode():
            value = decoded(model, name, centre[None, :, None, None])[0, :, 0, 0].numpy()
            draws = decoded(model, name, drawn[..., None, None])[..., 0, 0].numpy()
        low, high = np.quantile(draws, INTERVAL, axis=0)
        # Where the decoder bends, the draws may all lie to one side of the embedding itself.
        bounds = {"low": np.minimum(low, value), "high": np.maximum(high, value)}
        units = "1" if sensor.units == "reflectance" else sensor.units
        tables[name] = pd.DataFrame({"band": sensor.band_names, "value": value, **bounds, "units": units})
    return tables


def table(result: WhatIf) -> "pd.DataFrame":
    """All bands of all sensors, before and after: one row a band, as the command line writes it."""
    import pandas as pd

    parts = []
    for sensor, before in result.before.items():
        sides = before.merge(result.after[sensor], on=["band", "units"], suffixes=("_before", "_after"))
        parts.append(sides.assign(sensor=sensor, change=sides.value_after - sides.value_before))
    names = [f"{name}_{side}" for side in ("before", "after") for name in ("value", "low", "high")]
    return pd.concat(parts)[["sensor", "band", "units", *names, "change"]]


def draw(result: WhatIf) -> "Figure":
    """Draw the bands before and after with their intervals: one panel a sensor."""
    figure = new_figure(10, 4.4)
    sizes = [max(len(before), 3) for before in result.before.values()]
    panels = figure.subplots(1, len(sizes), width_ratios=sizes, squeeze=False)[0]
    for axis, (sensor, before) in zip(panels, result.before.items(), strict=True):
        _draw_sensor(axis, before, result.after[sensor])
        axis.set_title(sensor, loc="left", fontsize=10)
    panels[0].legend(fontsize=8, frameon=False)
    figure.suptitle(f"{result.place}, {result.target}", x=0.01, ha="left", fontsize=11)
    figure.supxlabel(_wrapped(result.text), fontsize=8)
    return figure


def _draw_sensor(axis: "Axes", before: "pd.DataFrame", after: "pd.DataFrame") -> None:
    """Bands as points with bars, before and after side by side."""
    places = np.arange(len(before))
    for bands, offset, colour, label in ((before, -0.12, "#8c8c8c", "before"), (after, 0.12, "#26706b", "after")):
        bars = np.stack([bands.value - bands.low, bands.high - bands.value])
        axis.errorbar(places + offset, bands.value, bars, fmt="o", color=colour, markersize=4, capsize=2, label=label)
    axis.set_xticks(places, list(before.band), fontsize=8)
    axis.set_xlim(-0.6, len(before) - 0.4)
    units = before.units.iloc[0]
    axis.set_ylabel("reflectance" if units == "1" else f"backscatter, {units}", fontsize=9)


def _wrapped(text: str) -> str:
    from textwrap import fill

    return fill(text, 150)


def _score(values: NDArray, goals: NDArray) -> float:
    """The value of one quantity; of several, their root mean square distance from the goals."""
    return float(values[0]) if len(values) == 1 else float(np.sqrt(np.square(values - goals).mean()))


def _sentence(
    asked: Target,
    values: NDArray,
    change: MinimalPerturbation,
    population: EmbeddingDistribution,
    level: float,
    start: float,
) -> str:
    """What was found, and what it took."""
    units = [f" {quantity.unit}" if quantity.unit != "1" else "" for quantity in asked.quantities]
    moved = ", ".join(
        f"{quantity.name} from {before:.3g} to {after:.3g}{unit}"
        for quantity, before, after, unit in zip(asked.quantities, values, change.values, units, strict=True)
    )
    share = f"{100 * level:g} % region of real embeddings"
    apart = f"the median pair of real embeddings is {population.apart():.2f} apart"
    length = f"{change.distance:.2f} standard deviations ({apart})"
    if change.reached:
        found = f"The smallest plausible change found moves {moved}, by {length}."
    else:
        found = f"Not reached: no such change inside the {share} was found; the nearest moves {moved}, by {length}."
    if start > population.bound(level):
        found += f" The pixel itself lies outside the {share}, so the change also leads back into it."
    if population.size == SMALL:
        found += f" {SMALL} values hold the season more than the date's own bands: 32 say more."
    return found


def _impossible(model: EarthModel, tables: "Mapping[str, pd.DataFrame]") -> list[str]:
    """A warning where a band is decoded to what its sensor can not see, such as a reflectance below zero."""
    bands = []
    for name, decoded_bands in tables.items():
        low, high = model.autoencoder(name).sensor.value_range
        bands += list(decoded_bands.band[(decoded_bands.value < low) | (decoded_bands.value > high)])
    if not bands:
        return []
    return [f"The decoder gives {', '.join(bands)} a value that the sensor can not see: do not trust it this far."]
