"""Uncertainty of a target: its formula by hand, as the networks compute it, and its way through the tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.features import FeatureRecipe, join_flux, read_table, write_table
from thalweg.gpp.data.fluxnet import FluxConfig, read_flux
from thalweg.gpp.tables.daily_table import daily_table, feature_columns
from thalweg.gpp.tables.target_columns import TARGET_UNCERTAINTY

NAME = "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2019-2019_1-4.csv"


def days(count: int = 100) -> pd.DataFrame:
    time = pd.date_range("2019-01-01", periods=count).strftime("%Y%m%d")
    return pd.DataFrame(
        {
            "TIMESTAMP": time, "TA_F": 20.0, "NEE_VUT_REF": -2.0, "NEE_VUT_REF_QC": 1.0, "NEE_VUT_REF_RANDUNC": 0.3,
            "NEE_VUT_USTAR50_RANDUNC": 0.6, "NEE_VUT_16": -2.5, "NEE_VUT_84": -1.7, "GPP_NT_VUT_REF": 5.0,
            "GPP_NT_VUT_USTAR50": 5.0, "GPP_NT_VUT_16": 4.8, "GPP_NT_VUT_84": 5.6, "GPP_DT_VUT_REF": 6.0,
            "GPP_DT_VUT_16": 5.0, "GPP_DT_VUT_84": 7.2, "RECO_NT_VUT_REF": 3.0, "LE_F_MDS": 100.0, "LE_F_MDS_QC": 1.0,
            "LE_RANDUNC": 10.0,
        }
    )  # fmt: skip


def write(folder: Path, frame: pd.DataFrame, name: str = NAME) -> Path:
    frame.to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize(
    ("config", "expected", "formula"),
    [
        (FluxConfig(), 0.5, "(GPP_NT_VUT_84 - GPP_NT_VUT_16) / 2 and NEE_VUT_REF_RANDUNC in quadrature"),
        (FluxConfig(target="gpp-dt"), np.hypot(1.1, 0.3), "(GPP_DT_VUT_84 - GPP_DT_VUT_16) / 2"),
        (FluxConfig(target="gpp-mean"), np.hypot(0.75, 0.3), "the mean of (GPP_NT_VUT_84 - GPP_NT_VUT_16) / 2 and"),
        (FluxConfig(target="nee"), 0.5, "(NEE_VUT_84 - NEE_VUT_16) / 2 and NEE_VUT_REF_RANDUNC"),
        (FluxConfig(target="reco"), 0.3, "NEE_VUT_REF_RANDUNC alone"),
        (FluxConfig(gpp_column="GPP_NT_VUT_USTAR50", quality=0), np.hypot(0.4, 0.6), "NEE_VUT_USTAR50_RANDUNC"),
        (FluxConfig(target="et"), 0.864 / 2.4537, "LE_RANDUNC alone"),
    ],
)
def test_the_formula_of_each_target(tmp_path: Path, config: FluxConfig, expected: float, formula: str):
    table = read_flux(write(tmp_path, days()), config)
    np.testing.assert_allclose(table[TARGET_UNCERTAINTY], expected, rtol=1e-3)
    line = next(line for line in table.attrs["policy"] if line.startswith("uncertainty: "))
    assert formula in line and TARGET_UNCERTAINTY in line
    assert table.attrs["units"][TARGET_UNCERTAINTY] == config.quantity.units
    assert TARGET_UNCERTAINTY not in feature_columns(table)


def test_a_subset_has_quartiles_only(tmp_path: Path):
    frame = days().rename(columns=lambda name: name.replace("_16", "_25").replace("_84", "_75"))
    table = read_flux(write(tmp_path, frame))
    np.testing.assert_allclose(table[TARGET_UNCERTAINTY], np.hypot(0.8 / 1.349, 0.3))


def test_a_file_without_uncertainty_has_no_column(tmp_path: Path):
    few = days()[["TIMESTAMP", "NEE_VUT_REF_QC", "GPP_NT_VUT_REF"]]
    table = read_flux(write(tmp_path, few))
    assert TARGET_UNCERTAINTY not in table
    assert "uncertainty: none, the files have no columns for it" in table.attrs["policy"]
    write(tmp_path, days(), NAME.replace("XX-Abc", "YY-Def"))
    both = read_flux(tmp_path).groupby("site")[TARGET_UNCERTAINTY].count()
    assert both.to_dict() == {"XX-Abc": 0, "YY-Def": 100}
    assert "at XX-Abc" in read_flux(tmp_path).attrs["policy"][2]


def test_days_without_a_part_have_no_uncertainty(tmp_path: Path):
    frame = days()
    frame.loc[:9, "NEE_VUT_REF_RANDUNC"] = -9999
    frame.loc[10:19, "NEE_VUT_REF_QC"] = 0.1
    table = read_flux(write(tmp_path, frame))
    assert table[TARGET_UNCERTAINTY].isna().sum() == 20 and table["gpp"].isna().sum() == 10


@pytest.mark.parametrize("name", ["BE-Lcr", "FR-LGt"])
def test_the_networks_joint_uncertainty_is_reproduced(flux: Path, name: str):
    (path,) = flux.glob(f"FLX_{name}_*.csv")
    table = read_flux(path, FluxConfig(target="nee", quality=0))
    joint = pd.read_csv(path, na_values=-9999)["NEE_VUT_REF_JOINTUNC"]
    np.testing.assert_allclose(table[TARGET_UNCERTAINTY], joint, rtol=1e-4)


def test_it_stays_with_the_target_in_tables(tmp_path: Path):
    measured = read_flux(write(tmp_path, days(120)))
    values = {f"e{index + 1}": np.linspace(0, 1, 120) for index in range(7)}
    time = pd.date_range("2019-01-01", periods=120)
    features = daily_table(pd.DataFrame({"site": "A", "time": time, "gpp": np.nan, "SW_IN_POT": 200.0, **values}))
    recipe = FeatureRecipe(embedding_model="any", size=7, gap_filling="linear")
    table, recipe = join_flux(features, recipe, measured, None, "flux.csv")
    write_table(table, recipe, tmp_path / "A.csv")
    back, _ = read_table(tmp_path / "A.csv")
    np.testing.assert_allclose(back[TARGET_UNCERTAINTY], 0.5)
    assert recipe.units[TARGET_UNCERTAINTY] == "gC m-2 d-1"
    plain = read_flux(tmp_path / "A.csv")
    np.testing.assert_allclose(plain[TARGET_UNCERTAINTY], 0.5)
    assert f"uncertainty: column {TARGET_UNCERTAINTY}" in plain.attrs["policy"]


def test_negative_uncertainty_is_refused():
    frame = pd.DataFrame({"site": "A", "time": ["2019-01-01"], "gpp": 1.0, TARGET_UNCERTAINTY: -0.5})
    with pytest.raises(UsageError, match=r"holds -0\.5: expected standard deviations in gC m-2 d-1, 0 or more"):
        daily_table(frame)
