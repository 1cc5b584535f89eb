"""Constants in the list of sites, such as canopy height, which sites may lack."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.fluxnet import read_flux
from thalweg.gpp.data.windows import make_windows
from thalweg.gpp.models.predictors import PredictorSet, predictor_sets


def folder_of(tmp_path: Path, make_table: Callable[..., pd.DataFrame], heights: list) -> Path:
    """Write a folder of flux files at four sites with canopy heights in its list."""
    table = make_table(sites=4, years=1)
    for site, rows in table.groupby("site"):
        days = {"TIMESTAMP": rows["time"].dt.strftime("%Y%m%d"), "GPP_NT_VUT_REF": rows["gpp"], "TA_F": rows["wet"]}
        pd.DataFrame(days | {"NEE_VUT_REF_QC": 1.0}).to_csv(
            tmp_path / f"FLX_XX-{site}x_FULLSET_DD_1-1.csv", index=False
        )
    names = [f"XX-S{index}x" for index in range(4)]
    listed = {"site": names, "lat": [45.0, 46.0, 47.0, 48.0], "igbp": "ENF", "canopy_height": heights}
    pd.DataFrame(listed).to_csv(tmp_path / "towers.csv", index=False)
    return tmp_path


def test_the_list_of_sites_gives_canopy_heights(tmp_path: Path, make_table: Callable[..., pd.DataFrame]):
    table = read_flux(folder_of(tmp_path, make_table, [12.5, 30.0, -9999, 18.0]))
    by_site = table.groupby("site")["canopy_height"].first()
    assert by_site["XX-S0x"] == 12.5 and np.isnan(by_site["XX-S2x"])
    assert table.attrs["units"]["canopy_height"] == "m"
    windows = make_windows(table, ["SW_IN_POT", "canopy_height"])
    assert len(windows.sites) == 4
    sets, _ = predictor_sets(table, ["canopy_height", "SW_IN_POT"])
    assert sets[0] == PredictorSet("potential radiation", ("SW_IN_POT", "canopy_height"))


def test_heights_in_other_units_are_refused(tmp_path: Path, make_table: Callable[..., pd.DataFrame]):
    with pytest.raises(UsageError, match=r"column 'canopy_height': .* lie outside of 0 to 130.* expected m"):
        read_flux(folder_of(tmp_path, make_table, [1250, 3000, 1500, 1800]))


def test_the_command_takes_a_column_of_the_site(cli: Callable, tmp_path: Path, make_table: Callable[..., pd.DataFrame]):
    table = make_table(sites=4, years=1)
    heights = table["site"].map({"S0": 10.0, "S1": 20.0, "S2": np.nan, "S3": 15.0})
    path = tmp_path / "table.csv"
    table.assign(canopy_height=heights).to_csv(path, index=False)
    arguments = ("--model", "site-level", "--split", "site", "--stride", 20, "--with", "canopy_height")
    ran = cli("gpp", "evaluate", path, tmp_path / "report", *arguments)
    assert ran.code == 0, ran.err
    assert "site-level" in (tmp_path / "report" / "report.md").read_text()
    ran = cli("gpp", "evaluate", path, tmp_path / "other", *arguments[:-1], "height")
    assert ran.code == 2 and "no column 'height' in the table" in ran.err
