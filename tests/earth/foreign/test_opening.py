"""Kinds of embeddings by their names: this package's stores as before, unknown ones refused, commands on the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio

import thalweg
from embedding_stores import StoreSpec, write_store
from foreign_files import (
    fixed_size_lists,
    tessera_arrays,
    unit_integers,
    write_alphaearth,
    write_tessera_tile,
    write_vectors,
)
from mapping_scenes import point_labels, truth
from thalweg.errors import MissingPathError, UsageError


def test_a_store_of_this_package_opens_as_before(tmp_path: Path) -> None:
    store = write_store(tmp_path / "out.zarr", StoreSpec())
    assert {"embeddings", "uncertainty", "quality"} <= set(thalweg.open(store).data_vars)
    with pytest.raises(UsageError, match="`year` is for embeddings without dates"):
        thalweg.open(store, year=2020)
    with pytest.raises(UsageError, match="`column` is for tables"):
        thalweg.open(store, column="embedding")


def test_unknown_kinds_raise_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="no such store"):
        thalweg.open(tmp_path / "nothing")
    text = tmp_path / "notes.txt"
    text.write_text("text")
    for path, message in (
        (text, "expected a store of .* AlphaEarth GeoTIFFs"),
        (tmp_path, "not a readable Zarr store"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            thalweg.open(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["alphaearth", "tessera"])
def test_commands_work_on_published_files(kind: str, tmp_path: Path, cli: Callable[..., Any]) -> None:
    if kind == "alphaearth":
        path = write_alphaearth(tmp_path, unit_integers())
    else:
        path = write_tessera_tile(tmp_path, *tessera_arrays())
    point_labels().to_file(tmp_path / "labels.gpkg")
    ran = cli("earth", "classify", path, tmp_path / "labels.gpkg", "crops", "--column", "crop", "--learner", "logistic")
    assert ran.code == 0, ran.err
    with rasterio.open("crops/map.tif") as file:
        assert (file.read(1) == truth() + 1).mean() > 0.95
    other = path
    if kind == "alphaearth":  # another year of the same place
        other = write_alphaearth(tmp_path, unit_integers(seed=4), 2021)
    for command in (
        ("apply", "crops", other, "applied"),
        ("similar", path, "--pixel", "20", "20", "--png", "similar.png"),
        ("map", path, "--png", "map.png"),
        ("map", path, "--pixel", "20", "20", "--png", "pixel.png"),
    ):
        ran = cli("earth", *command)
        assert ran.code == 0, f"{command} {ran.err}"
        assert Path(command[-1]).exists()
    assert cli("earth", "map", path, "--show", "lai").code == 2
    assert cli("earth", "map", path, "--show", "quality").code == 2
    assert (
        cli("earth", "classify", path, tmp_path / "labels.gpkg", "out", "--column", "crop", "--calendar", "P15D").code
        == 2
    )


def test_commands_refuse_scattered_vectors_in_one_line(tmp_path: Path, cli: Callable[..., Any]) -> None:
    points = geopandas.points_from_xy([1, 2, 4], [4, 5, 9])
    path = write_vectors(tmp_path / "t.parquet", fixed_size_lists(np.eye(3)), points, year=[2020] * 3)
    ran = cli("earth", "similar", path, "--xy", "1", "4")
    assert ran.code == 2 and "scattered vectors have no pixel grid" in ran.err and ran.err.count("\n") == 1
