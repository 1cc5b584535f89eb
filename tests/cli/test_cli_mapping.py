"""`thalweg earth sample`, `classify`, `regress` and `apply`: output, files and refusals."""

from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest

from thalweg.earth.store.reader import open_store


@pytest.fixture(scope="module")
def store(cube: object, model: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from thalweg.earth.inference.job import Job
    from thalweg.earth.inference.runner import embed_to_zarr

    return embed_to_zarr(Job(cube, model), tmp_path_factory.mktemp("stores") / "embeddings.zarr")


@pytest.fixture(scope="module")
def labels(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = open_store(store)
    random = np.random.default_rng(0)
    rows, columns = np.divmod(random.choice(32 * 32, 80, replace=False), 32)
    table = geopandas.GeoDataFrame(
        {"side": np.where(columns < 16, "west", "east"), "height": rows.astype(float)},
        geometry=geopandas.points_from_xy(dataset.x.values[columns], dataset.y.values[rows]),
        crs=32631,
    )
    path = tmp_path_factory.mktemp("labels") / "labels.gpkg"
    table.to_crs(4326).to_file(path)
    return path


def test_sample_writes_a_table(cli: Callable, store: Path, labels: Path, tmp_path: Path) -> None:
    ran = cli("earth", "sample", store, labels, tmp_path / "out.csv")
    assert (ran.code, ran.err) == (0, "")
    dates = open_store(store).sizes["time"]
    assert ran.out == f"table: {tmp_path / 'out.csv'} (80 features, {80 * dates} rows)\n"
    assert {"feature", "side", "time", "e1", "e7_uncertainty"} <= set(pd.read_csv(tmp_path / "out.csv"))


def test_maps_are_made_and_applied(cli: Callable, store: Path, labels: Path, tmp_path: Path) -> None:
    options = ("--learner", "logistic", "--calendar", "P30D", "--memory", "1GB")
    ran = cli("earth", "classify", store, labels, tmp_path / "sides", "--column", "side", *options)
    assert (ran.code, ran.err) == (0, "")
    made, scored, distance = ran.out.splitlines()
    assert made == f"map: {tmp_path / 'sides'}"
    assert scored.startswith("macro F1 ") and "blocks of" in scored
    assert distance.startswith("distance from the training pixels:")
    ran = cli("earth", "apply", tmp_path / "sides", store, tmp_path / "again")
    assert (ran.code, ran.err) == (0, "")
    same = [(tmp_path / folder / "map.tif").read_bytes() for folder in ("sides", "again")]
    assert same[0] == same[1]
    ran = cli("earth", "regress", store, labels, tmp_path / "heights", "--column", "height", "--learner", "ridge")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1].startswith("R2 ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("classify", "STORE", "LABELS", "OUT", "--column", "crop"), "column 'crop': expected side, height"),
        (("classify", "STORE", "nothing.gpkg", "OUT", "--column", "side"), "nothing.gpkg: no such file"),
        (("classify", "nothing.zarr", "LABELS", "OUT", "--column", "side"), "nothing.zarr: no such store"),
        (("regress", "STORE", "LABELS", "OUT", "--column", "side"), "expected numbers for a regression"),
        (
            ("classify", "STORE", "LABELS", "OUT", "--column", "side", "--date", "2018-06-01", "--calendar", "P9D"),
            "--calendar and --date: give one of them",
        ),
        (("classify", "STORE", "LABELS", "OUT", "--column", "side", "--memory", "1MB"), "memory 1 MB: too little"),
        (("apply", "LABELS", "STORE", "OUT"), "not a mapping model"),
        (("sample", "STORE", "LABELS", "OUT.xlsx"), "expected a file ending in .parquet or .csv"),
        (("sample", "STORE", "LABELS", "OUT.csv", "--what", "ndvi"), "embeddings of thalweg-earth"),
    ],
)
def test_an_unusable_request_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], words: str, cli: Callable, store: Path, labels: Path, tmp_path: Path
) -> None:
    places = {"STORE": store, "LABELS": labels, "OUT": tmp_path / "out"}
    given = [
        str(argument).replace("OUT", str(tmp_path / "out"))
        if argument.startswith("OUT")
        else places.get(argument, argument)
        for argument in arguments
    ]
    ran = cli("earth", *given)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert words in line
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["here"]
