"""Targets other than GPP: their columns, units, quality and statement in the report, and models that keep them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.features import FeatureRecipe, read_tables, write_table
from thalweg.gpp.data.fluxnet import FluxConfig, read_flux
from thalweg.gpp.models.checkpoint import load_model
from thalweg.gpp.models.registry import check_models, default_models
from thalweg.gpp.predict import predict_series
from thalweg.gpp.tables.daily_table import daily_table
from thalweg.gpp.tables.target_columns import TARGETS

NAME = "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2019-2019_1-4.csv"


def write(folder: Path, threshold: str = "VUT") -> Path:
    days = pd.date_range("2019-01-01", periods=100).strftime("%Y%m%d")
    frame = pd.DataFrame(
        {
            "TIMESTAMP": days, "TA_F": 20.0, f"NEE_{threshold}_REF": -2.0, f"GPP_NT_{threshold}_REF": 5.0,
            f"GPP_DT_{threshold}_REF": 6.0, f"RECO_NT_{threshold}_REF": 3.0, "LE_F_MDS": 100.0, "LE_F_MDS_QC": 1.0,
            f"NEE_{threshold}_REF_QC": (np.arange(100) < 60).astype(float),
        }
    )  # fmt: skip
    frame.to_csv(folder / NAME, index=False)
    return folder / NAME


@pytest.mark.parametrize("threshold", ["VUT", "CUT"])
@pytest.mark.parametrize(
    ("name", "value"), [("gpp", 5.0), ("gpp-dt", 6.0), ("gpp-mean", 5.5), ("nee", -2.0), ("reco", 3.0)]
)
def test_a_target_of_carbon_has_its_column_and_quality(tmp_path: Path, threshold: str, name: str, value: float):
    table = read_flux(write(tmp_path, threshold), FluxConfig(target=name))
    known = table[TARGETS[name].column].dropna()
    assert (known == value).all() and len(known) == 60
    assert "TA_F" in table and table.attrs["target"] == name
    policy = "\n".join(table.attrs["policy"])
    assert f"{threshold}_REF" in policy and f"NEE_{threshold}_REF_QC of 0.75 or more" in policy
    assert "40 of 100 days left out" in policy and "storage" in policy


def test_evapotranspiration_is_latent_heat_over_that_of_vaporisation(tmp_path: Path):
    table = read_flux(write(tmp_path), FluxConfig(target="et"))
    # 100 W m-2 over a day are 8.64 MJ; FAO-56 takes 2.45 MJ kg-1 at 20 deg C
    np.testing.assert_allclose(table["et"], 8.64 / 2.45, rtol=0.005)
    assert table.attrs["units"]["et"] == "mm d-1"


def test_invalid_targets_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="target"):
        FluxConfig(target="gp")
    with pytest.raises(UsageError, match="negative NEE"):
        FluxConfig(target="nee", keep_negative=False)
    with pytest.raises(UsageError, match="does not hold NEE, it has NEE_VUT_REF"):
        read_flux(write(tmp_path), FluxConfig(target="nee", gpp_column="TA_F"))
    for name in ("lue", "site-level"):
        assert name in default_models() and name not in default_models(TARGETS["et"])
        with pytest.raises(UsageError, match="predicts GPP only"):
            check_models([name], TARGETS["nee"])


def prepared(folder: Path, name: str, site: str) -> Path:
    values = {f"e{index + 1}": np.linspace(0, 1, 120) for index in range(7)}
    column = TARGETS[name].column
    time = pd.date_range("2018-01-01", periods=120)
    frame = pd.DataFrame({"site": site, "time": time, column: 5.0, "SW_IN_POT": 200.0, **values})
    frame.attrs["target"] = name
    write_table(
        daily_table(frame),
        FeatureRecipe(embedding_model="any", size=7, gap_filling="linear", target=name),
        folder / f"{site}.csv",
    )
    return folder / f"{site}.csv"


def test_tables_and_models_keep_their_target(tmp_path: Path, gpp_model: Path):
    first, other = prepared(tmp_path, "nee", "A"), prepared(tmp_path, "et", "B")
    table, recipe = read_tables([first])
    assert recipe.target == table.attrs["target"] == "nee" and "nee" in table
    with pytest.raises(UsageError, match="target et, expected nee"):
        read_tables([first, other])
    with pytest.raises(UsageError, match="target nee, the model learned gpp"):
        predict_series(load_model(gpp_model), table)
