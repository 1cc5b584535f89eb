"""Half-hourly wind and stability of flux files: columns of each product, and files that have none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.flux.wind_records import read_wind
from thalweg.gpp.tables.target_columns import GPP, TARGETS

NAME = "AMF_XX-Abc_FLUXNET_FULLSET_HH_2018-2018_3-5.csv"


def records(count: int = 96) -> pd.DataFrame:
    time = pd.date_range("2018-06-01", periods=count, freq="30min")
    return pd.DataFrame(
        {
            "TIMESTAMP_START": time.strftime("%Y%m%d%H%M"), "WD": 200.0, "WS_F": 3.0, "WS_F_QC": 0, "USTAR": 0.4,
            "H_F_MDS": 100.0, "TA_F": 15.0, "PA_F": 101.3, "NEE_VUT_REF_QC": np.arange(count) % 2, "LE_F_MDS_QC": 0,
            "GPP_NT_VUT_REF": 3.0,
        }
    )  # fmt: skip


def write(folder: Path, frame: pd.DataFrame, name: str = NAME) -> Path:
    frame.to_csv(folder / name, index=False)
    return folder / name


def test_stability_is_derived_and_filled_fluxes_do_not_count(tmp_path: Path):
    frame = records()
    frame.loc[4, "WS_F_QC"] = 2
    frame.loc[6, ["WD", "USTAR"]] = [-9999, 77.0]
    found = read_wind(write(tmp_path, frame), None, GPP)
    assert found.time[0] == np.datetime64("2018-06-01") and len(found.time) == 96
    np.testing.assert_allclose(found.obukhov_length[0], -57.84, rtol=1e-3)
    assert np.isnan(
        [found.crosswind_std[0], found.boundary_layer[0], found.wind_from[6], found.friction_velocity[6]]
    ).all()
    assert found.measured.sum() == 47 and not found.measured[4]
    assert read_wind(tmp_path / NAME, None, TARGETS["et"]).measured.sum() == 95


def test_measured_columns_are_preferred(tmp_path: Path):
    frame = records().assign(WS=2.0, MO_LENGTH=-80.0, V_SIGMA=0.7, PBLH=900.0)
    found = read_wind(write(tmp_path, frame), None, GPP)
    assert (found.wind_speed[0], found.obukhov_length[0]) == (2.0, -80.0)
    assert (found.crosswind_std[0], found.boundary_layer[0]) == (0.7, 900.0)


def test_a_folder_has_the_records_of_a_site(tmp_path: Path):
    write(tmp_path, records())
    write(tmp_path, records().assign(WD=10.0), NAME.replace("XX-Abc", "YY-Def"))
    write(tmp_path, records()[["TIMESTAMP_START"]].assign(TA_ERA=1.0), NAME.replace("FULLSET", "ERA5"))
    assert (read_wind(tmp_path, "YY-Def", GPP).wind_from == 10).all()
    with pytest.raises(UsageError, match="several sites with half-hourly wind: name one with `site`"):
        read_wind(tmp_path, None, GPP)
    with pytest.raises(UsageError, match="no half-hourly file"):
        read_wind(tmp_path, "ZZ-Ghi", GPP)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f.drop(columns="WD"), "no column WD: expected wind and stability for a footprint"),
        (lambda f: f.drop(columns=["WS_F"]), "no column WS"),
        (lambda f: f.drop(columns="USTAR"), "no column USTAR"),
        (lambda f: f.drop(columns="H_F_MDS"), "no column MO_LENGTH, or H, TA and PA"),
        (
            lambda f: f.rename(columns={"TIMESTAMP_START": "TIMESTAMP"}),
            "daily values: expected a half-hourly file (_HH_)",
        ),
        (lambda f: f.assign(WD="north"), "'north' is not a number"),
        (lambda f: f.assign(TIMESTAMP_START="June"), "is not a date"),
    ],
)
def test_files_without_wind_are_refused_in_one_line(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], expected: str
):
    with pytest.raises(UsageError) as refused:
        read_wind(write(tmp_path, change(records())), None, GPP)
    assert expected in str(refused.value) and NAME in str(refused.value) and "\n" not in str(refused.value)
