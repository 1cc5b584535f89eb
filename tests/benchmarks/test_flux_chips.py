"""Flux chips: each chip is embedded alone, indices are those of the table, and one learner is not a lead."""

import numpy as np
import pandas as pd
import pytest

from common import SHARED
from flux_chips import (
    DAY_OF_YEAR,
    HLS_BANDS,
    VIEWS,
    differences,
    embed_chips,
    predictor_views,
    set_scores,
    spectral_indices,
)
from thalweg.earth.model.earth_model import EarthModel
from thalweg.gpp.models.row_learners import ROW_LEARNERS


@pytest.fixture(scope="module")
def chips() -> pd.DataFrame:
    """Five chips of green vegetation and soil."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({name: random.uniform(0.03, 0.4, 5) for name in HLS_BANDS})
    return table.assign(doy=[1, 90, 180, 270, 365])


def test_a_chip_is_embedded_alone(chips: pd.DataFrame) -> None:
    model = EarthModel.load()
    embedded = embed_chips(chips, model)
    assert embedded.shape == (5, 32)
    alone = embed_chips(chips.iloc[3:4], model)
    np.testing.assert_allclose(alone[0], embedded[3], atol=1e-4)


def test_every_set_ends_with_the_same_day_of_year(chips: pd.DataFrame) -> None:
    sets = predictor_views(chips, EarthModel.load())
    sizes = {name: [views[view].shape[1] - DAY_OF_YEAR for view in VIEWS] for name, views in sets.items()}
    assert sizes == {
        "bands": [6, 12], "embedding": [32, 38], "both": [38, 44], "embedding7": [7, 13], "both7": [13, 19]
    }  # fmt: skip
    season = sets["bands"][VIEWS[0]][:, -DAY_OF_YEAR:]
    for views in sets.values():
        assert all(np.array_equal(values[:, -DAY_OF_YEAR:], season) for values in views.values())


def test_indices_are_those_of_the_table() -> None:
    path = SHARED.parent / "flux" / "hls_gpp.csv"
    if not path.is_file():
        pytest.skip("the chip table is not next to the repository (shared/flux)")
    table = pd.read_csv(path)
    found = spectral_indices(table[list(HLS_BANDS)].rename(columns=HLS_BANDS))
    np.testing.assert_allclose(found, table[["NDVI", "EVI", "NIRv", "kNDVI", "GCI", "NDWI"]], atol=1e-6)


def test_a_set_leads_only_if_it_leads_with_each_learner() -> None:
    random = np.random.default_rng(0)
    sites = np.repeat(np.arange(6), 10).astype(str)
    observed = random.normal(size=len(sites))
    noise = random.normal(size=(1, len(sites)))
    scale = {"bands": 0.5, "embedding": 0.3, "embedding7": 0.3, "both": 0.2, "both7": 0.2}
    predicted = {(name, learner): observed + by * noise for name, by in scale.items() for learner in ROW_LEARNERS}
    assert differences(predicted, observed, sites)["hls_embedding_leads_bands"]
    predicted["embedding", "svr"] = observed + noise
    found = differences(predicted, observed, sites)
    assert not found["hls_embedding_leads_bands"] and not found["hls_bands_leads_embedding"]
    assert found["hls_lead_of_embedding_over_bands_svr"] < 0 < found["hls_lead_of_embedding_over_bands_rf"]
    assert found["hls_both_leads_embedding"]


def test_scores_of_a_set_are_means_over_seeds() -> None:
    random = np.random.default_rng(0)
    sites = np.repeat(np.arange(5), 12).astype(str)
    observed = random.normal(size=len(sites))
    predicted = observed + np.array([[0.5], [1.0]])
    found = set_scores("bands_rf", observed, predicted, sites)
    assert found["hls_loso_rmse_bands_rf"] == pytest.approx(0.75)
    assert all(found[f"hls_site_rmse_p{p}_bands_rf"] == pytest.approx(0.75) for p in (25, 50, 75))
    assert found["hls_loso_r2_bands_rf_low"] < found["hls_loso_r2_bands_rf"] < found["hls_loso_r2_bands_rf_high"]
    assert found["hls_site_r2_p25_bands_rf"] < found["hls_site_r2_p50_bands_rf"] < found["hls_site_r2_p75_bands_rf"]
