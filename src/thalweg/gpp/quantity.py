"""A GPP model's prediction as a quantity of one embedding: what it says when that date alone is changed."""

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from thalweg.earth.counterfactual.quantities import Quantity
from thalweg.earth.store.lookup import Seen
from thalweg.errors import UsageError
from thalweg.gpp.data.gap_filling import MIN_DATES, fill_to_days
from thalweg.gpp.data.radiation import POTENTIAL_RADIATION, potential_radiation
from thalweg.gpp.data.windows import DAYS
from thalweg.gpp.models.checkpoint import SavedModel
from thalweg.gpp.models.transformer import TransformerLearner
from thalweg.gpp.tables.plausible_values import GPP_UNITS

if TYPE_CHECKING:
    import xarray as xr

_TOLERANCE = 0.05


def gpp_quantity(saved: SavedModel, dataset: "xr.Dataset", seen: Seen) -> Quantity:
    """GPP of a pixel on a date, as the model predicts it from the 90 days up to the date.

    The other dates stay as they were, and so do the days before the last date on which the pixel was seen; the days
    between that date and this one follow by linear interpolation, as in the model's own features.

    Args:
        saved: a model of embedding values and potential radiation.
        dataset: embeddings; of all dates of the window.
        seen: the pixel and the date in it.

    Raises:
        UsageError: the model needs other features or another model's embeddings, or the pixel's record is too short.
    """
    from pyproj import Transformer

    saved.check_embedding(str(dataset.attrs["thalweg:model"]), "embeddings")
    features, size = saved.card.features, dataset.sizes["embedding"]
    names = [f"e{number + 1}" for number in range(size)]
    if unknown := [name for name in features if name not in (*names, POTENTIAL_RADIATION)]:
        raise UsageError(f"the GPP model needs {unknown[0]!r}: a what-if has embedding values and potential radiation")
    if saved.card.recipe.gap_filling != "linear":
        raise UsageError(f"the GPP model fills gaps by {saved.card.recipe.gap_filling}: expected one trained on linear")
    if seen.row is None or seen.column is None:
        raise UsageError("expected a pixel for a GPP model, got a scene")
    here = dataset.isel(y=seen.row, x=seen.column)
    past = here.time.values <= seen.date
    known = past & np.isfinite(here.embeddings.values).all(1)
    times, vectors = here.time.values[known], here.embeddings.values[known]
    last = seen.date.astype("datetime64[D]")
    days = (last + np.arange(1 - DAYS, 1)).astype("datetime64[ns]")
    if len(times) < MIN_DATES or times[0].astype("datetime64[D]") > days[0]:
        raise UsageError(
            f"a GPP model looks back {DAYS} days over at least {MIN_DATES} dates: the pixel was first seen on "
            f"{np.datetime_as_string(times[0], 'D')}, {len(times)} dates up to {last}; choose a later date"
        )
    filled = fill_to_days(times, vectors, "linear", days).values
    share = fill_to_days(times, (times == seen.date).astype(float)[:, None], "linear", days).values[:, 0]
    to_degrees = Transformer.from_crs(dataset.attrs["proj:wkt2"], "EPSG:4326", always_xy=True)
    latitude = to_degrees.transform(float(here.x), float(here.y))[1]
    columns = dict(zip(names, filled.T, strict=True))
    columns[POTENTIAL_RADIATION] = potential_radiation(latitude, days)
    base = torch.from_numpy(np.stack([columns[name] for name in features], 1).astype(np.float32))
    moves = torch.zeros(size, len(features))
    for column, name in enumerate(features):
        if name in names:
            moves[names.index(name), column] = 1.0
    weights, start = torch.from_numpy(share.astype(np.float32)), torch.from_numpy(seen.vector)
    members = [cast(TransformerLearner, member) for member in saved.model.fitted]
    for member in members:
        member.network.eval().requires_grad_(False)

    def of(embeddings: Tensor) -> Tensor:
        if embeddings.shape[-2:] != (1, 1):
            raise UsageError("a GPP model's prediction is of one pixel: it makes no map here")
        change = (embeddings[..., 0, 0] - start) @ moves
        daily = base + weights[:, None] * change[:, None]
        return torch.stack([member.estimate(daily) for member in members]).mean(0)[:, None, None]

    return Quantity("gpp", GPP_UNITS, of, _TOLERANCE)
