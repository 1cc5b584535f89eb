import numpy as np
import pandas as pd
import pytest

from thalweg.gpp.evaluation.scores import r_squared, score
from thalweg.gpp.evaluation.site_draws import (
    difference_table,
    draw_counts,
    error_draws,
    error_table,
    quartile_table,
    r_squared_draws,
    scale_table,
)
from thalweg.gpp.evaluation.time_scales import SCALES, at_scale


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """Three sites, two years; `good` errs by noise alone, `level` by a level per site alone."""
    random = np.random.default_rng(0)
    time = pd.date_range("2017-01-01", periods=730)
    parts = []
    for index in range(3):
        observed = 5 + index - 4 * np.cos(2 * np.pi * np.arange(730) / 365) + random.normal(size=730)
        for model, predicted in (
            ("good", observed + 0.5 * random.normal(size=730)),
            ("level", observed + 2.0 * (index - 1)),
        ):
            parts.append(
                pd.DataFrame(
                    {
                        "split": "site", "predictors": "all", "model": model, "seed": 0, "site": f"S{index}",
                        "time": time, "observed": observed, "predicted": predicted,
                        "lower": predicted - 1, "upper": predicted + (1 if index else -0.9),
                    }
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def of(predictions: pd.DataFrame, model: str) -> pd.DataFrame:
    return predictions[predictions["model"] == model]


def test_periods_are_means_of_enough_days(predictions: pd.DataFrame):
    good = of(predictions, "good")
    assert len(at_scale(good, "day")) == 3 * 730
    years = at_scale(good, "year")
    assert len(years) == 3 * 2
    first = good[(good["site"] == "S1") & (good["time"].dt.year == 2018)]
    assert first["observed"].mean() == pytest.approx(years[years["site"] == "S1"]["observed"].iloc[1])
    seasons = at_scale(good, "season")
    winter = good[(good["site"] == "S0") & good["time"].between("2017-12-01", "2018-02-28")]
    assert np.isclose(seasons[seasons["site"] == "S0"]["observed"], winter["observed"].mean()).sum() == 1
    few = good[good["time"].dt.day <= 3]
    assert len(at_scale(few, "year")) == 0 and len(at_scale(few, "week")) == 0


def test_a_cycle_and_an_anomaly_add_up(predictions: pd.DataFrame):
    good = of(predictions, "good")
    total = at_scale(good, "cycle")["predicted"] + at_scale(good, "anomaly")["predicted"]
    np.testing.assert_allclose(total, good["predicted"])


def test_a_wrong_level_is_seen_where_it_counts(predictions: pd.DataFrame):
    table = scale_table(predictions).set_index(["model", "scale"])
    assert table.loc[("level", "anomaly"), "r2"] == pytest.approx(1)
    assert table.loc[("level", "site"), "r2"] < 0 < table.loc[("good", "site"), "r2"]
    assert table.loc[("good", "anomaly"), "r2"] < table.loc[("good", "week"), "r2"]
    assert set(table.index.get_level_values("scale")) == set(SCALES)
    assert (table["low"] <= table["high"])[table["low"].notna()].all()


def test_draws_of_sites_are_those_of_the_rows(predictions: pd.DataFrame):
    rows = at_scale(of(predictions, "good"), "day")
    sites = sorted(rows["site"].unique())
    counts = draw_counts(3, 5)
    assert (counts.sum(1) == 3).all()
    found = r_squared_draws(rows, counts, sites)
    for count, value in zip(counts, found, strict=True):
        drawn = pd.concat(
            [rows[rows["site"] == site] for site, n in zip(sites, count, strict=True) for _ in range(int(n))]
        )
        assert value == pytest.approx(r_squared(drawn["observed"].to_numpy(), drawn["predicted"].to_numpy()))


def test_differences_are_to_the_reference(predictions: pd.DataFrame):
    table = difference_table(predictions, "level").set_index(["model", "scale"])
    assert set(table.index.get_level_values("model")) == {"good"}
    assert table.loc[("good", "day"), "difference"] > 0 > table.loc[("good", "anomaly"), "high"]
    assert difference_table(predictions, "other").empty


def test_quartiles_and_the_coverage_of_sites(predictions: pd.DataFrame):
    row = quartile_table(predictions).set_index("model").loc["good"]
    assert row["r2_p25"] <= row["r2_p50"] <= row["r2_p75"]
    assert row["covered"] == pytest.approx(2 / 3) and row["coverage_min"] < 0.2


def test_errors_over_draws_are_those_of_the_rows(predictions: pd.DataFrame):
    level = of(predictions, "level")
    drawn = pd.concat([level[level["site"] == site] for site in ("S0", "S0", "S2")])
    expected = score(drawn.assign(site="one"))
    rmse, coverage = error_draws(level, np.array([[2.0, 0.0, 1.0]]), ["S0", "S1", "S2"])[0]
    assert rmse == pytest.approx(expected["rmse"]) and coverage == pytest.approx(expected["coverage"])
    row = error_table(level).iloc[0]
    assert row["rmse"] == pytest.approx(score(level)["rmse"])
    assert row["rmse_low"] < row["rmse"] < row["rmse_high"] and row["coverage_low"] <= row["coverage"]
