"""Seeds as users type them and as programs pass them: limits before any range is built, one-line errors."""

import time

import numpy as np
import pytest
import torch

from thalweg.errors import UsageError
from thalweg.limits import MAX_SEED, MAX_SEEDS
from thalweg.seeds import check_seeds, read_seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", (3,)),
        ("0,4,7", (0, 4, 7)),
        ("0-3", (0, 1, 2, 3)),
        (" 5 - 6 , 1", (5, 6, 1)),
        ("7-7", (7,)),
        (str(MAX_SEED), (MAX_SEED,)),
        ("0-4095", tuple(range(4096))),
    ],
)
def test_seeds_are_read(text: str, seeds: tuple[int, ...]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-1000000000", r"at most 4,096 seeds, got 1,000,000,001"),
        ("0-4096", r"at most 4,096 seeds, got 4,097"),
        ("0-4000,5000-5999", r"at most 4,096 seeds, got 5,001"),
        (f"0-{MAX_SEED}", r"at most 4,096 seeds"),
        ("1," * 200_000 + "1", r"at most 4,096 seeds"),
        (str(MAX_SEED + 1), rf"seeds up to {MAX_SEED}, got"),
        (f"0-{'9' * 10_000}", rf"seeds up to {MAX_SEED}, got"),
        ("0-3,2-5", r"distinct seeds, got 2 more than once"),
        ("1,1", r"distinct seeds, got 1 more than once"),
        ("7-0", r"from the lower to the higher, got 7-0"),
        ("-3", r"seeds of 0 or more, got '-3'"),
        ("²", r"expected seeds such as 3"),
        ("٣", r"expected seeds such as 3"),
        ("1e3", r"expected seeds such as 3"),
        ("0-", r"expected seeds such as 3"),
        ("0-3-5", r"expected seeds such as 3"),
        ("", r"expected seeds such as 3"),
        ("1,,2", r"expected seeds such as 3"),
    ],
)
def test_invalid_seeds_raise_one_short_line(text: str, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(UsageError, match=message) as refused:
        read_seeds(text)
    assert time.monotonic() - started < 1
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("seeds", [[2.5], ["1"], [None], [True], [-1], [MAX_SEED + 1], [1, 1], [], range(5000)])
def test_seeds_that_no_generator_takes_are_refused(seeds: list) -> None:
    with pytest.raises(UsageError, match="seed"):
        check_seeds(seeds)


def test_the_largest_seed_is_one_that_torch_takes() -> None:
    torch.Generator().manual_seed(MAX_SEED)
    with pytest.raises((RuntimeError, ValueError, OverflowError)):
        torch.Generator().manual_seed(MAX_SEED + 1)


def test_many_distinct_seeds_are_checked_in_linear_time() -> None:
    started = time.monotonic()
    for _ in range(20):
        assert len(check_seeds(range(MAX_SEEDS))) == MAX_SEEDS
    assert time.monotonic() - started < 2
    assert check_seeds(np.arange(3)) == (0, 1, 2)
