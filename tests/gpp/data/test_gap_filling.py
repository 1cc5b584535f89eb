"""Gap filling: linear interpolation, and a smoother with a calibrated variance."""

import numpy as np
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.gap_filling import fill_to_days

START = np.datetime64("2018-01-01", "ns")
DAY = np.timedelta64(1, "D")


def at(days: np.ndarray | list[int]) -> np.ndarray:
    return START + np.asarray(days) * DAY


def test_linear_interpolates_between_dates_and_extends_the_ends():
    dates = at([2, 4, 8, 10, 12]) + np.timedelta64(10, "h")
    values = np.array([[0.0, 1], [2, 1], [6, 1], [6, 1], [6, 1]])
    filled = fill_to_days(dates, values, "linear", at(range(14)))
    np.testing.assert_allclose(filled.values[:, 0], [0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6])
    np.testing.assert_allclose(filled.values[:, 1], 1)
    assert filled.variance is None


def test_days_run_from_the_first_to_the_last_date():
    filled = fill_to_days(at([3, 5, 6, 8, 11]), np.arange(5.0)[:, None])
    np.testing.assert_array_equal(filled.time, at(range(3, 12)))


def test_dates_of_one_day_are_averaged():
    dates = np.sort(np.concatenate([at([0, 2, 4, 6]), at([2]) + np.timedelta64(5, "h")]))
    filled = fill_to_days(dates, np.array([[0.0], [2], [4], [0], [0]]))
    np.testing.assert_allclose(filled.values[:, 0], [0, 1.5, 3, 1.5, 0, 0, 0])


@pytest.fixture(scope="module")
def smoothed() -> dict[str, np.ndarray]:
    """Errors of smoothed series: noisy dates of a known signal, about a tenth of the days, with a gap of 50 days."""
    every = np.arange(400)
    truth = 2 + np.sin(2 * np.pi * every / 365) + 0.3 * np.sin(2 * np.pi * every / 90)
    errors, deviations, linear = [], [], []
    for draw in range(3):
        random = np.random.default_rng(draw)
        days = np.sort(random.choice(every, 60, replace=False))
        days = np.unique(np.concatenate([[0], days[(days < 200) | (days >= 250)], [399]]))
        observed = truth[days] + random.normal(0, 0.15, len(days))
        filled = fill_to_days(at(days), observed[:, None], "kalman")
        assert filled.variance is not None
        errors.append(filled.values[:, 0] - truth)
        deviations.append(np.sqrt(filled.variance[:, 0]))
        linear.append(fill_to_days(at(days), observed[:, None], "linear").values[:, 0] - truth)
    return {"error": np.array(errors), "deviation": np.array(deviations), "linear": np.array(linear)}


def test_the_smoother_recovers_a_known_signal_through_gaps(smoothed: dict[str, np.ndarray]):
    rmse = {name: np.sqrt(np.square(smoothed[name]).mean()) for name in ("error", "linear")}
    assert rmse["error"] < 0.12
    assert rmse["error"] < 0.9 * rmse["linear"]


def test_the_variance_is_calibrated(smoothed: dict[str, np.ndarray]):
    inside = np.abs(smoothed["error"]) <= 1.645 * smoothed["deviation"]
    assert 0.75 <= inside.mean() <= 0.99
    in_the_gap = np.abs(smoothed["error"][:, 200:250]) <= 2.5 * smoothed["deviation"][:, 200:250]
    assert in_the_gap.mean() > 0.8


def test_the_variance_is_largest_in_the_middle_of_a_gap(smoothed: dict[str, np.ndarray]):
    deviation = smoothed["deviation"]
    assert (deviation[:, 225] > 1.5 * deviation[:, 100:180].mean(1)).all()


def test_a_constant_series_has_no_variance():
    filled = fill_to_days(at(range(0, 60, 10)), np.full((6, 1), 0.4), "kalman")
    np.testing.assert_allclose(filled.values, 0.4)
    assert filled.variance is not None
    np.testing.assert_array_equal(filled.variance, 0)


def test_too_few_dates_are_refused():
    with pytest.raises(UsageError, match=r"site\.zarr: 4 dates .* expected at least 5: use a longer series"):
        fill_to_days(at([0, 1, 2, 3]), np.zeros((4, 1)), label="site.zarr")


def test_an_unknown_method_is_refused():
    with pytest.raises(UsageError, match="gap filling 'spline': expected linear, kalman"):
        fill_to_days(at(range(10)), np.zeros((10, 1)), "spline")  # type: ignore[arg-type]
