"""Subsampling: small stores are read completely, large ones in evenly spaced blocks."""

import numpy as np
import pytest
import xarray as xr

from embedding_scenes import scene
from thalweg.earth.store import subsample


def test_a_small_grid_is_read_completely() -> None:
    assert subsample.evenly_spaced_parts(scene(), 6) == [(slice(0, 40), slice(0, 50))]


@pytest.mark.parametrize(("rows", "columns"), [(6_400, 6_400), (100, 60_000), (60_000, 100)])
@pytest.mark.parametrize("dates", [1, 24, 5_000])
def test_parts_of_a_large_grid_are_few_and_evenly_spaced(rows: int, columns: int, dates: int) -> None:
    grid = xr.Dataset(
        {"embeddings": (("y", "x"), np.broadcast_to(np.float32(0), (rows, columns)))},
    )
    parts = subsample.evenly_spaced_parts(grid, dates)
    assert 1 <= len(parts) * dates <= max(subsample.MAX_CHUNK_READS, dates)
    assert len(set(map(str, parts))) == len(parts)
    for along, size in ((0, rows), (1, columns)):
        starts = sorted({part[along].start for part in parts})
        assert all(start % 64 == 0 and start < size for start in starts)
        middle = (starts[0] + starts[-1]) / 2
        assert abs(middle - size / 2) < 0.15 * size


def test_mean_squared_distances_are_twice_the_variance() -> None:
    data = scene()
    expected = 2 * np.nan_to_num(np.nanvar(np.delete(data.embeddings.values, 2, 0), axis=(2, 3))).sum(1)
    np.testing.assert_allclose(np.delete(subsample.mean_squared_distances(data), 2), expected, rtol=1e-5)
    assert subsample.mean_squared_distances(data)[2] == 0


def test_clear_fractions_follow_the_quality_flags() -> None:
    data = scene()
    np.testing.assert_allclose(subsample.clear_fractions(data), (data.quality.values <= 1).mean((1, 2)))


def test_a_sample_larger_than_the_dataset_is_complete() -> None:
    data = scene()
    found = subsample.sample_vectors(data, range(6), count=100_000)
    whole = np.moveaxis(data.embeddings.values, 1, -1).reshape(-1, 7)
    np.testing.assert_array_equal(found, whole[np.isfinite(whole).all(1)])


def test_evenly_spaced_dates_are_at_least_as_many_as_requested() -> None:
    data = scene(dates=12, rows=2, columns=2)
    assert list(subsample.evenly_spaced_dates(data, 100)) == list(range(12))
    assert list(subsample.evenly_spaced_dates(data, 5)) == [0, 2, 4, 6, 8, 10]
