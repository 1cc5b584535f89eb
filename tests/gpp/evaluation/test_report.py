from pathlib import Path

import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.evaluation.protocol import EvaluationConfig, evaluate
from thalweg.gpp.evaluation.report import write_report
from thalweg.gpp.models.predictors import PredictorSet
from thalweg.gpp.models.registry import climatology, ridge


@pytest.fixture(scope="module")
def evaluation(make_table):
    sets = [PredictorSet("light", ("SW_IN_POT",))]
    models = {"ridge": ridge, "climatology": climatology}
    return evaluate(
        make_table(sites=4), sets, models, EvaluationConfig(("site", "year"), (0, 1), partitions=2, stride=5)
    )


def test_a_report_holds_tables_and_figures(evaluation, tmp_path):
    folder = write_report(evaluation, tmp_path / "report", ["bands: the table has no such columns"])
    assert sorted(path.name for path in folder.iterdir()) == [
        "differences.csv", "errors.csv", "predictions.csv", "quartiles.csv", "report.md", "scales.csv", "scores.csv",
        "site-error-by-month.png", "site-observed-predicted.png", "site-series.png", "sites.csv",
        "year-error-by-month.png", "year-observed-predicted.png", "year-series.png",
    ]  # fmt: skip
    text = (folder / "report.md").read_text()
    for part in (
        "## Leave site out",
        "## Leave year out",
        "| light | ridge |",
        "no such columns",
        "nrmse_sd:",
        "Quartiles over sites",
        "R2 by time",
        "RMSE and coverage, with",
    ):
        assert part in text
    sites = pd.read_csv(folder / "sites.csv")
    assert len(sites) == 4 * 2 * 2 * 2
    scores = pd.read_csv(folder / "scores.csv")
    assert scores["r2"].tolist() == pytest.approx(evaluation.scores["r2"].tolist(), rel=1e-4)
    with pytest.raises(UsageError, match="exists already"):
        write_report(evaluation, folder)


def test_a_failed_report_leaves_nothing(evaluation, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("thalweg.gpp.evaluation.plots.error_by_month", fail)
    with pytest.raises(RuntimeError):
        write_report(evaluation, tmp_path / "report")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_report(cli, make_table, tmp_path):
    path = tmp_path / "table.csv"
    make_table(sites=4).to_csv(path, index=False)
    ran = cli(
        "gpp",
        "evaluate",
        path,
        "report",
        "--model",
        "ridge",
        "--model",
        "climatology",
        "--split",
        "site",
        "--stride",
        10,
    )
    assert ran.code == 0, ran.err
    assert "report.md" in ran.out
    text = Path("report/report.md").read_text()
    assert "| no features | climatology |" in text and "members shared between sites" in text


def test_the_command_refuses_in_one_line(cli, make_table, tmp_path):
    path = tmp_path / "table.csv"
    table = make_table(sites=4)
    table.to_csv(path, index=False)
    (tmp_path / "there").mkdir()
    short = tmp_path / "short.csv"
    table[(table["site"] != "S1") | (table["time"] < "2017-02-01")].to_csv(short, index=False)
    bare = tmp_path / "bare.csv"
    table.drop(columns="gpp").to_csv(bare, index=False)
    for arguments, expected in (
        ((path, tmp_path / "there"), "exists already"),
        ((path, "out", "--model", "bosting"), "did you mean boosting?"),
        ((path, "out", "--split", "month"), "expected site, year, site-year, temperature"),
        ((short, "out"), "site S1: 31 days"),
        ((bare, "out"), "no column 'gpp'"),
        ((tmp_path / "none.csv", "out"), "no such file"),
    ):
        ran = cli("gpp", "evaluate", *arguments)
        assert (ran.code, expected in ran.err, ran.err.count("\n")) == (2, True, 1), ran.err
