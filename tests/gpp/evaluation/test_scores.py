import numpy as np
import pandas as pd
import pytest

from thalweg.gpp.data.climatology import climatology, day_of_year
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.evaluation.scores import (
    UNITS,
    quartiles_over_sites,
    r_squared,
    r_squared_difference,
    r_squared_interval,
    score,
    score_by_site,
    site_mean_r_squared,
)


def predictions(years: int = 3, sites: int = 2) -> pd.DataFrame:
    time = pd.date_range("2017-01-01", periods=365 * years)
    random = np.random.default_rng(0)
    parts = []
    for index in range(sites):
        season = 5 + 4 * np.sin(2 * np.pi * time.dayofyear.to_numpy() / 365.25)
        observed = season + random.normal(size=len(time))
        parts.append(pd.DataFrame({"site": f"S{index}", "time": time, "observed": observed, "predicted": season}))
    return pd.concat(parts, ignore_index=True).assign(lower=0.0, upper=8.0)


def test_a_climatology_has_skill_in_the_season_and_none_in_the_anomalies():
    found = score(predictions())
    assert set(found) == set(UNITS)
    assert found["seasonal_r2"] > 0.99
    assert found["anomaly_r2"] == pytest.approx(0, abs=0.03)
    assert found["rmse"] == pytest.approx(1, abs=0.05)
    assert found["tail_bias"] < -1  # a climatology misses the best days


def test_scores_by_hand():
    table = pd.DataFrame(
        {
            "site": "A", "time": pd.date_range("2018-01-01", periods=4), "observed": [0.0, 2, 4, 6],
            "predicted": [1.0, 2, 4, 9], "lower": [0.0, 3, 3, 5], "upper": [1.0, 4, 5, 7],
        }
    )  # fmt: skip
    found = score(table)
    assert found["r2"] == pytest.approx(1 - 10 / 20)
    assert found["rmse"] == pytest.approx(2.5**0.5)
    assert found["mae"] == pytest.approx(1.0)
    assert found["bias"] == pytest.approx(1.0)
    assert found["nrmse_sd"] == pytest.approx((2.5 / 5) ** 0.5)
    assert found["tail_rmse"] == found["tail_bias"] == pytest.approx(3.0)
    assert found["coverage"] == 0.75
    assert found["interval_width"] == pytest.approx(1.5)


def test_sites_have_their_own_rows():
    table = predictions()
    table.loc[table["site"] == "S1", "predicted"] += 2
    by_site = score_by_site(table)
    assert list(by_site.index) == ["S0", "S1"]
    assert by_site.loc["S1", "bias"] - by_site.loc["S0", "bias"] == pytest.approx(2, abs=0.1)


def test_a_climatology_is_periodic():
    days = np.array([1, 365])
    values = climatology(days, np.array([2.0, 4.0]))
    assert values[0] == values[365] == 3.0
    assert np.isnan(values[180])
    assert day_of_year(np.array(["2020-12-31T12", "2019-01-01"], "datetime64[ns]")).tolist() == [366, 1]


def test_potential_radiation_at_known_places():
    # Daily means on a horizontal plane, from the geometry: equator at equinox, poles at solstice, polar night.
    assert potential_radiation(0.0, np.datetime64("2018-03-20")) == pytest.approx(1361 / np.pi * 1.008, rel=0.01)
    summer = potential_radiation(90.0, np.datetime64("2018-06-21"))
    assert summer == pytest.approx(1361 * 0.9674 * np.sin(np.deg2rad(23.44)), rel=0.01)
    assert potential_radiation(75.0, np.datetime64("2018-12-21")) == 0
    assert potential_radiation([40.0, 50.0], np.datetime64("2018-06-21")).shape == (2,)


def test_a_difference_from_a_single_site_is_uncertain():
    random = np.random.default_rng(0)
    sites = np.repeat(np.arange(12), 40)
    observed = random.normal(size=len(sites))
    noisy = observed + random.normal(size=(2, len(sites)))
    better = observed + 0.5 * (noisy - observed)
    low, high = r_squared_difference(observed, better, noisy, sites)
    difference = np.mean([r_squared(observed, one) for one in better]) - np.mean(
        [r_squared(observed, one) for one in noisy]
    )
    assert 0 < low < difference < high

    lucky = np.where(sites == 3, observed, noisy + 0.05 * random.normal(size=noisy.shape))
    low, high = r_squared_difference(observed, lucky, noisy, sites)
    assert low < 0 < high
    assert r_squared_difference(observed, noisy, lucky, sites) == pytest.approx((-high, -low))


def test_an_interval_of_r2_holds_the_score_and_is_wider_for_fewer_sites():
    random = np.random.default_rng(0)
    sites = np.repeat(np.arange(24), 20)
    observed = random.normal(size=len(sites)) + random.normal(size=24)[sites]
    predicted = observed + (0.5 + 0.5 * random.random(24))[sites] * random.normal(size=(2, len(sites)))
    low, high = r_squared_interval(observed, predicted, sites)
    assert low < np.mean([r_squared(observed, one) for one in predicted]) < high
    few = sites < 6
    few_low, few_high = r_squared_interval(observed[few], predicted[:, few], sites[few])
    assert few_high - few_low > high - low


def test_scores_of_sites_by_hand():
    sites = np.array(["A"] * 4 + ["B"] * 4 + ["C"])
    observed = np.array([0.0, 2, 4, 6, 1, 1, 3, 3, 9])
    predicted = np.array([1.0, 2, 4, 9, 1, 1, 3, 3, 0])
    r2, rmse, counted = quartiles_over_sites(observed, predicted, sites, min_rows=4)
    assert counted == 2
    assert r2 == pytest.approx([0.625, 0.75, 0.875])  # of 0.5 and 1
    assert rmse == pytest.approx(np.array([0.25, 0.5, 0.75]) * 2.5**0.5)
    assert quartiles_over_sites(observed, predicted, sites, min_rows=5)[2] == 0
    means = np.array([3.0, 2, 9]), np.array([4.0, 2, 0])
    assert site_mean_r_squared(observed, predicted, sites) == pytest.approx(r_squared(*means))
