import numpy as np
import pytest

from estimate_agreement import agreement, scores


def test_scores_of_a_shifted_and_scaled_truth() -> None:
    truth = np.random.default_rng(0).normal(size=2000) + 3
    found = scores(0.5 * truth + 2, truth)
    error = 2 - 0.5 * truth
    assert found["r"] == pytest.approx(1)
    assert found["bias"] == pytest.approx(error.mean())
    assert found["rmse"] == pytest.approx(np.sqrt(np.square(error).mean()))
    assert found["r2"] == pytest.approx(1 - np.square(error).mean() / truth.var())


def test_agreement_separates_space_from_time() -> None:
    random = np.random.default_rng(1)
    season, field = random.normal(size=(30, 1, 1)), random.normal(size=(1, 20, 20))
    theirs = np.broadcast_to(season + field, (30, 20, 20)).copy()
    found = agreement(season - field, theirs)
    assert found["time_r"] == pytest.approx(1)
    assert found["space_r"] == pytest.approx(-1)
    assert -1 < found["r"] < 1


def test_agreement_leaves_out_what_the_networks_leave_out() -> None:
    random = np.random.default_rng(2)
    theirs = random.normal(size=(10, 8, 8))
    ours = 2 * theirs + 1
    gaps = random.random(theirs.shape) < 0.3
    found = agreement(np.where(gaps, 1e6, ours), np.where(gaps, np.nan, theirs))
    assert found["slope"] == pytest.approx(2)
    assert found["bias"] == pytest.approx((ours - theirs)[~gaps].mean())
    assert [found[key] for key in ("r", "space_r", "time_r")] == pytest.approx([1, 1, 1])
