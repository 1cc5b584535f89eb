"""GPP as a quantity of one embedding: the model's own prediction, and what it becomes when that embedding changes."""

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
def seen(embedded: xr.Dataset) -> LocatedEmbedding:
    """The last date on which the pixel was seen."""
    return embedding_at(
        embedded, PixelIndex(12, 20), int(np.flatnonzero(np.isfinite(embedded.embeddings.values[:, 0, 12, 20]))[-1])
    )


def predicted(embedded: xr.Dataset, saved: GppModel, seen: LocatedEmbedding) -> float:
    """What the map says of the pixel on the date, the last of a record cut there."""
    here = embedded.sel(time=slice(None, seen.date)).isel(y=slice(12, 13), x=slice(20, 21))
    job = MapJob(here, saved)
    return float(job.predict(job.windows()[0])[1, -1, 0, 0])


def test_it_is_the_models_prediction(embedded: xr.Dataset, saved: GppModel, seen: LocatedEmbedding) -> None:
    quantity = gpp_quantity(saved, embedded, seen)
    vector = torch.from_numpy(seen.vector)[None, :, None, None]
    assert float(quantity.evaluate(vector)) == pytest.approx(predicted(embedded, saved, seen), abs=1e-4)


def test_a_changed_embedding_changes_it_as_it_changes_the_map(
    embedded: xr.Dataset, saved: GppModel, seen: LocatedEmbedding
) -> None:
    changed = embedded.copy(deep=True)
    index = int(np.flatnonzero(embedded.time.values == seen.date)[0])
    changed.embeddings.values[index, :, 12, 20] += 0.3
    quantity = gpp_quantity(saved, embedded, seen)
    vector = torch.from_numpy(seen.vector + np.float32(0.3))[None, :, None, None]
    after = predicted(changed, saved, seen)
    assert after != pytest.approx(predicted(embedded, saved, seen), abs=1e-3)
    assert float(quantity.evaluate(vector)) == pytest.approx(after, abs=1e-4)


def test_a_what_if_raises_it(embedded: xr.Dataset, saved: GppModel, seen: LocatedEmbedding, model: EarthModel) -> None:
    found = find_counterfactual(
        embedded,
        PixelIndex(12, 20),
        str(seen.date),
        "gpp+0.1",
        model,
        quantities=[gpp_quantity(saved, embedded, seen)],
    )
    assert found.score_after > found.score_before
    assert found.reached == (found.score_after >= found.score_before + 0.05)


def test_a_short_record_and_other_embeddings_are_refused(
    embedded: xr.Dataset, saved: GppModel, seen: LocatedEmbedding
) -> None:
    first = embedding_at(
        embedded, PixelIndex(12, 20), int(np.flatnonzero(np.isfinite(embedded.embeddings.values[:, 0, 12, 20]))[0])
    )
    with pytest.raises(UsageError, match="looks back 90 days over at least 5 dates"):
        gpp_quantity(saved, embedded, first)
    with pytest.raises(UsageError, match="the GPP model learned from"):
        gpp_quantity(saved, embedded.assign_attrs({"thalweg:model": "other"}), seen)
