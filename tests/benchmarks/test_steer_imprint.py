"""Comparison of imprints: drawn prompts, what is counted, resumed rows, and the leads with their intervals."""

import itertools
import json
from pathlib import Path

import pytest

from steer_imprint import KEPT, OTHERS, SCORED, Case, bootstrap, compare, draw_cases, run, summarize
from thalweg.diffusion import miniature
from thalweg.diffusion.miniature.renderer import ATTRIBUTES


def first_cases(count: int, seed: int) -> list[Case]:
    return list(itertools.islice(draw_cases(seed), count))


def read(**values: list[str]) -> dict[str, list[str]]:
    """Return classified attributes of four seeds; those that are not given are the first value of each."""
    return {name: values.get(name, [options[0]] * 4) for name, options in ATTRIBUTES.items()}


def row(ours: float, paper: float) -> dict[str, object]:
    figures = {"open": 0.5, "kept": [0.5, 1.0], "adherence": 1.0, "calls": 10}
    shares = {"before": 0.1, "ours": ours, "paper": paper, "ours_whole": paper, "paper_whole": ours}
    return {who: figures | {"share": share} for who, share in shares.items()}


def test_prompts_leave_the_attribute_open_and_differ_from_those_of_another_seed() -> None:
    cases = first_cases(24, SCORED)
    assert cases[:5] == first_cases(5, SCORED)
    assert [case.keep for case in cases[:4]] == list(KEPT)
    for case in cases:
        assert case.named and case.keep not in case.named
    others = {case.prompt for case in first_cases(24, OTHERS)}
    assert len({case.prompt for case in cases} & others) < 3


def test_shares_are_of_what_the_target_shows_and_spread_is_of_the_rest() -> None:
    case = Case("a ball", "colour", {"shape": "ball"})
    shown = {name: values[0] for name, values in ATTRIBUTES.items()} | {"colour": "blue"}
    before = read(colour=["red", "blue", "green", "pink"], size=["small", "small", "large", "large"])
    after = read(colour=["blue", "blue", "blue", "pink"], size=["small"] * 4, shape=["ball", "ball", "cube", "ball"])
    found = compare(case, shown, before, after)
    assert found["share"] == 0.75
    assert found["open"] == pytest.approx((0.75 + 6) / 7)
    assert found["kept"] == [0.0]
    assert found["adherence"] == 0.75


def test_leads_have_intervals_over_prompts() -> None:
    found = summarize([row(0.9, 0.5), row(0.8, 0.6), row(1.0, 0.1)])
    assert found["lead"] == pytest.approx(0.5)
    assert found["lead_low"] < 0.5 < found["lead_high"]
    assert found["lead_whole"] == pytest.approx(-0.5)
    assert found["share_worst_paper"] == 0.1
    assert found["diversity_kept_ours"] == 0.75
    assert bootstrap([0.3, 0.3, 0.3]) == pytest.approx((0.3, 0.3))


def test_rows_in_the_file_are_not_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [row(0.9, 0.5), None, row(0.8, 0.6)]
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    assert run(miniature.SHIPPED, 2, SCORED, False, file) == [rows[0], rows[2]]
    assert len(file.read_text().splitlines()) == 3
