"""`thalweg earth whatif`, `explain` and `between`: their files, output and refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.earth.store.reader import open_store
from thalweg.embedding import Embedding


@pytest.fixture(scope="module")
def store(cube: object, model: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from thalweg.earth.inference.job import Job
    from thalweg.earth.inference.runner import embed_to_zarr

    return embed_to_zarr(Job(cube, model, 32), tmp_path_factory.mktemp("stores") / "embeddings.zarr")


@pytest.fixture(scope="module")
def date(store: Path) -> str:
    """A date on which the pixel of row 12, column 20 has an embedding."""
    dataset = open_store(store)
    usable = np.isfinite(dataset.embeddings.values[:, 0, 12, 20])
    return np.datetime_as_string(dataset.time.values[usable][-1], "D")


def test_whatif_writes_a_folder(cli: Callable, store: Path, date: str, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--pixel", 12, 20, "--date", date, "--target", "ndvi-0.02", "--model", model_folder)
    ran = cli("earth", "whatif", store, out, *arguments)
    assert ran.code == 0, ran.err
    assert "not what would happen" in ran.out
    assert {path.name for path in out.iterdir()} == {"whatif.png", "bands.csv", "embedding.safetensors", "record.json"}
    record = json.loads((out / "record.json").read_text())
    assert record["reached"]
    assert record["place"] == f"pixel:12,20@{date}"
    assert record["score_after"] - record["score_before"] == pytest.approx(-0.02, abs=2e-3)
    assert len(pd.read_csv(out / "bands.csv")) == 12
    assert Embedding.load(out / "embedding.safetensors").lineage.operation == "whatif"
    again = cli("earth", "whatif", store, out, *arguments)
    assert again.code == 2
    assert "exists already" in again.err


def test_whatif_refuses_in_one_line(cli: Callable, store: Path, date: str, model_folder: Path, tmp_path: Path) -> None:
    for changed, words in (
        (("--target", "height=3"), "target 'height': expected NDVI"),
        (("--target", "nvdi+0.1"), "did you mean NDVI?"),
        (("--target", "lai+1"), "lai: this model was trained without it"),
        (("--target", "gpp+1"), "give a GPP model, --gpp FOLDER"),
        (("--date", "2018-6-1"), "expected a date such as 2018-06-30"),
        (("--level", 95), "--level 95: expected a fraction between 0 and 1"),
        (("--pixel", 500_005.5, 5_600_000), "expected whole numbers, the row and the column; map coordinates are --xy"),
        (("--xy", 1, 2), "give one of --pixel ROW COL, --xy X Y and --lonlat LON LAT"),
        (("--target", "ndvi"), "expected NAME=VALUE"),
        (
            ("--target", "ndvi+0.1", "--readout", tmp_path / "none.json"),
            "none.json can't be read: there is no such file",
        ),
        (("--target", "gpp+1", "--gpp", tmp_path / "none"), "not a GPP model"),
    ):
        ran = cli(
            *("earth", "whatif", store, tmp_path / "out", "--pixel", 12, 20, "--date", date),
            *("--target", "ndvi+0.1", "--model", model_folder, *changed),
        )
        assert (ran.code, ran.out) == (2, "")
        assert words in ran.err
        assert ran.err.count("\n") == 1
        assert not (tmp_path / "out").exists()
    foreign = cli(
        *("earth", "whatif", store, tmp_path / "out", "--pixel", 12, 20, "--date", date, "--target", "ndvi+0.1")
    )
    assert (foreign.code, foreign.err.count("\n")) == (2, 1)
    assert "name the folder of the former" in foreign.err


def test_explain_writes_one_figure(cli: Callable, store: Path, model_folder: Path, tmp_path: Path) -> None:
    ran = cli("earth", "explain", store, tmp_path / "new" / "meaning.png", "--count", 2, "--model", model_folder)
    assert ran.code == 0, ran.err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["meaning.png"]


def test_between_writes_a_folder(cli: Callable, store: Path, date: str, model_folder: Path, tmp_path: Path) -> None:
    first = np.datetime_as_string(open_store(store).time.values[0], "D")
    ran = cli("earth", "between", store, first, date, tmp_path / "way", "--count", 3, "--model", model_folder)
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in (tmp_path / "way").iterdir()) == [
        *("bands.csv", "between.png", "embedding-00.safetensors", "embedding-01.safetensors"),
        "embedding-02.safetensors",
    ]
    assert len(pd.read_csv(tmp_path / "way" / "bands.csv")) == 3
    bad = cli("earth", "between", store, "here", date, tmp_path / "other", "--model", model_folder)
    assert bad.code == 2
    assert "place 'here': expected POSITION@DATE such as pixel:30,12@2019-07-01" in bad.err
    assert not (tmp_path / "other").exists()
