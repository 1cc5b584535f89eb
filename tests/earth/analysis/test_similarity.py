"""Similarity to a pixel and principal components, on parts of a dataset and on all of it."""

import numpy as np
import pytest
import xarray as xr

from embedding_scenes import scene
from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.analysis.similarity import Similarity, similarity
from thalweg.earth.positions import PixelIndex
from thalweg.earth.store import subsample
from thalweg.errors import UsageError


def test_components_of_a_sample_are_close_to_those_of_all_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    data = scene(rows=512, columns=512)
    whole = PrincipalComponents.of(data)
    monkeypatch.setattr(subsample, "MAX_CHUNK_READS", 96)
    assert len(subsample.evenly_spaced_parts(data, 6)) == 16
    part = PrincipalComponents.of(data)
    cosine = np.abs((whole.axes[0] * part.axes[0]).sum())
    assert cosine > 0.99
    np.testing.assert_allclose(part.share, whole.share, atol=0.02)


def by_definition(data: xr.Dataset, row: int, column: int) -> np.ndarray:
    """Return the similarity over the whole map: one minus the mean of squared distances, scaled per date."""
    vectors = data.embeddings.values
    distance = ((vectors - vectors[:, :, row, column][:, :, None, None]) ** 2).sum(1)
    spread = 2 * np.nansum(np.nanvar(vectors, axis=(2, 3)), axis=1)
    return np.clip(1 - np.nanmean(distance / spread[:, None, None], axis=0), 0, 1)


@pytest.mark.filterwarnings("ignore:Degrees of freedom", "ignore:Mean of empty", "ignore:invalid value")
def test_similarity_by_parts_equals_that_of_the_whole_map() -> None:
    data = scene()
    row, column = np.argwhere(np.isfinite(data.embeddings.values).all(1).sum(0) == 5)[0]
    expected = by_definition(data, row, column)
    np.testing.assert_allclose(similarity(data, PixelIndex(row, column)), expected, atol=1e-5)
    to_pixel = Similarity.to_pixel(data, PixelIndex(row, column))
    for rows, columns in ((slice(0, 16), slice(0, 50)), (slice(16, 40), slice(3, 50, 4))):
        part = to_pixel.compute(data.isel(y=rows, x=columns))
        np.testing.assert_allclose(part, expected[rows, columns], atol=1e-5)


def test_fewer_dates_are_evenly_spaced() -> None:
    data = scene(dates=12)
    row, column = np.argwhere(np.isfinite(data.embeddings.values).all(1).sum(0) == 11)[0]
    to_pixel = Similarity.to_pixel(data, PixelIndex(row, column), max_dates=4)
    assert to_pixel.dates.tolist() == [0, 4, 8, 11]
    assert to_pixel.compute(data)[row, column] == 1


def test_a_pixel_without_embeddings_raises_one_line_error() -> None:
    data = scene()
    data.embeddings.values[:, :, 3, 5] = np.nan
    with pytest.raises(UsageError, match="pixel row 3, column 5 has no embedding on any date"):
        similarity(data, PixelIndex(3, 5))
