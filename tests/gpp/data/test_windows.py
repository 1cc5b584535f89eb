import numpy as np
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import DAYS, make_windows


def test_a_window_holds_the_90_days_up_to_its_target(make_table):
    table = make_table(sites=2)
    windows = make_windows(table, ["SW_IN_POT", "wet"])
    assert windows.values.shape == (len(windows), DAYS, 2)
    rows = table[table["site"] == "S1"].reset_index(drop=True)
    index = np.flatnonzero(windows.site == "S1")[10]
    row = int(np.flatnonzero(rows["time"] == windows.time[index])[0])
    np.testing.assert_allclose(windows.values[index, :, 1], rows["wet"][row - DAYS + 1 : row + 1], rtol=1e-6)
    assert windows.target[index] == pytest.approx(rows["gpp"][row], rel=1e-6)


def test_no_window_reaches_over_the_edge_of_a_record_or_has_no_target(make_table):
    table = make_table(sites=2)
    table.loc[table["time"].dt.month == 7, "gpp"] = np.nan
    windows = make_windows(table, ["wet"])
    assert windows.time.min() == table["time"].min() + np.timedelta64(DAYS - 1, "D")
    assert not (windows.time.astype("datetime64[M]").astype(int) % 12 == 6).any()
    assert np.isfinite(windows.target).all()
    everything = make_windows(table, ["wet"], with_target=False)
    assert len(everything) == 2 * (730 - DAYS + 1)


def test_stride_and_gaps(make_table):
    table = make_table(sites=1)
    windows = make_windows(table, ["wet"], stride=10)
    assert set(np.diff(windows.time) / np.timedelta64(1, "D")) == {10}
    gap = table[(table["time"] < "2017-06-01") | (table["time"] > "2017-07-31")]
    around = make_windows(gap, ["wet"])
    assert not ((around.time >= np.datetime64("2017-06-01")) & (around.time <= np.datetime64("2017-07-31"))).any()
    whole = make_windows(gap, ["wet"], complete=1.0)
    assert np.isfinite(whole.values).all() and 0 < len(whole) < len(around)


def test_no_window_straddles_a_split(make_table):
    windows = make_windows(make_table(sites=3, years=3), ["wet"])
    training, held_out = windows.split(years=[2018])
    assert set(held_out.year) == {2018}
    days = training.time[:, None] - np.arange(DAYS) * np.timedelta64(1, "D")
    assert not (days.astype("datetime64[Y]").astype(int) + 1970 == 2018).any()
    assert set(training.year) == {2017, 2019}

    training, held_out = windows.split(sites=["S1"])
    assert set(training.site) == {"S0", "S2"} and set(held_out.site) == {"S1"}

    training, held_out = windows.split(sites=["S1"], years=[2018])
    assert set(training.site) == {"S0", "S2"} and set(training.year) == {2017, 2019}
    assert set(held_out.site) == {"S1"} and set(held_out.year) == {2018}


def test_covered_days_are_those_in_a_window(make_table):
    windows = make_windows(make_table(sites=2, years=1), ["wet"])
    some = windows.select(np.array([0, 5]))
    expected = np.zeros(len(windows.daily), bool)
    for last in some.last:
        expected[last - DAYS + 1 : last + 1] = True
    assert (some.covered == expected).all()


def test_too_few_days_and_unknown_columns_are_refused(make_table):
    table = make_table(sites=2)
    short = table[(table["site"] == "S0") | (table["time"] < "2017-03-01")]
    with pytest.raises(UsageError, match=r"site S1: 59 days .* at least 90"):
        make_windows(short, ["wet"])
    with pytest.raises(UsageError, match="no column 'NDVI'"):
        make_windows(table, ["NDVI"])


def test_summaries_are_the_last_day_and_its_means(make_table):
    table = make_table(sites=2)
    table.loc[5:40, "wet"] = np.nan
    windows = make_windows(table.assign(still=table["latitude"]), ["wet", "still"], complete=0.5)
    found = windows.summaries()
    assert found.shape == (len(windows), 2 + 3)  # a constant feature has no means
    index = 30
    values = windows.values[index, :, 0]
    means = [np.nanmean(values[-days:]) for days in (7, 30, 90)]
    np.testing.assert_allclose(found[index], [values[-1], windows.values[index, -1, 1], *means], rtol=1e-5)
