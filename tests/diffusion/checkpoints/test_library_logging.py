"""Tests of thalweg.diffusion.checkpoints.library_logging."""

import logging
import threading
import time
from collections.abc import Callable

import diffusers.utils.logging
import huggingface_hub.utils.logging
import pytest
import transformers.utils.logging

from thalweg.diffusion.checkpoints import quiet


def verbosities() -> list[int]:
    libraries = (huggingface_hub.utils.logging, diffusers.utils.logging, transformers.utils.logging)
    return [library.get_verbosity() for library in libraries]


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not met() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert met()


@pytest.fixture(autouse=True)
def no_block_of_another_test() -> None:
    """Sessions of other tests may still render in their threads."""
    wait_until(lambda: logging.CRITICAL not in verbosities())


def test_silent_inside_and_as_before_outside() -> None:
    before = verbosities()
    with pytest.raises(KeyError), quiet():
        assert verbosities() == [logging.CRITICAL] * 3
        assert not transformers.utils.logging.is_progress_bar_enabled()
        raise KeyError
    assert verbosities() == before
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_blocks_that_overlap_in_two_threads_leave_the_settings_as_found() -> None:
    before = verbosities()
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with quiet():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other, daemon=True)
    with quiet():
        thread.start()
        entered.wait()
    assert verbosities() == [logging.CRITICAL] * 3, "the other block still runs"
    leave.set()
    thread.join()
    assert verbosities() == before
