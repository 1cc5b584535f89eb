"""Comparison of stores by one probe: keys, the same samples and blocks for all, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import earth_compare
import thalweg
from earth_compare import compare, map_blocks, named_stores, samples
from foreign_files import tessera_arrays, unit_integers, write_alphaearth, write_tessera_tile
from mapping_scenes import mapping_scene, point_labels
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("stores")
    integers = unit_integers()
    integers[:, :, :8] = -128  # a strip that only the others have
    return {
        "alphaearth": write_alphaearth(root, integers),
        "tessera": write_tessera_tile(root / "tessera", *tessera_arrays()),
    }


def test_every_store_is_probed_on_the_same_samples_and_blocks(paths: dict[str, Path]) -> None:
    stores = {"own": mapping_scene(), **{name: thalweg.open(path) for name, path in paths.items()}}
    labels = point_labels(150)
    found = compare(stores, labels, "crop", calendar="P30D", metres=100)
    assert found["classes"] == 3 and found["block_metres"] == 100
    inside = [index for index, point in enumerate(labels.to_crs(32631).geometry) if point.x >= 500_080]
    assert found["features"] == len(inside) < 150
    for name, size, values, dates in (("own", 4, 24, 6), ("alphaearth", 64, 64, 1), ("tessera", 128, 128, 1)):
        assert found[f"{name}_macro_f1"] > 0.9 and found[f"{name}_accuracy"] > 0.9
        assert (found[f"{name}_dimensions"], found[f"{name}_values"]) == (size, values)
        assert (found[f"{name}_dates"], found[f"{name}_pixel_metres"]) == (dates, 10)


def test_noise_scores_like_chance(paths: dict[str, Path]) -> None:
    noise = mapping_scene(dates=1)
    noise.embeddings.values[:] = np.random.default_rng(0).normal(size=noise.embeddings.shape)
    found = compare({"noise": noise}, point_labels(150), "crop", metres=100)
    assert found["noise_macro_f1"] < 0.5


def test_a_sample_is_the_mean_of_its_pixels(paths: dict[str, Path]) -> None:
    from mapping_scenes import box

    labels = point_labels(20).to_crs(32631)
    labels.loc[0, "geometry"] = box(20, 20, 3, 3)
    dataset = thalweg.open(paths["tessera"])
    found = samples(dataset, labels, "crop", None, None)
    expected = dataset.embeddings.values[0, :, 20:23, 20:23].mean((1, 2))
    np.testing.assert_allclose(found.values[list(found.numbers).index(0)], expected, rtol=1e-5)
    groups, side = map_blocks(labels, found.numbers, found, 240)
    assert side == 240 and len(groups) == len(found.numbers)
    assert 4 <= groups.max() + 1 <= 9


def test_the_command_prints_its_keys(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point_labels(100).to_file(tmp_path / "labels.gpkg")
    given = [f"{name}={path}" for name, path in paths.items()]
    options = ["--labels", str(tmp_path / "labels.gpkg"), "--column", "crop", "--block", "100"]
    monkeypatch.setattr(sys, "argv", ["earth_compare.py", *given, *options, "--json", str(tmp_path / "out.json")])
    earth_compare.main()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == json.loads((tmp_path / "out.json").read_text())
    kinds = ("macro_f1", "accuracy", "dimensions", "values", "pixel_metres", "dates")
    expected = {f"{name}_{kind}" for name in paths for kind in kinds}
    assert set(last) == {"features", "classes", "blocks", "block_metres", *expected}


def test_unusable_arguments_raise_one_line_error(paths: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"store\.zarr: expected NAME=STORE"):
        named_stores(["store.zarr"])
    with pytest.raises(UsageError, match="a second store named a"):
        named_stores(["a=x", "a=y"])
    dataset = thalweg.open(paths["tessera"])
    with pytest.raises(UsageError, match=r"the labels lie in 1 block\(s\) of 1e\+06 m"):
        compare({"tessera": dataset}, point_labels(), "crop", metres=1e6)
    empty = mapping_scene(dates=1)
    empty.embeddings.values[:] = np.nan
    with pytest.raises(UsageError, match="no labelled feature has an embedding in every store"):
        compare({"tessera": dataset, "empty": empty}, point_labels(), "crop", metres=100)
