"""Names of flux files of all networks: the right site, resolution and contents, or one line on what to use."""

from pathlib import Path

import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.fluxnet import read_flux
from thalweg.gpp.flux.flux_names import FluxFileName

NAMES = [
    ("FLX_US-Ha1_FLUXNET2015_FULLSET_HH_1992-2012_1-3.csv", "US-Ha1", "HH"),
    ("FLX_AR-SLu_FLUXNET2015_SUBSET_DD_2009-2011_1-3.csv", "AR-SLu", "DD"),
    ("FLX_BE-Lcr_FLUXNET2015_FULLSET_DD_2019-2020_beta-3.csv", "BE-Lcr", "DD"),
    ("AMF_US-Ton_FLUXNET_SUBSET_HR_2001-2020_3-5.csv", "US-Ton", "HR"),
    ("AMF_US-Ha1_FLUXNET_FLUXMET_HR_1991-2025_v1.3_r1.csv", "US-Ha1", "HR"),
    ("EUF_CH-Oe2_FLUXNET_FLUXMET_HH_2004-2024_v1.3_r1.csv", "CH-Oe2", "HH"),
    ("TERN_AU-Ctr_FLUXNET_FLUXMET_DD_2010-2024_v1.3_r1.csv", "AU-Ctr", "DD"),
    ("SAEON_ZA-Kru_FLUXNET_ERA5_WW_2000-2013_v1.3_r1.csv", "ZA-Kru", "WW"),
    ("ICOSETC_FI-Ken_FLUXNET_FLUXMET_HH_2018-2025_v1.3_r1.csv", "FI-Ken", "HH"),
    ("ICOSETC_DE-Tha_FLUXNET_DD_INTERIM_L2.csv", "DE-Tha", "DD"),
    ("ICOSETC_FR-Fon_FLUXNET_HH_01.csv", "FR-Fon", "HH"),
    ("FLX_FI-Hyy_FLUXNET2015_FULLSET_1996-2014_1-4.zip", "FI-Hyy", None),
    ("mine.csv", None, None),
]
REFUSED = [
    ("FLX_XX-Abc_FLUXNET2015_FULLSET_WW_2019-2019_1-4.csv", "weekly values (_WW_)"),
    ("TERN_XX-Abc_FLUXNET_FLUXMET_MM_2019-2019_v1.3_r1.csv", "monthly values (_MM_)"),
    ("ICOSETC_XX-Abc_FLUXNET_YY_L2.csv", "yearly values (_YY_)"),
    ("AMF_XX-Abc_FLUXNET_ERA5_YY_1981-2021_3-5.csv", "yearly values (_YY_)"),
    ("FLX_XX-Abc_FLUXNET2015_AUXMETEO_2019-2019_1-4.csv", "an auxiliary file"),
    ("FLX_XX-Abc_FLUXNET2015_AUXNEE_2019-2019_1-4.csv", "an auxiliary file"),
    ("KOF_XX-Abc_FLUXNET_BIFVARINFO_DD_2019-2019_v1.3_r1.csv", "a file of metadata"),
    ("ICOSETC_XX-Abc_VARINFO_FLUXNET_DD_L2.csv", "a file of metadata"),
    ("EUF_XX-Abc_FLUXNET_BIF_2019-2019_v1.3_r1.csv", "a file of metadata"),
    ("ICOSETC_XX-Abc_FLUXES_L2.csv", "an ICOS file from before the partitioning"),
    ("ICOSETC_XX-Abc_METEOSENS_L2.csv", "an ICOS file from before the partitioning"),
    ("JPF_XX-Abc_FLUXNET_ERA5_DD_1981-2021_v1.3_r1.csv", "meteorology downscaled from ERA, which has no GPP"),
    ("FLX_XX-Abc_FLUXNET2015_ERAI_DD_1989-2014_1-4.csv", "meteorology downscaled from ERA, which has no GPP"),
]


def days(count: int = 100) -> pd.DataFrame:
    time = pd.date_range("2019-01-01", periods=count).strftime("%Y%m%d")
    return pd.DataFrame({"TIMESTAMP": time, "NEE_VUT_REF_QC": 1.0, "GPP_NT_VUT_REF": 4.0, "TA_F": 10.0})


def weather(folder: Path, name: str) -> None:
    days()[["TIMESTAMP"]].assign(TA_ERA=9.0).to_csv(folder / name, index=False)


@pytest.mark.parametrize(("name", "site", "resolution"), NAMES)
def test_a_name_has_a_site_and_a_resolution(name: str, site: str | None, resolution: str | None):
    found = FluxFileName.parse(name)
    assert (found.site, found.resolution) == (site, resolution)
    assert not (found.is_base or found.is_metadata or found.is_auxiliary or found.is_unpartitioned)


@pytest.mark.parametrize(("name", "expected"), REFUSED)
def test_other_files_are_refused_in_one_line_with_what_to_use(tmp_path: Path, name: str, expected: str):
    weather(tmp_path, name)
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(UsageError) as refused:
            read_flux(source)
        assert name in str(refused.value) and expected in str(refused.value) and "\n" not in str(refused.value)


def test_the_folder_of_a_site_is_read_without_a_note(tmp_path: Path):
    """A zip as the networks give it, unpacked next to itself."""
    stem = "EUF_XX-Abc_FLUXNET_{}_2019-2019_v1.3_r1"
    days().to_csv(tmp_path / f"{stem.format('FLUXMET_DD')}.csv", index=False)
    for kind in ("DD", "HH", "WW", "MM", "YY"):
        weather(tmp_path, f"{stem.format(f'ERA5_{kind}')}.csv")
        weather(tmp_path, f"{stem.format(f'BIFVARINFO_{kind}')}.csv")
    (tmp_path / f"{stem.format('ERA5_HH')}.csv").write_text("TIMESTAMP_START,TA_ERA\n201901010000,1\n")
    (tmp_path / "README.txt").write_text("**** README FILE - GENERAL INFORMATION ****\n\nFLUXNET DATA PRODUCT\n")
    (tmp_path / "EUF_XX-Abc_FLUXNET_2019-2019_v1.3_r1.zip").write_bytes(b"PK\x03\x04")
    table = read_flux(tmp_path)
    assert len(table) == 100 and table.attrs["notes"] == []
    assert (table["TA_ERA"] == 9).all() and set(table["site"]) == {"XX-Abc"}


def test_a_subset_next_to_its_fullset_is_left_out(tmp_path: Path):
    days().to_csv(tmp_path / "AMF_XX-Abc_FLUXNET_FULLSET_DD_2019-2019_3-5.csv", index=False)
    days().assign(GPP_NT_VUT_REF=9.0).to_csv(tmp_path / "AMF_XX-Abc_FLUXNET_SUBSET_DD_2019-2019_3-5.csv", index=False)
    assert (read_flux(tmp_path)["gpp"] == 4).all()
