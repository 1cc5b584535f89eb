"""Distributions of embeddings: Mahalanobis distances, and regions that hold the share they name."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.analysis import distribution
from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store import subsample
from thalweg.earth.store.reader import open_store
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Heavy-tailed, correlated and of different scales."""
    random = np.random.default_rng(0)
    return 3 + random.standard_t(4, (4000, 5)) @ random.normal(size=(5, 5)) * [1, 1, 10, 0.1, 1]


def test_distances_are_mahalanobis(vectors: np.ndarray) -> None:
    found = EmbeddingDistribution.from_vectors(vectors, "m")
    inverse = np.linalg.inv(np.cov(vectors.T))
    away = vectors[:7] - vectors.mean(0)
    expected = np.sqrt(np.einsum("nk,kl,nl->n", away, inverse, away))
    np.testing.assert_allclose(found.distance(vectors[:7]), expected, rtol=1e-3)
    np.testing.assert_allclose(found.mahalanobis_norm(away), expected, rtol=1e-3)
    np.testing.assert_allclose(found.mean + found.whiten(vectors[:7]) @ found.factor.T, vectors[:7])


def test_a_region_holds_its_share_whatever_the_tails(vectors: np.ndarray) -> None:
    found = EmbeddingDistribution.from_vectors(vectors[::2], "m")
    for level in (0.5, 0.95):
        assert np.mean(found.distance(vectors[1::2]) <= found.radius_quantile(level)) == pytest.approx(level, abs=0.03)
    pairs = found.mahalanobis_norm(vectors[1::4] - vectors[3::4])
    assert np.mean(pairs <= found.pairwise_quantile(0.5)) == pytest.approx(0.5, abs=0.05)


def test_axes_are_principal_directions(vectors: np.ndarray) -> None:
    found = EmbeddingDistribution.from_vectors(vectors, "m")
    axes, spreads = found.axes
    assert (np.diff(spreads) <= 0).all()
    np.testing.assert_allclose(np.abs(axes @ axes.T), np.eye(5), atol=1e-9)
    np.testing.assert_allclose(((vectors - vectors.mean(0)) @ axes.T).std(0, ddof=1), spreads, rtol=1e-3)


def test_a_constant_dimension_is_allowed(vectors: np.ndarray) -> None:
    vectors = vectors.copy()
    vectors[:, 2] = 1.0
    assert np.isfinite(EmbeddingDistribution.from_vectors(vectors, "m").distance(vectors)).all()


def test_a_store_and_a_dataset_give_the_same_distribution(cube: Cube, model: EarthModel, tmp_path: Path) -> None:
    dataset = embed(cube, model)
    stored = open_store(embed_to_zarr(Job(cube, model), tmp_path / "out.zarr"))
    one, other = EmbeddingDistribution.of(dataset), EmbeddingDistribution.of(stored)
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.distances, other.distances)
    assert one.model == model.identifier
    flat = np.moveaxis(dataset.embeddings.values, 1, -1).reshape(-1, 7)
    flat = flat[np.isfinite(flat).all(1)]
    np.testing.assert_allclose(one.mean, flat.mean(0), atol=0.1 * flat.std(0).max())


def test_a_sample_is_bounded_and_reads_only_what_it_samples(
    cube: Cube, model: EarthModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = embed(cube, model)
    monkeypatch.setattr(distribution, "NUM_DATES", 3)
    monkeypatch.setattr(distribution, "CHUNK_READS", 8)
    monkeypatch.setattr(subsample, "DEFAULT_SIDE", 8)
    read: list[tuple[int, ...]] = []
    plain = xr.DataArray.values.fget
    assert plain is not None

    def watched(array: xr.DataArray) -> np.ndarray:
        read.append(array.shape)
        return plain(array)

    monkeypatch.setattr(xr.DataArray, "values", property(watched))
    found = EmbeddingDistribution.of(dataset, vectors=100)
    assert len(found.distances) <= 100
    dates = len(subsample.evenly_spaced_dates(dataset, 3))
    assert 3 <= dates < 6
    assert read == [(dates, 7, 8, 8)] * (8 // dates)


def test_too_few_and_foreign_embeddings_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(UsageError, match="20 embeddings: expected at least 50 for a distribution in 5 dimensions"):
        EmbeddingDistribution.from_vectors(vectors[:20], "m")
    found = EmbeddingDistribution.from_vectors(vectors, "m")
    with pytest.raises(UsageError, match="expected a distribution of embeddings of other, got one of m"):
        found.check_model("other")
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(UsageError, match="expected a level between 0 and 1"):
            found.radius_quantile(level)
