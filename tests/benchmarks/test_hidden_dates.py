import numpy as np
import pytest

from gap_filling import BASELINES, DateErrors, harmonic_weights, linear_weights, whittaker_weights

DAYS = np.sort(np.random.default_rng(3).choice(700, 40, replace=False)).astype(float)
HIDDEN = 15


@pytest.fixture
def valid() -> np.ndarray:
    """Validity (T, P) of 50 pixels; the hidden date is invalid."""
    seen = np.random.default_rng(4).random((len(DAYS), 50)) < 0.6
    seen[HIDDEN] = False
    seen[[0, 1, -2, -1]] = True
    return seen


@pytest.mark.parametrize("name", BASELINES)
def test_weights_of_invalid_observations_are_zero_and_a_constant_is_kept(name: str, valid: np.ndarray) -> None:
    weights = BASELINES[name](valid, DAYS, DAYS[HIDDEN])
    assert not weights[~valid].any()
    assert np.allclose(weights.sum(0), 1)


def test_linear_is_the_interpolation_of_each_pixels_clear_dates(valid: np.ndarray) -> None:
    series = np.random.default_rng(5).random(len(DAYS))
    filled = series @ linear_weights(valid, DAYS, DAYS[HIDDEN])
    expected = [np.interp(DAYS[HIDDEN], DAYS[seen], series[seen]) for seen in valid.T]
    assert np.allclose(filled, expected)


@pytest.mark.parametrize("penalty", [1.0, 10.0])
def test_whittaker_minimises_squared_errors_and_second_differences_of_the_daily_series(
    penalty: float, valid: np.ndarray
) -> None:
    grid = (DAYS - DAYS[0]).astype(int)
    differences = np.diff(np.eye(grid[-1] + 1), 2, axis=0)
    series = np.random.default_rng(6).random(len(DAYS))
    filled = series @ whittaker_weights(valid, DAYS, DAYS[HIDDEN], penalty)
    for pixel in (0, 17, 49):
        evidence, observed = np.zeros(len(differences) + 2), np.zeros(len(differences) + 2)
        evidence[grid] = valid[:, pixel]
        observed[grid] = valid[:, pixel] * series
        smooth = np.linalg.solve(np.diag(evidence) + penalty * differences.T @ differences, observed)
        assert filled[pixel] == pytest.approx(smooth[grid[HIDDEN]], rel=1e-6)


def test_whittaker_counts_two_observations_of_a_day_twice() -> None:
    days = np.array([0.0, 10.1, 9.9, 20.0, 30.0])
    valid = np.array([[True], [True], [True], [False], [True]])
    weights = whittaker_weights(valid, days, 20.0, 1.0)[:, 0]
    assert weights[1] == weights[2]
    assert weights.sum() == pytest.approx(1)


def test_harmonic_keeps_a_season_with_a_trend(valid: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gap_filling.HARMONIC_RIDGE", 1e-9)
    phase = 2 * np.pi * DAYS / 365.25
    season = 0.3 + 0.01 * DAYS + np.sin(phase + 1) + 0.5 * np.cos(2 * phase)
    assert np.allclose(season @ harmonic_weights(valid, DAYS, DAYS[HIDDEN]), season[HIDDEN], atol=1e-6)


def test_unbiased_errors_lack_each_bands_mean_residual() -> None:
    truth = np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])
    errors = DateErrors()
    errors.add(truth + np.array([[0.02], [-0.04]]), truth)
    errors.add(truth + np.array([[0.01, -0.01, 0.0], [0.0, 0.0, 0.0]]), truth)
    summary = errors.summary()
    assert summary[""] == pytest.approx((0.03 + 0.01 / 3) / 2)
    assert summary["_unbiased"] == pytest.approx(0.01 / 6)
