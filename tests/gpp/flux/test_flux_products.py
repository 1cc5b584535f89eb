"""Files of other products: refused with the product to use instead, alone and in a folder."""

from pathlib import Path

import pandas as pd
import pytest

from thalweg.errors import DataWarning, UsageError
from thalweg.gpp.data.fluxnet import read_flux

BASE = "# Site: XX-Abc\n# Version: 3-5\nTIMESTAMP_START,TIMESTAMP_END,FC,GPP_PI_F\n201906010000,201906010030,-1,2\n"
EDDYPRO = (
    "file_info,,,,fluxes\nfilename,date,time,DOY,daytime,co2_flux\n,[yyyy-mm-dd],[HH:MM],[ddd.ddd],[1=day],[µmol m-2]\n"
    "a.ghg,2019-06-01,00:30,152.1,0,-9999\n"
)
REDDYPROC = (
    "Year\tDoY\tHour\tNEE_U50_f\tGPP_U50_f\tGPP_uStar_f\n--\t--\t--\tumolm-2s-1\tx\tx\n2019\t1\t0.5\t1\t-9999\t3\n"
)
BIF = "SITE_ID,GROUP_ID,VARIABLE_GROUP,VARIABLE,DATAVALUE\nXX-Abc,1,GRP_IGBP,IGBP,ENF\n"
DD = "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2019-2019_1-4.csv"

OTHERS = [
    ("AMF_XX-Abc_BASE_HH_3-5.csv", BASE, "an AmeriFlux BASE file, which has no partitioned GPP: use the site's"),
    ("renamed.csv", BASE, "an AmeriFlux BASE file"),
    ("renamed.csv", BASE.split("\n", 2)[2], "an AmeriFlux BASE file"),
    ("AMF_XX-Abc_BASE-BADM_3-5.zip", "PK\x03\x04", "an AmeriFlux BASE file"),
    ("eddypro_XX_full_output_2019_adv.csv", EDDYPRO, "an EddyPro file"),
    ("full.csv", EDDYPRO, "an EddyPro file"),
    ("essentials.csv", EDDYPRO.split("\n", 1)[1], "an EddyPro file"),
    ("out.txt", REDDYPROC, "a REddyProc file (GPP_U50_f, GPP_uStar_f)"),
    ("out.csv", REDDYPROC.replace("\t", ","), "a REddyProc file"),
    ("logger.csv", '"TOA5","CR1000"\n"TIMESTAMP","RECORD"\n', "a data logger's file"),
]
METADATA = [
    ("FLX_AA-Flx_BIF_ALL_20200501.csv", BIF, "a file of metadata"),
    ("AMF_XX-Abc_FLUXNET_BIFVARINFO_DD_2019-2019.csv", BIF, "a file of metadata"),
    ("ICOSETC_XX-Abc_SITEINFO_L2.csv", BIF, "a file of metadata"),
    ("AMF_XX-Abc_BIF_20210331.xlsx", "PK\x03\x04", "a file of metadata"),
    ("FLX_XX-Abc_FLUXNET2015_FULLSET_MM_2019-2019_1-4.csv", "TIMESTAMP\n201901\n", "monthly values (_MM_)"),
]


def write(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_bytes(content.encode("latin-1"))
    return folder / name


def daily(folder: Path, name: str = DD, start: str = "2019-01-01") -> Path:
    time = pd.date_range(start, periods=100).strftime("%Y%m%d")
    frame = pd.DataFrame({"TIMESTAMP": time, "NEE_VUT_REF_QC": 1.0, "GPP_NT_VUT_REF": 4.0, "TA_F": 10.0})
    frame.to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize(("name", "content", "expected"), OTHERS + METADATA)
def test_another_product_is_refused_by_name(tmp_path: Path, name: str, content: str, expected: str):
    path = write(tmp_path, name, content)
    with pytest.raises(UsageError) as refused:
        read_flux(path)
    assert str(refused.value).startswith(f"{name}: ") and expected in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "content", "expected"), OTHERS)
def test_a_folder_of_another_product_is_refused_by_name(tmp_path: Path, name: str, content: str, expected: str):
    write(tmp_path, name, content)
    with pytest.raises(UsageError) as refused:
        read_flux(tmp_path)
    assert "no file that can be read" in str(refused.value) and expected in str(refused.value)
    assert "TIMESTAMP column" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "content", "expected"), OTHERS)
def test_a_mixed_folder_names_what_it_leaves_out(tmp_path: Path, name: str, content: str, expected: str):
    daily(tmp_path)
    write(tmp_path, name, content)
    with pytest.warns(DataWarning) as warned:
        table = read_flux(tmp_path)
    assert len(table) == 100
    (note,) = table.attrs["notes"]
    assert [str(warning.message) for warning in warned] == [note]
    assert "left out 1 of its files" in note and name in note and expected in note


def test_metadata_and_hidden_files_are_ignored(tmp_path: Path):
    daily(tmp_path)
    for name, content, _ in METADATA:
        write(tmp_path, name, content)
    write(tmp_path, "._" + DD, "\x00\x05\x16\x07")
    write(tmp_path, "README.txt", "Data of a tower.\n")
    table = read_flux(tmp_path)
    assert len(table) == 100 and table.attrs["notes"] == []


def test_many_left_out_files_are_counted(tmp_path: Path):
    for index in range(5):
        write(tmp_path, f"AMF_XX-Ab{index}_BASE_HH_3-5.csv", BASE)
    with pytest.raises(UsageError, match=r"AMF_XX-Ab0_BASE.*AMF_XX-Ab2_BASE.*; and 2 more$"):
        read_flux(tmp_path)


def test_damaged_archived_and_other_tables_are_named(tmp_path: Path):
    daily(tmp_path)
    write(tmp_path, "FLX_YY-Abc_FLUXNET2015_FULLSET_DD_2019-2019_1-4.zip", "PK\x03\x04")
    write(tmp_path, "empty.csv", "")
    write(tmp_path, "table.csv", "site,time,gpp\nA,20190101,1\n")
    with pytest.warns(
        DataWarning, match=r"left out 3 of its files: .*unpack it.*empty file.*a daily table: read it alone"
    ):
        assert set(read_flux(tmp_path)["site"]) == {"XX-Abc"}


@pytest.mark.parametrize(
    "name",
    [
        "AMF_XX-Abc_FLUXNET_FULLSET_DD_2019-2019_3-5.csv",
        "AMF_XX-Abc_FLUXNET_SUBSET_DD_2019-2019_3-5.csv",
        "AMF_XX-Abc_FLUXNET_FLUXMET_DD_2019-2019_v1.3_r1.csv",
        "ICOSETC_XX-Abc_FLUXNET_DD_L2.csv",
        "FLX_XX-Abc_FLUXNET2015_SUBSET_DD_2019-2019_beta-3.CSV",
    ],
)
def test_products_of_all_networks_are_read(tmp_path: Path, name: str):
    daily(tmp_path, name)
    for source in (tmp_path / name, tmp_path):
        table = read_flux(source)
        assert set(table["site"]) == {"XX-Abc"} and table["gpp"].notna().sum() == 100
