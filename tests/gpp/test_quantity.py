"""GPP as a quantity of one embedding: the model's prediction, and its change with the embedding."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from thalweg.earth.counterfactual.counterfactual import find_counterfactual
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import PixelIndex
from thalweg.earth.store.lookup import LocatedEmbedding, embedding_at
from thalweg.errors import UsageError
from thalweg.gpp.models.checkpoint import GppModel, load_model
from thalweg.gpp.predict import MapJob
from thalweg.gpp.quantity import gpp_quantity


@pytest.fixture(scope="module")
def saved(gpp_model: Path) -> GppModel:
    return load_model(gpp_model)


@pytest.fixture(scope="module")
def located(embedded: xr.Dataset) -> LocatedEmbedding:
    """The last date on which the pixel was observed."""
    return embedding_at(
        embedded, PixelIndex(12, 20), int(np.flatnonzero(np.isfinite(embedded.embeddings.values[:, 0, 12, 20]))[-1])
    )


def predicted(embedded: xr.Dataset, saved: GppModel, located: LocatedEmbedding) -> float:
    """Return the map's prediction of the pixel on the last date of a series that ends there."""
    here = embedded.sel(time=slice(None, located.date)).isel(y=slice(12, 13), x=slice(20, 21))
    job = MapJob(here, saved)
    return float(job.predict(next(job.windows()))[1, -1, 0, 0])


def test_the_quantity_is_the_models_prediction(
    embedded: xr.Dataset, saved: GppModel, located: LocatedEmbedding
) -> None:
    quantity = gpp_quantity(saved, embedded, located)
    vector = torch.from_numpy(located.vector)[None, :, None, None]
    assert float(quantity.evaluate(vector)) == pytest.approx(predicted(embedded, saved, located), abs=1e-4)


def test_a_changed_embedding_changes_the_quantity_and_the_map_equally(
    embedded: xr.Dataset, saved: GppModel, located: LocatedEmbedding
) -> None:
    changed = embedded.copy(deep=True)
    index = int(np.flatnonzero(embedded.time.values == located.date)[0])
    changed.embeddings.values[index, :, 12, 20] += 0.3
    quantity = gpp_quantity(saved, embedded, located)
    vector = torch.from_numpy(located.vector + np.float32(0.3))[None, :, None, None]
    after = predicted(changed, saved, located)
    assert after != pytest.approx(predicted(embedded, saved, located), abs=1e-3)
    assert float(quantity.evaluate(vector)) == pytest.approx(after, abs=1e-4)


def test_a_counterfactual_raises_gpp(
    embedded: xr.Dataset, saved: GppModel, located: LocatedEmbedding, model: EarthModel
) -> None:
    found = find_counterfactual(
        embedded,
        PixelIndex(12, 20),
        str(located.date),
        "gpp+0.1",
        model,
        quantities=[gpp_quantity(saved, embedded, located)],
    )
    assert found.score_after > found.score_before
    assert found.reached == (found.score_after >= found.score_before + 0.05)


def test_a_short_series_and_other_embeddings_are_refused(
    embedded: xr.Dataset, saved: GppModel, located: LocatedEmbedding
) -> None:
    first = embedding_at(
        embedded, PixelIndex(12, 20), int(np.flatnonzero(np.isfinite(embedded.embeddings.values[:, 0, 12, 20]))[0])
    )
    with pytest.raises(UsageError, match="needs 90 days with at least 5 dates"):
        gpp_quantity(saved, embedded, first)
    with pytest.raises(UsageError, match="the GPP model learned from"):
        gpp_quantity(saved, embedded.assign_attrs({"thalweg:model": "other"}), located)
