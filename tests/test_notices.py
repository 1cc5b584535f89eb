"""Warnings reach the listener of their thread, or Python's warnings."""

import threading
import warnings

import pytest

from thalweg.errors import PromptCut, ThalwegWarning, UnknownWords
from thalweg.notices import redirect_warnings, warn


def test_without_a_listener_warnings_are_pythons() -> None:
    with pytest.warns(PromptCut, match="cut") as seen:
        warn(PromptCut("cut"), stacklevel=1)
    assert seen[0].filename == __file__


def test_a_listener_gets_warnings_of_its_own_thread_only() -> None:
    heard: list[ThalwegWarning] = []
    with warnings.catch_warnings(record=True) as others, redirect_warnings(heard.append):
        warnings.simplefilter("always")
        for _ in range(2):
            warn(UnknownWords("here"), stacklevel=1)
        with redirect_warnings(lambda warning: None):
            warn(UnknownWords("inside"), stacklevel=1)
        thread = threading.Thread(target=lambda: warn(UnknownWords("elsewhere"), stacklevel=1))
        thread.start()
        thread.join()
    assert [str(one) for one in heard] == ["here", "here"]
    assert [str(one.message) for one in others] == ["elsewhere"]
