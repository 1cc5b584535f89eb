"""`thalweg gpp evaluate`, `prepare`, `train` and `predict` of other targets than GPP, from flux files to a map."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.gpp.tables.target_columns import TARGET_UNCERTAINTY

Run = Callable[..., object]
NAME = "FLX_{}_FLUXNET2015_FULLSET_DD_2018-2018_1-4.csv"
SITES = ("XX-Aaa", "XX-Bbb", "XX-Ccc", "XX-Ddd")
UNITS = {"nee": "gC m-2 d-1", "et": "mm d-1"}


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flux files of four sites whose exchange follows radiation and temperature, with noise."""
    folder = tmp_path_factory.mktemp("towers")
    random = np.random.default_rng(0)
    time = pd.date_range("2018-01-01", periods=365)
    season = -np.cos(2 * np.pi * np.arange(365) / 365)
    for index, site in enumerate(SITES):
        radiation = 180 + 80 * season + random.normal(0, 15, 365)
        temperature = 10 + 10 * season + random.normal(0, 2, 365) + index
        frame = pd.DataFrame(
            {
                "TIMESTAMP": time.strftime("%Y%m%d"), "TA_F": temperature, "SW_IN_F": radiation, "VPD_F": 5.0,
                "SW_IN_POT": 300 + 150 * season, "NEE_VUT_REF": 1 - radiation / 60 + random.normal(0, 0.3, 365),
                "NEE_VUT_REF_QC": 1.0, "NEE_VUT_REF_RANDUNC": 0.3, "LE_F_MDS": radiation / 3 + random.normal(0, 5, 365),
                "LE_F_MDS_QC": 1.0, "LE_RANDUNC": 5.0,
            }
        )  # fmt: skip
        frame.to_csv(folder / NAME.format(site), index=False)
    return folder


@pytest.mark.parametrize("target", UNITS)
def test_evaluate_scores_the_target(cli: Run, towers: Path, target: str):
    ran = cli(
        "gpp", "evaluate", towers, "report", "--target", target, "--model", "ridge", "--model", "climatology",
        "--split", "site", "--groups", 2, "--stride", 5,
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    report = Path("report/report.md").read_text()
    assert f"target: {target.upper()}, " in report and UNITS[target] in report and "uncertainty: " in report
    scores = pd.read_csv("report/scores.csv").set_index(["predictors", "model"])["r2"]
    meteorology = scores.loc["meteorology", "ridge"]
    assert meteorology > 0.8 and meteorology > scores.loc["potential radiation", "ridge"]


@pytest.mark.parametrize("target", UNITS)
def test_from_flux_files_to_a_series_and_a_map(cli: Run, cube: Cube, embedding_store: Path, towers: Path, target: str):
    place = ("--xy", float(cube.x[15]), float(cube.y[16]), "--radius", 30)
    for site in SITES:
        flux = ("--flux", towers / NAME.format(site), "--target", target)
        ran = cli("gpp", "prepare", embedding_store, *place, *flux, "--out", f"{site}.csv")
        assert (ran.code, ran.err) == (0, "")
        assert f" with {target.upper()}" in ran.out
    table = pd.read_csv("XX-Aaa.csv")
    assert table[target].notna().any() and table[TARGET_UNCERTAINTY].notna().any() and "gpp" not in table
    tables = [f"{site}.csv" for site in SITES]
    ran = cli("gpp", "train", *tables, "--out", "wrong", "--model", "ridge", "--target", "gpp")
    assert (ran.code, ran.err.count("\n")) == (2, 1) and f"target {target}, expected gpp" in ran.err
    ran = cli("gpp", "train", *tables, "--out", "model", "--model", "ridge", "--target", target)
    assert (ran.code, ran.err) == (0, "")
    ran = cli("gpp", "predict", embedding_store, "series.csv", "--model", "model", *place)
    assert (ran.code, ran.err) == (0, "")
    series = pd.read_csv("series.csv", parse_dates=["time"]).set_index("time")
    assert list(series) == ["site", target, "lower", "upper"]
    assert (series["lower"] <= series[target]).all() and (series[target] <= series["upper"]).all()
    measured = table.assign(time=pd.to_datetime(table["time"])).set_index("time")[target]
    assert np.corrcoef(series[target], measured.loc[series.index])[0, 1] > 0.8  # the season, at a tower it learned from
    ran = cli("gpp", "predict", embedding_store, "map.zarr", "--model", "model")
    assert (ran.code, ran.err) == (0, "")
    with xr.open_zarr("map.zarr", chunks=None) as found:
        assert found[target].attrs["units"] == UNITS[target] and found[target].notnull().any()
