"""Principal components: orthonormal, ordered, the directions of largest variance; as colours in 0..1."""

import numpy as np
import pytest

from thalweg.earth.analysis.pca import MISSING_GREY, PrincipalComponents
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    random = np.random.default_rng(0)
    return 3 + random.normal(size=(500, 4)) @ np.diag([0.1, 5, 1, 2]) @ np.linalg.qr(random.normal(size=(4, 4)))[0]


def test_components_are_uncorrelated_and_ordered(vectors: np.ndarray) -> None:
    found = PrincipalComponents.fit(vectors, 3)
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(3), atol=1e-12)
    components = found.transform(vectors.T[:, None])[:, 0]
    covariance = np.cov(components)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-9)
    variances = np.sort(np.linalg.eigvalsh(np.cov(vectors.T)))[::-1]
    np.testing.assert_allclose(np.diag(covariance), variances[:3])
    np.testing.assert_allclose(found.share, variances[:3] / variances.sum())
    np.testing.assert_allclose(np.percentile(components, [2, 98], axis=1), [found.low, found.high])


def test_standardised_components_do_not_depend_on_units(vectors: np.ndarray) -> None:
    units = np.array([1, 100, 0.01, 1])
    one, other = (PrincipalComponents.fit(values, 2, standardise=True) for values in (vectors, vectors * units))
    found, expected = other.transform(vectors * units, axis=-1), one.transform(vectors, axis=-1)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)


def test_colours_are_stretched_and_grey_where_nothing_is_embedded(vectors: np.ndarray) -> None:
    found = PrincipalComponents.fit(vectors, 3)
    image = vectors.T.reshape(4, 20, 25).copy()
    image[:, 2, 3] = np.nan
    rgb = found.to_rgb(image)
    assert rgb.shape == (20, 25, 3)
    assert (rgb[2, 3] == MISSING_GREY).all()
    assert 0.02 < (rgb == 0).mean() + (rgb == 1).mean() < 0.06
    assert ((rgb >= 0) & (rgb <= 1)).all()


def test_too_many_components_and_too_few_vectors_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(UsageError, match="5 components: expected 1 to 4"):
        PrincipalComponents.fit(vectors, 5)
    with pytest.raises(UsageError, match="at least two embeddings to fit principal components, got 1"):
        PrincipalComponents.fit(vectors[:1], 1)
