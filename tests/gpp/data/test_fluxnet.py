from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import MissingPathError, UsageError
from thalweg.gpp.data.fluxnet import FluxConfig, read_flux
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.flux.flux_files import site_name
from thalweg.gpp.tables.physical_limits import GRAMS_PER_MICROMOLE

FULLSET = "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2017-2018_1-4.csv"


def days(count: int = 120, start: str = "2017-01-01") -> pd.DataFrame:
    time = pd.date_range(start, periods=count)
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "TIMESTAMP": time.strftime("%Y%m%d"), "TA_F": random.normal(size=count), "TA_F_QC": 1.0,
            "TA_ERA": random.normal(size=count), "SW_IN_POT": 100.0, "P_ERA": 1.0,
            "NEE_VUT_REF_QC": np.linspace(0, 1, count), "GPP_NT_VUT_REF": random.normal(size=count),
            "GPP_DT_VUT_REF": 5.0,
        }
    )  # fmt: skip


def write(folder: Path, frame: pd.DataFrame, name: str = FULLSET) -> Path:
    path = folder / name
    frame.to_csv(path, index=False)
    return path


def test_a_daily_file_becomes_a_daily_table(tmp_path):
    frame = days()
    frame.loc[100, ["GPP_NT_VUT_REF", "TA_ERA"]] = -9999
    table = read_flux(write(tmp_path, frame))
    assert list(table.columns) == ["site", "time", "gpp", "TA_ERA", "P_ERA", "SW_IN_POT"]
    assert set(table["site"]) == {"XX-Abc"}
    good = frame["NEE_VUT_REF_QC"] >= 0.75
    assert table["gpp"].notna().equals(good & (frame.index != 100))
    assert np.isnan(table["TA_ERA"][100])
    assert (table["gpp"] < 0).any()
    assert table.attrs["units"] == {"gpp": "gC m-2 d-1", "TA_ERA": "deg C", "P_ERA": "mm d-1", "SW_IN_POT": "W m-2"}


def test_the_config_chooses_partitioning_quality_and_sign(tmp_path):
    path = write(tmp_path, days())
    assert (read_flux(path, FluxConfig("dt", 0.0))["gpp"] == 5).all()
    assert read_flux(path, FluxConfig(quality=0.5))["gpp"].notna().sum() == 60
    assert (read_flux(path, FluxConfig(quality=0, keep_negative=False))["gpp"].dropna() >= 0).all()


def test_a_folder_joins_sites_years_and_meteorology(tmp_path):
    write(tmp_path, days().drop(columns=["TA_ERA", "P_ERA", "SW_IN_POT", "TA_F"]))
    write(tmp_path, days(start="2018-01-01").drop(columns=["TA_ERA", "TA_F"]), FULLSET.replace("2017-2018", "2018"))
    weather = days(500)[["TIMESTAMP", "TA_ERA"]]
    write(tmp_path, weather, "FLX_XX-Abc_FLUXNET2015_ERAI_DD_1989-2018_1-4.csv")
    write(tmp_path, days(), "FLX_YY-Def_FLUXNET2015_SUBSET_DD_2017-2018_1-4.csv")
    write(tmp_path, days(), "FLX_YY-Def_FLUXNET2015_SUBSET_MM_2017-2018_1-4.csv")
    write(tmp_path, pd.DataFrame({"VARIABLE": ["x"]}), "FLX_YY-Def_FLUXNET2015_AUXMETEO_2017-2018_1-4.csv")
    write(tmp_path, pd.DataFrame({"site": ["XX-Abc"], "lat": [50.0], "igbp": ["ENF"]}), "towers.csv")
    table = read_flux(tmp_path)
    counts = table.groupby("site")["time"].count()
    assert counts.to_dict() == {"XX-Abc": 240, "YY-Def": 120}
    here = table[table["site"] == "XX-Abc"].reset_index(drop=True)
    assert set(here["vegetation"]) == {"ENF"} and set(here["latitude"]) == {50.0}
    np.testing.assert_allclose(here["TA_ERA"][:120], weather["TA_ERA"][:120], rtol=1e-6)


def half_hours(count: int = 3) -> pd.DataFrame:
    time = pd.date_range("2017-06-01", periods=48 * count, freq="30min")
    return pd.DataFrame(
        {
            "TIMESTAMP_START": time.strftime("%Y%m%d%H%M"),
            "TIMESTAMP_END": (time + pd.Timedelta("30min")).strftime("%Y%m%d%H%M"),
            "TA_F": np.tile(np.arange(48.0), count), "P_F": 0.5,
            "NEE_VUT_REF_QC": np.tile(np.repeat([0, 1, 2, 0], 12), count), "GPP_NT_VUT_REF": 10.0,
        }
    )  # fmt: skip


def test_half_hours_are_summed_to_days(tmp_path):
    steps = half_hours()
    steps.loc[60, "GPP_NT_VUT_REF"] = -9999
    table = read_flux(write(tmp_path, steps, FULLSET.replace("_DD_", "_HH_")))
    assert table["gpp"].tolist() == pytest.approx(
        [10 * GRAMS_PER_MICROMOLE, np.nan, 10 * GRAMS_PER_MICROMOLE], nan_ok=True
    )
    assert table["TA_F"].tolist() == [23.5] * 3
    assert table["P_F"].tolist() == [24.0] * 3
    strict = read_flux(tmp_path / FULLSET.replace("_DD_", "_HH_"), FluxConfig(quality=0.8))
    assert strict["gpp"].isna().all()


def test_daily_files_are_preferred_to_half_hourly_ones(tmp_path):
    write(tmp_path, days())
    write(tmp_path, half_hours(), FULLSET.replace("_DD_", "_HH_"))
    assert len(read_flux(tmp_path)) == 120


def test_latitude_gives_potential_radiation(tmp_path):
    write(tmp_path, pd.DataFrame({"site": ["XX-Abc"], "lat": [50.0]}), "towers.csv")
    path = write(tmp_path, days().drop(columns="SW_IN_POT"))
    table = read_flux(path)
    np.testing.assert_allclose(table["SW_IN_POT"], potential_radiation(50.0, table["time"].to_numpy()))


def test_sites_are_found_in_file_names():
    assert site_name(Path("FLX_BE-Lcr_FLUXNET2015_FULLSET_DD_2019-2020_beta-3.csv")) == "BE-Lcr"
    assert site_name(Path("ICOSETC_FR-Fon_FLUXNET_HH_01.csv")) == "FR-Fon"
    assert site_name(Path("FI-Var.csv")) == "FI-Var"
    assert site_name(Path("mine.csv")) == "mine"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.drop(columns=["GPP_NT_VUT_REF", "GPP_DT_VUT_REF"]), "no column 'GPP_NT_VUT_REF'"),
        (lambda d: d.drop(columns="GPP_NT_VUT_REF"), "it has GPP_DT_VUT_REF"),
        (lambda d: d.rename(columns={"GPP_NT_VUT_REF": "GPP_NT_VUT_REF (umol m-2 s-1)"}), "is in umol m-2 s-1"),
        (lambda d: d.rename(columns={"GPP_NT_VUT_REF": "GPP_NT_VUT_REF_umolCO2 m-2 s-1"}), "1.0377"),
        (lambda d: pd.concat([d.iloc[[3]], d]), "2017-01-04 00:00 is repeated"),
        (lambda d: d.rename(columns={"TIMESTAMP": "date"}), "no column TIMESTAMP"),
        (lambda d: d.assign(TIMESTAMP="20171350"), "'20171350' is not a date"),
    ],
)
def test_invalid_files_are_refused_in_one_line(tmp_path, change, expected):
    path = write(tmp_path, change(days()))
    with pytest.raises(UsageError) as refused:
        read_flux(path)
    assert expected in str(refused.value) and path.name in str(refused.value) and "\n" not in str(refused.value)


def test_a_row_of_units_is_read(tmp_path):
    frame = days().astype(object)
    units = pd.DataFrame([["YYYYMMDD", *["-"] * (len(frame.columns) - 1)]], columns=frame.columns)
    units["GPP_NT_VUT_REF"] = "umolCO2 m-2 s-1"
    path = write(tmp_path, pd.concat([units, frame]))
    with pytest.raises(UsageError, match="umolCO2 m-2 s-1"):
        read_flux(path)
    units["GPP_NT_VUT_REF"] = units["GPP_DT_VUT_REF"] = "gC m-2 d-1"
    assert len(read_flux(write(tmp_path, pd.concat([units, frame])))) == 120


def test_meteorology_of_other_years_is_refused(tmp_path):
    write(tmp_path, days().drop(columns="TA_ERA"))
    write(tmp_path, days(start="1999-01-01")[["TIMESTAMP", "TA_ERA"]], "FLX_XX-Abc_FLUXNET2015_ERAI_DD_1999_1-4.csv")
    with pytest.raises(UsageError, match="no overlap in time"):
        read_flux(tmp_path)


def test_missing_paths_and_other_folders_are_refused(tmp_path):
    with pytest.raises(MissingPathError, match="no such file"):
        read_flux(tmp_path / "none")
    with pytest.raises(UsageError, match="no CSV file with a TIMESTAMP"):
        read_flux(tmp_path)
    for wrong in ({"partitioning": "mean"}, {"quality": 75.0}):
        with pytest.raises(UsageError):
            FluxConfig(**wrong)


def test_original_files_give_the_plain_tables(flux):
    original = read_flux(flux / "FLX_BE-Lcr_FLUXNET2015_FULLSET_DD_2019-2020_beta-3.csv").set_index("time")
    plain = read_flux(flux / "daily" / "BE-Lcr.csv").set_index("time")
    both = original.index.intersection(plain.index[plain["gpp"].notna()])
    assert len(both) > 500
    np.testing.assert_allclose(original.loc[both, "gpp"], plain.loc[both, "gpp"], atol=1e-3)
    # FLUXNET's own potential radiation, of another solar constant and clock
    computed = potential_radiation(plain["latitude"].iloc[0], original.index.to_numpy())
    np.testing.assert_allclose(computed, original["SW_IN_POT"], rtol=0.02, atol=1)
    assert read_flux(flux / "FLX_FR-LGt_FLUXNET2015_FULLSET_DD_2017-2020_beta-3.csv")["gpp"].notna().sum() > 1000


def test_the_folder_of_towers_is_read(flux):
    table = read_flux(flux / "daily")
    towers = pd.read_csv(flux / "towers.csv").set_index("site")
    assert table.groupby("site")["gpp"].count().to_dict() == towers["gpp_days"].to_dict()
    assert table.groupby("site")["vegetation"].first().to_dict() == towers["igbp"].to_dict()
