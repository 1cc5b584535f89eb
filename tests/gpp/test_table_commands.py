"""Tables given to `thalweg gpp`: the right values, or a message of one line and exit code 2."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.gpp.data.features import FeatureRecipe, read_table, write_table
from thalweg.gpp.tables.daily_table import daily_table

Run = Callable[..., object]
QUICK = ("--model", "climatology", "--split", "site", "--stride", 20, "--groups", 2)


@pytest.fixture(scope="module")
def sites(make_table: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_table(sites=4, years=1)


def scores(cli: Run, table: Path, report: str) -> str:
    ran = cli("gpp", "evaluate", table, report, *QUICK)
    assert ran.code == 0, ran.err
    return Path(report, "scores.csv").read_text()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_codes_and_nan_give_the_same_report(cli: Run, sites: pd.DataFrame, tmp_path: Path, suffix: str):
    holes = np.random.default_rng(0).random(len(sites)) < 0.1
    tables = {"right": np.nan, "code": -9999, "other": -6999.0, "infinity": np.inf}
    written = {}
    for name, code in tables.items():
        table = sites.assign(gpp=sites["gpp"].mask(holes, code), wet=sites["wet"].mask(~holes, code))
        path = tmp_path / f"{name}.{suffix}"
        table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
        written[name] = scores(cli, path, name)
    assert len(set(written.values())) == 1


@pytest.mark.parametrize(
    ("column", "written"), [("time", "%Y%m%d"), ("TIMESTAMP", "%Y%m%d"), ("date", "%Y-%m-%dT00:00:00Z")]
)
def test_days_in_any_spelling_give_the_same_report(
    cli: Run, sites: pd.DataFrame, tmp_path: Path, column: str, written: str
):
    sites.to_csv(tmp_path / "right.csv", index=False)
    other = sites.assign(time=sites["time"].dt.strftime(written)).rename(columns={"time": column})
    other.to_csv(tmp_path / "other.csv", index=False)
    assert scores(cli, tmp_path / "right.csv", "right") == scores(cli, tmp_path / "other.csv", "other")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.assign(gpp=-9999), "no day with usable GPP among"),
        (lambda t: t.assign(gpp="high"), "'high' is not a number"),
        (lambda t: t.assign(gpp=t["gpp"] * 1000), "lie outside of -25 to 50"),
        (lambda t: t.assign(gpp=t["gpp"] / 1000), "kgC m-2 d-1"),
        (lambda t: t.assign(TA_ERA=290.0), "expected deg C"),
        (lambda t: t.assign(time=np.arange(len(t))), "is not a date"),
        (lambda t: t.assign(time=t["time"].dt.strftime("%d/%m/%Y")), "is not a date"),
        (lambda t: t.assign(site=None), "no site"),
        (lambda t: t.assign(latitude=95.0), "expected -90 to 90"),
        (lambda t: t.iloc[:0], "no rows"),
        (
            lambda t: t.drop(columns="gpp").assign(GPP_DT_VUT_REF=t["gpp"]),
            "GPP_DT_VUT_REF: choose one with --gpp-column",
        ),
    ],
)
def test_an_invalid_table_is_refused(
    cli: Run, sites: pd.DataFrame, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], expected: str
):
    path = tmp_path / "table.csv"
    change(sites).to_csv(path, index=False)
    ran = cli("gpp", "evaluate", path, "report", *QUICK)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert expected in ran.err and "table.csv" in ran.err
    assert not list(Path().iterdir())


def test_impossible_values_are_counted_in_a_warning_and_in_the_report(cli: Run, sites: pd.DataFrame, tmp_path: Path):
    path = tmp_path / "table.csv"
    sites.assign(gpp=sites["gpp"].where(sites.index % 100 != 0, 777.0)).to_csv(path, index=False)
    ran = cli("gpp", "evaluate", path, "report", *QUICK)
    expected = "15 of gpp outside of -25 to 50 gC m-2 d-1, such as 777"
    assert ran.code == 0 and expected in ran.err and ran.err.count("\n") == 1
    assert expected in Path("report/report.md").read_text()


def test_the_option_gpp_column_chooses_the_column(cli: Run, sites: pd.DataFrame, tmp_path: Path):
    other = sites.rename(columns={"gpp": "GPP_NT_CUT_REF"}).assign(gpp=1.0)
    sites.to_csv(tmp_path / "right.csv", index=False)
    other.to_csv(tmp_path / "other.csv", index=False)
    ran = cli("gpp", "evaluate", tmp_path / "other.csv", "other", *QUICK, "--gpp-column", "GPP_NT_CUT_REF")
    assert ran.code == 0 and "no NEE_CUT_REF_QC: days are not selected by quality" in ran.err
    assert scores(cli, tmp_path / "right.csv", "right") == Path("other/scores.csv").read_text()


@pytest.fixture
def fullset(tmp_path: Path) -> Path:
    """A FLUXNET file of the cube's years that has the constant threshold only."""
    days = pd.date_range("2018-01-01", periods=730).strftime("%Y%m%d")
    frame = pd.DataFrame({"TIMESTAMP": days, "NEE_CUT_REF_QC": 1.0, "GPP_NT_CUT_REF": 3.0, "TA_F": 9.0})
    frame.to_csv(tmp_path / "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2018-2019_1-4.csv", index=False)
    return tmp_path / "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2018-2019_1-4.csv"


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    days = pd.date_range("2018-01-01", periods=120)
    random = np.random.default_rng(0)
    values = {f"e{index + 1}": random.normal(size=120) for index in range(7)}
    frame = pd.DataFrame({"site": "A", "time": days, "gpp": 5.0, "SW_IN_POT": 200.0, **values})
    recipe = FeatureRecipe(embedding_model="any", size=7, gap_filling="linear")
    write_table(daily_table(frame), recipe, tmp_path / "A.csv")
    return tmp_path / "A.csv"


def test_codes_in_a_prepared_table_are_missing(prepared: Path):
    lines = prepared.read_text().splitlines()
    cells = lines[5].split(",")
    lines[5] = ",".join([*cells[:2], *["-9999"] * (len(cells) - 2)])
    prepared.write_text("\n".join(lines) + "\n")
    table, _ = read_table(prepared)
    assert table.iloc[4].drop(["site", "time"]).isna().all()
    assert table.drop(index=4).notna().all(axis=None)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda text: text[:-20], "cut short"),
        (lambda text: text.replace("2018-01-03", "03/01/2018"), "is not a date"),
        (lambda text: text.replace(",5,", ",-9999,"), "no day with GPP"),
        (lambda text: text.replace("e7", "f7"), "no column 'e7'"),
        (lambda text: "", "an empty file"),
        (lambda text: text.replace("e1", "e2", 1), "column 'e2' is repeated"),
        (lambda text: text.replace(",5,", ",five,"), "'five' is not a number"),
    ],
)
def test_train_refuses_damaged_tables(cli: Run, prepared: Path, damage: Callable[[str], str], expected: str):
    prepared.write_text(damage(prepared.read_text()))
    ran = cli("gpp", "train", prepared, "--out", "model")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert expected in ran.err and not list(Path().iterdir())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("site,lat\nA,-9999\n", None),
        ("site;lat\nA;51,5\n", None),
        ("site,lat\nA,151\n", "latitude 151: expected -90 to 90"),
        ("site,lat\nA,north\n", "'north' is not a number"),
        ("site,lat\nA,51\nA,52\n", "site A is repeated"),
        ("site,lat\nA,51,7\n", "line 2 has 3 cells"),
        ("name,lat\nA,51\n", "expected site, lat and igbp"),
        ("", "an empty file"),
    ],
)
def test_the_list_of_sites_is_read_strictly(
    cli: Run, fullset: Path, tmp_path: Path, content: str, expected: str | None
):
    sites = tmp_path / "sites.csv"
    sites.write_text(content)
    ran = cli("gpp", "evaluate", fullset, "report", "--gpp-column", "GPP_NT_CUT_REF", "--sites", sites, *QUICK)
    assert (ran.code, ran.err.count("\n")) == (2, 1)  # a single site cannot be left out
    assert (expected or "1 sites: expected two or more") in ran.err
