"""Counterfactual of a pixel: the minimal perturbation of its embedding that reaches a target, decoded.

It shows what the model associates with the target, not what would happen (docs/what-if.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.generator import EarthGenerator
from thalweg.earth.counterfactual.quantities import Quantity
from thalweg.earth.counterfactual.solver import MinimalPerturbation, minimal_perturbation
from thalweg.earth.counterfactual.target import Target
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, SMALL_SIZE
from thalweg.earth.positions import Position
from thalweg.earth.store.lookup import embedding_at
from thalweg.embedding import Embedding

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

NUM_DRAWS = 500
"""Draws from the uncertainty of an embedding from which the intervals are computed."""
INTERVAL = (0.05, 0.95)
"""Quantiles of the draws at the ends of an interval."""
LIMITS = (
    "It shows what the model associates with the target, not what would happen. Intervals hold the uncertainty of the "
    "embedding (90 %), not the error of the decoder."
)
"""Limits of a counterfactual, which end every summary."""


@dataclass(frozen=True)
class Counterfactual:
    """State of a pixel before and after the minimal perturbation that reaches a target.

    Attributes:
        before: by sensor, a table with the columns band, value, low, high and units: the decoded bands on the date, and
            the interval that holds 90 % of the draws from the embedding's uncertainty.
        after: the same after the change, with the same draws.
        reached: whether the target was reached.
        score_before: value of the target's quantity; for a spectrum, the root mean square distance from it.
        score_after: the same after the change.
        target: the target as text.
        norm: Mahalanobis norm of the change.
        median_distance: median Mahalanobis distance between two real embeddings, for comparison.
        plausible: whether the changed embedding lies inside the region of real embeddings.
        embedding: the changed embedding, with its uncertainty and lineage.
        place: the pixel and its date as text.
        summary: the result and its limits in a few sentences.
    """

    before: "Mapping[str, pd.DataFrame]"
    after: "Mapping[str, pd.DataFrame]"
    reached: bool
    score_before: float
    score_after: float
    target: str
    norm: float
    median_distance: float
    plausible: bool
    embedding: Embedding
    place: str
    summary: str


def find_counterfactual(
    dataset: "xr.Dataset",
    position: Position,
    date: int | str,
    target: str,
    model: EarthModel | None = None,
    distribution: EmbeddingDistribution | None = None,
    level: float = 0.95,
    quantities: Iterable[Quantity] = (),
) -> Counterfactual:
    """Find the minimal perturbation of a pixel's embedding that reaches a target, and decode it.

    Args:
        dataset: an embedding dataset, as `thalweg.open` and `thalweg.embed` return it.
        position: position of the pixel.
        date: an index, from 0, or an ISO date at most three days from an embedding.
        target: `ndvi=0.8`, `ndvi+0.1` or `spectrum:B4=0.05,B8=0.4`; names any band, NDVI, EVI, NIRv, kNDVI and the
            `quantities`.
        model: the model that made the embeddings; the shipped weights by default.
        distribution: distribution of real embeddings; that of the dataset by default.
        level: fraction of real embeddings inside the region that the result must lie in.
        quantities: further quantities that the target may name, such as `LinearProbe.quantity` or
            `thalweg.gpp.quantity.gpp_quantity` returns.

    Raises:
        UsageError: The position, date, target or level is invalid, or another model made the embeddings.
    """
    model = EarthModel.load() if model is None else model
    model.check_made(dataset)
    located = embedding_at(dataset, position, date)
    goal = Target.read(target, model, quantities)
    distribution = EmbeddingDistribution.of(dataset) if distribution is None else distribution
    distribution.check_model(model.identifier)
    with torch.inference_mode():
        values = goal.measure(torch.from_numpy(located.vector)[None, :, None, None])[0].double().numpy()
    goals = goal.goals(values)
    change = minimal_perturbation(distribution, located.vector, goal.measure, goals, goal.tolerances, level)
    start = EarthGenerator(model, dataset=dataset).embedding(located)
    record = {"target": target, "level": level, "distance": change.norm, "reached": change.reached}
    after = decoded_spectra(model, change.vector, located.uncertainty)
    starts_outside = float(distribution.distance(located.vector)) > distribution.radius_quantile(level)
    sentences = [_summary(goal, values, change, distribution, level)]
    if starts_outside:
        sentences.append(f"The pixel itself lies outside the {_region(level)}, so the change also leads back into it.")
    if distribution.size == SMALL_SIZE:
        sentences.append(
            f"The first {SMALL_SIZE} dimensions hold the season rather than the date's own bands: "
            f"embed with {FULL_SIZE} for those."
        )
    return Counterfactual(
        before=decoded_spectra(model, located.vector, located.uncertainty),
        after=after,
        reached=change.reached,
        score_before=_score(values, goals),
        score_after=_score(change.values, goals),
        target=target,
        norm=change.norm,
        median_distance=distribution.pairwise_quantile(),
        plausible=change.plausible,
        embedding=start.derive({"embedding": torch.from_numpy(change.vector)}, "whatif", **record),
        place=located.place,
        summary=" ".join([*sentences, *_out_of_range(model, after), LIMITS]),
    )


def decoded_spectra(model: EarthModel, vector: NDArray, uncertainty: NDArray) -> "dict[str, pd.DataFrame]":
    """Decode the bands of every sensor of a model, with intervals.

    The half-width of the embedding's 68 % interval is taken as a standard deviation, and dimensions are drawn
    independently; every call uses the same draws.

    Args:
        model: the Earth model.
        vector: (K,), an embedding, float32.
        uncertainty: (K,), half-width of its 68 % interval, float32.

    Returns:
        By sensor, a table with the columns band, value, low, high (reflectance as a fraction, dB) and units.
    """
    import pandas as pd

    normal = torch.randn(NUM_DRAWS, len(vector), generator=torch.Generator().manual_seed(0))
    centre = torch.from_numpy(np.asarray(vector, np.float32))
    drawn = centre + normal * torch.from_numpy(np.asarray(uncertainty, np.float32))
    tables = {}
    for name in model.sensors:
        sensor = model.autoencoder(name).sensor
        with torch.inference_mode():
            value = model.decode(centre[None, :, None, None], name)[0, :, 0, 0].numpy()
            draws = model.decode(drawn[..., None, None], name)[..., 0, 0].numpy()
        low, high = np.quantile(draws, INTERVAL, axis=0)
        # The decoder is not linear, so all draws may lie on one side of the embedding itself.
        bounds = {"low": np.minimum(low, value), "high": np.maximum(high, value)}
        units = "1" if sensor.units == "reflectance" else sensor.units
        tables[name] = pd.DataFrame({"band": sensor.band_names, "value": value, **bounds, "units": units})
    return tables


def band_table(result: Counterfactual) -> "pd.DataFrame":
    """Return all bands of all sensors before and after, one row per band, as `thalweg earth whatif` writes them."""
    import pandas as pd

    parts = []
    for sensor, before in result.before.items():
        sides = before.merge(result.after[sensor], on=["band", "units"], suffixes=("_before", "_after"))
        parts.append(sides.assign(sensor=sensor, change=sides.value_after - sides.value_before))
    names = [f"{name}_{side}" for side in ("before", "after") for name in ("value", "low", "high")]
    return pd.concat(parts)[["sensor", "band", "units", *names, "change"]]


def _score(values: NDArray, goals: NDArray) -> float:
    """Return the value of one quantity; of several, their root mean square distance from the goals."""
    return float(values[0]) if len(values) == 1 else float(np.sqrt(np.square(values - goals).mean()))


def _region(level: float) -> str:
    return f"{100 * level:g} % region of real embeddings"


def _summary(
    goal: Target, values: NDArray, change: MinimalPerturbation, distribution: EmbeddingDistribution, level: float
) -> str:
    """Return a sentence on the change that was found and its norm."""
    units = [f" {quantity.unit}" if quantity.unit != "1" else "" for quantity in goal.quantities]
    moves = ", ".join(
        f"{quantity.name} from {before:.3g} to {after:.3g}{unit}"
        for quantity, before, after, unit in zip(goal.quantities, values, change.values, units, strict=True)
    )
    median = f"the median distance between two real embeddings is {distribution.pairwise_quantile():.2f}"
    norm = f"a Mahalanobis norm of {change.norm:.2f} standard deviations ({median})"
    if change.reached:
        return f"The minimal perturbation found moves {moves}, with {norm}."
    return (
        f"Not reached: no perturbation inside the {_region(level)} was found; the nearest moves {moves}, with {norm}."
    )


def _out_of_range(model: EarthModel, tables: "Mapping[str, pd.DataFrame]") -> list[str]:
    """Return a sentence on bands with decoded values that their sensor cannot measure, such as negative reflectance."""
    names = []
    for sensor, table in tables.items():
        low, high = model.autoencoder(sensor).sensor.value_range
        names += list(table.band[(table.value < low) | (table.value > high)])
    if not names:
        return []
    return [f"Decoded values of {', '.join(names)} are outside the range of the sensor: do not trust them this far."]
