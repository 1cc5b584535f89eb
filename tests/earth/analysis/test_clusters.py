"""Clusters: what is separate is separated, the same on every run, with honest stability, tables and maps."""

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from sklearn.metrics import adjusted_rand_score

from embedding_scenes import two_summers
from thalweg.earth.analysis.clusters import NO_CLUSTER, cluster
from thalweg.earth.export.categorical import NO_CLASS
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.result_folders import write_clusters
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def three_kinds(model: EarthModel) -> tuple[xr.Dataset, np.ndarray]:
    """Three separate kinds of pixels, the first the most frequent; one pixel has no embedding."""
    data = two_summers(model.identifier, seed=1)
    kind = np.zeros((40, 40), int)
    kind[:, 20:30], kind[:, 30:34] = 1, 2
    data.embeddings.values[:] = 0.05 * data.embeddings.values + kind
    data.embeddings.values[:, :, 0, 0] = np.nan
    return data, kind


def test_separate_kinds_become_clusters_the_largest_first(
    three_kinds: tuple[xr.Dataset, np.ndarray], model: EarthModel
) -> None:
    data, kind = three_kinds
    found = cluster(data, 3, model=model)
    assert found.labels[0, 0] == NO_CLUSTER == NO_CLASS
    known = found.labels != NO_CLUSTER
    np.testing.assert_array_equal(found.labels[known], relabelled(kind)[known])
    assert found.pixels.tolist() == sorted(found.pixels, reverse=True)
    assert found.stability == pytest.approx(1)
    assert found.spectra.shape == (3, len(found.bands))
    assert len(found.dates) == 12


def relabelled(kind: np.ndarray) -> np.ndarray:
    """Return kinds numbered by their frequency."""
    order = np.argsort(-np.bincount(kind.ravel()), kind="stable")
    return np.argsort(order)[kind]


def test_noise_has_no_stable_clusters(model: EarthModel) -> None:
    noise = two_summers(model.identifier, seed=2)
    assert cluster(noise, 8, model=model).stability < 0.6


def test_the_same_seed_gives_the_same_clusters_and_blocks_do_not_matter(
    three_kinds: tuple[xr.Dataset, np.ndarray], model: EarthModel
) -> None:
    data, _ = three_kinds
    first = cluster(data, 5, model=model)
    again = data.copy()
    again.embeddings.encoding["preferred_chunks"] = {"y": 16, "x": 16}
    second = cluster(again, 5, model=model)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.spectra, second.spectra)
    assert first.stability == second.stability


def test_a_period_is_clustered_alone(three_kinds: tuple[xr.Dataset, np.ndarray], model: EarthModel) -> None:
    data, kind = three_kinds
    changed = data.copy(deep=True)
    changed.embeddings.values[6:] = data.embeddings.values[6:, :, ::-1, ::-1]
    before, after = (cluster(changed, 3, period, model).labels for period in ("2018-07", "2019-07-06"))
    known = (before != NO_CLUSTER) & (after != NO_CLUSTER)
    assert adjusted_rand_score(kind[known], before[known]) > 0.99
    assert adjusted_rand_score(kind[::-1, ::-1][known], after[known]) > 0.99


def test_the_folder_holds_map_style_table_and_figure(
    three_kinds: tuple[xr.Dataset, np.ndarray], model: EarthModel, tmp_path: Path
) -> None:
    data, _ = three_kinds
    found = cluster(data, 3, model=model)
    out = write_clusters(data, found, tmp_path / "out")
    assert sorted(entry.name for entry in out.iterdir()) == [
        "clusters.csv",
        "clusters.png",
        "clusters.qml",
        "clusters.tif",
        "summary.json",
    ]
    with rasterio.open(out / "clusters.tif") as file:
        np.testing.assert_array_equal(file.read(1), found.labels)
    with (out / "clusters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["pixels"]) for row in rows] == found.pixels.tolist()
    assert float(rows[0]["area_ha"]) == pytest.approx(found.pixels[0] / 100)
    assert float(rows[2]["B08"]) == pytest.approx(found.spectra[2][found.bands.index("B08")], abs=1e-4)


@pytest.mark.parametrize(
    ("count", "period", "words"),
    [
        (1, None, r"1 cluster\(s\): expected 2 to 50"),
        (51, None, r"51 cluster\(s\): expected 2 to 50"),
        (3, "2018-09", "no date of this store lies in 2018-09"),
        (30, "2018-07", r"256 sampled pixel\(s\) with an embedding: expected at least 300 for 30 clusters"),
    ],
)
def test_impossible_clusters_raise_one_line_error(
    count: int, period: str | None, words: str, model: EarthModel
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        cluster(two_summers(model.identifier, side=16), count, period, model)
    assert "\n" not in str(caught.value)
