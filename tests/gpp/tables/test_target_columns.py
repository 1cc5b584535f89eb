"""Choice of the GPP column and its quality column, and messages about missing columns."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import DataWarning, UsageError
from thalweg.gpp.data.fluxnet import FluxConfig, read_flux
from thalweg.gpp.tables.target_columns import GPP, quality_column

VARIANTS = ("VUT_REF", "VUT_USTAR50", "VUT_25", "CUT_REF", "CUT_50", "CUT_MEAN")
FULLSET = "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2019-2019_1-4.csv"


def fullset(variants: tuple[str, ...] = VARIANTS, days: int = 60) -> pd.DataFrame:
    """GPP of every variant is its position plus 1 (DT plus 0.5); its quality is good on 10 days plus its position."""
    columns: dict[str, object] = {"TIMESTAMP": pd.date_range("2019-01-01", periods=days).strftime("%Y%m%d")}
    for index, variant in enumerate(variants):
        columns[f"NEE_{variant}_QC"] = (np.arange(days) < 10 + index).astype(float)
        columns[f"GPP_NT_{variant}"] = float(index + 1)
        columns[f"GPP_DT_{variant}"] = index + 1.5
    return pd.DataFrame(columns | {"GPP_NT_CUT_SE": 0.1, "TA_F": 10.0})


def write(folder: Path, frame: pd.DataFrame, name: str = FULLSET) -> Path:
    frame.to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize("partitioning", ["NT", "DT"])
@pytest.mark.parametrize("index", range(len(VARIANTS)))
def test_the_chosen_column_is_used_with_its_own_quality(tmp_path: Path, partitioning: str, index: int):
    path = write(tmp_path, fullset())
    table = read_flux(path, FluxConfig(gpp_column=f"GPP_{partitioning}_{VARIANTS[index]}"))
    assert table["gpp"].dropna().unique().tolist() == [index + (1.5 if partitioning == "DT" else 1)]
    assert table["gpp"].notna().sum() == 10 + index


def test_other_columns_are_suggested_not_used(tmp_path: Path):
    path = write(tmp_path, fullset(("CUT_50", "CUT_REF")))
    with pytest.raises(UsageError) as refused:
        read_flux(path)
    assert str(refused.value) == (
        f"{FULLSET}: no column 'GPP_NT_VUT_REF', it has GPP_NT_CUT_REF, GPP_DT_CUT_REF, GPP_NT_CUT_50, GPP_DT_CUT_50: "
        "choose one with `gpp_column`"
    )


def test_a_percentile_without_its_quality_is_warned_about(tmp_path: Path):
    path = write(tmp_path, fullset(("CUT_REF", "CUT_50")).drop(columns="NEE_CUT_50_QC"))
    with pytest.warns(DataWarning, match="no NEE_CUT_50_QC at XX-Abc: days are not selected by quality"):
        table = read_flux(path, FluxConfig(gpp_column="GPP_NT_CUT_50"))
    assert table["gpp"].notna().all()
    assert any("NEE_CUT_50_QC" in note for note in table.attrs["notes"])


@pytest.mark.parametrize("column", ["GPP_NT_CUT_SE", "NEE_CUT_REF_QC", "TA_F", "GPP_NT_CUT_99", ""])
def test_a_column_without_gpp_is_refused(tmp_path: Path, column: str):
    with pytest.raises(UsageError, match=f"column '{column}'.* it has GPP_NT_VUT_REF.*choose one"):
        read_flux(write(tmp_path, fullset()), FluxConfig(gpp_column=column))


def test_half_hours_of_another_column_are_summed_with_its_flags(tmp_path: Path):
    time = pd.date_range("2019-06-01", periods=96, freq="30min")
    steps = pd.DataFrame(
        {
            "TIMESTAMP_START": time.strftime("%Y%m%d%H%M"), "GPP_NT_VUT_REF": 1.0, "NEE_VUT_REF_QC": 0,
            "GPP_NT_CUT_REF": 2.0, "NEE_CUT_REF_QC": np.repeat([0, 3], 48),
        }
    )  # fmt: skip
    path = write(tmp_path, steps, FULLSET.replace("_DD_", "_HH_"))
    table = read_flux(path, FluxConfig(gpp_column="GPP_NT_CUT_REF"))
    assert table["gpp"].tolist() == pytest.approx([2 * 1.0377, np.nan], rel=1e-4, nan_ok=True)


def test_columns_of_methane_products_are_suggested(tmp_path: Path):
    frame = fullset(("VUT_REF",)).rename(columns={"GPP_NT_VUT_REF": "GPP_NT", "GPP_DT_VUT_REF": "GPP_DT"})
    path = write(tmp_path, frame, "FLX_XX-Abc_FLUXNET-CH4_DD_2019-2019_1-1.csv")
    with pytest.raises(UsageError, match="it has GPP_NT, GPP_DT: choose one"):
        read_flux(path)
    with pytest.warns(DataWarning, match="not selected by quality"):
        assert (read_flux(path, FluxConfig(gpp_column="GPP_DT"))["gpp"] == 1.5).all()


def test_columns_of_a_daily_table_are_chosen_in_the_same_way(tmp_path: Path):
    table = fullset(("CUT_REF",)).rename(columns={"TIMESTAMP": "date"}).assign(SITE_ID="XX-Abc")
    path = write(tmp_path, table, "table.csv")
    with pytest.raises(UsageError, match="no column 'gpp', it has GPP_NT_CUT_REF, GPP_DT_CUT_REF: choose one"):
        read_flux(path)
    found = read_flux(path, FluxConfig(gpp_column="GPP_NT_CUT_REF"))
    assert set(found["site"]) == {"XX-Abc"} and found["gpp"].notna().sum() == 10
    assert read_flux(path, FluxConfig(gpp_column="GPP_NT_CUT_REF", quality=0))["gpp"].notna().all()
    negative = write(tmp_path, found.assign(gpp=[-1.0, *[2.0] * 59]), "negative.csv")
    assert read_flux(negative, FluxConfig(keep_negative=False))["gpp"].notna().sum() == 59
    percent = write(tmp_path, table.assign(NEE_CUT_REF_QC=100.0), "percent.csv")
    with pytest.raises(UsageError, match="'NEE_CUT_REF_QC' holds 100: expected the share of good data, 0 to 1"):
        read_flux(percent, FluxConfig(gpp_column="GPP_NT_CUT_REF"))


def test_gpp_and_quality_are_recognised_by_name():
    names = ["GPP_NT_VUT_25", "GPP_NT_VUT_REF", "GPP_NT_VUT_SE", "GPP_DT_CUT_REF_JOINTUNC", "GPPX", "gpp"]
    assert GPP.columns_in(names) == ["GPP_NT_VUT_REF", "GPP_NT_VUT_25"]
    assert quality_column("GPP_DT_CUT_USTAR50") == "NEE_CUT_USTAR50_QC"
    assert quality_column("GPP_NT") is None
