"""Half-hours and hours aggregated to days: by hand, and against the daily files of the networks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.fluxnet import FluxConfig, read_flux
from thalweg.gpp.tables.physical_limits import GRAMS_PER_MICROMOLE
from thalweg.gpp.tables.target_columns import TARGET_UNCERTAINTY

NAME = "FLX_XX-Abc_FLUXNET2015_FULLSET_{}_2017-2017_1-4.csv"


def steps(per_day: int, count: int = 3) -> pd.DataFrame:
    """Return records whose fluxes rise over the day, with a random uncertainty of 2 where it is known."""
    minutes = pd.Timedelta(minutes=1440 // per_day)
    time = pd.date_range("2017-06-01", periods=per_day * count, freq=minutes)
    step = np.tile(np.arange(per_day), count)
    return pd.DataFrame(
        {
            "TIMESTAMP_START": time.strftime("%Y%m%d%H%M"), "TIMESTAMP_END": (time + minutes).strftime("%Y%m%d%H%M"),
            "TA_F": step * 24 / per_day, "VPD_F": 5.0, "SW_IN_F": 100.0, "P_F": 0.5, "LE_F_MDS": 50.0,
            "LE_F_MDS_QC": 0, "NEE_VUT_REF": -step / per_day,
            "NEE_VUT_REF_QC": np.where(step < per_day // 4, 2, step % 2),
            "NEE_VUT_REF_RANDUNC": np.where(step < per_day // 2, -9999.0, 2.0), "NEE_VUT_16": -step / per_day - 1.0,
            "NEE_VUT_84": -step / per_day + 1.0, "GPP_NT_VUT_REF": 10.0, "RECO_NT_VUT_REF": 4.0,
        }
    )  # fmt: skip


def write(folder: Path, frame: pd.DataFrame, resolution: str = "HH") -> Path:
    path = folder / NAME.format(resolution)
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(("per_day", "resolution"), [(48, "HH"), (24, "HR")])
def test_days_by_hand(tmp_path: Path, per_day: int, resolution: str):
    table = read_flux(write(tmp_path, steps(per_day), resolution), FluxConfig(target="nee"))
    assert table["time"].tolist() == list(pd.date_range("2017-06-01", periods=3))
    mean = -(per_day - 1) / 2 / per_day
    np.testing.assert_allclose(table["nee"], mean * 12.0107 * 0.0864)  # gC m-2 d-1 of umol m-2 s-1
    np.testing.assert_allclose(table["TA_F"], (per_day - 1) / 2 * 24 / per_day)
    np.testing.assert_allclose(table["P_F"], 0.5 * per_day)
    assert table[["VPD_F", "SW_IN_F"]].to_numpy().tolist() == [[5.0, 100.0]] * 3
    # Half of the records have a random uncertainty of 2: its mean is 2 / sqrt(n); half of the range is 1.
    random = 2 / np.sqrt(per_day / 2)
    np.testing.assert_allclose(table[TARGET_UNCERTAINTY], np.hypot(random, 1) * GRAMS_PER_MICROMOLE)
    assert "half-hours: aggregated to days by the rules of ONEFlux at XX-Abc" in table.attrs["policy"]


def test_the_quality_of_a_day_is_the_share_of_good_records(tmp_path: Path):
    path = write(tmp_path, steps(48))  # a quarter of the records is filled badly
    assert read_flux(path, FluxConfig(target="nee", quality=0.75))["nee"].notna().all()
    assert read_flux(path, FluxConfig(target="nee", quality=0.76))["nee"].isna().all()


def test_heat_becomes_water_at_the_day_s_temperature(tmp_path: Path):
    half_hourly = read_flux(write(tmp_path, steps(48)), FluxConfig(target="et"))
    days = pd.DataFrame({"TIMESTAMP": ["20170601"], "TA_F": [11.75], "LE_F_MDS": [50.0], "LE_F_MDS_QC": [1.0]})
    daily = read_flux(write(tmp_path, days, "DD"), FluxConfig(target="et"))
    np.testing.assert_allclose(half_hourly["et"], daily["et"][0])


@pytest.mark.parametrize("remove", [[60], list(range(40, 48)), [0, 100]])
def test_a_day_with_a_missing_record_has_no_value(tmp_path: Path, remove: list[int]):
    frame = steps(48)
    missing = {row // 48 for row in remove}
    gone = read_flux(write(tmp_path, frame.drop(index=remove)), FluxConfig(target="nee"))
    code = frame.assign(NEE_VUT_REF=frame["NEE_VUT_REF"].mask(frame.index.isin(remove), -9999))
    coded = read_flux(write(tmp_path, code), FluxConfig(target="nee"))
    for table in (gone, coded):
        assert [day for day in range(3) if np.isnan(table["nee"][day])] == sorted(missing)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f.iloc[::3], "expected half-hours or hours"),
        (lambda f: f.iloc[:1], "expected half-hours or hours"),
        (lambda f: pd.concat([f.iloc[[7]], f]), "2017-06-01 03:30 is repeated"),
        (lambda f: f.assign(NEE_VUT_REF_QC=0.5), "expected flags 0 to 3"),
        (lambda f: f.assign(TIMESTAMP_START=f["TIMESTAMP_START"] + "+01:00"), "is not a date"),
    ],
)
def test_invalid_records_are_refused_in_one_line(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], expected: str
):
    with pytest.raises(UsageError) as refused:
        read_flux(write(tmp_path, change(steps(48))), FluxConfig(target="nee"))
    assert expected in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        "FLX_BE-Lcr_FLUXNET2015_FULLSET_DD_2019-2020_beta-3.csv",
        "FLX_FR-LGt_FLUXNET2015_FULLSET_DD_2017-2020_beta-3.csv",
    ],
)
def test_a_network_s_daily_file_is_reproduced(flux: Path, tmp_path: Path, name: str):
    """Half-hours with the night's and the day's means of an original daily file give its daily values."""
    days = pd.read_csv(flux / name, na_values=-9999)
    frame = days.loc[days.index.repeat(48)].reset_index(drop=True)
    step = np.arange(len(frame)) % 48
    night = step < frame["NIGHT_D"]
    time = pd.to_datetime(frame["TIMESTAMP"].astype(str)) + pd.to_timedelta(step * 30, unit="min")
    good = (
        np.where(night, step, step - frame["NIGHT_D"])
        < np.where(
            night, frame["NEE_VUT_REF_NIGHT_QC"] * frame["NIGHT_D"], frame["NEE_VUT_REF_DAY_QC"] * frame["DAY_D"]
        ).round()
    )
    half_hours = pd.DataFrame(
        {
            "TIMESTAMP_START": time.dt.strftime("%Y%m%d%H%M"),
            "NEE_VUT_REF": np.where(night, frame["NEE_VUT_REF_NIGHT"], frame["NEE_VUT_REF_DAY"]),
            "NEE_VUT_REF_QC": np.where(good, 1, 2),
            "TA_F": np.where(night, frame["TA_F_NIGHT"], frame["TA_F_DAY"]),
        }
    )
    config = FluxConfig(target="nee")
    table = read_flux(write(tmp_path, half_hours), config)
    original = read_flux(flux / name, config)
    assert table["nee"].notna().equals(original["nee"].notna())
    np.testing.assert_allclose(table["nee"], original["nee"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(table["TA_F"], days["TA_F"], atol=2e-3)
