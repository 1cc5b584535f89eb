"""Prediction of a GPP model as a quantity of one embedding, for counterfactuals of a single date."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from thalweg.earth.counterfactual.quantities import Quantity
from thalweg.earth.positions import dataset_geobox, lon_lat
from thalweg.earth.store.lookup import LocatedEmbedding
from thalweg.errors import UsageError
from thalweg.gpp.data.gap_filling import fill_to_days
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.data.windows import DAYS
from thalweg.gpp.footprint.footprint import MIN_DATES
from thalweg.gpp.footprint.footprint_series import embedding_names
from thalweg.gpp.models.checkpoint import GppModel
from thalweg.gpp.models.transformer import TransformerLearner
from thalweg.gpp.tables.physical_limits import GPP_UNITS, POTENTIAL_RADIATION

if TYPE_CHECKING:
    import xarray as xr

TOLERANCE = 0.05
"""Tolerance of a counterfactual's target GPP in gC m-2 d-1."""


def gpp_quantity(model: GppModel, dataset: "xr.Dataset", located: LocatedEmbedding) -> Quantity:
    """Return the GPP of a pixel on a date as a function of that date's embedding.

    The model predicts from the 90 days up to the date. The embeddings of the other dates are fixed; the days between
    the previous date and this one follow by linear interpolation, as in the model's features.

    Args:
        model: Fitted model of an embedding's dimensions and potential radiation.
        dataset: Embeddings of all dates of the window.
        located: Embedding of a pixel on a date.

    Raises:
        UsageError: The model needs other features or another model's embeddings, or the pixel's series is too short.
    """
    if not model.target.is_gpp:
        raise UsageError(f"the model predicts {model.target.label}: expected a model of GPP for a counterfactual")
    model.check_embedding(str(dataset.attrs["thalweg:model"]), "embeddings")
    features, size = model.card.features, dataset.sizes["embedding"]
    names = embedding_names(size)
    if unknown := [name for name in features if name not in (*names, POTENTIAL_RADIATION)]:
        raise UsageError(
            f"the GPP model needs {unknown[0]!r}: a counterfactual has the embedding and potential radiation only"
        )
    if model.card.recipe.gap_filling != "linear":
        raise UsageError(f"the GPP model fills gaps by {model.card.recipe.gap_filling}: expected one trained on linear")
    if located.pixel is None:
        raise UsageError("expected a pixel for a GPP model, got a scene")
    here = dataset.isel(y=located.pixel.row, x=located.pixel.column)
    past = here.time.values <= located.date
    known = past & np.isfinite(here.embeddings.values).all(1)
    times, vectors = here.time.values[known], here.embeddings.values[known]
    last = located.date.astype("datetime64[D]")
    days = (last + np.arange(1 - DAYS, 1)).astype("datetime64[ns]")
    if len(times) < MIN_DATES or times[0].astype("datetime64[D]") > days[0]:
        raise UsageError(
            f"a GPP model needs {DAYS} days with at least {MIN_DATES} dates: the pixel was first observed on "
            f"{np.datetime_as_string(times[0], 'D')} and has {len(times)} dates up to {last}; choose a later date"
        )
    filled = fill_to_days(times, vectors, "linear", days).values
    share = fill_to_days(times, (times == located.date).astype(float)[:, None], "linear", days).values[:, 0]
    latitude = lon_lat(located.pixel, dataset_geobox(dataset)).latitude
    columns = dict(zip(names, filled.T, strict=True))
    columns[POTENTIAL_RADIATION] = potential_radiation(latitude, days)
    base = torch.from_numpy(np.stack([columns[name] for name in features], 1).astype(np.float32))
    selection = torch.zeros(size, len(features))
    for column, name in enumerate(features):
        if name in names:
            selection[names.index(name), column] = 1.0
    weights, start = torch.from_numpy(share.astype(np.float32)), torch.from_numpy(located.vector)
    members = [member for member in model.ensemble.learners if isinstance(member, TransformerLearner)]
    if len(members) != len(model.ensemble.learners):
        raise UsageError("a counterfactual of GPP needs gradients: expected a model of transformers; train one")
    for member in members:
        member.network.eval().requires_grad_(False)

    def gpp(embeddings: Tensor) -> Tensor:
        if embeddings.shape[-2:] != (1, 1):
            raise UsageError("a counterfactual of GPP is for one pixel: expected embeddings of one pixel")
        change = (embeddings[..., 0, 0] - start) @ selection
        daily = base + weights[:, None] * change[:, None]
        return torch.stack([member.estimate(daily) for member in members]).mean(0)[:, None, None]

    return Quantity("gpp", GPP_UNITS, gpp, TOLERANCE)
