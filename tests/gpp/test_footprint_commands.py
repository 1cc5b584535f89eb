"""`thalweg gpp prepare`, `predict` and `evaluate` with a footprint from half-hourly wind."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.earth.cube.cube import Cube

Run = Callable[..., object]
NAME = "FLX_XX-Abc_FLUXNET2015_FULLSET_{}_2018-2018_1-4.csv"
HEIGHTS = ("--measurement-height", 3, "--canopy-height", 0.3)


@pytest.fixture(scope="module")
def tower(cube: Cube) -> tuple[str, float, float]:
    return "--xy", float(cube.x[15]), float(cube.y[16])


def half_hours() -> pd.DataFrame:
    time = pd.date_range("2018-01-01", periods=48 * 365, freq="30min")
    day = np.arange(len(time)) // 48
    return pd.DataFrame(
        {
            "TIMESTAMP_START": time.strftime("%Y%m%d%H%M"), "WD": (day * 37) % 360, "WS_F": 2.5, "USTAR": 0.3,
            "H_F_MDS": 50.0, "TA_F": 12.0, "PA_F": 100.0, "NEE_VUT_REF_QC": np.where(day % 5 == 4, 1, 0),
            "GPP_NT_VUT_REF": 5 + np.sin(day / 58), "NEE_VUT_REF": -2.0,
        }
    )  # fmt: skip


@pytest.fixture
def flux(tmp_path: Path) -> Path:
    half_hours().to_csv(tmp_path / NAME.format("HH"), index=False)
    return tmp_path / NAME.format("HH")


def recipe(name: str) -> dict[str, str]:
    return json.loads(Path(f"{name}.json").read_text())


def test_a_half_hourly_file_gives_a_footprint_by_day(cli: Run, embedding_store: Path, tower: tuple, flux: Path):
    common = ("gpp", "prepare", embedding_store, *tower, "--flux", flux)
    ran = cli(*common, "--out", "wind.csv", *HEIGHTS)
    assert (ran.code, ran.err) == (0, "")
    assert "footprint: Kljun et al. (2015) within" in ran.out
    assert recipe("wind.csv")["footprint"] == "kljun"
    days = recipe("wind.csv")["footprint_details"].split("its own on ")[1].split(" days")[0]
    own, all_days = (int(part) for part in days.split(" of "))
    assert own == pytest.approx(0.8 * all_days, abs=2)  # every fifth day has filled fluxes only
    assert cli(*common, "--out", "disc.csv", "--radius", 100).code == 0
    assert recipe("disc.csv")["footprint_details"] == "disc of 100 m"
    wind, disc = (pd.read_csv(name).set_index("time") for name in ("wind.csv", "disc.csv"))
    both = wind.index.intersection(disc.index)
    pd.testing.assert_series_equal(wind.loc[both, "gpp"], disc.loc[both, "gpp"])
    assert ((wind.loc[both, "e1"] - disc.loc[both, "e1"]).abs() > 1e-3).mean() > 0.9


def test_a_folder_gives_fluxes_by_day_and_wind_by_half_hour(
    cli: Run, embedding_store: Path, tower: tuple, flux: Path, tmp_path: Path
):
    time = pd.date_range("2018-01-01", periods=365).strftime("%Y%m%d")
    frame = pd.DataFrame({"TIMESTAMP": time, "GPP_NT_VUT_REF": 4.0, "NEE_VUT_REF_QC": 1.0})
    frame.to_csv(tmp_path / NAME.format("DD"), index=False)
    ran = cli("gpp", "prepare", embedding_store, *tower, "--flux", tmp_path, "--out", "table.csv", *HEIGHTS)
    assert (ran.code, ran.err) == (0, "")
    assert (pd.read_csv("table.csv")["gpp"].dropna() == 4).all() and recipe("table.csv")["footprint"] == "kljun"


def test_the_report_names_the_footprint(cli: Run, embedding_store: Path, tower: tuple, flux: Path):
    assert cli("gpp", "prepare", embedding_store, *tower, "--flux", flux, "--out", "A.csv", *HEIGHTS).code == 0
    table = pd.read_csv("A.csv")
    pd.concat([table.assign(site=site) for site in "ABCD"]).to_csv("all.csv", index=False)
    Path("all.csv.json").write_text(Path("A.csv.json").read_text())
    quick = ("--model", "climatology", "--split", "site", "--groups", 2, "--stride", 20)
    ran = cli("gpp", "evaluate", "all.csv", "report", *quick)
    assert (ran.code, ran.err) == (0, "")
    assert "footprint: Kljun et al. (2015) within" in Path("report/report.md").read_text()


@pytest.mark.parametrize("kind", ["daily", "no wind"])
def test_auto_is_a_disc_with_a_reason(cli: Run, embedding_store: Path, tower: tuple, tmp_path: Path, kind: str):
    if kind == "daily":
        time = pd.date_range("2018-01-01", periods=365).strftime("%Y%m%d")
        frame = pd.DataFrame({"TIMESTAMP": time, "GPP_NT_VUT_REF": 4.0, "NEE_VUT_REF_QC": 1.0, "WS_F": 3.0})
        path, expected = tmp_path / NAME.format("DD"), "daily values: expected a half-hourly file (_HH_)"
    else:
        frame = half_hours().drop(columns="WD")
        path, expected = tmp_path / NAME.format("HH"), "no column WD"
    frame.to_csv(path, index=False)
    common = ("gpp", "prepare", embedding_store, *tower, "--flux", path, *HEIGHTS, "--radius", 100)
    ran = cli(*common, "--out", "table.csv")
    assert (ran.code, ran.err) == (0, "")
    assert "footprint: disc of 100 m (" in ran.out and expected in ran.out
    assert recipe("table.csv")["footprint"] == "disc"
    ran = cli(*common, "--out", "other.csv", "--footprint", "kljun")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert expected in ran.err and not Path("other.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--footprint", "kljum"), "did you mean kljun?"),
        (("--footprint", "kljun"), "no height of the tower: give --measurement-height"),
        (("--footprint", "disc", *HEIGHTS), "it has no use for heights"),
        (("--canopy-height", 3), "expected --measurement-height with the other heights"),
        (("--measurement-height", 2, "--canopy-height", 4), "two thirds of the canopy"),
        (("--footprint", "kljun", *HEIGHTS), "no flux file: expected a half-hourly one (--flux)"),
    ],
)
def test_invalid_footprints_are_refused(cli: Run, embedding_store: Path, tower: tuple, arguments: tuple, message: str):
    ran = cli("gpp", "prepare", embedding_store, *tower, "--out", "t.csv", *arguments)
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert message in ran.err
    assert not list(Path().iterdir())


def test_a_series_names_its_footprint_and_a_map_has_none(
    cli: Run, embedding_store: Path, gpp_model: Path, tower: tuple, flux: Path
):
    common = ("gpp", "predict", embedding_store, "series.csv", "--model", gpp_model, *HEIGHTS, "--flux", flux)
    ran = cli(*common)
    assert (ran.code, ran.err.count("\n")) == (2, 1) and "a map has no footprint" in ran.err
    ran = cli(*common, *tower)
    assert (ran.code, ran.err) == (0, "")
    assert "footprint: Kljun et al. (2015) within" in ran.out
    assert len(pd.read_csv("series.csv")) > 100
