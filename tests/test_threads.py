"""One thread per small computation, and independent ones side by side."""

import threading
from collections.abc import Iterator

import pytest
import torch

from thalweg import threads
from thalweg.threads import one_thread, side_by_side


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_the_former_number_is_set_back_after_nested_blocks_and_errors() -> None:
    with one_thread():
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="no"), one_thread():
        raise ValueError("no")
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_a_thread_that_leaves_does_not_change_the_others() -> None:
    entered, left = threading.Event(), threading.Event()
    seen: list[int] = []

    def stay() -> None:
        with one_thread():
            entered.set()
            left.wait(10)
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    other = threading.Thread(target=stay)
    with one_thread():
        other.start()
        entered.wait(10)
    assert torch.get_num_threads() == 3, "this thread has its number back"
    fresh: list[int] = []
    new = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    new.start()
    new.join()
    assert fresh == [1], "the process computes with one thread while a block is left open"
    left.set()
    other.join()
    assert seen == [1, 3] and torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("cores", [1, 2, 5])
def test_results_come_in_order_each_with_one_thread(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: cores)

    def compute(item: int) -> tuple[int, int, bool]:
        return item, torch.get_num_threads(), torch.is_grad_enabled()

    assert side_by_side(compute, range(7)) == [(item, 1, True) for item in range(7)]
    with torch.no_grad():
        assert side_by_side(compute, [4]) == [(4, 1, False)]
    assert side_by_side(lambda item: side_by_side(compute, [item, item]), [1, 2]) == [
        [(item, 1, True)] * 2 for item in (1, 2)
    ]
    assert torch.get_num_threads() == 3


def test_computations_run_at_the_same_time_and_the_first_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    meeting = threading.Barrier(2, timeout=10)
    side_by_side(lambda _: meeting.wait(), [0, 1])
    with one_thread():
        side_by_side(lambda _: meeting.wait(), [0, 1])
    begun: list[int] = []

    def fail(item: int) -> None:
        begun.append(item)
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        side_by_side(fail, range(50))
    assert len(begun) < 50
