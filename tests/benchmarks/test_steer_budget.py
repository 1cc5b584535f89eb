"""Comparison of optimizers at equal calls: cases, equal budgets, resumed rows, and the ratios with their bounds."""

import argparse
import json
import math
from pathlib import Path

import pytest
import torch

import steer_budget
from steer_budget import Bench, bootstrap_low, draw_cases, run, slopes, summarize


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def row(case: int, method: str, gain: float) -> dict[str, object]:
    values = {"case": case, "method": method, "budget": steer_budget.CALLS, "calls": 248, "seconds": 1.0}
    return values | {"gain": gain, "seen": 2 * gain, "judge": gain / 2, "adherence": 0.9, "adherence_before": 1.0}


def test_cases_do_not_depend_on_their_number_and_differ_from_those_of_another_seed() -> None:
    assert draw_cases(3, seed=0) == draw_cases(5, seed=0)[:3]
    tuned = {case.prompt for case in draw_cases(6, seed=1)}
    assert len({case.prompt for case in draw_cases(40, seed=0)} & tuned) < 3
    for case in draw_cases(5, seed=0):
        assert set(case.shown) == {*case.named, "material"}
        assert case.shown["material"] in case.target


def test_the_bound_is_that_of_paired_prompts() -> None:
    ours, others = [1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 1.5, 2.0]
    assert bootstrap_low(ours, others) == pytest.approx(2.0)
    assert bootstrap_low([1.0, 1.0, 1.0, 5.0], [1.0, 1.0, 1.0, 1.0]) == pytest.approx(1.0)
    # A baseline that gains nothing in some draws has no ratio there: ours wins where it gains, and loses where not.
    assert bootstrap_low([1.0, 1.0], [-1.0, 1.0]) == pytest.approx(1.0)
    assert bootstrap_low([-1.0, 1.0], [-1.0, 1.0]) == -math.inf


def test_the_summary_holds_ratios_of_mean_gains() -> None:
    rows = [
        row(case, method, gain * (case + 1)) | {"metric": metric}
        for metric in steer_budget.METRICS
        for case in range(4)
        for method, gain in (("ours", 3.0), ("tuned", 2.0), ("noise", 1.0))
    ]
    found = summarize(rows, ["ours", "tuned", "noise"])
    assert (found["prompts"], found["adherence_after"], found["adherence_after_tuned"]) == (4, 0.9, 0.9)
    for metric in steer_budget.METRICS:
        assert found[f"ratio_{metric}"] == found[f"ratio_{metric}_low"] == pytest.approx(1.5)
        assert found[f"gain_noise_{metric}"] == pytest.approx(2 * 2.5)  # on its own seeds
    assert found["judge_ratio"] == pytest.approx(1.5)


def test_slopes_see_edges() -> None:
    edge = (torch.arange(8) > 3).float().expand(1, 3, 8, 8)
    assert float(slopes(edge)) > 5 * float(slopes(0.1 * edge))
    assert float(slopes(torch.full((1, 3, 8, 8), 0.5))) == 0


def test_methods_stay_within_the_calls_and_rows_are_resumed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer_budget, "METRICS", ("blur",))
    methods, budget = list(bench.methods), 104
    options = argparse.Namespace(prompts=1, draw=0, rows=tmp_path / "rows.jsonl")
    rows = run(bench, options, methods, (budget,))
    assert [entry["method"] for entry in rows] == methods
    for entry in rows:
        assert 64 <= entry["calls"] <= budget
    calls = bench.generator.calls
    assert run(bench, options, methods, (budget,)) == [json.loads(json.dumps(entry)) for entry in rows]
    assert bench.generator.calls == calls
