import math

import pytest

from thalweg.errors import UsageError
from thalweg.limits import check_choice, check_count, check_number, check_text, shown

NESTED: list = []
NESTED.append(NESTED)


def test_valid_values_are_returned() -> None:
    assert check_count("candidates", 5, 2, 9) == 5
    assert isinstance(check_count("candidates", 5.0, 2, 9), int)
    assert check_number("strength", 1, 0.1, 2) == 1.0
    assert check_text("prompt", "a ball") == "a ball"
    assert check_choice("metric", "blur", ["", "blur"]) == "blur"


@pytest.mark.parametrize(
    "value",
    [2.5, None, [], [5], {}, "5", True, math.nan, math.inf, 1e308, 10**5000, -1, 10, NESTED, 5j],
    ids=lambda value: type(value).__name__,
)
def test_an_invalid_count_raises_a_short_line(value: object) -> None:
    with pytest.raises(UsageError, match="expected candidates to be a whole number from 2 to 9, got ") as refused:
        check_count("candidates", value, 2, 9)
    assert len(str(refused.value)) < 150


@pytest.mark.parametrize(
    "value",
    [None, [], "1", True, math.nan, math.inf, -math.inf, 1e308, 10**5000, 0.0],
    ids=lambda value: type(value).__name__,
)
def test_an_invalid_number_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"expected strength to be a number from 0\.1 to 2, got "):
        check_number("strength", value, 0.1, 2)


@pytest.mark.parametrize("value", [None, 2.5, [], {"a": 1}, "x" * 10_001, "a\0b", "\ud800"])
def test_an_invalid_text_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="expected prompt "):
        check_text("prompt", value)


@pytest.mark.parametrize("value", ["no", None, [], {}, 1])
def test_an_invalid_choice_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"one of '', 'blur', got"):
        check_choice("metric", value, ["", "blur"])


def test_a_refused_value_is_shown_on_one_line() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert shown("x" * 1000).endswith("...")
