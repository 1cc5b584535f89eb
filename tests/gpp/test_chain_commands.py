"""`thalweg gpp prepare`, `train` and `predict`, as a user runs them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.gpp.data.features import read_table
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.registry import MODELS
from thalweg.gpp.models.transformer import TransformerConfig, TransformerLearner

Run = Callable[..., object]


@pytest.fixture(scope="module")
def tower(cube: Cube) -> tuple[str, float, float]:
    return "--xy", float(cube.x[15]), float(cube.y[16])


@pytest.fixture
def flux(tmp_path: Path) -> Path:
    days = pd.date_range("2018-01-01", periods=365)
    gpp = 6 - 5 * np.cos(2 * np.pi * np.arange(365) / 365)
    frame = pd.DataFrame({"site": "A", "time": days, "gpp": gpp, "vegetation": "CRO"})
    pd.concat([frame, frame.assign(site="B"), frame.assign(site="C")]).to_csv(tmp_path / "flux.csv", index=False)
    return tmp_path / "flux.csv"


def tiny(seed: int) -> Ensemble:
    return Ensemble(
        {"tiny": lambda seed: TransformerLearner(seed, TransformerConfig(width=8, heads=2, epochs=1))}, members=2
    )


def test_from_a_store_to_a_series_and_a_map(
    cli: Run, embedding_store: Path, flux: Path, tower: tuple, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(MODELS, "transformer", tiny)
    for site in "ABC":
        ran = cli(
            "gpp", "prepare", embedding_store, *tower, "--radius", 30, "--out", f"{site}.csv", "--flux", flux,
            "--site", site,
        )  # fmt: skip
        assert (ran.code, ran.err) == (0, "")
        assert f"table: {site}.csv" in ran.out
    ran = cli("gpp", "train", "A.csv", "B.csv", "C.csv", "--out", "model")
    assert (ran.code, ran.err) == (0, "")
    assert "2 members and one of all sites" in ran.out
    ran = cli("gpp", "predict", embedding_store, "series.csv", "--model", "model", *tower, "--radius", 30)
    assert (ran.code, ran.err) == (0, "")
    series = pd.read_csv("series.csv", parse_dates=["time"])
    assert list(series) == ["site", "time", "gpp", "lower", "upper"]
    assert (series["lower"] <= series["gpp"]).all()
    ran = cli("gpp", "predict", embedding_store, "map.zarr", "--model", "model")
    assert (ran.code, ran.err) == (0, "")
    with xr.open_zarr("map.zarr", chunks=None, decode_coords="all") as found:
        assert found["gpp"].sizes["y"] == 32
        assert found["gpp"].notnull().any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--xy", 3.0, 45.0), "or write degrees as --lonlat"),
        (("--xy", 3.0, 45.0, "--gap-filling", "kalmann"), "did you mean kalman?"),
        (("--lonlat", 3.0, 45.0), "expected one position"),
        (("--size", 8), "size 8"),
        (("--gap-filling", "spline"), "expected linear, kalman"),
        (("--flux", "nothing.csv"), "no such file"),
        (("--target", "nee"), "expected --flux with --target"),
        (("--gpp-column", "GPP_DT_VUT_REF"), "expected --flux with --gpp-column"),
    ],
)
def test_what_prepare_refuses(cli: Run, embedding_store: Path, tower: tuple, arguments: tuple, message: str):
    ran = cli("gpp", "prepare", embedding_store, *tower, "--radius", 30, "--out", "t.csv", *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not list(Path().iterdir())


def test_what_predict_refuses(cli: Run, embedding_store: Path, model_folder: Path, gpp_model: Path, tower: tuple):
    ran = cli("gpp", "predict", embedding_store, "out.csv", "--model", model_folder / "fusion", *tower)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "expected gpp" in ran.err
    Path("there.csv").write_text("")
    ran = cli("gpp", "predict", embedding_store, "there.csv", "--model", gpp_model, *tower)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "exists already" in ran.err


def test_train_refuses_what_prepare_did_not_write(cli: Run):
    Path("other.csv").write_text("site,time,gpp\n")
    ran = cli("gpp", "train", "other.csv", "--out", "model")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "expected a table of `thalweg gpp prepare`" in ran.err


@pytest.fixture
def fullset(tmp_path: Path) -> Path:
    """A FLUXNET file of the cube's years that has the constant threshold only."""
    days = pd.date_range("2018-01-01", periods=730).strftime("%Y%m%d")
    frame = pd.DataFrame({"TIMESTAMP": days, "NEE_CUT_REF_QC": 1.0, "GPP_NT_CUT_REF": 3.0, "TA_F": 9.0})
    frame.to_csv(tmp_path / "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2018-2019_1-4.csv", index=False)
    return tmp_path / "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2018-2019_1-4.csv"


def test_prepare_takes_a_gpp_column(cli: Run, embedding_store: Path, tower: tuple, fullset: Path):
    arguments = ("gpp", "prepare", embedding_store, *tower, "--radius", 30, "--out", "table.csv", "--flux", fullset)
    ran = cli(*arguments)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "it has GPP_NT_CUT_REF: choose one with --gpp-column" in ran.err and not list(Path().iterdir())
    ran = cli(*arguments, "--gpp-column", "GPP_NT_CUT_REF")
    assert (ran.code, ran.err) == (0, "")
    table, _ = read_table(Path("table.csv"))
    assert (table["gpp"] == 3).all()
    fullset.write_text(fullset.read_text().replace(",1.0,", ",0.1,"))
    ran = cli(*arguments[:-3], "none.csv", "--flux", fullset, "--gpp-column", "GPP_NT_CUT_REF")
    assert ran.code == 2 and "no day with usable GPP" in ran.err and not Path("none.csv").exists()
